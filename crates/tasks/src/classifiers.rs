//! Classifiers that answer: versions by name, and the heads of each backbone and width in one stack.
//!
//! Readers take a snapshot and never wait for whoever loads a version; a version that replaces another is seen by the
//! next request.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use async_trait::async_trait;
use headstart_methods::artifact::Artifact;
use headstart_methods::head::{HeadId, Stack};
use headstart_telemetry::{ShadowFamily, ShadowMetrics};
use headstart_types::classifier::untuned;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::TaskError;

/// A version that answers.
#[derive(Debug, Clone)]
pub(crate) struct LiveVersion {
    /// The backbone whose features it reads.
    pub backbone: Arc<str>,
    /// What makes it answer.
    pub artifact: Arc<Artifact>,
    /// Its head's place in the stack of its backbone and width, where it has a head.
    pub id: Option<HeadId>,
}

impl LiveVersion {
    /// What is known of it.
    fn described(&self) -> Described {
        Described {
            backbone: untuned(&self.backbone).to_owned(),
            method: self.artifact.method().to_owned(),
            labels: Arc::clone(self.artifact.labels()),
            multi_label: self.artifact.multi_label(),
            answering: Arc::clone(&self.backbone),
            artifact: Arc::clone(&self.artifact),
        }
    }
}

/// A classifier's versions and pointers.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveClassifier {
    /// Versions by number.
    pub versions: BTreeMap<u32, LiveVersion>,
    /// What the bare name means.
    pub production: Option<u32>,
    /// Names of versions, as in `name@alias`.
    pub aliases: BTreeMap<String, u32>,
    /// Percent of requests to the bare name by version; empty when production answers all.
    pub traffic: BTreeMap<u32, u8>,
    /// The version that scores along with the bare name.
    pub shadow: Option<Shadow>,
}

/// A version that scores along, and how often it says something else.
#[derive(Debug, Clone)]
pub(crate) struct Shadow {
    number: u32,
    metrics: ShadowMetrics,
}

impl LiveClassifier {
    /// The version that the bare name means for `user`. Whose version cannot answer gets production's: everybody else
    /// stays where they are.
    fn bare(&self, name: &str, user: &str) -> Option<u32> {
        let share = self.share_of(name, user).filter(|number| self.versions.contains_key(number));
        share.or(self.production)
    }

    /// The version that a traffic split gives to `user`: the same one as long as the split stays.
    fn share_of(&self, name: &str, user: &str) -> Option<u32> {
        let digest = blake3::hash(&[name.as_bytes(), b"\0", user.as_bytes()].concat());
        let (low, _) = digest.as_bytes().split_first_chunk::<8>()?;
        let mut place = u64::from_le_bytes(*low) % 100;
        self.traffic.iter().find_map(|(version, percent)| {
            let percent = u64::from(*percent);
            if place < percent {
                return Some(*version);
            }
            place -= percent;
            None
        })
    }
}

/// What checkpoints' names have in them.
const CHECKPOINT: &str = ":ckpt-step-";

/// Which classifier: the API key's name and its own.
type Owned = (String, String);

/// Whose heads lie in one stack: a backbone's id, and the width of features. Where another backbone took the id, both
/// may have heads.
type Footing = (Arc<str>, usize);

#[derive(Default, Clone)]
struct Snapshot {
    classifiers: HashMap<Owned, Arc<LiveClassifier>>,
    /// None is empty.
    stacks: HashMap<Footing, Stack>,
    /// By full name; only in a request's own snapshot.
    checkpoints: BTreeMap<String, LiveVersion>,
}

/// What knows of versions that do not answer yet. It is asked when a name is not known.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Waits until what was written so far is loaded; false when it was already.
    async fn refresh(&self) -> bool;

    /// The head of a checkpoint, `name:job:ckpt-step-40`; `None` when there is none of that name.
    async fn checkpoint(&self, key: &str, name: &str) -> Option<Arc<Artifact>>;
}

/// Whose classifiers a key may ask beside its own, as `owner/name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// Everybody's.
    All,
    /// Those of these keys.
    Of(Vec<String>),
}

/// All classifiers that answer.
pub struct Classifiers {
    snapshot: RwLock<Arc<Snapshot>>,
    /// One change at a time.
    changing: Mutex<()>,
    registry: OnceLock<Arc<dyn Registry>>,
    /// By the name of the key.
    reach: RwLock<HashMap<String, Reach>>,
    shadows: ShadowFamily,
}

