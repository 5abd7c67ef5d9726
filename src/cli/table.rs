//! Plain tables: columns of numbers aligned to the right, of text to the left.

use crate::api::MeasuredCandidate;
use crate::schedule::Terminal;
use clap::ValueEnum;

/// A table for people, or JSON for programs.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum TableOrJson {
    Json,
    Table,
}

/// Rows of cells under a header, as lines of text.
pub fn render(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .chain([header[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let is_number = |cell: &str| cell == "-" || cell.parse::<f64>().is_ok();
    let numeric = |column: usize| rows.iter().all(|row| is_number(&row[column]));
    let columns: Vec<(usize, bool)> = (0..header.len())
        .map(|column| (width(column), numeric(column)))
        .collect();
    let header: Vec<String> = header.iter().map(|&name| name.to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let cells: Vec<String> = row
            .iter()
            .zip(&columns)
            .map(|(cell, &(width, numeric))| {
                if numeric {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                }
            })
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// A number or a dash.
pub fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
}

/// What was measured, one row a schedule.
pub fn measured(candidates: &[MeasuredCandidate]) -> String {
    let rows: Vec<Vec<String>> = candidates
        .iter()
        .map(|candidate| {
            let terminal = match candidate.terminal {
                Terminal::TMin => "t_min",
                Terminal::Denoise => "denoise",
            };
            vec![
                candidate.name.clone(),
                candidate.solver.label(),
                terminal.to_owned(),
                number(Some(candidate.error.value), 5),
                number(Some(candidate.error.stderr), 5),
                number(Some(candidate.error.median), 5),
                levels(&candidate.sigmas),
            ]
        })
        .collect();
    let header = [
        "schedule", "solver", "terminal", "error", "+-", "median", "sigmas",
    ];
    render(&header, &rows)
}

/// Noise levels in a cell.
pub fn levels(sigmas: &[f64]) -> String {
    let numbers: Vec<String> = sigmas.iter().map(|sigma| format!("{sigma:.3}")).collect();
    numbers.join(" ")
}
