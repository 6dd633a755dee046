//! How far a job is as a whole, and how long it will take: the part at hand by the rate it is measured at, those to come by
//! what they are believed to cost, which is corrected by what was measured so far.

use std::convert::Infallible;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headstart_store::{Store, StoreError};
use headstart_types::job::{Lease, Progress};
use headstart_types::payload::Modality;

use crate::clock::now_ms;
use crate::worker::control::Halt;

/// Progress is written at most this often.
const WRITE_EVERY: Duration = Duration::from_millis(500);

/// A job's progress is told in this many steps: thousandths of the time it takes.
const STEPS: u64 = 1000;

/// From this share of a part on its own rate is believed alone.
const KNOWN_FROM: f64 = 0.05;

/// How far what is believed may be off: features that are cached take next to no time, and say nothing of the rest.
const OFF_MOST: f64 = 8.0;

/// The parts of a job, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Features,
    Compare,
    Fit,
    /// The backbone's own training, where the method has one.
    Tune,
    ZeroShot,
    /// The files read once more, for what learns without transfer.
    Read,
    Curve,
    Report,
}

const PARTS: usize = 8;

/// Seconds that one row of the files is believed to cost in each part until it is measured, on two cores. Lines: texts,
/// pictures, sounds. Columns, in the order of [`Part`]: features, compare, fit, tune, zero-shot, read, curve, report.
/// Fit and curve are for each class, tune is for each pass; sounds have no tune, since no method trains a backbone of
/// sounds.
const BELIEVED: [[f64; PARTS]; 3] = [
    [2.5e-3, 1e-5, 3e-5, 1e-2, 4e-5, 1e-5, 2.5e-5, 3e-5],
    [9e-3, 8e-4, 3e-4, 4e-2, 3e-3, 1.5e-3, 5e-4, 2e-4],
    [1.5e-2, 1e-4, 3e-5, 0.0, 4e-5, 1.5e-3, 1e-4, 3e-5],
];

/// What a job is about to do.
pub(super) struct Work {
    pub(super) rows: usize,
    pub(super) classes: usize,
    pub(super) modality: Modality,
    /// The longest that labelling by names and the curve may take.
    pub(super) budget: Duration,
    /// Passes over the rows that train the backbone itself.
    pub(super) passes: usize,
    /// What an earlier attempt told.
    pub(super) told: Option<Progress>,
}

/// How far one job is; parts report to it from whatever thread they run on.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    began: Instant,
    /// Seconds that are believed of each part.
    believed: [f64; PARTS],
    /// The part at hand, since when, and its share that is done.
    at: (usize, Instant, f64),
    /// Seconds of the parts behind, as they were measured and as they had been believed.
    behind: (f64, f64),
    /// The share that an earlier attempt had done.
    before: f64,
    told: u64,
}

impl Pace {
    pub(super) fn new(work: &Work) -> Self {
        Self(Mutex::new(State::new(work, Instant::now())))
    }

    /// The part before is done.
    pub(super) fn begin(&self, part: Part) {
        self.state().begin(part as usize, Instant::now());
    }

    /// So much of the part at hand is done, from 0 to 1.
    pub(super) fn share(&self, done: f64) {
        let mut state = self.state();
        state.at.2 = done.clamp(state.at.2, 1.0);
    }

