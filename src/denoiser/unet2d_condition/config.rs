//! The `config.json` of a diffusers `UNet2DConditionModel`, checked.
//!
//! `raw` reads the file; here its many ways of saying the same are one list of levels, and what cannot be built is refused by name.

use super::raw::{OneOrMany, Raw};
use crate::denoiser::LoadError;
use crate::denoiser::config_file::one_of;

/// A network's description.
#[expect(clippy::struct_excessive_bools, reason = "the file's own switches")]
#[derive(Clone, Debug, PartialEq)]
pub struct Unet2dConditionConfig {
    /// Height and width of a sample.
    pub sample_size: [usize; 2],
    pub in_channels: usize,
    pub out_channels: usize,
    /// Whether samples are moved from 0..1 to -1..1 first.
    pub center_input_sample: bool,
    pub time_embed_dim: usize,
    pub freq_shift: f64,
    pub flip_sin_to_cos: bool,
    /// Highest resolution first.
    pub levels: Vec<LevelConfig>,
    pub mid_block: Option<MidConfig>,
    pub downsample_padding: usize,
    pub norm_num_groups: usize,
    pub norm_eps: f64,
    /// Whether the time scales and shifts the second norm's output, rather than being added before it.
    pub time_scale_shift: bool,
    /// Whether the projections around transformers are stored as linear layers rather than 1x1 convolutions.
    pub use_linear_projection: bool,
    /// Whether half-precision networks attend in f32.
    pub upcast_attention: bool,
    /// Rows of the class embedding's table.
    pub num_class_embeds: Option<usize>,
    /// What joins the time's embedding (Stable Diffusion XL).
    pub text_time: Option<TextTime>,
}

/// A resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct LevelConfig {
    pub channels: usize,
    /// Residual blocks on the way down; one more on the way up.
    pub layers: usize,
    pub heads: usize,
    /// Channels of the context.
    pub cross_attention_dim: usize,
    /// Transformer blocks after each residual block on the way down; none without transformers.
    pub down: Option<Vec<usize>>,
    /// The same on the way up.
    pub up: Option<Vec<usize>>,
}

/// The block at the lowest resolution.
#[derive(Clone, Debug, PartialEq)]
pub struct MidConfig {
    /// Transformer blocks between its two residual blocks; without them there is one residual block alone.
    pub transformers: Option<usize>,
    /// What the sums of residual blocks with their inputs are divided by.
    pub scale_factor: f64,
}

/// Pooled text and sizes of images, `addition_embed_type: text_time`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextTime {
    /// Sines and cosines that each of the sizes is turned into.
    pub time_dim: usize,
    /// Numbers of the pooled text.
    pub pooled: usize,
}

/// Sizes that join the pooled text: original height and width, crop from the top and left, target height and width.
pub const TIME_IDS: usize = 6;

impl Unet2dConditionConfig {
    /// Reads and checks the file's bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, LoadError> {
        let raw = Raw::read(bytes)?;
        let config = resolve(&raw)?;
        config.check()?;
        Ok(config)
    }

    /// Channels of the context, the same at every level.
    #[must_use]
    pub fn cross_attention_dim(&self) -> usize {
        self.levels[0].cross_attention_dim
    }

    fn check(&self) -> Result<(), LoadError> {
        let refuse = |field: &str, detail: String| Err(LoadError::config(field, detail));
        let multiple = 1 << (self.levels.len() - 1);
        if self.sample_size.iter().any(|side| side % multiple != 0) {
            let detail = format!(
                "sides must be multiples of {multiple} for {} levels",
                self.levels.len()
            );
            return refuse("sample_size", detail);
        }
        for level in &self.levels {
            let channels = level.channels;
            if channels % self.norm_num_groups != 0 {
                let detail = format!("must divide every level's channels, {channels} among them");
                return refuse("norm_num_groups", detail);
            }
            if level.heads == 0 || channels % level.heads != 0 {
                let detail = format!(
                    "is the number of heads, which must divide every level's channels, {channels} among them"
                );
                return refuse("attention_head_dim", detail);
            }
            if level.cross_attention_dim != self.cross_attention_dim() {
                let detail = "must be the same for all blocks".to_owned();
                return refuse("cross_attention_dim", detail);
            }
        }
        Ok(())
    }
}

fn resolve(raw: &Raw) -> Result<Unet2dConditionConfig, LoadError> {
    let levels = levels(raw)?;
    let first = raw.block_out_channels[0];
    Ok(Unet2dConditionConfig {
        sample_size: raw.sample_size()?,
        in_channels: raw.in_channels,
        out_channels: raw.out_channels,
        center_input_sample: raw.center_input_sample,
        time_embed_dim: raw.time_embedding_dim.unwrap_or(4 * first),
        freq_shift: raw.freq_shift,
        flip_sin_to_cos: raw.flip_sin_to_cos,
        mid_block: mid_block(raw)?,
        levels,
        downsample_padding: raw.downsample_padding,
        norm_num_groups: raw.norm_num_groups,
        norm_eps: raw.norm_eps,
        time_scale_shift: raw.resnet_time_scale_shift == "scale_shift",
        use_linear_projection: raw.use_linear_projection,
        upcast_attention: raw.upcast_attention,
        num_class_embeds: raw.num_class_embeds,
        text_time: text_time(raw)?,
    })
}

