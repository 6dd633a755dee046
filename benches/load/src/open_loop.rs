//! An open loop: requests arrive when they arrive, however slow the answers are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::task::LocalSet;

use crate::connection::Connection;
use crate::figures;
use crate::request::Request;
use crate::sample::Chance;

/// Of the arrival times.
const SEED: u64 = 7;

/// How long answers are waited for after the last arrival.
const LONGEST_DRAIN: Duration = Duration::from_secs(60);

/// Arrivals as a Poisson process.
pub(crate) struct Arrivals {
    /// Requests a second.
    pub(crate) rate: f64,
    /// They end after so long, or when `over` says so.
    pub(crate) seconds: f64,
    /// Set by whoever does something else meanwhile and is done.
    pub(crate) over: Rc<Cell<bool>>,
    /// Connections that may be busy at once; an arrival that finds none free is counted and not sent.
    pub(crate) connections: usize,
}

/// What became of the arrivals.
#[derive(Debug, Default)]
pub(crate) struct Flood {
    /// Requests sent.
    pub(crate) sent: usize,
    /// 200s before the end of the arrivals.
    pub(crate) ok_in_time: usize,
    /// Time from arrival to answer of every 200, in milliseconds, sorted.
    pub(crate) accepted_ms: Vec<f64>,
    /// The same with the moment of each arrival, as answers came.
    pub(crate) answered: Vec<(Instant, f64)>,
    /// 429s.
    pub(crate) refused: usize,
    /// Any other status, and broken connections.
    pub(crate) failed: usize,
    /// Arrivals that found no free connection.
    pub(crate) unsent: usize,
}

struct State {
    requests: Rc<[Request]>,
    /// Used in turn: the server hangs up on connections that idle for long.
    idle: RefCell<VecDeque<Connection>>,
    flood: RefCell<Flood>,
    in_flight: Cell<usize>,
    address: SocketAddr,
    end: Instant,
    over: Rc<Cell<bool>>,
}

/// Sends the requests in order, beginning again at the end, as they arrive.
///
/// # Errors
/// When the server takes no connection at the start.
pub(crate) async fn flood(
    address: SocketAddr,
    requests: Rc<[Request]>,
    arrivals: &Arrivals,
) -> anyhow::Result<Flood> {
    anyhow::ensure!(!requests.is_empty(), "nothing to send");
    let idle = try_join_all((0..arrivals.connections).map(|_| Connection::open(address))).await?;
    let started = Instant::now();
    let state = Rc::new(State {
        requests,
        idle: RefCell::new(idle.into()),
        flood: RefCell::default(),
        in_flight: Cell::new(0),
        address,
        end: started + Duration::from_secs_f64(arrivals.seconds),
        over: Rc::clone(&arrivals.over),
    });
    LocalSet::new().run_until(arrive(&state, started, arrivals.rate)).await;
    let mut flood = state.flood.take();
    flood.accepted_ms = figures::sorted(flood.answered.iter().map(|(_, ms)| *ms).collect());
    Ok(flood)
}

async fn arrive(state: &Rc<State>, started: Instant, rate: f64) {
    let mut chance = Chance::new(SEED);
    let mut due = started;
    let mut arrived = 0;
    loop {
        due += Duration::from_secs_f64(chance.gap(rate));
        if due >= state.end || state.over.get() {
            break;
        }
        // The timer is coarser than the gaps: what is already due goes at once, and latency counts from when it was due.
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let connection = state.idle.borrow_mut().pop_front();
        match connection {
            None => state.flood.borrow_mut().unsent += 1,
            Some(connection) => {
                state.flood.borrow_mut().sent += 1;
                state.in_flight.set(state.in_flight.get() + 1);
                tokio::task::spawn_local(send(Rc::clone(state), connection, arrived, due));
            }
        }
        arrived += 1;
        if arrived % 64 == 0 {
            // A generator that has fallen behind must still read answers.
            tokio::task::yield_now().await;
        }
    }
    if !state.over.get() {
        tokio::time::sleep_until(state.end.into()).await;
    }
    let drained_by = Instant::now() + LONGEST_DRAIN;
    while state.in_flight.get() > 0 && Instant::now() < drained_by {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn send(state: Rc<State>, mut connection: Connection, index: usize, due: Instant) {
    let request = &state.requests[index % state.requests.len()];
    let status = connection.exchange(&request.bytes).await.map(|answer| answer.status);
    let broken = status.is_err();
    {
        let mut flood = state.flood.borrow_mut();
        match status {
            Ok(200) => {
                flood.answered.push((due, due.elapsed().as_secs_f64() * 1e3));
                flood.ok_in_time += usize::from(Instant::now() <= state.end);
            }
            Ok(429) => flood.refused += 1,
            Ok(_) | Err(_) => flood.failed += 1,
        }
    }
    if broken {
        if let Ok(fresh) = Connection::open(state.address).await {
            state.idle.borrow_mut().push_back(fresh);
        }
    } else {
        state.idle.borrow_mut().push_back(connection);
    }
    state.in_flight.set(state.in_flight.get() - 1);
}
