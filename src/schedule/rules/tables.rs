//! Published tables of noise levels, found offline by their authors for one model each.

use super::stretched;
use crate::schedule::NoiseSchedule;

/// Lists of noise levels, noisiest first; each ends at the level that its tool replaces by 0.
#[derive(Debug)]
pub(super) struct Table {
    fits: Fits,
    rows: &'static [&'static [f64]],
}

/// The models a table is for.
#[derive(Debug)]
enum Fits {
    /// Discrete models with Stable Diffusion's noise levels, 0.0292 to 14.6.
    StableDiffusion,
    /// Sigma-range models up to 700.
    StableVideoDiffusion,
    /// Flow-matching models; levels are final sigmas.
    Flow,
}

/// Noise levels at the ends may differ from the table's by this share and still be its model.
const SAME_RANGE: f64 = 0.01;

impl Table {
    /// `n` evaluations: the row with `n + 1` levels less its last, or the longest row resampled.
    pub(super) fn native(&self, noise: &NoiseSchedule, n: usize) -> Option<Vec<f64>> {
        if !self.fits(noise) {
            return None;
        }
        let mut lambdas = self.resampled(noise, n + 1);
        lambdas.pop();
        let (low, high) = noise.t_range();
        let (first, last) = (noise.lambda(high), noise.lambda(low));
        for lambda in &mut lambdas {
            // A rounded end may stand a last digit outside the model's range.
            *lambda = lambda.clamp(first, last);
        }
        Some(lambdas)
    }

    /// The table resampled to `points` points and stretched in half log-SNR between two ends.
    pub(super) fn matched(
        &self,
        noise: &NoiseSchedule,
        points: usize,
        first: f64,
        last: f64,
    ) -> Option<Vec<f64>> {
        self.fits(noise)
            .then(|| stretched(&self.resampled(noise, points), first, last))
    }

    fn fits(&self, noise: &NoiseSchedule) -> bool {
        let (low, high) = noise.t_range();
        let most = noise.sigma(noise.lambda(high));
        let least = noise.sigma(noise.lambda(low));
        let near = |got: f64, want: f64| (got / want - 1.0).abs() < SAME_RANGE;
        match self.fits {
            Fits::StableDiffusion => {
                noise.grid_steps().is_some() && near(most, 14.614_6) && near(least, 0.029_167)
            }
            Fits::StableVideoDiffusion => {
                noise.grid_steps().is_none() && near(most, 700.0) && near(least, 0.002)
            }
            Fits::Flow => noise.is_flow(),
        }
    }

    /// The row with this many levels, or the longest row resampled log-linearly over its index, as half log-SNRs.
    fn resampled(&self, noise: &NoiseSchedule, points: usize) -> Vec<f64> {
        let top = noise.lambda(noise.t_range().1);
        let lambdas = |row: &[f64]| -> Vec<f64> {
            row.iter()
                .map(|&sigma| noise.lambda_of_sigma(sigma).max(top))
                .collect()
        };
        if let Some(row) = self.rows.iter().find(|row| row.len() == points) {
            return lambdas(row);
        }
        let longest = lambdas(self.rows[self.rows.len() - 1]);
        super::ramp(points)
            .map(|r| {
                let position = r * (longest.len() - 1) as f64;
                let below = (libm::floor(position) as usize).min(longest.len() - 2);
                let weight = position - below as f64;
                longest[below] + weight * (longest[below + 1] - longest[below])
            })
            .collect()
    }
}

pub(super) const AYS_SD15: Table = Table {
    fits: Fits::StableDiffusion,
    rows: &[&[
        14.614_641_229_3,
        6.474_576_095_6,
        3.863_674_598_5,
        2.694_615_152_0,
        1.884_192_117_7,
        1.394_380_509_2,
        0.964_258_390_4,
        0.652_368_601_6,
        0.397_745_627_2,
        0.151_523_266_2,
        0.029_167_158_2,
    ]],
};

pub(super) const AYS_SDXL: Table = Table {
    fits: Fits::StableDiffusion,
    rows: &[&[
        14.614_641_229_3,
        6.318_448_528_7,
        3.768_179_031_5,
        2.181_148_076_9,
        1.340_524_494_5,
        0.862_072_114_1,
        0.555_069_328_9,
        0.379_854_070_8,
        0.233_236_413_4,
        0.111_418_817_7,
        0.029_167_158_2,
    ]],
};

pub(super) const AYS_SVD: Table = Table {
    fits: Fits::StableVideoDiffusion,
    rows: &[&[
        700.0, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034, 0.002,
    ]],
};

/// Rows for 4, 5, 6, 8 and 10 steps.
pub(super) const GITS: Table = Table {
    fits: Fits::StableDiffusion,
    rows: &[
        &[
            14.614_641_19,
            2.363_260_75,
            0.921_923_22,
            0.366_170_02,
            0.029_167_53,
        ],
        &[
            14.614_641_19,
            2.844_849_82,
            1.241_532_44,
            0.595_163_23,
            0.250_533_67,
            0.029_167_53,
        ],
        &[
            14.614_641_19,
            5.855_200_77,
            2.050_390_96,
            0.953_509_21,
            0.455_736_91,
            0.170_260_83,
            0.029_167_53,
        ],
        &[
            14.614_641_19,
            5.855_200_77,
            2.450_702_67,
            1.369_644_64,
            0.803_307,
            0.455_736_91,
            0.250_533_67,
            0.098_245_32,
            0.029_167_53,
        ],
        &[
            14.614_641_19,
            5.855_200_77,
            2.844_849_82,
            1.670_500_16,
            1.088_953_38,
            0.748_070_48,
            0.501_183_81,
            0.321_048_23,
            0.198_949_16,
            0.098_245_32,
            0.029_167_53,
        ],
    ],
};

pub(super) const OSS_FLUX: Table = Table {
    fits: Fits::Flow,
    rows: &[&[
        0.996_8, 0.988_6, 0.981_9, 0.975, 0.966, 0.947_1, 0.915_8, 0.828_7, 0.551_2, 0.280_8, 0.001,
    ]],
};

pub(super) const OSS_WAN: Table = Table {
    fits: Fits::Flow,
    rows: &[&[
        1.0, 0.997, 0.995, 0.993, 0.991, 0.989, 0.987, 0.985, 0.98, 0.975, 0.973, 0.968, 0.96,
        0.946, 0.927, 0.902, 0.864, 0.776, 0.539, 0.208, 0.001,
    ]],
};