    /// `done` of `all` that the part at hand goes through.
    pub(super) fn count(&self, done: usize, all: usize) {
        self.share(done as f64 / all.max(1) as f64);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes how far the job is, as long as it is polled. The job stops where it is another worker's, and on a full disk.
    pub(super) async fn tell(&self, store: &Store, lease: &Lease, halt: &Halt) -> Infallible {
        self.tell_by(|progress| store.set_progress(lease, progress, now_ms()), halt).await
    }

    async fn tell_by<F: Future<Output = Result<(), StoreError>>>(
        &self,
        mut write: impl FnMut(Progress) -> F,
        halt: &Halt,
    ) -> Infallible {
        let mut turns = tokio::time::interval(WRITE_EVERY);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told = true;
        loop {
            turns.tick().await;
            let progress = self.state().progress(Instant::now());
            match write(progress).await {
                Ok(()) => told = true,
                Err(error @ (StoreError::LeaseLost(_) | StoreError::DiskFull)) => {
                    halt.set(error.into());
                    return std::future::pending().await;
                }
                // It is told again soon, and the job does not live by it.
                Err(error) if told => {
                    told = false;
                    tracing::warn!(%error, "how far a job is could not be written; it is tried again");
                }
                Err(_) => {}
            }
        }
    }
}

impl State {
    fn new(work: &Work, now: Instant) -> Self {
        let [texts, pictures, sounds] = BELIEVED;
        let a_row = match work.modality {
            Modality::Text => texts,
            Modality::Image | Modality::Tensor => pictures,
            Modality::Audio => sounds,
        };
        let mut believed = a_row.map(|seconds| seconds * work.rows as f64);
        let (each, most) = (work.classes as f64, work.budget.as_secs_f64());
        for (part, times, most) in [
            (Part::Fit, each, f64::INFINITY),
            (Part::Tune, work.passes as f64, f64::INFINITY),
            (Part::ZeroShot, 1.0, most),
            (Part::Curve, each, most),
        ] {
            if let Some(seconds) = believed.get_mut(part as usize) {
                *seconds = (*seconds * times).min(most);
            }
        }
        let told = work.told.filter(|told| told.total == STEPS).map_or(0, |told| told.step.min(STEPS - 1));
        let before = told as f64 / STEPS as f64;
        Self { began: now, believed, at: (0, now, 0.0), behind: (0.0, 0.0), before, told }
    }

    fn begin(&mut self, part: usize, now: Instant) {
        let (last, since, share) = self.at;
        // A part whose outcome was there already says nothing of the others.
        if part > last && share > 0.0 {
            self.behind.0 += (now - since).as_secs_f64();
            self.behind.1 += self.believed(last);
        }
        self.at = (part, now, 0.0);
    }

    fn believed(&self, part: usize) -> f64 {
        self.believed.get(part).copied().unwrap_or(0.0)
    }

    /// Seconds to the end.
    fn left(&self, now: Instant) -> f64 {
        let (at, since, share) = self.at;
        let spent = (now - since).as_secs_f64();
        let (mut measured, mut expected) = self.behind;
        // A fit knows too little of its own end to correct the others.
        if expected <= 0.0 && share > 0.0 {
            (measured, expected) = (spent, share * self.believed(at));
        }
        let off = if expected > 0.0 { (measured / expected).clamp(1.0 / OFF_MOST, OFF_MOST) } else { 1.0 };
        let here = if share >= KNOWN_FROM {
            spent / share * (1.0 - share)
        } else {
            (self.believed(at) * off - spent).max(0.0)
        };
        here + off * self.believed.iter().skip(at + 1).sum::<f64>()
    }

    fn progress(&mut self, now: Instant) -> Progress {
        let (spent, left) = ((now - self.began).as_secs_f64(), self.left(now));
        let share = if spent > 0.0 { spent / (spent + left) } else { 0.0 };
        let share = self.before + (1.0 - self.before) * share;
        // The last step is the classifier itself; what was told is not taken back.
        let step = ((share * STEPS as f64) as u64).clamp(self.told, STEPS - 1);
        self.told = step;
        Progress { step, total: STEPS, eta_seconds: Some(left.ceil() as u64) }
    }
}

#[cfg(test)]
mod tests {
    use headstart_types::ids::JobId;

    use super::*;
    use crate::worker::control::Stop;

    fn state(rows: usize, told: Option<Progress>) -> (State, Instant) {
        let now = Instant::now();
        let budget = Duration::from_secs(60);
        (State::new(&Work { rows, classes: 2, modality: Modality::Text, budget, passes: 0, told }, now), now)
    }

