//! Running a plan over sessions, timed.

use std::hint::black_box;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ort::environment::Environment;

use super::plan::{Layout, Plan};
use crate::backbone::Backbone;
use crate::process::Process;
use crate::verify;

/// One session that turns items into vectors.
pub(crate) trait Embedder: Send + Sized {
    /// What it reads.
    type Item: Sync;

    /// One vector an item, in their order.
    ///
    /// # Errors
    /// ONNX Runtime's message, or the decoder's.
    fn embed(&mut self, items: &[&Self::Item]) -> anyhow::Result<Vec<Vec<f32>>>;

    /// Takes on what a plan says of its runs.
    fn follow(&mut self, _plan: &Plan) {}

    /// What the server says in their place: one vector an item of a request, read from the answer's body.
    ///
    /// # Errors
    /// When the body is not such an answer.
    fn answered(body: &[u8]) -> anyhow::Result<Vec<Vec<f32>>> {
        verify::embeddings(body)
    }
}

/// How fast a plan was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    pub(crate) items_per_second: f64,
    pub(crate) cpu_ms_per_item: f64,
}

/// The sessions of both layouts, loaded once.
pub(crate) struct Sessions<E> {
    /// One a core, one thread each.
    pub(crate) lanes: Vec<E>,
    /// One for all cores.
    pub(crate) wide: E,
}

impl<E: Embedder> Sessions<E> {
    /// # Errors
    /// As `open`.
    pub(crate) fn open(
        environment: &Environment,
        backbone: &Backbone,
        cores: usize,
        open: impl Fn(&Environment, &Backbone, usize) -> anyhow::Result<E>,
    ) -> anyhow::Result<Self> {
        let lanes: anyhow::Result<Vec<E>> = (0..cores).map(|_| open(environment, backbone, 1)).collect();
        Ok(Self { lanes: lanes?, wide: open(environment, backbone, cores)? })
    }

    /// Pace of the plan; whole passes over the items until `seconds` have gone.
    ///
    /// # Errors
    /// What a session answered.
    pub(crate) fn pace(&mut self, plan: &Plan, items: &[E::Item], seconds: f64) -> anyhow::Result<Pace> {
        let lanes = match plan.layout {
            Layout::Lanes => self.lanes.as_mut_slice(),
            Layout::Wide => std::slice::from_mut(&mut self.wide),
        };
        lanes.iter_mut().for_each(|lane| lane.follow(plan));
        // Buffers and caches first, as the server has them warm too.
        run(lanes, &plan.groups[..plan.groups.len().min(8)], items, 0.0)?;
        let own = Process::new(std::process::id());
        let before = own.cpu_seconds()?;
        let (done, took) = run(lanes, &plan.groups, items, seconds)?;
        let cpu_seconds = own.cpu_seconds()? - before;
        Ok(Pace {
            items_per_second: done as f64 / took.as_secs_f64(),
            cpu_ms_per_item: cpu_seconds * 1e3 / done as f64,
        })
    }
}

/// Hands out groups in order, passes whole.
struct Turns {
    issued: usize,
    groups: usize,
    until: Instant,
}

impl Turns {
    fn next(&mut self) -> Option<usize> {
        let at_boundary = self.issued > 0 && self.issued.is_multiple_of(self.groups);
        if self.groups == 0 || (at_boundary && Instant::now() >= self.until) {
            return None;
        }
        self.issued += 1;
        Some((self.issued - 1) % self.groups)
    }
}

fn run<E: Embedder>(
    lanes: &mut [E],
    groups: &[Vec<usize>],
    items: &[E::Item],
    seconds: f64,
) -> anyhow::Result<(usize, Duration)> {
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let turns = Mutex::new(Turns { issued: 0, groups: groups.len(), until });
    let work = |lane: &mut E| -> anyhow::Result<usize> {
        let mut done = 0;
        loop {
            let turn = turns.lock().unwrap_or_else(std::sync::PoisonError::into_inner).next();
            let Some(turn) = turn else { return Ok(done) };
            let group: Vec<&E::Item> = groups[turn].iter().map(|&index| &items[index]).collect();
            done += black_box(lane.embed(&group)?).len();
        }
    };
    let done = std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = lanes.iter_mut().map(|lane| scope.spawn(move || work(lane))).collect();
        threads.into_iter().try_fold(0, |sum, thread| {
            let done = thread.join().map_err(|_| anyhow::anyhow!("a direct lane panicked"))??;
            anyhow::Ok(sum + done)
        })
    })?;
    Ok((done, started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Length;

    impl Embedder for Length {
        type Item = Vec<u32>;

        fn embed(&mut self, items: &[&Vec<u32>]) -> anyhow::Result<Vec<Vec<f32>>> {
            Ok(items.iter().map(|item| vec![item.len() as f32]).collect())
        }
    }

    #[test]
    fn lanes_share_one_pass_between_them() {
        let items = vec![vec![1], vec![1, 2], vec![1, 2, 3]];
        let groups = vec![vec![0, 1], vec![2]];
        let (done, _) = run(&mut [Length, Length], &groups, &items, 0.0).unwrap();
        assert_eq!(done, 3);
    }

    #[test]
    fn passes_are_whole() {
        let mut turns = Turns { issued: 0, groups: 3, until: Instant::now() };
        let order: Vec<usize> = std::iter::from_fn(|| turns.next()).collect();
        assert_eq!(order, [0, 1, 2]);
    }
}
