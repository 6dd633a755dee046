//! Rounds of a closed loop: the server, then the direct plans, never both at once.

use anyhow::Context as _;

use crate::bench::Bench;
use crate::closed_loop::{ClosedLoop, Outcome};
use crate::direct::Embedder;
use crate::direct::lanes::{Pace, Sessions};
use crate::direct::plan::{Plan, Role};
use crate::figures::{median, quantile};
use crate::process::Process;
use crate::request::Request;
use crate::verify;

/// Items before the clock starts.
const WARM_UP_ITEMS: usize = 64;

/// One backbone with what is sent to it.
pub(crate) struct Subject<E: Embedder> {
    pub(crate) sessions: Sessions<E>,
    pub(crate) samples: Vec<Sample<E>>,
    pub(crate) cases: Vec<Case>,
    /// Between served and direct vectors.
    pub(crate) lowest_cosine: f64,
}

/// Items, and how fast each direct plan was on them in each round.
pub(crate) struct Sample<E: Embedder> {
    items: Vec<E::Item>,
    plans: Vec<Timed>,
}

/// A plan with its items a second, one figure a round.
pub(crate) struct Timed {
    pub(crate) plan: Plan,
    pub(crate) rates: Vec<f64>,
}

/// So many connections sending the same requests.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Index of its sample.
    pub(crate) sample: usize,
    connections: usize,
    requests: Vec<Request>,
    pub(crate) rounds: Rounds,
}

/// Figures of a case, one a round.
#[derive(Default)]
pub(crate) struct Rounds {
    /// Items a second.
    pub(crate) served: Vec<f64>,
    /// Items a second of the fair plan, run right beside.
    pub(crate) direct: Vec<f64>,
    pub(crate) ratio: Vec<f64>,
    pub(crate) p50_ms: Vec<f64>,
    pub(crate) p99_ms: Vec<f64>,
    /// Of the server at the end of the case.
    pub(crate) resident_mb: Vec<f64>,
    /// An item.
    pub(crate) server_cpu_ms: Vec<f64>,
    /// An item, of the fair plan.
    pub(crate) direct_cpu_ms: Vec<f64>,
    /// A request.
    pub(crate) client_cpu_ms: Vec<f64>,
}

impl<E: Embedder> Sample<E> {
    pub(crate) fn new(items: Vec<E::Item>, plans: Vec<Plan>) -> Self {
        let plans = plans.into_iter().map(|plan| Timed { plan, rates: Vec::new() }).collect();
        Self { items, plans }
    }

    /// The plan of a role whose median over the rounds so far is highest.
    pub(crate) fn best(&self, role: Role) -> Option<&Timed> {
        let plans = self.plans.iter().filter(|timed| timed.plan.role == role);
        plans.max_by(|left, right| median(&left.rates).total_cmp(&median(&right.rates)))
    }

    fn survey(&mut self, sessions: &mut Sessions<E>, seconds: f64) -> anyhow::Result<()> {
        for timed in &mut self.plans {
            timed.rates.push(sessions.pace(&timed.plan, &self.items, seconds)?.items_per_second);
        }
        Ok(())
    }
}

impl Case {
    /// Requests are repeated, whole, until every connection has at least one a pass.
    pub(crate) fn new(name: String, sample: usize, connections: usize, requests: Vec<Request>) -> Self {
        let passes = connections.div_ceil(requests.len().max(1));
        let repeated = (0..passes).flat_map(|_| &requests);
        let requests =
            repeated.map(|request| Request { bytes: request.bytes.clone(), items: request.items }).collect();
        Self { name, sample, connections, requests, rounds: Rounds::default() }
    }

    /// Enough requests for some tens of items: a long warm-up would leave connections idle that finish early, and the
    /// server hangs up on those.
    fn warm_up(&self) -> &[Request] {
        let mut items = 0;
        let enough = self.requests.iter().position(|request| {
            items += request.items;
            items >= WARM_UP_ITEMS
        });
        enough.map_or(self.requests.as_slice(), |last| &self.requests[..=last])
    }
}

impl<E: Embedder> Subject<E> {
    /// Runs every round.
    ///
    /// # Errors
    /// When the server cannot be started, answers anything but 200, or gives other vectors than the direct side.
    pub(crate) fn measure(&mut self, bench: &Bench, name: &str) -> anyhow::Result<()> {
        for round in 0..bench.scale.rounds {
            eprintln!("{name}: round {} of {}, direct plans", round + 1, bench.scale.rounds);
            // The survey picks the yardstick; its figure in the ratio comes from a run beside the server's, so that it
            // is not the luckiest of many.
            for sample in &mut self.samples {
                sample.survey(&mut self.sessions, bench.scale.survey_seconds)?;
            }
            for index in 0..self.cases.len() {
                eprintln!(
                    "{name}: round {} of {}, {}",
                    round + 1,
                    bench.scale.rounds,
                    self.cases[index].name
                );
                // Whichever goes second finds the machine as the first left it: they change places.
                let server_first = (round + index) % 2 == 0;
                let early = if server_first { None } else { Some(self.run_direct(bench, index)?) };
                let served = self.run_server(bench, index, round == 0)?;
                let direct = match early {
                    Some(direct) => direct,
                    None => self.run_direct(bench, index)?,
                };
                let rounds = &mut self.cases[index].rounds;
                rounds.served.push(served);
                rounds.direct.push(direct.items_per_second);
                rounds.ratio.push(served / direct.items_per_second);
                rounds.direct_cpu_ms.push(direct.cpu_ms_per_item);
            }
        }
        Ok(())
    }

    fn run_direct(&mut self, bench: &Bench, case: usize) -> anyhow::Result<Pace> {
        let sample = &self.samples[self.cases[case].sample];
        let best = sample.best(Role::Fair).context("no fair plan")?;
        self.sessions.pace(&best.plan, &sample.items, bench.scale.seconds)
    }

    /// Items a second of a fresh server; the other figures go to the case.
    fn run_server(&mut self, bench: &Bench, case: usize, verify: bool) -> anyhow::Result<f64> {
        let Self { sessions, samples, cases, lowest_cosine } = self;
        let case = &mut cases[case];
        let server = bench.start_server(&[])?;
        if let (true, Some(lane)) = (verify, sessions.lanes.first_mut()) {
            let items = &samples[case.sample].items;
            let found = bench.client.block_on(verify::lowest_cosine(&server, &case.requests, items, lane))?;
            *lowest_cosine = lowest_cosine.min(found);
        }
        let own = Process::new(std::process::id());
        let (outcome, server_cpu, own_cpu) = bench.client.block_on(async {
            let mut load = ClosedLoop::connect(server.address, case.connections).await?;
            load.drive(case.warm_up(), 0.0).await?;
            let before = (server.process().cpu_seconds()?, own.cpu_seconds()?);
            let outcome = load.drive(&case.requests, bench.scale.seconds).await?;
            let after = (server.process().cpu_seconds()?, own.cpu_seconds()?);
            anyhow::Ok((outcome, after.0 - before.0, after.1 - before.1))
        })?;
        let Outcome { items, latencies_ms, .. } = &outcome;
        let rounds = &mut case.rounds;
        rounds.p50_ms.push(quantile(latencies_ms, 0.5));
        rounds.p99_ms.push(quantile(latencies_ms, 0.99));
        rounds.resident_mb.push(server.process().resident_mb()?);
        rounds.server_cpu_ms.push(server_cpu * 1e3 / *items as f64);
        rounds.client_cpu_ms.push(own_cpu * 1e3 / latencies_ms.len() as f64);
        Ok(outcome.items_per_second())
    }
}
