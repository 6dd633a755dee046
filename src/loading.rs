//! Backbones that come and go while the service runs: loaded and unloaded by request, let go when memory is short, and
//! brought back when they are asked for.
//!
//! One load at a time: what is there and what has to go is decided on one state of things. Who waits for others to become idle
//! holds nothing up.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headstart_engine::{Engine, EngineError, Folder};
use headstart_tasks::{Entry, LoadError, Loader, Resident, Served, TaskError};
use tokio::sync::{MutexGuard, watch};
use tokio::task::spawn_blocking;

use crate::app::App;
use crate::folders;
use crate::variants::{self, VariantError};

/// How long a load waits for a backbone that others still use to become idle.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Loads and unloads.
pub struct Loading {
    shared: Arc<Shared>,
}

struct Shared {
    app: Weak<App>,
    engine: Mutex<Option<Arc<Engine>>>,
    /// One change at a time.
    gate: tokio::sync::Mutex<()>,
    patience: Duration,
    /// Loads that requests wait for, by name.
    awaited: Mutex<BTreeMap<String, Told>>,
    /// What was unloaded since its load last began: one that still waits for memory is not wanted any more.
    withdrawn: Mutex<BTreeSet<String>>,
}

/// What came of a load, for all who wait for it; nothing yet while it goes on.
type Told = watch::Receiver<Option<Result<Arc<Served>, Arc<TaskError>>>>;

/// Who wants a backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// An administrator, who wants what is in its folder now.
    Anew,
    /// A request, which only wants it to be there.
    There,
}

impl Loading {
    /// Loads onto an engine, for the catalog of an app; a load waits so long for a backbone that others use to become idle.
    pub(crate) fn new(app: &Arc<App>, engine: Arc<Engine>, patience: Duration) -> Self {
        let shared = Shared {
            app: Arc::downgrade(app),
            engine: Mutex::new(Some(engine)),
            gate: tokio::sync::Mutex::default(),
            patience,
            awaited: Mutex::default(),
            withdrawn: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Loads what is in a backbone's folder now, beside the one that answers meanwhile, if one does. Goes on when nobody
    /// waits for it any more.
    ///
    /// # Errors
    /// [`TaskError::UnknownModel`] without a folder of that name, [`TaskError::BrokenModel`] with what is wrong in it;
    /// [`TaskError::NoRoom`]; [`TaskError::Unloaded`] when somebody unloads it while it waits for memory.
    pub async fn load(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        let load = tokio::spawn(async move { shared.load(&id, Wanted::Anew).await });
        load.await.unwrap_or(Err(TaskError::Bug("a load was cut off")))
    }

    /// Unloads a backbone; requests in flight finish on it, and its memory goes with the last of them.
    ///
    /// # Errors
    /// [`TaskError::UnknownModel`].
    pub async fn unload(&self, id: &str) -> Result<(), TaskError> {
        let app = self.shared.app()?;
        let _gate = self.shared.gate.lock().await;
        if app.tasks.catalog.entry(id).is_none() {
            return Err(TaskError::UnknownModel(id.to_owned()));
        }
        self.shared.withdrawn().insert(id.to_owned());
        let old = app.tasks.catalog.insert(id.to_owned(), Entry::Unloaded);
        app.tell_state(id);
        tracing::info!(model = id, "backbone unloaded");
        drop_apart(old).await;
        Ok(())
    }

    /// No more loads; the engine ends with the last one.
    pub(crate) fn close(&self) {
        self.shared.engine.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[async_trait]
impl Loader for Loading {
    async fn wake(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        loop {
            let (mut told, begun) = self.shared.awaited(id);
            let outcome = told.wait_for(Option::is_some).await.ok().and_then(|outcome| outcome.clone());
            match outcome {
                Some(Ok(served)) => return Ok(served),
                Some(Err(error)) => return Err(again(&error)),
                None if begun => return Err(TaskError::Bug("a load was cut off")),
                // It ended with the threads of whoever began it, as those of a worker that stops.
                None => {}
            }
        }
    }
}

/// What one who waited for a load is told, for another who did.
fn again(error: &TaskError) -> TaskError {
    match error {
        TaskError::UnknownModel(id) => TaskError::UnknownModel(id.clone()),
        TaskError::Unloaded(id) => TaskError::Unloaded(id.clone()),
        TaskError::BrokenModel { id, reason } => {
            TaskError::BrokenModel { id: id.clone(), reason: reason.clone() }
        }
        TaskError::NoRoom { id, needed, limit } => {
            TaskError::NoRoom { id: id.clone(), needed: *needed, limit: *limit }
        }
        TaskError::Engine(EngineError::Stopped) => TaskError::Engine(EngineError::Stopped),
        TaskError::Bug(what) => TaskError::Bug(what),
        TaskError::NotAClassifier(_)
        | TaskError::NotABackbone { .. }
        | TaskError::TensorsOnly(_)
        | TaskError::NoGraph(_)
        | TaskError::Invalid { .. }
        | TaskError::TooManyItems { .. }
        | TaskError::ItemRate { .. }
        | TaskError::Media { .. }
        | TaskError::Engine(_) => TaskError::Bug("a load failed; the log has the reason"),
    }
}

/// The gate, passed. Between two looks for memory others may pass it.
struct Passed<'a> {
    gate: &'a tokio::sync::Mutex<()>,
    held: Option<MutexGuard<'a, ()>>,
}

impl<'a> Passed<'a> {
    async fn new(gate: &'a tokio::sync::Mutex<()>) -> Self {
        Self { gate, held: Some(gate.lock().await) }
    }

    async fn step_aside(&mut self) {
        drop(self.held.take());
        tokio::time::sleep(PAUSE).await;
        self.held = Some(self.gate.lock().await);
    }
}

/// Takes a load off the list of those that are waited for, also when it panics.
struct Awaited<'a>(&'a Shared, &'a str);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.awaited.lock().unwrap_or_else(PoisonError::into_inner).remove(self.1);
    }
}

/// Says that a backbone is being loaded, for as long as it exists.
struct Underway<'a>(&'a App, &'a str);

impl<'a> Underway<'a> {
    fn new(app: &'a App, id: &'a str) -> Self {
        app.tasks.catalog.set_loading(id, true);
        app.tell_state(id);
        Self(app, id)
    }
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        self.0.tasks.catalog.set_loading(self.1, false);
        self.0.tell_state(self.1);
    }
}