/// A version that a request asked for, with the stack its head lies in.
#[derive(Clone)]
pub(crate) struct Chosen {
    pub(crate) name: String,
    pub(crate) version: LiveVersion,
    /// A version on the same backbone that scores along without being heard.
    pub(crate) shadow: Option<(LiveVersion, ShadowMetrics)>,
    snapshot: Arc<Snapshot>,
}

impl Chosen {
    /// A version that is asked though no name leads to it.
    pub(crate) fn alone(name: String, artifact: Arc<Artifact>) -> Result<Self, TaskError> {
        let mut snapshot = Snapshot::default();
        let version = snapshot.add(artifact)?;
        Ok(Self { name, version, shadow: None, snapshot: Arc::new(snapshot) })
    }

    /// The heads of its backbone that take features of `width`.
    pub(crate) fn stack(&self, width: usize) -> Option<&Stack> {
        self.snapshot.stacks.get(&(Arc::clone(&self.version.backbone), width))
    }

    /// What is known of the version.
    pub(crate) fn described(&self) -> Described {
        self.version.described()
    }
}

/// A version to be loaded.
#[derive(Debug, Clone)]
pub struct NewVersion {
    /// From 1 within its classifier.
    pub number: u32,
    /// What makes it answer; it names its backbone.
    pub artifact: Arc<Artifact>,
}

/// How a classifier should look.
#[derive(Debug, Clone, Default)]
pub struct Pointers {
    /// What the bare name means.
    pub production: Option<u32>,
    /// Names of versions.
    pub aliases: BTreeMap<String, u32>,
    /// Percent of requests to the bare name by version.
    pub traffic: BTreeMap<u32, u8>,
    /// The version that scores along.
    pub shadow: Option<u32>,
}

/// What is known of a version that answers.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Described {
    /// The backbone whose features it reads.
    #[schema(example = "all-minilm-l6-v2")]
    pub backbone: String,
    /// The method that fitted it, or what a classifier without a job rests on.
    #[schema(example = "linear_probe")]
    pub method: String,
    /// Its labels.
    #[schema(value_type = Vec<String>)]
    pub labels: Arc<[String]>,
    /// Whether an item may have several labels.
    pub multi_label: bool,
    /// The backbone in the catalog, tuned where it is: for whoever asks for it, not for clients.
    #[serde(skip)]
    #[schema(ignore)]
    pub answering: Arc<str>,
    /// What makes it answer.
    #[serde(skip)]
    #[schema(ignore)]
    pub(crate) artifact: Arc<Artifact>,
}

impl Classifiers {
    /// No classifiers yet.
    #[must_use]
    pub fn new(shadows: ShadowFamily) -> Self {
        Self {
            snapshot: RwLock::default(),
            changing: Mutex::default(),
            registry: OnceLock::new(),
            reach: RwLock::default(),
            shadows,
        }
    }

    /// Lets keys ask classifiers of others, in place of what they could ask before.
    pub fn set_reach(&self, reach: HashMap<String, Reach>) {
        *self.reach.write().unwrap_or_else(PoisonError::into_inner) = reach;
    }

    /// What a key may ask beside its own classifiers.
    #[must_use]
    pub fn reach(&self, key: &str) -> Option<Reach> {
        self.reach.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Whose classifier `model` means for a key, and its name there: `None` where the key may not ask it.
    #[must_use]
    pub fn owner_of<'a>(&self, key: &'a str, model: &'a str) -> Option<(&'a str, &'a str)> {
        let Some((owner, name)) = model.rsplit_once('/') else { return Some((key, model)) };
        let reached = owner == key
            || self.reach(key).is_some_and(|reach| match reach {
                Reach::All => true,
                Reach::Of(owners) => owners.iter().any(|known| known == owner),
            });
        reached.then_some((owner, name))
    }

    /// How often a version, as its classifier's shadow, has said the same as the version that answered, and how often
    /// something else, in this process; nothing for one that is no shadow here.
    #[must_use]
    pub fn shadow_counts(&self, (key, name): (&str, &str), number: u32) -> (u64, u64) {
        let snapshot = self.snapshot();
        let live = snapshot.classifiers.get(&(key.to_owned(), name.to_owned()));
        let shadow = live.and_then(|live| live.shadow.as_ref()).filter(|shadow| shadow.number == number);
        shadow
            .map(|Shadow { metrics, .. }| (metrics.agreed.get(), metrics.differed.get()))
            .unwrap_or_default()
    }

