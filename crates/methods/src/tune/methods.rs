//! The methods that train the backbone itself: `full`, `partial`, `lora` and `setfit`. Each begins with a linear probe.

use headstart_types::payload::Modality;
use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::batches;
use super::choose::{Choice, Goal, Role, What};
use super::graph::Tunable;
use super::low_rank::LowRank;
use super::recipe::{OptimiserKind, Recipe};
use super::train::{SHARES, Tuned};
use crate::data::Targets;
use crate::error::MethodError;
use crate::head::{Backbone, Head, HeadParts};
use crate::linear_probe::{ClassWeight, LinearProbe};
use crate::method::{Checked, Control, FitData, Fitted, HeldOut, Method, Needs, Params, hyperparameter};
use crate::score::{self, Score};

/// What is done with the backbone once there is a head.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How it is trained.
    pub recipe: Recipe,
    /// Which of its weights.
    pub what: What,
    /// Whether its features are trained by pairs of rows, and a head is fitted on them anew.
    pub contrast: bool,
}

impl Plan {
    /// What is trained, and towards what.
    #[must_use]
    pub fn choice(&self, multi_label: bool) -> Choice {
        let goal = match (self.contrast, multi_label) {
            (true, _) => Goal::Pairs,
            (false, true) => Goal::Labels { smoothing: self.recipe.label_smoothing },
            (false, false) => Goal::Classes { smoothing: self.recipe.label_smoothing },
        };
        let Recipe { embeddings, augment, token_dropout, .. } = self.recipe;
        // Rows that are varied come out of it otherwise in every pass.
        let prefix = !augment && token_dropout == 0.0;
        Choice { what: self.what.clone(), prefix, embeddings, goal }
    }
}

impl Plan {
    /// What an answer weighs, of rows without and with each class; `None` where all weigh the same. `learned` is what is
    /// right of the rows learnt from.
    ///
    /// # Errors
    /// [`MethodError::Hyperparameter`].
    pub fn class_weights(
        &self,
        learned: &Targets,
        classes: &[String],
    ) -> Result<Option<Vec<[f32; 2]>>, MethodError> {
        Ok(ClassWeight::read(&self.recipe.class_weight)?.of_rows(learned, classes))
    }
}

/// A pass forward as a share of a step, which goes forward and backward.
const LOOK: f64 = 1.0 / 3.0;

impl Plan {
    /// How many steps the training takes on these rows; looks at so many rows that stop it are counted as parts of steps.
    #[must_use]
    pub fn steps(&self, learn: &[usize], targets: &Targets, stop: usize) -> f64 {
        let Recipe { epochs, batch_size, .. } = self.recipe;
        let batches = batches::count(learn, targets, batch_size, self.contrast) as f64;
        let looks = if self.contrast { 0 } else { epochs + SHARES.len() };
        epochs as f64 * batches + LOOK * (looks * stop.div_ceil(batch_size.max(1))) as f64
    }

    /// Rows that so many steps of a pass may have: from all over the file, since lengths may differ from part to part, and as many
    /// of a class together as there are in a pass.
    #[must_use]
    pub fn some(&self, learn: &[usize], targets: &Targets, steps: usize, seed: u64) -> Vec<usize> {
        let size = self.recipe.batch_size.max(1);
        if self.contrast {
            return batches::of_pairs(learn, targets, size, (seed, 0))
                .into_iter()
                .take(steps)
                .flatten()
                .collect();
        }
        let count = steps * size;
        learn.iter().step_by((learn.len() / count.max(1)).max(1)).take(count).copied().collect()
    }
}

/// Step size of AdamW from random weights, as BERT's (Devlin et al., NAACL 2019). With three times as much an encoder of texts says
/// one class throughout, with twenty times as much so does a network of pictures, whose pretrained weights bear 1e-3.
const RANDOM_RATE: f32 = 1e-4;

impl Plan {
    /// The same training of all weights from random ones, with steps for those, alike for all of the backbone's.
    #[must_use]
    pub fn from_random(&self) -> Self {
        let learning_rate = match self.recipe.optimiser {
            OptimiserKind::Adamw => RANDOM_RATE,
            OptimiserKind::Sgd => self.recipe.learning_rate,
        };
        let recipe = Recipe {
            embeddings: true,
            learning_rate,
            layer_decay: 1.0,
            patience: self.recipe.epochs,
            share: None,
            ..self.recipe.clone()
        };
        Self { recipe, what: What::All, contrast: self.contrast }
    }
}

