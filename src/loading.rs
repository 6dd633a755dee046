//! Backbones that come and go while the service runs: loaded and unloaded by request, let go when memory is short, and
//! brought back when they are asked for.
//!
//! One load at a time: what is there and what has to go is decided on one state of things.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use headstart_engine::{Engine, Folder};
use headstart_tasks::{Entry, LoadError, Loader, Resident, Served, TaskError};
use tokio::task::spawn_blocking;

use crate::app::App;
use crate::folders;
use crate::variants::{self, VariantError};

/// How long a load waits for a backbone that others still use to become idle.
const PATIENCE: Duration = Duration::from_secs(10);

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
}

/// Who wants a backbone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// An administrator, who wants what is in its folder now.
    Anew,
    /// A request, which only wants it to be there.
    There,
}

impl Loading {
    /// Loads onto an engine, for the catalog of an app.
    pub(crate) fn new(app: &Arc<App>, engine: Arc<Engine>) -> Self {
        let shared = Shared {
            app: Arc::downgrade(app),
            engine: Mutex::new(Some(engine)),
            gate: tokio::sync::Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Loads what is in a backbone's folder now, beside the one that answers meanwhile, if one does. Goes on when nobody
    /// waits for it any more.
    ///
    /// # Errors
    /// [`TaskError::UnknownModel`] without a folder of that name, [`TaskError::BrokenModel`] with what is wrong in it;
    /// [`TaskError::NoRoom`].
    pub async fn load(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        self.spawned(id, Wanted::Anew).await
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

    /// On a task of its own: who asked may leave, and others may wait for the same.
    async fn spawned(&self, id: &str, wanted: Wanted) -> Result<Arc<Served>, TaskError> {
        let (shared, id) = (Arc::clone(&self.shared), id.to_owned());
        let load = tokio::spawn(async move { shared.load(&id, wanted).await });
        load.await.unwrap_or(Err(TaskError::Bug("a load was cut off")))
    }
}

#[async_trait]
impl Loader for Loading {
    async fn wake(&self, id: &str) -> Result<Arc<Served>, TaskError> {
        self.spawned(id, Wanted::There).await
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
        self.app.upgrade().ok_or(TaskError::Engine(headstart_engine::EngineError::Stopped))
    }

    async fn load(&self, id: &str, wanted: Wanted) -> Result<Arc<Served>, TaskError> {
        let app = self.app()?;
        let _gate = self.gate.lock().await;
        let catalog = &app.tasks.catalog;
        let rests = matches!(catalog.entry(id), Some(known) if matches!(known.entry, Entry::Resting));
        if wanted == Wanted::There && !rests {
            // Another who waited had it loaded, or it was unloaded meanwhile.
            return catalog.at_hand(id);
        }
        // What is nowhere is not even on its way.
        let path = match variants::base(id) {
            Some(_) if variants::is_known(&app, id) => None,
            Some(_) => return Err(TaskError::UnknownModel(id.to_owned())),
            None => Some(app.folder_of(id).await?.ok_or_else(|| TaskError::UnknownModel(id.to_owned()))?),
        };
        let underway = Underway::new(&app, id);
        let made_here = path.is_none();
        let mut loaded = self.attempt(&app, id, path).await;
        if made_here && matches!(loaded, Err(TaskError::BrokenModel { .. })) {
            // Its files may have suffered, or another process took them away.
            let (data, name) = (app.config.data.clone(), id.to_owned());
            let damaged = spawn_blocking(move || variants::discard_damaged(&data, &name)).await;
            if damaged.unwrap_or_default() {
                loaded = self.attempt(&app, id, None).await;
            }
        }
        drop(underway);
        loaded
    }

    async fn attempt(
        &self,
        app: &Arc<App>,
        id: &str,
        path: Option<PathBuf>,
    ) -> Result<Arc<Served>, TaskError> {
        match folder(app, id, path).await {
            Ok(folder) => self.load_folder(app, id, folder).await,
            Err(error) => Err(error),
        }
    }

    async fn load_folder(&self, app: &Arc<App>, id: &str, folder: Folder) -> Result<Arc<Served>, TaskError> {
        make_room(app, id, &Needed { own: folder.memory(), shared: folder.shared_memory() }).await?;
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let engine = engine.ok_or(TaskError::Engine(headstart_engine::EngineError::Stopped))?;
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

/// Lets backbones rest until another fits. Waits a while for one that is in use. One that is loaded anew neither counts nor
/// goes: it answers until the new one is there, and where that cannot be loaded (ADR 14).
async fn make_room(app: &App, id: &str, needed: &Needed) -> Result<(), TaskError> {
    let limit = app.config.model_memory;
    let alone = needed.own + needed.shared.as_ref().map_or(0, |(_, bytes)| *bytes);
    let no_room = || TaskError::NoRoom { id: id.to_owned(), needed: alone, limit };
    if limit == 0 {
        return Ok(());
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let mut others = app.tasks.catalog.residents();
        others.retain(|resident| resident.id != id);
        match plan(others, needed, limit) {
            Plan::Evict(victims) if victims.is_empty() => return Ok(()),
            Plan::Evict(victims) => {
                for victim in victims {
                    let Some(rested) = app.tasks.catalog.rest(&victim) else { continue };
                    app.metrics.for_model(&victim).evictions_total.inc();
                    app.tell_state(&victim);
                    tracing::info!(model = %victim, to_load = id, "backbone let go for want of memory");
                    drop_apart(Some(Entry::Served(rested))).await;
                }
            }
            Plan::Wait if Instant::now() < until => tokio::time::sleep(PAUSE).await,
            Plan::Wait | Plan::Never => return Err(no_room()),
        }
    }
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