    /// What became of a job once the store has said all of this.
    async fn told(says: Vec<Result<(), StoreError>>) -> Result<(), Stop> {
        let (pace, halt) = (Pace(Mutex::new(state(100, None).0)), Halt::default());
        let (mut says, said) = (says.into_iter(), tokio::sync::Notify::new());
        let write = |_| {
            let outcome = says.next().unwrap_or(Ok(()));
            if says.as_slice().is_empty() {
                said.notify_one();
            }
            std::future::ready(outcome)
        };
        tokio::select! {
            biased;
            never = pace.tell_by(write, &halt) => match never {},
            () = said.notified() => {}
        }
        halt.check()
    }

    #[tokio::test]
    async fn what_could_not_be_told_is_told_the_next_time_and_the_job_goes_on() {
        let failed = || StoreError::Io { what: "a write".into(), source: std::io::ErrorKind::Other.into() };
        let halted = told(vec![Err(failed()), Err(StoreError::Closed), Ok(()), Err(failed()), Ok(())]).await;
        assert!(halted.is_ok(), "{halted:?}");
    }

    #[tokio::test]
    async fn a_job_that_is_anothers_stops_and_so_does_one_without_room() {
        let lost = StoreError::LeaseLost(JobId::new(1, [0; 10]));
        assert!(matches!(told(vec![Ok(()), Err(lost)]).await, Err(Stop::Lost)));
        assert!(matches!(told(vec![Err(StoreError::DiskFull)]).await, Err(Stop::NoRoom)));
    }

    /// Runs through all parts, each `slower` than believed; what was told every tenth of a second, and when it ended.
    fn run(state: &mut State, mut now: Instant, slower: f64) -> (Vec<(Instant, Progress)>, Instant) {
        let mut told = Vec::new();
        for part in 0..PARTS {
            state.begin(part, now);
            let (began, whole) = (now, state.believed(part) * slower);
            while (now - began).as_secs_f64() < whole {
                state.at.2 = (now - began).as_secs_f64() / whole;
                told.push((now, state.progress(now)));
                now += Duration::from_millis(100);
            }
        }
        (told, now)
    }

    #[test]
    fn a_job_that_goes_as_believed_is_told_when_it_ends_from_the_start() {
        let (mut state, now) = state(5000, None);
        let (told, end) = run(&mut state, now, 1.0);
        for (at, progress) in &told {
            let off = (end - *at).as_secs_f64() - progress.eta_seconds.unwrap() as f64;
            assert!(off.abs() < 2.0, "{off} s off");
        }
        assert!(told.windows(2).all(|pair| pair[0].1.step <= pair[1].1.step));
        assert!(told.last().unwrap().1.step > 970);
    }

    #[test]
    fn a_slower_machine_shows_once_the_first_part_is_measured() {
        let (mut state, now) = state(5000, None);
        let (told, end) = run(&mut state, now, 3.0);
        for (at, progress) in &told[told.len() / 10..] {
            let left = (end - *at).as_secs_f64();
            let off = left - progress.eta_seconds.unwrap() as f64;
            assert!(off.abs() < 2.0 + 0.1 * left, "{off} s of {left} off");
        }
        assert!(told.windows(2).all(|pair| pair[0].1.step <= pair[1].1.step));
    }

    #[test]
    fn nothing_is_taken_back_when_a_part_takes_longer_than_any_belief() {
        let (mut state, now) = state(100, None);
        let mut last = 0;
        for minute in 1..500 {
            let progress = state.progress(now + Duration::from_secs(60 * minute));
            assert!((last..STEPS).contains(&progress.step), "{progress:?}");
            last = progress.step;
        }
    }

    #[test]
    fn a_job_that_goes_on_goes_on_from_what_was_told() {
        let told = Progress { step: 400, total: STEPS, eta_seconds: None };
        let (mut state, now) = state(5000, Some(told));
        assert_eq!(state.progress(now).step, 400);
        let (told, _) = run(&mut state, now, 1.0);
        let middle = told[told.len() / 2].1.step;
        assert!((650..750).contains(&middle), "{middle}");
    }
}