/// Trains all weights.
#[derive(Debug, Clone, Copy)]
pub struct Full;

/// Trains the weights of the last blocks.
#[derive(Debug, Clone, Copy)]
pub struct Partial;

/// Trains factors of low rank beside the weights.
#[derive(Debug, Clone, Copy)]
pub struct Lora;

/// Trains features by pairs of rows (Tunstall et al., "Efficient few-shot learning without prompts", 2022).
#[derive(Debug, Clone, Copy)]
pub struct SetFit;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct NoneOfItsOwn {}

impl Checked for NoneOfItsOwn {}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Blocks {
    /// Blocks before the head that are trained; a third of all where 0.
    blocks: usize,
}

impl Checked for Blocks {}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Factors {
    rank: usize,
    alpha: f32,
    /// Parts of the names of the matrices that get factors; all get some where there is none.
    targets: Vec<String>,
}

/// Patterns of names that a job may state, and bytes of one.
const MOST_TARGETS: usize = 256;
const LONGEST_TARGET: usize = 512;

impl Default for Factors {
    fn default() -> Self {
        Self { rank: 8, alpha: 16.0, targets: Vec::new() }
    }
}

impl Checked for Factors {
    fn check(&self) -> Result<(), MethodError> {
        if !(1..=1024).contains(&self.rank) {
            return Err(hyperparameter("rank", "must be 1 to 1024"));
        }
        if !(self.alpha > 0.0 && self.alpha <= 4096.0) {
            return Err(hyperparameter("alpha", "must be above 0, at most 4096"));
        }
        if self.targets.len() > MOST_TARGETS {
            return Err(hyperparameter("targets", format!("must be at most {MOST_TARGETS} names")));
        }
        // A pattern of stars alone would mean every matrix, as none does.
        let fits = |name: &String| name.len() <= LONGEST_TARGET && name.chars().any(|letter| letter != '*');
        if let Some(at) = self.targets.iter().position(|name| !fits(name)) {
            let problem = format!("must be part of a name, of 1 to {LONGEST_TARGET} bytes");
            return Err(hyperparameter(&format!("targets[{at}]"), problem));
        }
        Ok(())
    }
}

/// Passes and rows a step of the training by pairs: with eight rows of each of six classes some 80 steps, as many as the
/// paper makes.
const PAIRS_EPOCHS: usize = 40;
const PAIRS_BATCH: usize = 24;

/// Rows a step in which there are some of two classes.
const LEAST_PAIRED: usize = 2 * batches::ALIKE;

/// Step size of factors: they start from nothing, and bear longer steps than weights that know something.
const FACTORS_RATE: f64 = 5e-4;

/// Step sizes for networks of pictures. Few weights overfit sooner.
const PICTURES_RATE: f64 = 1e-3;
const LAST_BLOCKS_RATE: f64 = 3e-4;

/// What such networks are trained by: their sets are small and their first layers far from what is new, so that they take
/// more passes and all layers the same steps.
fn pictures(learning_rate: f64) -> Map<String, Value> {
    let fields = [
        ("epochs", json!(20)),
        ("batch_size", json!(16)),
        ("learning_rate", json!(learning_rate)),
        ("layer_decay", json!(1.0)),
        ("head_rate", json!(1.0)),
    ];
    fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect()
}

/// A method's own hyperparameters and those of the recipe, both complete.
fn resolved<T: Checked>(
    given: &Map<String, Value>,
    own: &[&str],
    defaults: Map<String, Value>,
) -> Result<Params, MethodError> {
    let is_own = |name: &str| own.contains(&name);
    let (mine, rest): (Map<_, _>, Map<_, _>) = given.clone().into_iter().partition(|(name, _)| is_own(name));
    let left = |name: &String| rest.get(name).is_none_or(|value| value.as_str() == Some("auto"));
    let rest: Map<String, Value> =
        rest.clone().into_iter().chain(defaults.into_iter().filter(|(name, _)| left(name))).collect();
    let mut all = Params::resolved::<Recipe>(&rest)?.as_map().clone();
    all.extend(Params::resolved::<T>(&mine)?.as_map().clone());
    Ok(Params::complete(all))
}

