//! The `config.json` of a diffusers `AutoencoderKL`, of which the decoder is read, with the defaults of diffusers 0.42.
//!
//! What would make another decoder is refused by name, and so are unknown fields; what only the encoder has is passed over.

use crate::denoiser::LoadError;
use crate::denoiser::config_file::{self, one_of};
use serde::Deserialize;
use serde_json::Value;

/// Most of anything that is counted: keeps a hostile config from overflowing sizes.
const MOST: usize = 1 << 16;

/// What would be another scaling of latents.
const FIXED: [&str; 2] = ["latents_mean", "latents_std"];

/// A decoder's description; the file's fields.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct VaeConfig {
    #[serde(rename = "in_channels")]
    _in_channels: usize,
    pub out_channels: usize,
    #[serde(rename = "down_block_types")]
    _down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of a level of the encoder; one more in the decoder.
    pub layers_per_block: usize,
    act_fn: String,
    pub latent_channels: usize,
    pub norm_num_groups: usize,
    #[serde(rename = "sample_size")]
    _sample_size: Value,
    /// What latents were multiplied with.
    pub scaling_factor: f64,
    /// What was taken from them before that.
    pub shift_factor: Option<f64>,
    #[serde(rename = "force_upcast")]
    _force_upcast: Value,
    #[serde(rename = "use_quant_conv")]
    _use_quant_conv: bool,
    pub use_post_quant_conv: bool,
    pub mid_block_add_attention: bool,
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            _in_channels: 3,
            out_channels: 3,
            _down_block_types: vec!["DownEncoderBlock2D".to_owned()],
            up_block_types: vec!["UpDecoderBlock2D".to_owned()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".to_owned(),
            latent_channels: 4,
            norm_num_groups: 32,
            _sample_size: Value::Null,
            scaling_factor: 0.18215,
            shift_factor: None,
            _force_upcast: Value::Null,
            _use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

impl VaeConfig {
    /// Reads and checks the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let config: Self = config_file::read(
            bytes,
            &["AutoencoderKL"],
            &FIXED.map(|field| (field, Value::Null)),
        )?;
        one_of("act_fn", Some(&config.act_fn), &["silu", "swish"])?;
        for block in &config.up_block_types {
            one_of("up_block_types", Some(block), &["UpDecoderBlock2D"])?;
        }
        let levels = config.block_out_channels.len();
        if !(1..=8).contains(&levels) {
            let detail = "must have 1 to 8 entries";
            return Err(LoadError::config("block_out_channels", detail));
        }
        if config.up_block_types.len() != levels {
            let detail = format!("must have {levels} blocks, one for each of block_out_channels");
            return Err(LoadError::config("up_block_types", detail));
        }
        for (field, counts) in [
            ("out_channels", &[config.out_channels][..]),
            ("block_out_channels", &config.block_out_channels),
            ("layers_per_block", &[config.layers_per_block]),
            ("latent_channels", &[config.latent_channels]),
            ("norm_num_groups", &[config.norm_num_groups]),
        ] {
            if counts.iter().any(|count| !(1..=MOST).contains(count)) {
                return Err(LoadError::config(field, format!("must be 1 to {MOST}")));
            }
        }
        let groups = config.norm_num_groups;
        if let Some(channels) = config.block_out_channels.iter().find(|&c| c % groups != 0) {
            let detail = format!("must divide every level's channels, {channels} among them");
            return Err(LoadError::config("norm_num_groups", detail));
        }
        Ok(config)
    }
}
