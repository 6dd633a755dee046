//! Text encoders, as sentence-transformers and Hugging Face keep them, and cross-encoders.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Config, Contents, FolderProblem, Graph};
use crate::manifest::{
    EntailmentSpec, FeaturesSpec, LogitsSpec, Manifest, OutputSpec, Pooling, TextSpec, ZeroShotSpec,
};
use crate::payload::Modality;

/// What a `max_length` beyond any model's means: none was stated.
const NO_LENGTH: f64 = 1e6;

/// Length where nothing states one.
const USUAL_LENGTH: usize = 512;

/// How the zero-shot pipeline of transformers puts labels, unless it is told otherwise.
const HYPOTHESIS: &str = "This example is {}.";

const HIDDEN: [&str; 2] = ["last_hidden_state", "token_embeddings"];

/// `1_Pooling/config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode: Option<String>,
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_lasttoken: bool,
}

/// An entry of `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    #[serde(default)]
    r#type: String,
}

impl Module {
    /// Whether vectors are what they are without it, or it is done here.
    fn is_read(&self) -> bool {
        const READ: [&str; 3] = ["Transformer", "Pooling", "Normalize"];
        self.r#type.is_empty() || READ.iter().any(|name| self.r#type.ends_with(name))
    }
}

/// `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lengths {
    max_seq_length: Option<usize>,
}

/// `tokenizer_config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    model_max_length: Option<f64>,
}

/// `config_sentence_transformers.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Prompts {
    prompts: Option<BTreeMap<String, String>>,
}

pub(super) fn manifest(
    contents: &Contents,
    config: &Config,
    assumed: &mut Vec<String>,
) -> Result<Manifest, FolderProblem> {
    let graph = contents.graph(["onnx/model.onnx", "model.onnx"])?;
    let text = text(contents, config, assumed)?;
    if config.is_for("SequenceClassification") {
        return cross_encoder(contents, config, graph, text);
    }
    let output = OutputSpec { features: Some(features(contents, config, graph, assumed)?), logits: None };
    Ok(Manifest { text: Some(text), ..contents.manifest(config, graph, Modality::Text, output) })
}

/// The tokenizer and the longest text: the shortest of all lengths that are stated.
fn text(contents: &Contents, config: &Config, assumed: &mut Vec<String>) -> Result<TextSpec, FolderProblem> {
    let lengths: Lengths = contents.json("sentence_bert_config.json")?.unwrap_or_default();
    let tokenizer: TokenizerConfig = contents.json("tokenizer_config.json")?.unwrap_or_default();
    let prompts: Prompts = contents.json("config_sentence_transformers.json")?.unwrap_or_default();
    // RoBERTa's positions begin behind that of padding, which takes two rows.
    let kind = config.model_type.as_str();
    let taken = if kind.contains("roberta") || matches!(kind, "camembert" | "mpnet") { 2 } else { 0 };
    let stated = [
        lengths.max_seq_length,
        tokenizer
            .model_max_length
            .filter(|length| (1.0..NO_LENGTH).contains(length))
            .map(|length| length as usize),
        config.max_position_embeddings.map(|positions| positions.saturating_sub(taken)),
    ];
    let max_tokens = stated.into_iter().flatten().min().unwrap_or_else(|| {
        assumed.push(format!("no file states a longest text: {USUAL_LENGTH} tokens"));
        USUAL_LENGTH
    });
    let prompts = prompts.prompts.into_iter().flatten().filter(|(_, prompt)| !prompt.is_empty()).collect();
    Ok(TextSpec { tokenizer: "tokenizer.json".into(), max_tokens, prompts, ..TextSpec::default() })
}

