//! The audit's log lines: every act of the data folder, whoever did it, as a line with the target `audit`. Each process that
//! serves writes all of them, with their numbers.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use headstart_store::{Order, PageRequest, Store, StoreError};
use headstart_types::key::ActRow;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::app::App;

/// Acts of other processes are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A stop waits this long for the last lines.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// Acts read at a time. A folder whose acts nobody told yet has so many of them told: all of a new one, and of one that
/// an earlier release served no flood.
const PAGE: u32 = 100;

/// The file of the data folder with the number of the act that was told last. Servers of one folder share it: which of
/// them wrote it does not matter, since each writes what it has told.
const FILE: &str = "audit.told";

/// Tells the log of acts.
pub(crate) struct Audit {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Audit {
    /// Tells of every act that was not told yet, until it is stopped; `None` for an app without a store.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn start(app: &App) -> Result<Option<Self>, StoreError> {
        let Some(store) = app.store().cloned() else { return Ok(None) };
        let teller = Teller::open(store, &app.config.data).await?;
        let (stop, stopped) = watch::channel(false);
        Ok(Some(Self { stop, task: tokio::spawn(teller.run(stopped)) }))
    }

    /// Stops once what happened until now is told.
    pub(crate) async fn stop(self) {
        let _ = self.stop.send(true);
        let _ = tokio::time::timeout(LAST_LOOK, self.task).await;
    }
}

struct Teller {
    store: Store,
    file: PathBuf,
    told: u64,
}

impl Teller {
    async fn open(store: Store, data: &Path) -> Result<Self, StoreError> {
        let file = data.join(FILE);
        let latest = store.acts(None, &PageRequest::newest(PAGE)).await?.data;
        let newest = latest.first().map_or(0, |row| row.number);
        let before_latest = latest.last().map_or(0, |row| row.number.saturating_sub(1));
        let kept = read(&file);
        // A store that was brought back from a backup may have fewer acts than were told.
        let told = kept.map_or(before_latest, |told| told.min(newest));
        let teller = Self { store, file, told };
        if kept.is_some_and(|kept| kept != told) {
            teller.keep().await;
        }
        Ok(teller)
    }

    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut changes = self.store.changes();
        loop {
            let stopping = *stop.borrow();
            changes.mark_unchanged();
            self.tell(write_line).await;
            if stopping {
                return;
            }
            tokio::select! {
                _ = stop.changed() => {}
                _ = tokio::time::timeout(LOOK_EVERY, changes.changed()) => {}
            }
        }
    }

    /// Tells what there is to tell, and keeps how far that is.
    async fn tell(&mut self, mut line: impl FnMut(ActRow)) {
        let before = self.told;
        loop {
            let page = PageRequest { after: Some(self.told), limit: PAGE, order: Order::Ascending };
            let acts = match self.store.acts(None, &page).await {
                Ok(acts) => acts,
                Err(error) => {
                    tracing::error!(%error, "the audit could not be read: its lines come later");
                    break;
                }
            };
            for row in acts.data {
                self.told = row.number;
                line(row);
            }
            if !acts.has_more {
                break;
            }
        }
        if self.told != before {
            self.keep().await;
        }
    }

    async fn keep(&self) {
        let (file, told) = (self.file.clone(), self.told);
        let written = tokio::task::spawn_blocking(move || write(&file, told)).await;
        if let Err(error) = written.map_err(io::Error::other).flatten() {
            tracing::warn!(%error, "{FILE} could not be written: the next start tells acts again");
        }
    }
}

/// What was told last; `None` where nobody has kept it.
fn read(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// Writes it in one step: a reader finds the old number or this one.
fn write(file: &Path, told: u64) -> io::Result<()> {
    // A name of its own: another server of the folder may write at the same time.
    let fresh = file.with_extension(format!("told.{}", uuid::Uuid::now_v7().simple()));
    std::fs::write(&fresh, format!("{told}\n")).and_then(|()| std::fs::rename(&fresh, file)).inspect_err(
        |_| {
            let _ = std::fs::remove_file(&fresh);
        },
    )
}

fn write_line(row: ActRow) {
    let act = row.act;
    let (number, at_ms) = (row.number, row.created_at);
    tracing::info!(
        target: "audit",
        number,
        at_ms,
        who = act.who,
        action = act.action,
        subject = act.subject,
        details = %act.details,
        "{} by {}",
        act.action,
        act.who
    );
}

#[cfg(test)]
mod tests {
    use headstart_types::key::NewAct;
    use serde_json::json;

    use super::*;

    async fn act(store: &Store, subject: &str) {
        let (who, action) = ("headstart keys".to_owned(), "key.add".to_owned());
        store
            .note(&NewAct { who, action, subject: subject.to_owned(), details: json!({}) }, 1)
            .await
            .unwrap();
    }

    /// Subjects of the acts that a process tells which starts on `data` now.
    async fn told(store: &Store, data: &Path) -> Vec<String> {
        let mut subjects = Vec::new();
        let mut teller = Teller::open(store.clone(), data).await.unwrap();
        teller.tell(|row| subjects.push(row.act.subject)).await;
        subjects
    }

    #[tokio::test]
    async fn what_was_done_while_no_server_ran_is_told_by_the_next_one_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        act(&store, "before the first").await;
        assert_eq!(told(&store, folder.path()).await, ["before the first"]);
        act(&store, "in between").await;
        assert_eq!(told(&store, folder.path()).await, ["in between"]);
        assert!(told(&store, folder.path()).await.is_empty());
    }

    #[tokio::test]
    async fn of_many_acts_that_nobody_kept_count_of_the_latest_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        for number in 0..PAGE + 20 {
            act(&store, &number.to_string()).await;
        }
        let first = told(&store, folder.path()).await;
        assert_eq!((first.len(), first[0].as_str()), (PAGE as usize, "20"));
        for number in 0..2 * PAGE + 1 {
            act(&store, &number.to_string()).await;
        }
        assert_eq!(
            told(&store, folder.path()).await.len(),
            2 * PAGE as usize + 1,
            "more than are read at a time"
        );
    }

    #[tokio::test]
    async fn a_count_beyond_the_newest_act_hides_none_that_comes() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        act(&store, "old").await;
        write(&folder.path().join(FILE), 1000).unwrap();
        assert!(told(&store, folder.path()).await.is_empty());
        act(&store, "new").await;
        assert_eq!(told(&store, folder.path()).await, ["new"]);
    }

    #[tokio::test]
    async fn a_stop_tells_what_was_just_done() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        // As another process has it: nothing wakes who tells.
        let other = Store::open(folder.path()).await.unwrap();
        let (stop, stopped) = watch::channel(false);
        let teller = Teller::open(store, folder.path()).await.unwrap();
        let task = tokio::spawn(teller.run(stopped));
        tokio::time::sleep(LOOK_EVERY / 10).await;
        act(&other, "just before the end").await;
        Audit { stop, task }.stop().await;
        assert_eq!(read(&folder.path().join(FILE)), Some(1));
    }
}
