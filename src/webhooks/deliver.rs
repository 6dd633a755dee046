//! Who reads the outbox: takes what is due, a few at a time, and notes what came of it.

use std::sync::Arc;
use std::time::Duration;

use headstart_store::{Store, StoreError};
use headstart_telemetry::WebhookEnd;
use headstart_types::webhook::{Delivery, Webhook};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::client::{Client, SendError, WHOLE};
use super::hosts::{Target, UrlError};
use super::message::Message;
use crate::app::App;
use crate::clock::{chance, now_ms};

/// Ends of jobs of other processes, and those that wait to be tried again, are looked for this often; ends of jobs of
/// this process are seen at once.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Deliveries at a time.
const AT_A_TIME: usize = 4;

/// How long an attempt keeps others away, in milliseconds: longer than it can take.
const LEASE_MS: i64 = 30_000;
const _: () = assert!(LEASE_MS as u128 >= 2 * WHOLE.as_millis());

/// An end that could not be told is tried again after this long, in milliseconds; after each further attempt twice as
/// long, up to the second figure. All attempts together take about a day.
const RETRY_AFTER_MS: (i64, i64) = (2_000, 3_600_000);
const ATTEMPTS: u32 = 38;

/// The receiver is gone for good, by the Standard Webhooks specification.
const GONE: u16 = 410;

/// Why an end was not told.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this process has no `webhook-url`")]
    NoDefault,
    #[error("the URL {0}")]
    Url(#[from] UrlError),
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("answered {0}, and redirects are not followed")]
    Redirect(u16),
    #[error("answered {0}")]
    Answer(u16),
}

/// The deliveries of this process.
pub struct Webhooks {
    stop: watch::Sender<bool>,
    /// `None` where the operator names no host.
    task: Option<JoinHandle<()>>,
}

impl Webhooks {
    /// Starts delivering what the store's outbox holds, if there are hosts that may be told.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn start(app: &Arc<App>) -> anyhow::Result<Self> {
        let stop = watch::Sender::new(false);
        let task = match app.store() {
            Some(store) if !app.config.webhook_hosts.is_empty() => {
                let (app, store) = (Arc::clone(app), store.clone());
                let teller = Teller { app, store, client: Client::new()? };
                Some(tokio::spawn(run(Arc::new(teller), stop.subscribe())))
            }
            Some(_) | None => None,
        };
        Ok(Self { stop, task })
    }

    /// Takes no more, and waits for what is under way.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        if let Some(task) = self.task {
            let _ = task.await;
        }
    }
}

async fn run(teller: Arc<Teller>, mut stop: watch::Receiver<bool>) {
    let mut changes = teller.store.changes();
    let mut under_way = JoinSet::new();
    while !*stop.borrow() {
        changes.mark_unchanged();
        if under_way.len() < AT_A_TIME {
            match teller.store.claim_webhook(LEASE_MS, now_ms()).await {
                Ok(Some(delivery)) => {
                    let teller = Arc::clone(&teller);
                    under_way.spawn(async move { teller.tell(&delivery).await });
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "the outbox could not be looked at"),
            }
        }
        tokio::select! {
            changed = stop.changed() => if changed.is_err() { break },
            Some(_) = under_way.join_next() => {}
            _ = tokio::time::timeout(LOOK_EVERY, changes.changed()) => {}
        }
    }
    while under_way.join_next().await.is_some() {}
}

/// Tells ends of jobs.
struct Teller {
    app: Arc<App>,
    store: Store,
    client: Client,
}

impl Teller {
    async fn tell(&self, delivery: &Delivery) {
        let told = self.post(delivery).await;
        if let Err(error) = self.note(delivery, told).await {
            // Once the lease is over it is told again, under the same id.
            tracing::error!(job.id = %delivery.job, %error, "what came of a webhook could not be noted");
        }
    }

    /// Sends; the host that took it.
    async fn post(&self, delivery: &Delivery) -> Result<String, Refusal> {
        let target = self.target(&delivery.webhook)?;
        let message = Message::of(delivery);
        let timestamp = now_ms().div_euclid(1000);
        let signature = self.app.config.webhook_secret.sign(&message.id, timestamp, message.body.as_bytes());
        let mut headers = vec![
            ("content-type", "application/json".to_owned()),
            ("webhook-id", message.id),
            ("webhook-timestamp", timestamp.to_string()),
            ("webhook-signature", signature),
        ];
        headers.extend(delivery.traceparent.clone().map(|trace| ("traceparent", trace)));
        match self.client.post(&target, &headers, message.body).await? {
            200..=299 => Ok(target.authority),
            status @ 300..=399 => Err(Refusal::Redirect(status)),
            status => Err(Refusal::Answer(status)),
        }
    }

    /// The list may have changed since the job was made, or be another process's.
    fn target(&self, webhook: &Webhook) -> Result<Target, Refusal> {
        let config = &self.app.config;
        let url = match webhook {
            Webhook::Url(url) => url,
            Webhook::Default => config.webhook_url.as_ref().ok_or(Refusal::NoDefault)?,
        };
        Ok(config.webhook_hosts.target(url)?)
    }

    async fn note(&self, delivery: &Delivery, told: Result<String, Refusal>) -> Result<(), StoreError> {
        let (store, attempt, now) = (&self.store, delivery.attempt, now_ms());
        let (noted, end) = match told {
            Ok(host) => {
                tracing::info!(job.id = %delivery.job, %host, attempt, "webhook delivered");
                let message = format!("webhook delivered to {host} at attempt {attempt}");
                (store.webhook_delivered(delivery, &message, now).await?, WebhookEnd::Delivered)
            }
            Err(refusal) if attempt >= ATTEMPTS || matches!(refusal, Refusal::Answer(GONE)) => {
                tracing::error!(job.id = %delivery.job, %refusal, attempt, "webhook given up");
                let (reason, message) =
                    (refusal.to_string(), format!("webhook given up at attempt {attempt}: {refusal}"));
                (store.webhook_given_up(delivery, &reason, &message, now).await?, WebhookEnd::GivenUp)
            }
            Err(refusal) => {
                tracing::warn!(job.id = %delivery.job, %refusal, attempt, "webhook not delivered; it is tried again");
                // Without chance all that failed together would come back together.
                let wait = retry_after(attempt, chance().map_or(0, u16::from_le_bytes));
                let noted = store.webhook_put_off(delivery, &refusal.to_string(), wait, now).await?;
                (noted, WebhookEnd::PutOff)
            }
        };
        if noted {
            self.app.metrics.count_webhook(end);
        }
        Ok(())
    }
}

/// How long an end waits after its nth attempt, in milliseconds: up to a quarter less by `chance`.
fn retry_after(attempt: u32, chance: u16) -> i64 {
    let (first, most) = RETRY_AFTER_MS;
    let wait = (first << attempt.saturating_sub(1).min(16)).min(most);
    wait - wait / 4 * i64::from(chance) / i64::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_an_hour_and_take_a_day_in_all() {
        assert_eq!(
            [1, 2, 3, 12, u32::MAX].map(|n| retry_after(n, 0)),
            [2_000, 4_000, 8_000, 3_600_000, 3_600_000]
        );
        assert_eq!(retry_after(1, u16::MAX), 1_500);
        let hours = |chance| (1..ATTEMPTS).map(|n| retry_after(n, chance)).sum::<i64>() as f64 / 3_600_000.0;
        assert!((18.0..30.0).contains(&hours(0)) && (18.0..30.0).contains(&hours(u16::MAX)));
        assert!((23.0..25.0).contains(&hours(u16::MAX / 2)), "{}", hours(u16::MAX / 2));
    }
}