fn features(
    contents: &Contents,
    config: &Config,
    graph: &Graph,
    assumed: &mut Vec<String>,
) -> Result<FeaturesSpec, FolderProblem> {
    let modules: Option<Vec<Module>> = contents.json("modules.json")?;
    let normalise = modules
        .as_ref()
        .is_none_or(|modules| modules.iter().any(|module| module.r#type.ends_with("Normalize")));
    if modules.is_none() {
        assumed.push("no modules.json says whether vectors have unit length: they get it".into());
    }
    // What already is one vector a text was pooled as the model wants it.
    if let Some((tensor, stated, 2)) = graph.output(&["sentence_embedding"]) {
        let dimension = dimension(stated, config, graph)?;
        return Ok(FeaturesSpec { tensor, pooling: Pooling::None, normalise, dimension });
    }
    if let Some(module) = modules.iter().flatten().find(|module| !module.is_read()) {
        return Err(FolderProblem::Unusable(format!(
            "modules.json: `{}` changes vectors in a way that is not served; export the whole as one graph with the output \
             sentence_embedding",
            module.r#type
        )));
    }
    let (tensor, stated, _) = graph.output(&HIDDEN).ok_or_else(|| graph.without(&HIDDEN))?;
    let pooling = match contents.json::<PoolingConfig>("1_Pooling/config.json")? {
        Some(pooling) => pooling.mode()?,
        None => {
            assumed.push("no 1_Pooling/config.json says how tokens become one vector: by their mean".into());
            Pooling::Mean
        }
    };
    Ok(FeaturesSpec { tensor, pooling, normalise, dimension: dimension(stated, config, graph)? })
}

fn dimension(stated: Option<usize>, config: &Config, graph: &Graph) -> Result<usize, FolderProblem> {
    stated.or(config.hidden_size).ok_or_else(|| {
        FolderProblem::Unusable(format!("neither {} nor config.json says how long vectors are", graph.file))
    })
}

impl PoolingConfig {
    fn mode(&self) -> Result<Pooling, FolderProblem> {
        let modes = [
            ("cls", self.pooling_mode_cls_token, Pooling::Cls),
            ("mean", self.pooling_mode_mean_tokens, Pooling::Mean),
            ("max", self.pooling_mode_max_tokens, Pooling::Max),
            ("lasttoken", self.pooling_mode_lasttoken, Pooling::Last),
        ];
        let named = |name: &str| self.pooling_mode.as_deref() == Some(name);
        let mut asked = modes.into_iter().filter(|(name, asked, _)| *asked || named(name));
        match (asked.next(), asked.next()) {
            (Some((_, _, pooling)), None) => Ok(pooling),
            _ => Err(FolderProblem::Unusable(
                "1_Pooling/config.json: asks for none or several of cls, mean, max and lasttoken".into(),
            )),
        }
    }
}

/// A classifier of pairs: a reranker where it says one thing, else one that tells entailment.
fn cross_encoder(
    contents: &Contents,
    config: &Config,
    graph: &Graph,
    text: TextSpec,
) -> Result<Manifest, FolderProblem> {
    let (tensor, stated, _) = graph.output(&["logits"]).ok_or_else(|| graph.without(&["logits"]))?;
    let mut classes = config.classes();
    if classes.is_empty() && stated == Some(1) {
        classes.push("relevance".into());
    }
    let of = |start: &str| classes.iter().find(|class| class.to_lowercase().starts_with(start)).cloned();
    let zero_shot = match (classes.len(), of("entail"), of("contra")) {
        (1, _, _) => None,
        (_, Some(entailment), Some(contradiction)) => Some(ZeroShotSpec::Entailment(EntailmentSpec {
            templates: vec![HYPOTHESIS.into()],
            entailment,
            contradiction,
        })),
        _ => {
            return Err(FolderProblem::Unusable(format!(
                "config.json: a classifier into {}, which is neither a reranker (one class) nor tells entailment; its \
                 graph has no features",
                classes.join(", ")
            )));
        }
    };
    // The graph's one output: what is pooled of a pair stays inside.
    let features = FeaturesSpec {
        tensor: tensor.clone(),
        pooling: Pooling::None,
        normalise: false,
        dimension: classes.len(),
    };
    let output =
        OutputSpec { features: Some(features), logits: Some(LogitsSpec { tensor, labels: None, classes }) };
    let text = Some(TextSpec { pairs: true, ..text });
    Ok(Manifest { text, zero_shot, ..contents.manifest(config, graph, Modality::Text, output) })
}