impl Shared {
    fn app(&self) -> Result<Arc<App>, TaskError> {
        self.app.upgrade().ok_or(TaskError::Engine(EngineError::Stopped))
    }

    fn withdrawn(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.withdrawn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the load of a backbone that is under way, or begins one, on a task of its own: it goes on when whoever
    /// asked leaves. Gives the channel on which the outcome comes, and whether this call began the load.
    fn awaited(self: &Arc<Self>, id: &str) -> (Told, bool) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(told) = awaited.get(id) {
            return (told.clone(), false);
        }
        let (tell, told) = watch::channel(None);
        awaited.insert(id.to_owned(), told.clone());
        let (shared, id) = (Arc::clone(self), id.to_owned());
        tokio::spawn(async move {
            let ends = Awaited(&shared, &id);
            let outcome = shared.load(&id, Wanted::There).await.map_err(Arc::new);
            if let Err(error) = &outcome
                && matches!(again(error), TaskError::Bug(_))
            {
                tracing::error!(model = %id, %error, "backbone not loaded");
            }
            drop(ends);
            // Nobody may be left who waits.
            let _ = tell.send(Some(outcome));
        });
        (told, true)
    }

    /// Whether a load is still wanted that let others pass meanwhile.
    fn wants(&self, app: &App, id: &str, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Anew => !self.withdrawn().contains(id),
            Wanted::There => {
                app.tasks.catalog.entry(id).is_some_and(|known| matches!(known.entry, Entry::Resting))
            }
        }
    }

    async fn load(&self, id: &str, wanted: Wanted) -> Result<Arc<Served>, TaskError> {
        let app = self.app()?;
        let mut passed = Passed::new(&self.gate).await;
        if wanted == Wanted::Anew {
            self.withdrawn().remove(id);
        }
        if !self.wants(&app, id, wanted) {
            // Another who waited had it loaded, or it was unloaded meanwhile.
            return app.tasks.catalog.at_hand(id);
        }
        // What is nowhere is not even on its way.
        let path = match variants::base(id) {
            Some(_) if variants::is_known(&app, id) => None,
            Some(_) => return Err(TaskError::UnknownModel(id.to_owned())),
            None => Some(app.folder_of(id).await?.ok_or_else(|| TaskError::UnknownModel(id.to_owned()))?),
        };
        let underway = Underway::new(&app, id);
        let made_here = path.is_none();
        let mut loaded = self.attempt(&app, (id, wanted), path, &mut passed).await;
        if made_here && matches!(loaded, Err(TaskError::BrokenModel { .. })) {
            // Its files may have suffered, or another process took them away.
            let (data, name) = (app.config.data.clone(), id.to_owned());
            let damaged = spawn_blocking(move || variants::discard_damaged(&data, &name)).await;
            if damaged.unwrap_or_default() {
                loaded = self.attempt(&app, (id, wanted), None, &mut passed).await;
            }
        }
        drop(underway);
        match loaded? {
            Some(served) => Ok(served),
            None => app.tasks.catalog.at_hand(id),
        }
    }

    /// Loads what is in a folder; nothing where that is not wanted any more once there is memory for it.
    async fn attempt(
        &self,
        app: &Arc<App>,
        (id, wanted): (&str, Wanted),
        path: Option<PathBuf>,
        passed: &mut Passed<'_>,
    ) -> Result<Option<Arc<Served>>, TaskError> {
        let folder = folder(app, id, path).await?;
        let needed = Needed { own: self.engine()?.memory(&folder), shared: folder.shared_memory() };
        match self.make_room(app, (id, wanted), &needed, passed).await? {
            true => self.load_folder(app, id, folder).await.map(Some),
            false => Ok(None),
        }
    }

    fn engine(&self) -> Result<Arc<Engine>, TaskError> {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone();
        engine.ok_or(TaskError::Engine(EngineError::Stopped))
    }

    async fn load_folder(&self, app: &Arc<App>, id: &str, folder: Folder) -> Result<Arc<Served>, TaskError> {
        let engine = self.engine()?;
        let now = crate::app::unix_seconds();
        match spawn_blocking(move || Served::load(&engine, folder, now)).await {
            Ok(Ok(served)) => {
                let served = Arc::new(served);
                let old = app.tasks.catalog.insert(id.to_owned(), Entry::Served(Arc::clone(&served)));
                drop_apart(old).await;
                if variants::base(id).is_some() && !variants::is_known(app, id) {
                    // A sweep forgot it meanwhile: whoever waits for it has it, and nobody else.
                    drop_apart(app.forget_model(id)).await;
                }
                Ok(served)
            }
            Ok(Err(error)) => Err(broken(app, id, error).await),
            Err(_) => Err(TaskError::Bug("a load was cut off")),
        }
    }

    /// Unloads idle backbones until `needed` fits, waiting up to the patience for ones in use. Gives whether `id` is
    /// still wanted after the wait. An older load of `id` itself is neither counted nor unloaded: it answers until the
    /// new one is there, and goes on where the new one cannot be loaded (ADR 14).
    async fn make_room(
        &self,
        app: &App,
        (id, wanted): (&str, Wanted),
        needed: &Needed,
        passed: &mut Passed<'_>,
    ) -> Result<bool, TaskError> {
        let limit = app.config.model_memory;
        if limit == 0 {
            return Ok(true);
        }
        let mut until = None;
        loop {
            let mut others = app.tasks.catalog.residents();
            others.retain(|resident| resident.id != id);
            match plan(others, needed, limit) {
                Plan::Evict(victims) if victims.is_empty() => return Ok(true),
                Plan::Evict(victims) => evict(app, victims, id).await,
                Plan::Wait
                    if Instant::now() < *until.get_or_insert_with(|| Instant::now() + self.patience) =>
                {
                    passed.step_aside().await;
                    if !self.wants(app, id, wanted) {
                        return Ok(false);
                    }
                }
                Plan::Wait | Plan::Never => {
                    let alone = held(&[], needed);
                    return Err(TaskError::NoRoom { id: id.to_owned(), needed: alone, limit });
                }
            }
        }
    }
}