/// What [`resolved`] made, read back.
fn read<T: Checked>(params: &Params, own: &[&str]) -> Result<(Recipe, T), MethodError> {
    let fields = params.as_map().clone().into_iter();
    let (mine, rest): (Map<_, _>, Map<_, _>) = fields.partition(|(name, _)| own.contains(&name.as_str()));
    Ok((Params::checked(&rest)?, Params::checked(&mine)?))
}

/// That a recipe makes pairs of both kinds in each step, and asks for nothing of a head.
fn check_pairs(recipe: &Recipe) -> Result<(), MethodError> {
    if recipe.accumulate > 1 {
        return Err(hyperparameter("accumulate", "must be 1: rows of a step are compared with each other"));
    }
    if recipe.batch_size < LEAST_PAIRED {
        let problem = format!("must be at least {LEAST_PAIRED}: a step has rows of several classes");
        return Err(hyperparameter("batch_size", problem));
    }
    if recipe.label_smoothing > 0.0 {
        return Err(hyperparameter("label_smoothing", "is for methods that train the head along"));
    }
    Ok(())
}

/// The linear probe that training begins with.
fn probe(
    data: &FitData<'_>,
    params: &Params,
    seed: u64,
    control: &mut dyn Control,
) -> Result<Fitted, MethodError> {
    let shared =
        |(name, value): (&String, &Value)| (name == "class_weight").then(|| (name.clone(), value.clone()));
    let given = params.as_map().iter().filter_map(shared).collect();
    LinearProbe.fit(data, &LinearProbe.check(&given)?, seed, control)
}

macro_rules! method {
    ($method:ident, $name:literal, $docs:literal, $own:ty, $names:expr, $defaults:expr, $pictures:expr, $contrast:literal, $what:expr) => {
        impl Method for $method {
            fn name(&self) -> &'static str {
                $name
            }

            fn docs(&self) -> &'static str {
                $docs
            }

            fn needs(&self) -> Needs {
                Needs::Graph
            }

            fn check(&self, given: &Map<String, Value>) -> Result<Params, MethodError> {
                if $contrast && given.get("from_random").and_then(Value::as_bool) == Some(true) {
                    return Err(hyperparameter("from_random", "is for methods that train the head along"));
                }
                let params = resolved::<$own>(given, $names, $defaults)?;
                if $contrast {
                    check_pairs(&read::<$own>(&params, $names)?.0)?;
                }
                Ok(params)
            }

            fn defaults(&self, reads: Modality) -> Map<String, Value> {
                match reads {
                    Modality::Image => $pictures,
                    Modality::Text | Modality::Audio | Modality::Tensor => Map::new(),
                }
            }

            fn fit(
                &self,
                data: &FitData<'_>,
                params: &Params,
                seed: u64,
                control: &mut dyn Control,
            ) -> Result<Fitted, MethodError> {
                probe(data, params, seed, control)
            }

            fn check_classes(&self, params: &Params, classes: &[String]) -> Result<(), MethodError> {
                let (recipe, _): (Recipe, $own) = read(params, $names)?;
                ClassWeight::read(&recipe.class_weight)?.check_names(classes)
            }

            fn plan(&self, params: &Params, seed: u64) -> Result<Option<Plan>, MethodError> {
                let (recipe, own): (Recipe, $own) = read(params, $names)?;
                let what: fn($own, u64) -> What = $what;
                Ok(Some(Plan { recipe, what: what(own, seed), contrast: $contrast }))
            }
        }
    };
}

method!(
    Full,
    "full",
    "Trains all weights of the backbone together with the head, beginning with a linear probe.",
    NoneOfItsOwn,
    &[],
    Map::new(),
    pictures(PICTURES_RATE),
    false,
    |_, _| What::All
);

method!(
    Partial,
    "partial",
    "Trains the backbone's last blocks together with the head, beginning with a linear probe. What stands before them is \
     computed once, unless pictures or texts are varied.",
    Blocks,
    &["blocks"],
    Map::from_iter([("augment".to_owned(), json!(false))]),
    pictures(LAST_BLOCKS_RATE),
    false,
    |own, _| What::LastBlocks(own.blocks)
);

method!(
    Lora,
    "lora",
    "Trains factors of low rank beside the backbone's matrices together with the head, beginning with a linear probe.",
    Factors,
    &["rank", "alpha", "targets"],
    Map::from_iter([("learning_rate".to_owned(), json!(FACTORS_RATE))]),
    Map::new(),
    false,
    |own, seed| What::LowRank(LowRank { rank: own.rank, alpha: own.alpha, targets: own.targets, seed })
);