fn levels(raw: &Raw) -> Result<Vec<LevelConfig>, LoadError> {
    let count = raw.block_out_channels.len();
    let per_level = |field: &str, given: &OneOrMany<usize>| {
        given.spread(count).ok_or_else(|| {
            let detail = format!("must have {count} entries, one for each of block_out_channels");
            LoadError::config(field, detail)
        })
    };
    let layers = per_level("layers_per_block", &raw.layers_per_block)?;
    // The field's name is a mistake that diffusers keeps: it is the number of heads.
    let heads = per_level("attention_head_dim", &raw.attention_head_dim)?;
    let context = per_level("cross_attention_dim", &raw.cross_attention_dim)?;
    let down = transformers("down_block_types", &raw.down_block_types, "DownBlock2D")?;
    let mut up = transformers("up_block_types", &raw.up_block_types, "UpBlock2D")?;
    for (field, blocks) in [("down_block_types", &down), ("up_block_types", &up)] {
        if blocks.len() != count {
            let detail = format!("must have {count} blocks, one for each of block_out_channels");
            return Err(LoadError::config(field, detail));
        }
    }
    up.reverse();
    (0..count)
        .map(|i| {
            let blocks = |way: bool, has: bool, layers: usize| {
                has.then(|| depths(raw, i, way, layers)).transpose()
            };
            Ok(LevelConfig {
                channels: raw.block_out_channels[i],
                layers: layers[i],
                heads: heads[i],
                cross_attention_dim: context[i],
                down: blocks(true, down[i], layers[i])?,
                up: blocks(false, up[i], layers[i] + 1)?,
            })
        })
        .collect()
}

/// Transformer blocks after each of a level's residual blocks, on the way down or up.
fn depths(raw: &Raw, level: usize, down: bool, layers: usize) -> Result<Vec<usize>, LoadError> {
    let count = raw.block_out_channels.len();
    let field = "transformer_layers_per_block";
    let own = match (&raw.reverse_transformer_layers_per_block, down) {
        (Some(reverse), false) => reverse.get(count - 1 - level).cloned(),
        _ => raw
            .transformer_layers_per_block
            .spread(count)
            .map(|mut levels| levels.swap_remove(level)),
    };
    let depths = own.and_then(|own| own.spread(layers));
    let detail = format!(
        "must have {count} entries, each a number or a list of one for every residual block (for the way up in \
         reverse_transformer_layers_per_block)"
    );
    depths.ok_or_else(|| LoadError::config(field, detail))
}

fn mid_block(raw: &Raw) -> Result<Option<MidConfig>, LoadError> {
    let Some(kind) = raw.mid_block_type.as_deref() else {
        return Ok(None);
    };
    one_of(
        "mid_block_type",
        Some(kind),
        &["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"],
    )?;
    let last = raw.block_out_channels.len() - 1;
    let transformers = if kind == "UNetMidBlock2DCrossAttn" {
        Some(depths(raw, last, true, 1)?[0])
    } else {
        None
    };
    Ok(Some(MidConfig {
        transformers,
        scale_factor: raw.mid_block_scale_factor,
    }))
}

fn text_time(raw: &Raw) -> Result<Option<TextTime>, LoadError> {
    let Some(kind) = raw.addition_embed_type.as_deref() else {
        return Ok(None);
    };
    one_of("addition_embed_type", Some(kind), &["text_time"])?;
    let missing = |field: &str| LoadError::config(field, "is missing; text_time needs it");
    let time_dim = raw
        .addition_time_embed_dim
        .ok_or_else(|| missing("addition_time_embed_dim"))?;
    let field = "projection_class_embeddings_input_dim";
    let all = raw
        .projection_class_embeddings_input_dim
        .ok_or_else(|| missing(field))?;
    match all.checked_sub(TIME_IDS * time_dim) {
        Some(pooled) if pooled > 0 => Ok(Some(TextTime { time_dim, pooled })),
        _ => {
            let detail = format!("must be more than {TIME_IDS} times addition_time_embed_dim");
            Err(LoadError::config(field, detail))
        }
    }
}

/// Which blocks of a list have transformers.
fn transformers(field: &str, names: &[String], plain: &str) -> Result<Vec<bool>, LoadError> {
    let crossing = format!("CrossAttn{plain}");
    names
        .iter()
        .map(|name| {
            one_of(field, Some(name), &[plain, &crossing])?;
            Ok(*name == crossing)
        })
        .collect()
}
