//! What a training method is, how a fit is steered, and the table of all methods.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use headstart_types::{payload::Modality, wording::in_json};
use ndarray::Array2;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{
    data::Examples,
    error::MethodError,
    head::{Backbone, Head},
    tune::Plan,
};

/// What a method works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Features of a frozen backbone; [`Method::fit`] does it all.
    Features,
    /// The backbone's graph as well: [`Method::fit`] gives what [`Method::plan`] begins with.
    Graph,
}

/// What a fit sees.
#[derive(Debug, Clone)]
pub struct FitData<'a> {
    /// Rows to learn from.
    pub train: &'a Examples,
    /// Rows for tuning and stopping, never learnt from; folds of `train` serve where absent.
    pub validation: Option<&'a Examples>,
    /// Where the features come from; written into the head.
    pub backbone: Backbone,
    /// Threads a fit may use. The result does not depend on it.
    pub threads: usize,
}

/// Resolved hyperparameters: every field present, every value in range.
#[derive(Debug, Clone, PartialEq)]
pub struct Params(Map<String, Value>);

impl Params {
    /// The fields, as they are stored with a head.
    pub fn as_map(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Reads the fields as `T`, absent ones and those that say `"auto"` by `T`'s defaults.
    pub(crate) fn read<T: DeserializeOwned>(given: &Map<String, Value>) -> Result<T, MethodError> {
        let kept = given.iter().filter(|(_, value)| value.as_str() != Some("auto"));
        let kept: Map<String, Value> = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        serde_path_to_error::deserialize(Value::Object(kept)).map_err(|error| {
            let path = error.path().to_string();
            let problem = error.into_inner().to_string();
            let path = if path == "." { unknown_field(&problem).unwrap_or_default() } else { path };
            hyperparameter(&path, in_json(&problem))
        })
    }

    /// Reads the fields as `T` and checks every value.
    pub(crate) fn checked<T: Checked>(given: &Map<String, Value>) -> Result<T, MethodError> {
        let read: T = Self::read(given)?;
        read.check()?;
        Ok(read)
    }

    /// What was given, with `T`'s defaults filled in and every value checked.
    pub(crate) fn resolved<T: Checked>(given: &Map<String, Value>) -> Result<Self, MethodError> {
        Self::write(&Self::checked::<T>(given)?)
    }

    /// Fields that are known to be complete.
    pub(crate) fn complete(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    fn write<T: Serialize>(resolved: &T) -> Result<Self, MethodError> {
        // By way of the text: as a value 0.3 of single precision would be 0.30000001192092896.
        match serde_json::to_string(resolved).and_then(|text| serde_json::from_str(&text)) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => Err(hyperparameter("", format!("not an object: {other}"))),
            Err(error) => Err(hyperparameter("", error.to_string())),
        }
    }
}

fn unknown_field(problem: &str) -> Option<String> {
    problem.strip_prefix("unknown field `")?.split_once('`').map(|(name, _)| name.to_owned())
}

/// The error for hyperparameter `name`; the object itself where `name` is empty.
pub(crate) fn hyperparameter(name: &str, problem: impl Into<String>) -> MethodError {
    let path = if name.is_empty() { "hyperparameters".to_owned() } else { format!("hyperparameters.{name}") };
    MethodError::Hyperparameter { path, problem: problem.into() }
}

/// A method's hyperparameters as it writes them down.
pub(crate) trait Checked: Serialize + DeserializeOwned {
    /// Whether every value is in range; all are where nothing else is said.
    fn check(&self) -> Result<(), MethodError> {
        Ok(())
    }
}

/// A state that a fit can go on from, handed out while fitting.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// The step it was taken after.
    pub step: usize,
    /// All that [`Control::resume`] has to give back.
    pub state: Vec<u8>,
    /// What was learnt so far as a head that can be served, where the method has one by then.
    pub head: Option<Head>,
    /// Figures of this step.
    pub metrics: Vec<(&'static str, f64)>,
}

/// Steers a fit from outside. Called on the thread that called [`Method::fit`], so that it may block to make a
/// fit yield.
pub trait Control {
    /// One step is done of about `total`; `Break` stops the fit before the next step.
    fn progress(&mut self, step: usize, total: usize, metrics: &[(&'static str, f64)]) -> ControlFlow<()>;

    /// Takes a checkpoint; the default drops it.
    fn checkpoint(&mut self, checkpoint: Checkpoint) {
        drop(checkpoint);
    }

    /// The state of the last checkpoint of the same fit (same data, hyperparameters and seed), asked for once at
    /// the start. A fit that resumes ends with the same bytes as an undisturbed one.
    fn resume(&mut self) -> Option<Vec<u8>> {
        None
    }
}

/// Lets a fit run through.
#[derive(Debug, Default, Clone, Copy)]
pub struct Unattended;

impl Control for Unattended {
    fn progress(&mut self, _: usize, _: usize, _: &[(&'static str, f64)]) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Raw logits of rows that the model behind them had not learnt from.
#[derive(Debug, Clone)]
pub struct HeldOut {
    /// Row numbers, ascending; validation rows are numbered on from the last training row.
    pub rows: Vec<usize>,
    /// `rows × classes`, before the temperature.
    pub logits: Array2<f32>,
}

/// What a fit gives.
#[derive(Debug, Clone)]
pub struct Fitted {
    /// The head, calibrated.
    pub head: Head,
    /// Held-out logits, where there was enough data to hold any out.
    pub held_out: Option<HeldOut>,
    /// One sentence on what was done and chosen.
    pub summary: String,
    /// Figures of the fit.
    pub metrics: BTreeMap<String, f64>,
}

/// A way to get from labelled features to a head.
pub trait Method: Sync {
    /// The name in requests.
    fn name(&self) -> &'static str;

    /// One sentence for the API's description.
    fn docs(&self) -> &'static str;

    /// What it works on.
    fn needs(&self) -> Needs {
        Needs::Features
    }

    /// Resolves hyperparameters: defaults filled in, every value checked.
    ///
    /// # Errors
    ///
    /// [`MethodError::Hyperparameter`] naming the field.
    fn check(&self, given: &Map<String, Value>) -> Result<Params, MethodError>;

    /// What suits a backbone of one modality better than the usual values.
    fn defaults(&self, reads: Modality) -> Map<String, Value> {
        let _ = reads;
        Map::new()
    }

    /// [`Method::check`] for a backbone of one modality: what is absent or says `"auto"` takes that modality's default.
    ///
    /// # Errors
    ///
    /// As there.
    fn check_for(&self, reads: Modality, given: &Map<String, Value>) -> Result<Params, MethodError> {
        let open = |name: &String| given.get(name).is_none_or(|value| value.as_str() == Some("auto"));
        let mut filled = given.clone();
        filled.extend(self.defaults(reads).into_iter().filter(|(name, _)| open(name)));
        self.check(&filled)
    }

    /// Whether hyperparameters that name classes name such as there are.
    ///
    /// # Errors
    ///
    /// [`MethodError::Hyperparameter`] naming the field.
    fn check_classes(&self, params: &Params, classes: &[String]) -> Result<(), MethodError> {
        let _ = (params, classes);
        Ok(())
    }

    /// What is done with the backbone's graph once there is a head; nothing where features are all the method needs.
    ///
    /// # Errors
    ///
    /// [`MethodError::Hyperparameter`] for hyperparameters of another method.
    fn plan(&self, params: &Params, seed: u64) -> Result<Option<Plan>, MethodError> {
        let _ = (params, seed);
        Ok(None)
    }

    /// How long training the backbone may take where the method leaves it to held-out rows whether it is trained, see
    /// [`auto`](crate::auto); nothing where the method itself says so.
    ///
    /// # Errors
    /// [`MethodError::Hyperparameter`] for hyperparameters of another method.
    fn may_tune(&self, params: &Params) -> Result<Option<Duration>, MethodError> {
        let _ = params;
        Ok(None)
    }

    /// Fits a head. Same data, hyperparameters and seed: same bytes.
    ///
    /// # Errors
    ///
    /// [`MethodError`] when the data does not suffice, the control stops the fit or a state does not belong to it.
    fn fit(
        &self,
        data: &FitData<'_>,
        params: &Params,
        seed: u64,
        control: &mut dyn Control,
    ) -> Result<Fitted, MethodError>;
}

/// All methods.
pub static METHODS: &[&dyn Method] = &[
    &crate::auto::Auto,
    &crate::prototype::Prototype,
    &crate::linear_probe::LinearProbe,
    &crate::mlp::Mlp,
    &crate::tune::Full,
    &crate::tune::Partial,
    &crate::tune::Lora,
    &crate::tune::SetFit,
];

/// The method of that name; `supervised`, the OpenAI API's word, is `auto`.
pub fn method(name: &str) -> Option<&'static dyn Method> {
    let name = if name == "supervised" { "auto" } else { name };
    METHODS.iter().copied().find(|method| method.name() == name)
}