method!(
    SetFit,
    "setfit",
    "For few examples: trains the backbone until rows of one class are alike and others are not, then fits a linear probe.",
    NoneOfItsOwn,
    &[],
    Map::from_iter([
        ("epochs".to_owned(), json!(PAIRS_EPOCHS)),
        ("batch_size".to_owned(), json!(PAIRS_BATCH)),
        ("layer_decay".to_owned(), json!(1.0)),
    ]),
    Map::new(),
    true,
    |_, _| What::All
);

/// The head that a run ended with, to be applied to features of the backbone that the run made.
///
/// # Errors
/// [`MethodError::Graph`] when the run did not train a head like the first one.
pub fn tuned_head(
    first: &Head,
    (tunable, tuned): (&Tunable, &Tuned),
    backbone: Backbone,
    (method, params): (&dyn Method, &Params),
) -> Result<Head, MethodError> {
    let mut parts: HeadParts = first.parts().clone();
    let trained = tunable.roles.iter().zip(&tuned.weights).filter(|(role, _)| **role == Role::Head);
    for (_, weight) in trained {
        let shape = parts.rows.dim();
        if weight.shape == [shape.0, shape.1] {
            let rows = ndarray::Array2::from_shape_vec(shape, weight.values.clone());
            parts.rows = rows.map_err(|error| MethodError::Graph(error.to_string()))?.into_shared();
        } else if weight.shape == [parts.bias.len()] {
            parts.bias = weight.values.as_slice().into();
        } else {
            return Err(MethodError::Graph(format!("`{}` is no part of the head", weight.name)));
        }
    }
    parts.backbone = backbone;
    named(Head::new(parts)?, method, params)
}

/// A head as that of another method, with that method's hyperparameters.
///
/// # Errors
/// None that a head which exists can have.
pub fn named(head: Head, method: &dyn Method, params: &Params) -> Result<Head, MethodError> {
    let mut parts = head.into_parts();
    method.name().clone_into(&mut parts.method);
    parts.hyperparameters = params.as_map().clone();
    Head::new(parts)
}

/// A trained head where no held-out rows are left to calibrate it by. Its temperature is that of the head it began
/// with, but at least 1. Less than 1 would make it surer: training does that anyway, and a small temperature says only
/// that few rows were easy to separate.
///
/// # Errors
/// None that a head which exists can have.
pub fn uncalibrated(head: Head) -> Result<Head, MethodError> {
    let temperature = head.parts().temperature.max(1.0);
    head.calibrated(temperature, None)
}

/// A fit on features that were themselves trained on the labels of its rows. Its folds held out nothing that the
/// features had not seen, so their scores are dropped, and the temperature is that of `first`, the head on the
/// untrained features, but at least 1.
///
/// # Errors
/// None that heads which exist can have.
pub fn unjudged(fitted: Fitted, first: &Head) -> Result<Fitted, MethodError> {
    let Fitted { head, mut metrics, summary, .. } = fitted;
    let temperature = first.parts().temperature.max(1.0);
    metrics.retain(|name, _| !OF_FOLDS.contains(&name.as_str()));
    let head = head.calibrated(temperature, None)?;
    Ok(Fitted { head, held_out: None, summary, metrics })
}

/// Figures of a fit that rows held out gave.
const OF_FOLDS: [&str; 3] = ["accuracy", "loss", "temperature"];

/// What rows of each class weigh when they are scored.
pub(super) fn of_rows(class_weights: Option<&[[f32; 2]]>) -> Option<Vec<f64>> {
    class_weights.map(|weights| weights.iter().map(|[_, with]| f64::from(*with)).collect())
}

/// A head fitted anew to what it gives rows that it did not learn from; the figures of a fit, the rows' numbers among them.
///
/// # Errors
/// [`MethodError::Width`] for features of another width.
pub fn calibrated(
    head: Head,
    features: ArrayView2<'_, f32>,
    (targets, class_weights): (&Targets, Option<&[[f32; 2]]>),
    rows: Vec<usize>,
) -> Result<(Head, HeldOut, f64), MethodError> {
    let logits = head.logits(features)?;
    let score = Score::of(logits.view(), targets, of_rows(class_weights).as_deref());
    let head = score::calibrated(head, &logits, targets, score.temperature)?;
    Ok((head, HeldOut { rows, logits }, score.accuracy))
}