/// Lets backbones rest that another is to take the place of.
async fn evict(app: &App, victims: Vec<String>, to_load: &str) {
    for victim in victims {
        let Some(rested) = app.tasks.catalog.rest(&victim) else { continue };
        app.metrics.for_model(&victim).evictions_total.inc();
        app.tell_state(&victim);
        tracing::info!(model = %victim, to_load, "backbone let go for want of memory");
        drop_apart(Some(Entry::Served(rested))).await;
    }
}

/// A backbone's folder at its path, read, or without one that of what a job made of a backbone.
async fn folder(app: &Arc<App>, id: &str, path: Option<PathBuf>) -> Result<Folder, TaskError> {
    let Some(path) = path else {
        return match variants::folder(app, id).await {
            Ok(folder) => Ok(folder),
            Err(VariantError::Unknown) => Err(TaskError::UnknownModel(id.to_owned())),
            Err(error) => {
                tracing::error!(model = id, %error, "a tuned backbone cannot be had");
                Err(TaskError::BrokenModel { id: id.to_owned(), reason: error.reason() })
            }
        };
    };
    match spawn_blocking(move || folders::open(&path)).await {
        Ok(Ok(folder)) => Ok(folder),
        Ok(Err(error)) => Err(broken(app, id, LoadError::Engine(error.into())).await),
        Err(_) => Err(TaskError::Bug("a folder was not read")),
    }
}