    /// The numbers of a classifier's versions that answer.
    #[must_use]
    pub fn loaded(&self, key: &str, name: &str) -> Vec<u32> {
        let snapshot = self.snapshot();
        let owned = (key.to_owned(), name.to_owned());
        snapshot
            .classifiers
            .get(&owned)
            .map(|live| live.versions.keys().copied().collect())
            .unwrap_or_default()
    }

    /// How many versions answer.
    #[must_use]
    pub fn count(&self) -> usize {
        self.snapshot().classifiers.values().map(|live| live.versions.len()).sum()
    }

    /// The backbones that versions which answer read features of.
    #[must_use]
    pub fn backbones(&self) -> Vec<String> {
        let snapshot = self.snapshot();
        let versions = snapshot.classifiers.values().flat_map(|live| live.versions.values());
        let mut backbones: Vec<String> = versions.map(|version| version.backbone.to_string()).collect();
        backbones.sort_unstable();
        backbones.dedup();
        backbones
    }

    /// Makes a classifier look as given: `added` versions join those that answer, those not in `kept` go.
    ///
    /// # Errors
    /// [`TaskError::Bug`] when a head cannot be laid beside others of its width.
    pub fn set(
        &self,
        (key, name): (&str, &str),
        kept: &[u32],
        added: Vec<NewVersion>,
        pointers: Pointers,
    ) -> Result<(), TaskError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.snapshot());
        let owned = (key.to_owned(), name.to_owned());
        let mut live =
            next.classifiers.get(&owned).map(|live| LiveClassifier::clone(live)).unwrap_or_default();
        for number in
            live.versions.keys().copied().filter(|number| !kept.contains(number)).collect::<Vec<_>>()
        {
            next.forget(live.versions.remove(&number));
        }
        for NewVersion { number, artifact } in added {
            let version = next.add(artifact)?;
            let replaced = live.versions.insert(number, version);
            next.forget(replaced);
        }
        live.production = pointers.production;
        live.aliases = pointers.aliases;
        live.traffic = pointers.traffic;
        let ended = live.shadow.take().filter(|shadow| pointers.shadow != Some(shadow.number));
        let along = |number| Shadow { number, metrics: self.shadows.of(&series(key, name, number)) };
        live.shadow = pointers.shadow.map(along);
        next.classifiers.insert(owned, Arc::new(live));
        self.put(next);
        self.forget_shadow((key, name), ended.as_ref());
        Ok(())
    }

    /// Takes the series of one that ended away: clients choose its name.
    fn forget_shadow(&self, (key, name): (&str, &str), ended: Option<&Shadow>) {
        if let Some(shadow) = ended {
            self.shadows.forget(&series(key, name, shadow.number));
        }
    }

    /// Forgets a classifier.
    pub fn remove(&self, key: &str, name: &str) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Snapshot::clone(&self.snapshot());
        if let Some(live) = next.classifiers.remove(&(key.to_owned(), name.to_owned())) {
            for version in live.versions.values() {
                next.forget(Some(version.clone()));
            }
            self.put(next);
            self.forget_shadow((key, name), live.shadow.as_ref());
        }
    }

    /// Sets whom to ask for names that are not known.
    pub fn ask(&self, registry: Arc<dyn Registry>) {
        let _ = self.registry.set(registry);
    }

    /// Waits until what the registry held when this was called is loaded; false when it was already.
    pub async fn refresh(&self) -> bool {
        match self.registry.get() {
            Some(registry) => registry.refresh().await,
            None => false,
        }
    }

    /// What is known of the classifier that `model` names for a key; `None` when none of that name answers.
    pub async fn describe(&self, key: &str, model: &str) -> Option<Described> {
        let chosen = self.choose(key, &[model.to_owned()], key).await.ok()?;
        chosen.first().map(Chosen::described)
    }

    /// The versions that `models` name for a key: `name`, `name@3`, `name@production`, `name@alias` or a checkpoint, another
    /// key's behind `owner/`; all of one moment. A name that is not known may have come since: the registry is asked
    /// before it is refused.
    ///
    /// # Errors
    /// [`TaskError::UnknownModel`], also for a classifier that the key may not ask.
    pub(crate) async fn choose(
        &self,
        key: &str,
        models: &[String],
        user: &str,
    ) -> Result<Vec<Chosen>, TaskError> {
        let asked = models.iter().map(|model| {
            let (owner, name) =
                self.owner_of(key, model).ok_or_else(|| TaskError::UnknownModel(model.clone()))?;
            Ok(Asked { model, owner, name })
        });
        let asked = asked.collect::<Result<Vec<_>, TaskError>>()?;
        let known = |snapshot: &Arc<Snapshot>| {
            asked.iter().map(|asked| snapshot.choose(*asked, user)).collect::<Result<Vec<_>, _>>()
        };
        match known(&self.snapshot()) {
            Err(TaskError::UnknownModel(_)) => {
                self.refresh().await;
                known(&self.with_checkpoints(&asked).await?)
            }
            chosen => chosen,
        }
    }

    /// The snapshot with the checkpoints that are asked: they are loaded for the one request.
    async fn with_checkpoints(&self, asked: &[Asked<'_>]) -> Result<Arc<Snapshot>, TaskError> {
        let mut snapshot = self.snapshot();
        let Some(registry) = self.registry.get() else { return Ok(snapshot) };
        for asked in asked.iter().filter(|asked| asked.name.contains(CHECKPOINT)) {
            if let Some(artifact) = registry.checkpoint(asked.owner, asked.name).await {
                let next = Arc::make_mut(&mut snapshot);
                let version = next.add(artifact)?;
                next.checkpoints.insert(asked.model.to_owned(), version);
            }
        }
        Ok(snapshot)
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, next: Snapshot) {
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
    }
}

