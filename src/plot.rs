//! A comparison as a picture: where every schedule spends its evaluations, and what that costs; and what they do to pictures.
//!
//! One row a schedule: its noise levels as dots on a logarithmic axis, and beside them its measured error with the standard error, or
//! the proxy where nothing was measured. Plain SVG without scripts or fonts of its own.

use crate::api::{Comparison, ComparisonRow, EffectiveSolver, ScheduleDocument};
use crate::schedule::Terminal;
use std::fmt::Write;

const ROW: f64 = 22.0;
const TOP: f64 = 64.0;
/// Left and right ends of the noise axis, and of the bars.
const LEVELS: (f64, f64) = (230.0, 640.0);
const BARS: (f64, f64) = (670.0, 880.0);
const WIDTH: f64 = 960.0;
/// Side of a picture's place, the room between two, and where the first ones are.
const PICTURE: f64 = 192.0;
const GAP: f64 = 12.0;
const PICTURES_TOP: f64 = 76.0;

/// Draws a comparison, lowest cost first.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let mut rows: Vec<(&ComparisonRow, f64)> = comparison
        .rows
        .iter()
        .filter_map(|row| Some((row, cost(row)?)))
        .collect();
    rows.sort_by(|a, b| a.1.total_cmp(&b.1));
    let levels = rows
        .iter()
        .filter_map(|(row, _)| row.sigmas.as_ref())
        .flatten();
    let (least, most) = levels.fold((f64::INFINITY, 0.0_f64), |(least, most), &sigma| {
        (least.min(sigma), most.max(sigma))
    });
    let x = |sigma: f64| {
        let share = libm::log(sigma / least) / libm::log(most / least).max(f64::MIN_POSITIVE);
        LEVELS.1 - share * (LEVELS.1 - LEVELS.0)
    };
    // A bad rule many times above the best must not flatten the others.
    let longest = rows.first().map_or(1.0, |best| 4.0 * best.1);
    let height = TOP + ROW * rows.len() as f64 + 24.0;
    let mut svg = header(comparison, height, rows.first().map(|(row, _)| *row));
    for decade in -3..=3 {
        let sigma = libm::pow(10.0, f64::from(decade));
        if sigma >= least && sigma <= most {
            let at = x(sigma);
            let _ = write!(
                svg,
                r##"<line x1="{at:.1}" x2="{at:.1}" y1="{TOP}" y2="{:.1}" stroke="#ddd"/><text x="{at:.1}" y="{:.1}" text-anchor="middle" class="small">{sigma}</text>"##,
                height - 22.0,
                height - 8.0,
            );
        }
    }
    for (i, (row, cost)) in rows.iter().enumerate() {
        draw_row(
            &mut svg,
            comparison.schedule.solver,
            row,
            *cost,
            longest,
            TOP + ROW * (i as f64 + 0.5),
            x,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// What a row is ranked by.
fn cost(row: &ComparisonRow) -> Option<f64> {
    row.error.map(|error| error.value).or(row.mep_matched)
}

fn header(comparison: &Comparison, height: f64, first: Option<&ComparisonRow>) -> String {
    let schedule = &comparison.schedule;
    let measure = match first.and_then(|row| row.error) {
        Some(error) => format!("error on {} unseen samples", error.samples),
        None => "midpoint error proxy, same ends".to_owned(),
    };
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" font-family="system-ui, sans-serif" font-size="13"><style>.small{{font-size:11px;fill:#666}}</style><rect width="100%" height="100%" fill="#fff"/><text x="16" y="26" font-size="16" font-weight="600">{} · {} · {} evaluations</text><text x="{}" y="50" class="small">noise levels, sigma</text><text x="{}" y="50" class="small">{measure}</text>"##,
        escaped(&schedule.model),
        schedule.solver.name.as_str(),
        schedule.nfe.get(),
        LEVELS.0,
        BARS.0,
    )
}

/// Draws the pictures of a calibrated schedule, a column a schedule and a row a sample; nothing where it has none.
#[must_use]
pub fn pictures(schedule: &ScheduleDocument) -> Option<String> {
    let rows = &schedule.calibration.as_ref()?.pictures;
    let samples = rows.first()?.pictures.len();
    let place = |i: usize| i as f64 * (PICTURE + GAP);
    let (width, height) = (
        16.0 + place(rows.len()),
        PICTURES_TOP + place(samples) + 4.0,
    );
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="13"><style>.small{{font-size:11px;fill:#666}}image{{image-rendering:pixelated}}</style><rect width="100%" height="100%" fill="#fff"/><text x="16" y="26" font-size="16" font-weight="600">{} · {} · {} evaluations</text>"##,
        escaped(&schedule.model),
        schedule.solver.name.as_str(),
        schedule.nfe.get(),
    );
    for (column, row) in rows.iter().enumerate() {
        let x = 16.0 + place(column);
        let measure = row.error.map_or_else(
            || "fine solve, same noise".to_owned(),
            |error| format!("error of the pictures {:.4}", error.value),
        );
        let _ = write!(
            svg,
            r#"<text x="{x}" y="50" font-weight="600">{}</text><text x="{x}" y="67" class="small">{measure}</text>"#,
            escaped(&row.name),
        );
        for (sample, picture) in row.pictures.iter().enumerate() {
            let _ = write!(
                svg,
                r#"<image x="{x}" y="{}" width="{PICTURE}" height="{PICTURE}" href="{}"/>"#,
                PICTURES_TOP + place(sample),
                escaped(picture),
            );
        }
    }
    svg.push_str("</svg>\n");
    Some(svg)
}

fn draw_row(
    svg: &mut String,
    answer: EffectiveSolver,
    row: &ComparisonRow,
    cost: f64,
    longest: f64,
    y: f64,
    x: impl Fn(f64) -> f64,
) {
    let ours = ["hso", "hso-constrained", "calibrated"].contains(&row.name.as_str());
    let colour = match row.name.as_str() {
        "calibrated" => "#c2410c",
        "hso" | "hso-constrained" => "#1d4ed8",
        _ => "#64748b",
    };
    let terminal = match row.terminal {
        Some(Terminal::TMin) => ", t_min",
        Some(Terminal::Denoise) | None => "",
    };
    let solver = row
        .solver
        .filter(|solver| *solver != answer)
        .map_or_else(String::new, |solver| format!(", {}", solver.label()));
    let _ = write!(
        svg,
        r#"<text x="16" y="{:.1}" font-weight="{}">{}{terminal}{solver}</text>"#,
        y + 4.5,
        if ours { 600 } else { 400 },
        escaped(&row.name),
    );
    for &sigma in row.sigmas.iter().flatten() {
        let _ = write!(
            svg,
            r#"<circle cx="{:.1}" cy="{y:.1}" r="4" fill="{colour}"/>"#,
            x(sigma)
        );
    }
    let scale = (BARS.1 - BARS.0) / longest;
    let length = (cost * scale).min(BARS.1 - BARS.0);
    let _ = write!(
        svg,
        r#"<rect x="{}" y="{:.1}" width="{length:.1}" height="12" fill="{colour}" opacity="0.75"/>"#,
        BARS.0,
        y - 6.0,
    );
    let whisker = row.error.map_or(0.0, |error| error.stderr * scale);
    if whisker > 0.0 && cost <= longest {
        let _ = write!(
            svg,
            r##"<line x1="{:.1}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}" stroke="#111"/>"##,
            BARS.0 + length - whisker,
            BARS.0 + length + whisker,
        );
    }
    let _ = write!(
        svg,
        r#"<text x="{}" y="{:.1}" class="small">{cost:.4}</text>"#,
        BARS.1 + 18.0,
        y + 4.0,
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
