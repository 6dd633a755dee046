//! `config.json`: what the weights are to be read as.

use std::path::Path;

use serde::Deserialize;

use crate::error::ConvertError;
use crate::names::Family;

const FILE: &str = "config.json";

/// The kinds of models that are converted, as `model_type` names them.
const CONVERTIBLE: [&str; 6] = ["bert", "roberta", "xlm-roberta", "camembert", "distilbert", "mpnet"];

/// What of it matters, by the names of BERT and of DistilBERT.
#[derive(Debug, Deserialize)]
struct Fields {
    #[serde(default)]
    model_type: String,
    architectures: Option<Vec<String>>,
    #[serde(alias = "dim")]
    hidden_size: Option<usize>,
    #[serde(alias = "n_layers")]
    num_hidden_layers: Option<usize>,
    #[serde(alias = "n_heads")]
    num_attention_heads: Option<usize>,
    #[serde(alias = "activation")]
    hidden_act: Option<String>,
    layer_norm_eps: Option<f32>,
    pad_token_id: Option<i64>,
    position_embedding_type: Option<String>,
    is_decoder: Option<bool>,
    relative_attention_num_buckets: Option<usize>,
}

/// A model of the family.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) model_type: String,
    pub(crate) family: Family,
    /// Whether a head that says something of a whole text belongs to it.
    pub(crate) classifies: bool,
    pub(crate) width: usize,
    pub(crate) layers: usize,
    pub(crate) heads: usize,
    pub(crate) activation: Activation,
    pub(crate) epsilon: f32,
    /// The token that stands for none, by which some models count positions.
    pub(crate) padding: i64,
    pub(crate) buckets: usize,
}

/// What stands between the two projections behind attention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// x · Φ(x).
    Gelu,
    /// The same by a hyperbolic tangent, as GPT-2 and others approximate it.
    GeluByTanh,
    Relu,
    /// x · σ(x).
    Silu,
}

impl Config {
    pub(crate) fn read(folder: &Path) -> Result<Self, ConvertError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(ConvertError::file(&path))?;
        let fields = serde_json::from_str(&text).map_err(|error| ConvertError::format(FILE, error))?;
        Self::of(fields)
    }

    fn of(fields: Fields) -> Result<Self, ConvertError> {
        let family = match fields.model_type.as_str() {
            "bert" => Family::Bert,
            "roberta" | "xlm-roberta" | "camembert" => Family::Roberta,
            "distilbert" => Family::Distilbert,
            "mpnet" => Family::Mpnet,
            other => {
                let known = CONVERTIBLE.join(", ");
                return Err(ConvertError::config(
                    "model_type",
                    format!("is `{other}`; converted are {known}"),
                ));
            }
        };
        let positive = |field, value: Option<usize>| {
            value.filter(|value| *value > 0).ok_or_else(|| ConvertError::config(field, "is missing or 0"))
        };
        let width = positive("hidden_size", fields.hidden_size)?;
        let heads = positive("num_attention_heads", fields.num_attention_heads)?;
        if !width.is_multiple_of(heads) {
            return Err(ConvertError::config(
                "num_attention_heads",
                format!("is {heads}, which does not divide {width}"),
            ));
        }
        match fields.position_embedding_type.as_deref() {
            None | Some("absolute") => {}
            Some(other) => {
                return Err(ConvertError::config(
                    "position_embedding_type",
                    format!("is `{other}`, not `absolute`"),
                ));
            }
        }
        if fields.is_decoder == Some(true) {
            return Err(ConvertError::config("is_decoder", "is true; encoders are converted"));
        }
        let epsilon = fields.layer_norm_eps.unwrap_or(1e-12);
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(ConvertError::config("layer_norm_eps", "must be above 0"));
        }
        let buckets = fields.relative_attention_num_buckets.unwrap_or(32);
        if buckets < 2 {
            let problem = format!("is {buckets}; either direction has one of its own");
            return Err(ConvertError::config("relative_attention_num_buckets", problem));
        }
        let classifies = |name: &String| name.ends_with("ForSequenceClassification");
        let usual_padding = if family.counts_from_padding() { 1 } else { 0 };
        Ok(Self {
            family,
            classifies: fields.architectures.iter().flatten().any(classifies),
            width,
            layers: positive("num_hidden_layers", fields.num_hidden_layers)?,
            heads,
            activation: Activation::named(fields.hidden_act.as_deref().unwrap_or("gelu"))?,
            epsilon,
            padding: fields.pad_token_id.unwrap_or(usual_padding),
            buckets,
            model_type: fields.model_type,
        })
    }
}

impl Activation {
    fn named(name: &str) -> Result<Self, ConvertError> {
        match name {
            "gelu" | "gelu_python" => Ok(Self::Gelu),
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_accurate" => Ok(Self::GeluByTanh),
            "relu" => Ok(Self::Relu),
            "silu" | "swish" => Ok(Self::Silu),
            other => Err(ConvertError::config("hidden_act", format!("is `{other}`, which is not known"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Config, String> {
        Config::of(serde_json::from_str(json).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_names_of_bert_and_of_distilbert_are_read() {
        let bert =
            of(r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
                          "hidden_act": "gelu_new", "architectures": ["BertForSequenceClassification"]}"#)
            .unwrap();
        assert_eq!((bert.width, bert.layers, bert.heads, bert.classifies), (8, 2, 2, true));
        assert_eq!((bert.activation, bert.padding), (Activation::GeluByTanh, 0));
        let small =
            of(r#"{"model_type": "distilbert", "dim": 6, "hidden_dim": 9, "n_layers": 1, "n_heads": 3,
                   "activation": "relu"}"#)
            .unwrap();
        assert_eq!((small.width, small.layers, small.heads), (6, 1, 3));
        let roberta = r#"{"model_type": "xlm-roberta", "hidden_size": 8, "num_hidden_layers": 1,
                          "num_attention_heads": 1, "layer_norm_eps": 1e-5}"#;
        assert_eq!(of(roberta).unwrap().padding, 1);
    }

    #[test]
    fn what_is_not_converted_is_named_by_its_field() {
        let with = |changes: &str| {
            let fields = r#""hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2"#;
            of(&format!("{{{fields}, {changes}}}")).unwrap_err()
        };
        for (changes, field) in [
            (r#""model_type": "deberta-v2""#, "model_type"),
            (r#""model_type": "bert", "position_embedding_type": "relative_key""#, "position_embedding_type"),
            (r#""model_type": "bert", "hidden_act": "quick_gelu""#, "hidden_act"),
            (r#""model_type": "bert", "is_decoder": true"#, "is_decoder"),
            (r#""model_type": "bert", "layer_norm_eps": 0"#, "layer_norm_eps"),
            (
                r#""model_type": "mpnet", "relative_attention_num_buckets": 1"#,
                "relative_attention_num_buckets",
            ),
        ] {
            assert!(with(changes).contains(&format!("`{field}`")), "{}", with(changes));
        }
        let uneven = of(
            r#"{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 3}"#,
        );
        assert!(uneven.unwrap_err().contains("does not divide 8"));
    }
}
