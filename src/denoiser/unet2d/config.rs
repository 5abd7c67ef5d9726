//! The `config.json` of a diffusers `UNet2DModel`, with the defaults of diffusers 0.42.
//!
//! Everything that would change the network and is not built here is refused by the name of its field, and so is every field
//! that is not known; fields that start with `_` are diffusers' own notes, and training's `dropout` changes nothing.

use crate::denoiser::LoadError;
use crate::denoiser::config_file::{self, one_of};
use serde::Deserialize;

/// A network's description, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Unet2dConfig {
    /// Height and width of a sample in pixels.
    pub sample_size: [usize; 2],
    pub in_channels: usize,
    pub out_channels: usize,
    /// Whether samples are moved from 0..1 to -1..1 first.
    pub center_input_sample: bool,
    pub time_embed_dim: usize,
    pub freq_shift: f64,
    pub flip_sin_to_cos: bool,
    pub block_out_channels: Vec<usize>,
    /// Which levels have attention on the way down.
    pub down_attention: Vec<bool>,
    /// Which levels have attention on the way up, lowest resolution first.
    pub up_attention: Vec<bool>,
    pub mid_block: Option<MidBlock>,
    pub layers_per_block: usize,
    pub downsample_padding: usize,
    /// Channels of a head; all of a level's where there is one head.
    pub attention_head_dim: Option<usize>,
    pub norm_num_groups: usize,
    pub norm_eps: f64,
    /// Whether the time scales and shifts the second norm's output, rather than being added before it.
    pub time_scale_shift: bool,
    /// Rows of the class embedding's table.
    pub num_class_embeds: Option<usize>,
}

/// The block at the lowest resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct MidBlock {
    pub attention: bool,
    /// Groups of the norm before its attention, which has none where this is absent.
    pub attention_groups: Option<usize>,
    /// What its sums with their inputs are divided by.
    pub scale_factor: f64,
}

/// The file's fields as diffusers writes them.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    sample_size: Option<SampleSize>,
    in_channels: usize,
    out_channels: usize,
    center_input_sample: bool,
    time_embedding_type: String,
    time_embedding_dim: Option<usize>,
    freq_shift: f64,
    flip_sin_to_cos: bool,
    down_block_types: Vec<String>,
    mid_block_type: Option<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    mid_block_scale_factor: f64,
    downsample_padding: usize,
    downsample_type: Option<String>,
    upsample_type: Option<String>,
    #[serde(rename = "dropout")]
    _dropout: f64,
    act_fn: String,
    attention_head_dim: Option<usize>,
    norm_num_groups: usize,
    attn_norm_num_groups: Option<usize>,
    norm_eps: f64,
    resnet_time_scale_shift: String,
    add_attention: bool,
    class_embed_type: Option<String>,
    num_class_embeds: Option<usize>,
    #[serde(rename = "num_train_timesteps")]
    _num_train_timesteps: Option<u32>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum SampleSize {
    Square(usize),
    Rectangle([usize; 2]),
}

impl Default for Raw {
    fn default() -> Self {
        let names = |names: [&str; 4]| names.map(str::to_owned).to_vec();
        let (down, attention_down) = ("DownBlock2D", "AttnDownBlock2D");
        let (up, attention_up) = ("UpBlock2D", "AttnUpBlock2D");
        Self {
            sample_size: None,
            in_channels: 3,
            out_channels: 3,
            center_input_sample: false,
            time_embedding_type: "positional".to_owned(),
            time_embedding_dim: None,
            freq_shift: 0.0,
            flip_sin_to_cos: true,
            down_block_types: names([down, attention_down, attention_down, attention_down]),
            mid_block_type: Some("UNetMidBlock2D".to_owned()),
            up_block_types: names([attention_up, attention_up, attention_up, up]),
            block_out_channels: vec![224, 448, 672, 896],
            layers_per_block: 2,
            mid_block_scale_factor: 1.0,
            downsample_padding: 1,
            downsample_type: Some("conv".to_owned()),
            upsample_type: Some("conv".to_owned()),
            _dropout: 0.0,
            act_fn: "silu".to_owned(),
            attention_head_dim: Some(8),
            norm_num_groups: 32,
            attn_norm_num_groups: None,
            norm_eps: 1e-5,
            resnet_time_scale_shift: "default".to_owned(),
            add_attention: true,
            class_embed_type: None,
            num_class_embeds: None,
            _num_train_timesteps: None,
        }
    }
}

