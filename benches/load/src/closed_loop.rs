//! A closed loop: so many connections, each sending its next request when the last is answered.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;

use crate::connection::Connection;
use crate::figures;
use crate::request::Request;

/// What a closed loop did.
pub(crate) struct Outcome {
    /// Texts or photos answered.
    pub(crate) items: usize,
    pub(crate) took: Duration,
    /// Each request's time in milliseconds, sorted.
    pub(crate) latencies_ms: Vec<f64>,
}

impl Outcome {
    pub(crate) fn items_per_second(&self) -> f64 {
        self.items as f64 / self.took.as_secs_f64()
    }
}

/// Where a closed loop ends once its time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// After the last request of a pass.
    Pass,
    /// At once.
    Time,
}

/// Open connections.
pub(crate) struct ClosedLoop(Vec<Connection>);

impl ClosedLoop {
    /// # Errors
    /// When the server takes no connection.
    pub(crate) async fn connect(address: SocketAddr, connections: usize) -> anyhow::Result<Self> {
        Ok(Self(try_join_all((0..connections).map(|_| Connection::open(address))).await?))
    }

    /// Sends the requests in order, in whole passes, until `seconds` have gone.
    ///
    /// # Errors
    /// When a connection breaks or an answer is not 200.
    pub(crate) async fn drive(&mut self, requests: &[Request], seconds: f64) -> anyhow::Result<Outcome> {
        self.until(requests, seconds, End::Pass).await
    }

    /// The same for `seconds`, wherever in a pass they end; what is answered later does not count.
    ///
    /// # Errors
    /// As [`Self::drive`].
    pub(crate) async fn drive_for(&mut self, requests: &[Request], seconds: f64) -> anyhow::Result<Outcome> {
        let outcome = self.until(requests, seconds, End::Time).await?;
        Ok(Outcome { took: Duration::from_secs_f64(seconds), ..outcome })
    }

    async fn until(&mut self, requests: &[Request], seconds: f64, end: End) -> anyhow::Result<Outcome> {
        let started = Instant::now();
        let is_over = || started.elapsed().as_secs_f64() >= seconds;
        let issued = Cell::new(0_usize);
        let items = Cell::new(0_usize);
        let latencies = RefCell::new(Vec::new());
        let next = || {
            let may_end = match end {
                End::Pass => issued.get() > 0 && issued.get().is_multiple_of(requests.len()),
                End::Time => true,
            };
            if requests.is_empty() || (may_end && is_over()) {
                return None;
            }
            issued.set(issued.get() + 1);
            requests.get((issued.get() - 1) % requests.len())
        };
        let client = async |connection: &mut Connection| {
            while let Some(request) = next() {
                let sent = Instant::now();
                connection.exchange(&request.bytes).await?.expect_ok()?;
                if end == End::Time && is_over() {
                    break;
                }
                latencies.borrow_mut().push(sent.elapsed().as_secs_f64() * 1e3);
                items.set(items.get() + request.items);
            }
            anyhow::Ok(())
        };
        // The first failure ends the loop, whichever connection it comes from.
        self.0.iter_mut().map(client).collect::<FuturesUnordered<_>>().try_collect::<Vec<()>>().await?;
        let took = started.elapsed();
        Ok(Outcome { items: items.get(), took, latencies_ms: figures::sorted(latencies.into_inner()) })
    }
}