/// What came of a folder that is wrong: the backbone that answers goes on; where none does, it is broken.
async fn broken(app: &App, id: &str, error: LoadError) -> TaskError {
    tracing::error!(model = id, %error, "backbone refused");
    let reason = error.reason();
    if app.tasks.catalog.at_hand(id).is_err() {
        drop_apart(app.tasks.catalog.insert(id.to_owned(), Entry::Broken(Arc::new(error)))).await;
    }
    TaskError::BrokenModel { id: id.to_owned(), reason }
}

/// What a backbone that is to be loaded takes.
struct Needed {
    own: u64,
    /// Weights held together with others, by their digest: these take room once.
    shared: Option<(String, u64)>,
}

/// How room is made.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    /// These go; nobody has to when the list is empty.
    Evict(Vec<String>),
    /// Others are in use.
    Wait,
    /// It would not fit alone.
    Never,
}

/// Which backbones go for one that is needed: of those that are idle the ones asked longest ago, as few as will do.
fn plan(mut residents: Vec<Resident>, needed: &Needed, limit: u64) -> Plan {
    if held(&[], needed) > limit {
        return Plan::Never;
    }
    residents.sort_by_key(|resident| resident.asked);
    let mut victims = Vec::new();
    while held(&residents, needed) > limit {
        let Some(at) = residents.iter().position(|resident| resident.idle) else { return Plan::Wait };
        victims.push(residents.remove(at).id);
    }
    Plan::Evict(victims)
}

/// Bytes that these take together with one that is needed.
fn held(residents: &[Resident], needed: &Needed) -> u64 {
    let shared = residents.iter().filter_map(|resident| resident.shared.as_ref()).chain(&needed.shared);
    let shared: BTreeMap<&str, u64> = shared.map(|(digest, bytes)| (digest.as_str(), *bytes)).collect();
    let own: u64 = residents.iter().map(|resident| resident.memory).sum();
    own + needed.own + shared.values().sum::<u64>()
}

/// Drops a backbone where it may take its time: its session's memory is given back.
async fn drop_apart(entry: Option<Entry>) {
    if let Some(Entry::Served(served)) = entry {
        let _ = spawn_blocking(move || drop(served)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residents(of: &[(&str, u64, u64, bool)]) -> Vec<Resident> {
        let one = |&(id, memory, asked, idle): &(&str, u64, u64, bool)| Resident {
            id: id.into(),
            memory,
            shared: None,
            asked,
            idle,
        };
        of.iter().map(one).collect()
    }

    fn alone(own: u64) -> Needed {
        Needed { own, shared: None }
    }

    #[test]
    fn the_idle_backbone_that_was_asked_longest_ago_goes_first_and_no_more_than_needed() {
        let three = residents(&[("a", 40, 3, true), ("b", 30, 1, true), ("c", 30, 2, true)]);
        assert_eq!(plan(three.clone(), &alone(0), 100), Plan::Evict(vec![]));
        assert_eq!(plan(three.clone(), &alone(30), 100), Plan::Evict(vec!["b".into()]));
        assert_eq!(plan(three.clone(), &alone(31), 100), Plan::Evict(vec!["b".into(), "c".into()]));
        assert_eq!(plan(three, &alone(101), 100), Plan::Never);
    }

    #[test]
    fn a_backbone_in_use_stays() {
        let busy = residents(&[("a", 60, 1, false), ("b", 40, 2, true)]);
        assert_eq!(plan(busy.clone(), &alone(40), 100), Plan::Evict(vec!["b".into()]));
        assert_eq!(plan(busy, &alone(41), 100), Plan::Wait);
    }

    #[test]
    fn weights_in_common_take_room_once_and_go_with_the_last_that_has_them() {
        let common = |bytes| Some(("digest".to_owned(), bytes));
        let mut three = residents(&[("a", 5, 1, true), ("b", 5, 2, true), ("c", 20, 3, true)]);
        three.iter_mut().take(2).for_each(|resident| resident.shared = common(60));
        assert_eq!(plan(three.clone(), &Needed { own: 5, shared: common(60) }, 95), Plan::Evict(vec![]));
        assert_eq!(plan(three.clone(), &alone(20), 100), Plan::Evict(vec!["a".into(), "b".into()]));
        assert_eq!(plan(three, &Needed { own: 50, shared: common(60) }, 100), Plan::Never);
    }
}