impl Unet2dConfig {
    /// Reads and checks the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let raw: Raw = config_file::read(bytes, &["UNet2DModel"], &[])?;
        raw.check()?;
        let config = raw.resolve()?;
        config.check()?;
        Ok(config)
    }

    /// Channels of a level's heads.
    pub(super) fn head_dim(&self, channels: usize) -> usize {
        self.attention_head_dim.unwrap_or(channels)
    }

    fn check(&self) -> Result<(), LoadError> {
        let levels = self.block_out_channels.len();
        for (field, blocks) in [
            ("down_block_types", &self.down_attention),
            ("up_block_types", &self.up_attention),
        ] {
            if blocks.len() != levels {
                let detail =
                    format!("must have {levels} blocks, one for each of block_out_channels");
                return Err(LoadError::config(field, detail));
            }
        }
        let positive = [
            ("sample_size", self.sample_size[0].min(self.sample_size[1])),
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            (
                "block_out_channels",
                self.block_out_channels.iter().copied().min().unwrap_or(0),
            ),
            ("layers_per_block", self.layers_per_block),
            ("norm_num_groups", self.norm_num_groups),
            ("time_embedding_dim", self.time_embed_dim),
            ("num_class_embeds", self.num_class_embeds.unwrap_or(1)),
        ];
        if let Some((field, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(LoadError::config(*field, "must be at least 1"));
        }
        let most = [
            (
                "sample_size",
                self.sample_size[0].max(self.sample_size[1]),
                4096,
            ),
            ("block_out_channels", levels, 16),
            (
                "num_class_embeds",
                self.num_class_embeds.unwrap_or(1),
                100_000,
            ),
        ];
        if let Some((field, _, most)) = most.iter().find(|(_, value, most)| value > most) {
            return Err(LoadError::config(*field, format!("must be at most {most}")));
        }
        let multiple = 1 << (levels - 1);
        if self
            .sample_size
            .iter()
            .any(|side| !side.is_multiple_of(multiple))
        {
            let detail = format!("sides must be multiples of {multiple} for {levels} levels");
            return Err(LoadError::config("sample_size", detail));
        }
        for &channels in &self.block_out_channels {
            let head = self.head_dim(channels);
            let attends = self.down_attention.contains(&true)
                || self.up_attention.contains(&true)
                || self.mid_block.as_ref().is_some_and(|mid| mid.attention);
            if !channels.is_multiple_of(self.norm_num_groups) {
                let detail = format!("must divide every level's channels, {channels} among them");
                return Err(LoadError::config("norm_num_groups", detail));
            }
            if attends && !channels.is_multiple_of(head) {
                let detail = format!("must divide every level's channels, {channels} among them");
                return Err(LoadError::config("attention_head_dim", detail));
            }
        }
        Ok(())
    }
}

impl Raw {
    /// Refuses what would be another network.
    fn check(&self) -> Result<(), LoadError> {
        one_of(
            "time_embedding_type",
            Some(&self.time_embedding_type),
            &["positional"],
        )?;
        one_of("act_fn", Some(&self.act_fn), &["silu", "swish"])?;
        one_of(
            "downsample_type",
            self.downsample_type.as_deref().or(Some("conv")),
            &["conv"],
        )?;
        one_of(
            "upsample_type",
            self.upsample_type.as_deref().or(Some("conv")),
            &["conv"],
        )?;
        one_of(
            "mid_block_type",
            self.mid_block_type.as_deref().or(Some("UNetMidBlock2D")),
            &["UNetMidBlock2D"],
        )?;
        one_of(
            "resnet_time_scale_shift",
            Some(&self.resnet_time_scale_shift),
            &["default", "scale_shift"],
        )?;
        if let Some(kind) = &self.class_embed_type {
            let detail =
                format!("`{kind}` is not supported: only null is, with num_class_embeds labels");
            return Err(LoadError::config("class_embed_type", detail));
        }
        if self.downsample_padding > 1 {
            return Err(LoadError::config("downsample_padding", "must be 0 or 1"));
        }
        Ok(())
    }

    fn resolve(self) -> Result<Unet2dConfig, LoadError> {
        let sample_size = match self.sample_size {
            Some(SampleSize::Square(side)) => [side, side],
            Some(SampleSize::Rectangle(sides)) => sides,
            None => return Err(LoadError::config("sample_size", "give the side in pixels")),
        };
        let first = self.block_out_channels.first().copied().unwrap_or(0);
        let time_scale_shift = self.resnet_time_scale_shift == "scale_shift";
        let default_groups = (!time_scale_shift).then_some(self.norm_num_groups);
        Ok(Unet2dConfig {
            sample_size,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            center_input_sample: self.center_input_sample,
            time_embed_dim: self.time_embedding_dim.unwrap_or(4 * first),
            freq_shift: self.freq_shift,
            flip_sin_to_cos: self.flip_sin_to_cos,
            down_attention: blocks("down_block_types", &self.down_block_types, "DownBlock2D")?,
            up_attention: blocks("up_block_types", &self.up_block_types, "UpBlock2D")?,
            mid_block: self.mid_block_type.map(|_| MidBlock {
                attention: self.add_attention,
                attention_groups: self.attn_norm_num_groups.or(default_groups),
                scale_factor: self.mid_block_scale_factor,
            }),
            block_out_channels: self.block_out_channels,
            layers_per_block: self.layers_per_block,
            downsample_padding: self.downsample_padding,
            attention_head_dim: self.attention_head_dim,
            norm_num_groups: self.norm_num_groups,
            norm_eps: self.norm_eps,
            time_scale_shift,
            num_class_embeds: self.num_class_embeds,
        })
    }
}

/// Which blocks of a list have attention.
fn blocks(field: &str, names: &[String], plain: &str) -> Result<Vec<bool>, LoadError> {
    let attention = format!("Attn{plain}");
    names
        .iter()
        .map(|name| {
            one_of(field, Some(name), &[plain, &attention])?;
            Ok(*name == attention)
        })
        .collect()
}