/// What the series of a version that scores along are called.
fn series(key: &str, name: &str, number: u32) -> String {
    let owner = if key.is_empty() { String::new() } else { format!("{key}/") };
    format!("{owner}{name}@{number}")
}

/// A classifier as a request names it, whose it is, and its name there.
#[derive(Clone, Copy)]
struct Asked<'a> {
    model: &'a str,
    owner: &'a str,
    name: &'a str,
}

impl Snapshot {
    /// Puts what has a head into the stack of its backbone and width.
    fn add(&mut self, artifact: Arc<Artifact>) -> Result<LiveVersion, TaskError> {
        let backbone: Arc<str> = artifact.backbone().id.as_str().into();
        let mut id = None;
        if let Some(head) = artifact.head() {
            let footing = (Arc::clone(&backbone), head.dim());
            let stack = self.stacks.entry(footing).or_insert_with(|| Stack::new(head.dim()));
            id = Some(stack.add(head).map_err(|_| TaskError::Bug("heads of one stack differ in width"))?);
        }
        Ok(LiveVersion { backbone, artifact, id })
    }

    fn choose(self: &Arc<Self>, asked: Asked<'_>, user: &str) -> Result<Chosen, TaskError> {
        let Asked { model, owner, name } = asked;
        let unknown = || TaskError::UnknownModel(model.to_owned());
        if let Some(version) = self.checkpoints.get(model) {
            return Ok(Chosen {
                name: model.to_owned(),
                version: version.clone(),
                shadow: None,
                snapshot: Arc::clone(self),
            });
        }
        let (name, version) = match name.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (name, None),
        };
        let live = self.classifiers.get(&(owner.to_owned(), name.to_owned())).ok_or_else(unknown)?;
        let number = match version {
            None => live.bare(name, user),
            Some("production") => live.production,
            Some(version) => version.parse().ok().or_else(|| live.aliases.get(version).copied()),
        };
        let number = number.ok_or_else(unknown)?;
        let chosen = live.versions.get(&number).ok_or_else(unknown)?.clone();
        let along = live.shadow.as_ref().filter(|shadow| version.is_none() && shadow.number != number);
        let shadow = along.and_then(|shadow| {
            let version = live.versions.get(&shadow.number)?;
            (version.backbone == chosen.backbone).then(|| (version.clone(), shadow.metrics.clone()))
        });
        Ok(Chosen { name: model.to_owned(), version: chosen, shadow, snapshot: Arc::clone(self) })
    }

    fn forget(&mut self, version: Option<LiveVersion>) {
        let Some(LiveVersion { backbone, artifact, id: Some(id) }) = version else { return };
        let Some(head) = artifact.head() else { return };
        if let Entry::Occupied(mut stack) = self.stacks.entry((backbone, head.dim())) {
            stack.get_mut().remove(id);
            if stack.get().is_empty() {
                stack.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use headstart_methods::head::{Backbone, Head, HeadParts, Tail};

    use super::*;

    #[test]
    fn a_split_keeps_its_shares_and_every_user_at_one_version() {
        let split = LiveClassifier { traffic: [(1, 90), (2, 10)].into(), ..LiveClassifier::default() };
        let of = |user: usize| split.share_of("intents", &format!("user {user}")).unwrap();
        let second = (0..10_000).filter(|user| of(*user) == 2).count();
        assert!((850..1150).contains(&second), "{second} of 10,000 at 10 %");
        assert!((0..100).all(|user| of(user) == of(user)));
        assert_eq!(LiveClassifier::default().share_of("intents", "somebody"), None);
    }

    #[tokio::test]
    async fn heads_of_a_backbone_that_was_replaced_lie_beside_those_of_its_successor() {
        let metrics = headstart_telemetry::Metrics::new("0").unwrap();
        let classifiers = Classifiers::new(metrics.shadows());
        let set = |kept: &[u32], added: Option<(u32, usize)>| {
            let version = |(number, width)| NewVersion { number, artifact: artifact(width) };
            let added = added.into_iter().map(version).collect();
            classifiers.set(("", "intents"), kept, added, Pointers::default()).unwrap();
            let mut widths: Vec<_> = classifiers
                .snapshot()
                .stacks
                .iter()
                .map(|((_, width), stack)| (*width, stack.len()))
                .collect();
            widths.sort_unstable();
            widths
        };
        assert_eq!(set(&[], Some((1, 4))), [(4, 1)]);
        assert_eq!(set(&[1], Some((2, 8))), [(4, 1), (8, 1)]);
        assert_eq!(set(&[1, 2], Some((3, 8))), [(4, 1), (8, 2)]);

        let names = [1, 2, 3].map(|number| format!("intents@{number}"));
        let chosen = classifiers.choose("", &names, "").await.unwrap();
        for (chosen, width) in chosen.iter().zip([4, 8, 8]) {
            let head = chosen.stack(width).and_then(|stack| stack.get(chosen.version.id?));
            assert_eq!(head.map(|head| head.dim()), Some(width), "{}", chosen.name);
        }
        assert_eq!(set(&[2, 3], None), [(8, 2)]);
        // One that takes its number's place.
        assert_eq!(set(&[3], Some((3, 4))), [(4, 1)]);
        assert_eq!(set(&[], None), []);
    }

    fn artifact(width: usize) -> Arc<Artifact> {
        let head = Head::new(HeadParts {
            method: "linear_probe".to_owned(),
            hyperparameters: serde_json::Map::new(),
            backbone: Backbone { id: "minilm".to_owned(), sha256: width.to_string() },
            classes: Arc::from(["delivery".to_owned(), "refund".to_owned()]),
            multi_label: false,
            normalise: false,
            rows: ndarray::ArcArray2::zeros((2, width)),
            bias: Arc::from([0.0, 1.0]),
            tail: Tail::Identity,
            temperature: 1.0,
            thresholds: None,
        });
        Arc::new(Artifact::Head(Arc::new(head.unwrap())))
    }

    #[test]
    fn another_keys_names_are_for_those_who_reach_them() {
        let metrics = headstart_telemetry::Metrics::new("0").unwrap();
        let classifiers = Classifiers::new(metrics.shadows());
        let reach = |owners: &[&str]| Reach::Of(owners.iter().map(|owner| (*owner).to_owned()).collect());
        let keys = [("root", Reach::All), ("web", reach(&["anna"]))];
        classifiers.set_reach(keys.into_iter().map(|(key, reach)| (key.to_owned(), reach)).collect());
        let owner = |key: &'static str, model: &'static str| classifiers.owner_of(key, model);
        assert_eq!(owner("web", "anna/intents@2"), Some(("anna", "intents@2")));
        assert_eq!(owner("root", "bert/intents"), Some(("bert", "intents")));
        assert_eq!(owner("web", "intents"), Some(("web", "intents")));
        assert_eq!(owner("anna", "anna/intents"), Some(("anna", "intents")));
        for (key, model) in [("web", "bert/intents"), ("anna", "bert/intents"), ("web", "/intents")] {
            assert_eq!(owner(key, model), None, "{key}: {model}");
        }
    }
}
