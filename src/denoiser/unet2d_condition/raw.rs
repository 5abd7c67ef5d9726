//! The `config.json` of a `UNet2DConditionModel` as diffusers writes it, with the defaults of diffusers 0.42.
//!
//! Unknown fields are refused, and so is every value that would change the network and is not built here; training's `dropout`
//! changes nothing.

use crate::denoiser::LoadError;
use crate::denoiser::config_file::{self, Fixed, one_of};
use serde::Deserialize;
use serde_json::{Value, json};

/// Most of anything that is counted: keeps a hostile config from overflowing sizes.
const MOST: usize = 1 << 16;

/// Fields of which one value is built.
fn fixed() -> [Fixed<'static>; 18] {
    let none = || Value::Null;
    [
        ("only_cross_attention", json!(false)),
        ("encoder_hid_dim", none()),
        ("encoder_hid_dim_type", none()),
        ("num_attention_heads", none()),
        ("dual_cross_attention", json!(false)),
        ("class_embed_type", none()),
        ("resnet_skip_time_act", json!(false)),
        ("resnet_out_scale_factor", json!(1.0)),
        ("time_embedding_type", json!("positional")),
        ("time_embedding_act_fn", none()),
        ("timestep_post_act", none()),
        ("time_cond_proj_dim", none()),
        ("conv_in_kernel", json!(3)),
        ("conv_out_kernel", json!(3)),
        ("attention_type", json!("default")),
        ("class_embeddings_concat", json!(false)),
        ("mid_block_only_cross_attention", none()),
        ("cross_attention_norm", none()),
    ]
}

/// One value for all, or one for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T: Clone> OneOrMany<T> {
    /// One for each of `count`.
    pub fn spread(&self, count: usize) -> Option<Vec<T>> {
        match self {
            Self::One(one) => Some(vec![one.clone(); count]),
            Self::Many(many) => (many.len() == count).then(|| many.clone()),
        }
    }
}

/// The file's fields.
#[expect(clippy::struct_excessive_bools, reason = "the file's own switches")]
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Raw {
    sample_size: Option<OneOrMany<usize>>,
    pub in_channels: usize,
    pub out_channels: usize,
    pub center_input_sample: bool,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    pub down_block_types: Vec<String>,
    pub mid_block_type: Option<String>,
    pub up_block_types: Vec<String>,
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: OneOrMany<usize>,
    pub downsample_padding: usize,
    pub mid_block_scale_factor: f64,
    #[serde(rename = "dropout")]
    _dropout: f64,
    act_fn: String,
    pub norm_num_groups: usize,
    pub norm_eps: f64,
    pub cross_attention_dim: OneOrMany<usize>,
    pub transformer_layers_per_block: OneOrMany<OneOrMany<usize>>,
    pub reverse_transformer_layers_per_block: Option<Vec<OneOrMany<usize>>>,
    pub attention_head_dim: OneOrMany<usize>,
    pub use_linear_projection: bool,
    pub addition_embed_type: Option<String>,
    pub addition_time_embed_dim: Option<usize>,
    pub num_class_embeds: Option<usize>,
    pub upcast_attention: bool,
    pub resnet_time_scale_shift: String,
    pub time_embedding_dim: Option<usize>,
    pub projection_class_embeddings_input_dim: Option<usize>,
    /// Of another `addition_embed_type` than those that are built.
    #[serde(rename = "addition_embed_type_num_heads")]
    _addition_embed_type_num_heads: usize,
}

impl Default for Raw {
    fn default() -> Self {
        let names = |names: [&str; 4]| names.map(str::to_owned).to_vec();
        let (down, up) = ("CrossAttnDownBlock2D", "CrossAttnUpBlock2D");
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: names([down, down, down, "DownBlock2D"]),
            mid_block_type: Some("UNetMidBlock2DCrossAttn".to_owned()),
            up_block_types: names(["UpBlock2D", up, up, up]),
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: OneOrMany::One(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            _dropout: 0.0,
            act_fn: "silu".to_owned(),
            norm_num_groups: 32,
            norm_eps: 1e-5,
            cross_attention_dim: OneOrMany::One(1280),
            transformer_layers_per_block: OneOrMany::One(OneOrMany::One(1)),
            reverse_transformer_layers_per_block: None,
            attention_head_dim: OneOrMany::One(8),
            use_linear_projection: false,
            addition_embed_type: None,
            addition_time_embed_dim: None,
            num_class_embeds: None,
            upcast_attention: false,
            resnet_time_scale_shift: "default".to_owned(),
            time_embedding_dim: None,
            projection_class_embeddings_input_dim: None,
            _addition_embed_type_num_heads: 64,
        }
    }
}

impl Raw {
    /// Height and width.
    pub fn sample_size(&self) -> Result<[usize; 2], LoadError> {
        let sides = self.sample_size.as_ref().and_then(|size| size.spread(2));
        if let Some(&[height, width]) = sides.as_deref() {
            Ok([height, width])
        } else {
            let detail = "give the side of a sample, or height and width";
            Err(LoadError::config("sample_size", detail))
        }
    }

    /// Reads the file's bytes; refuses what would be another network, and counts that make none.
    pub fn read(bytes: &[u8]) -> Result<Self, LoadError> {
        let raw: Self = config_file::read(bytes, &["UNet2DConditionModel"], &fixed())?;
        one_of("act_fn", Some(&raw.act_fn), &["silu", "swish"])?;
        one_of(
            "resnet_time_scale_shift",
            Some(&raw.resnet_time_scale_shift),
            &["default", "scale_shift"],
        )?;
        raw.check_counts()?;
        Ok(raw)
    }

    fn check_counts(&self) -> Result<(), LoadError> {
        if self.downsample_padding > 1 {
            return Err(LoadError::config("downsample_padding", "must be 0 or 1"));
        }
        if !(1..=8).contains(&self.block_out_channels.len()) {
            return Err(LoadError::config(
                "block_out_channels",
                "must have 1 to 8 entries",
            ));
        }
        let all = |given: &OneOrMany<usize>| match given {
            OneOrMany::One(one) => vec![*one],
            OneOrMany::Many(many) => many.clone(),
        };
        for (field, counts) in [
            ("sample_size", self.sample_size()?.to_vec()),
            ("in_channels", vec![self.in_channels]),
            ("out_channels", vec![self.out_channels]),
            ("block_out_channels", self.block_out_channels.clone()),
            ("layers_per_block", all(&self.layers_per_block)),
            ("norm_num_groups", vec![self.norm_num_groups]),
            ("cross_attention_dim", all(&self.cross_attention_dim)),
            ("attention_head_dim", all(&self.attention_head_dim)),
            ("num_class_embeds", vec![self.num_class_embeds.unwrap_or(1)]),
            (
                "time_embedding_dim",
                vec![self.time_embedding_dim.unwrap_or(1)],
            ),
        ] {
            if counts.iter().any(|count| !(1..=MOST).contains(count)) {
                return Err(LoadError::config(field, format!("must be 1 to {MOST}")));
            }
        }
        Ok(())
    }
}
