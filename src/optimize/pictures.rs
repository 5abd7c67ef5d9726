//! What schedules do to pictures: the same samples from the reference, the best rule, HSO and the answer, and how far apart they are.
//!
//! Pictures become small PNG files in the document, so that whoever has the schedule can show them.

use super::OptimizeError;
use crate::api::PictureRow;
use crate::calibrate::{CalibrateError, ErrorStats, Judged, Outcome};
use crate::denoiser::{Batch, Denoiser, Pictures};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::io;

/// Longest side of a picture in a document, in pixels.
const SIDE: usize = 192;

/// The pictures of a calibration that kept samples to show.
pub(super) fn rows(
    outcome: &Outcome,
    denoiser: &dyn Denoiser,
) -> Result<Vec<PictureRow>, OptimizeError> {
    let Some((reference, shown)) = outcome.shown.split_first() else {
        return Ok(Vec::new());
    };
    let decode = |samples: &Batch| {
        let pictures = denoiser.pictures(samples).map_err(CalibrateError::from)?;
        pictures.ok_or_else(|| OptimizeError::Pictures("its samples are no pictures".to_owned()))
    };
    let reference = decode(reference)?;
    let mut rows = vec![PictureRow {
        name: "reference".to_owned(),
        error: None,
        pictures: urls(&reference)?,
    }];
    for i in chosen(outcome) {
        let pictures = decode(&shown[i])?;
        let error = ErrorStats::between(&pictures.pixels, &reference.pixels);
        rows.push(PictureRow {
            name: outcome.judged[i].candidate.name.clone(),
            error: Some(error.into()),
            pictures: urls(&pictures)?,
        });
    }
    Ok(rows)
}

/// The best rule, HSO at its best, and the answer.
fn chosen(outcome: &Outcome) -> Vec<usize> {
    let is_hso = |judged: &Judged| judged.candidate.name.starts_with("hso");
    let best = |of: &dyn Fn(&Judged) -> bool| {
        let starts = outcome.judged.iter().enumerate();
        starts
            .filter(|(_, judged)| judged.refined_from.is_none() && of(judged))
            .min_by(|a, b| a.1.error.mean.total_cmp(&b.1.error.mean))
            .map(|(i, _)| i)
    };
    let rule = best(&|judged| !is_hso(judged));
    let hso = best(&is_hso);
    let mut chosen: Vec<usize> = rule.into_iter().chain(hso).collect();
    if !chosen.contains(&outcome.winner) {
        chosen.push(outcome.winner);
    }
    chosen
}

fn urls(pictures: &Pictures) -> Result<Vec<String>, OptimizeError> {
    pictures
        .pixels
        .iter()
        .map(|pixels| {
            let png = png(pixels, pictures.shape)
                .map_err(|error| OptimizeError::Pictures(error.to_string()))?;
            Ok(format!("data:image/png;base64,{}", STANDARD.encode(png)))
        })
        .collect()
}

/// A picture as a PNG file, smaller if it is large.
fn png(pixels: &[f32], [channels, height, width]: [usize; 3]) -> io::Result<Vec<u8>> {
    let block = height.max(width).div_ceil(SIDE);
    let (rows, columns) = (height / block, width / block);
    let mean = |channel: usize, row: usize, column: usize| {
        let plane = &pixels[channel * height * width..][..height * width];
        let lines = plane.chunks_exact(width).skip(row * block).take(block);
        let sum: f32 = lines
            .flat_map(|line| &line[column * block..][..block])
            .sum();
        sum / (block * block) as f32
    };
    let mut bytes = Vec::with_capacity(channels * rows * columns);
    for row in 0..rows {
        for column in 0..columns {
            for channel in 0..channels {
                let level = (mean(channel, row, column).clamp(-1.0, 1.0) + 1.0) * 127.5;
                bytes.push(level.round() as u8);
            }
        }
    }
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, columns as u32, rows as u32);
    encoder.set_color(if channels == 1 {
        png::ColorType::Grayscale
    } else {
        png::ColorType::Rgb
    });
    encoder.write_header()?.write_image_data(&bytes)?;
    Ok(file)
}
