//! The audit's log lines: every act of the data folder, whoever did it, as a line with the target `audit`. Each process that
//! serves writes all of them, with their numbers.

use std::time::Duration;

use headstart_store::{Order, PageRequest, Store, StoreError};
use tokio::task::JoinHandle;

use crate::app::App;

/// Acts of other processes are looked for this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Acts read at a time.
const PAGE: u32 = 100;

/// Tells the log of acts.
pub(crate) struct Audit(JoinHandle<()>);

impl Audit {
    /// Tells of every act from now on, until it is stopped; `None` for an app without a store.
    ///
    /// # Errors
    /// What the store said.
    pub(crate) async fn start(app: &App) -> Result<Option<Self>, StoreError> {
        let Some(store) = app.store().cloned() else { return Ok(None) };
        let newest = store.acts(None, &PageRequest::newest(1)).await?;
        let told = newest.data.first().map_or(0, |row| row.number);
        Ok(Some(Self(tokio::spawn(tell(store, told)))))
    }

    pub(crate) fn stop(self) {
        self.0.abort();
    }
}

async fn tell(store: Store, mut told: u64) {
    let mut changes = store.changes();
    loop {
        let _ = tokio::time::timeout(LOOK_EVERY, changes.changed()).await;
        let page = PageRequest { after: Some(told), limit: PAGE, order: Order::Ascending };
        match store.acts(None, &page).await {
            Ok(acts) => {
                for row in acts.data {
                    told = row.number;
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
            }
            Err(error) => tracing::error!(%error, "the audit could not be read: its lines come later"),
        }
    }
}
