//! The keys that are taken: those of the options, and those of the store as it is now.

mod command;
mod limits;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use headstart_store::{Store, StoreError};
use headstart_tasks::classifiers::Reach;
use headstart_types::key::KeyLimits;
use tokio::task::JoinHandle;

use crate::app::App;
use crate::auth::ApiKey;
use crate::clock::now_ms;

pub(crate) use command::check_name;
pub use command::{KeysCommand, run};
pub(crate) use limits::{Accounts, Left, Place, Refused};

/// Changes that other processes make, as the command does, are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What came of a secret that was presented.
pub(crate) enum Found {
    /// A key that is taken.
    Key(ApiKey),
    /// A key whose time is over.
    Expired,
    /// No key.
    Unknown,
}

/// The keys that are taken.
pub struct Keys {
    configured: Vec<ApiKey>,
    held: RwLock<Arc<Held>>,
}

/// Keys as they were last read.
#[derive(Default)]
struct Held {
    keys: Vec<ApiKey>,
    /// Whether there was ever one in the store: then the service is not open again when the last is revoked.
    ever: bool,
    revision: Option<u64>,
}

impl Keys {
    /// The keys of the options alone, until a store is read.
    #[must_use]
    pub fn new(configured: &[ApiKey]) -> Self {
        let held = Held { keys: configured.to_vec(), ..Held::default() };
        Self { configured: configured.to_vec(), held: RwLock::new(Arc::new(held)) }
    }

    fn held(&self) -> Arc<Held> {
        Arc::clone(&self.held.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether a key must be presented. Once the store has had a key, always.
    #[must_use]
    pub fn are_asked_for(&self) -> bool {
        !self.configured.is_empty() || self.held().ever
    }

    /// How many keys are known; some may have expired since they were read.
    #[must_use]
    pub fn count(&self) -> usize {
        self.held().keys.len()
    }

    /// Names of the keys.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.held().keys.iter().map(|key| key.identity().key).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What a secret opens, at `now` in milliseconds since the epoch.
    pub(crate) fn find(&self, presented: &str, now: i64) -> Found {
        match ApiKey::find(&self.held().keys, presented) {
            None => Found::Unknown,
            Some(key) if key.is_expired(now) => Found::Expired,
            Some(key) => Found::Key(key.clone()),
        }
    }

    /// Whose classifiers each key may ask beside its own.
    #[must_use]
    pub fn reach(&self) -> HashMap<String, Reach> {
        let held = self.held();
        held.keys.iter().filter_map(|key| Some((key.identity().key.to_owned(), key.reach()?))).collect()
    }

    /// Reads the store's keys if they have changed; whether they had.
    ///
    /// # Errors
    /// What the store said; the keys stay as they were.
    pub async fn read(&self, store: &Store) -> Result<bool, StoreError> {
        // The revision first: a change while rows are read is read again.
        let revision = store.keys_revision().await?;
        if self.held().revision == Some(revision) {
            return Ok(false);
        }
        let rows = store.keys().await?;
        let now = now_ms();
        let mut keys = self.configured.clone();
        for row in rows.iter().filter(|row| row.is_active(now)) {
            match ApiKey::of_row(row) {
                // What a name may ask is one thing: requests carry the name alone.
                Ok(key) if self.configured.iter().any(|known| known.shares_name_unlike(&key)) => {
                    tracing::error!(key.id = %row.id, key.name = row.name, "a key is not taken: `api-keys` has its name with other scopes");
                }
                Ok(key) => keys.push(key),
                Err(error) => tracing::error!(key.id = %row.id, %error, "a key is not taken"),
            }
        }
        share_limits(&mut keys);
        let held = Held { keys, ever: !rows.is_empty(), revision: Some(revision) };
        *self.held.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(held);
        Ok(true)
    }
}

/// Keys of one name ask together: what the newest of them may is what all may.
fn share_limits(keys: &mut [ApiKey]) {
    let newest: HashMap<&str, KeyLimits> =
        keys.iter().map(|key| (key.identity().key, key.limits())).collect();
    for key in keys {
        if let Some(limits) = newest.get(key.identity().key) {
            key.set_limits(*limits);
        }
    }
}

/// Follows changes of the store's keys.
pub(crate) struct Follow(JoinHandle<()>);

impl Follow {
    /// Reads keys within about a second of every change, until it is stopped; `None` for an app without a store.
    pub(crate) fn start(app: &Arc<App>) -> Option<Self> {
        let store = app.store()?.clone();
        Some(Self(tokio::spawn(follow(Arc::clone(app), store))))
    }

    pub(crate) fn stop(self) {
        self.0.abort();
    }
}

async fn follow(app: Arc<App>, store: Store) {
    let mut changes = store.changes();
    loop {
        let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
        if let Err(error) = app.read_keys(&store).await {
            tracing::error!(%error, "keys could not be read: those that were known are taken");
        }
    }
}
