//! What runs next: queues of all backbones, lanes that wait, fairness between models.
//!
//! Start-time fair queueing (Goyal et al. 1996): each queue has a virtual time that grows by the lane time it used;
//! the queue that used least goes next, so a busy model cannot starve a quiet one. Interactive items come before bulk.
//!
//! Where a model steps back, its bulk items have lanes of their own, threads that make way for others: an
//! interactive item never waits for a bulk call. A bulk call begins only while fewer calls run than there are lanes, so
//! more than that run only until the bulk calls at hand end.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use headstart_telemetry::Outcome;

use crate::backbone::Model;
use crate::batch::{Picked, pick};
use crate::call::{Class, Entry};
use crate::memory;
use crate::warm_up::give_memory_back;

/// After this many interactive calls in a row, waiting bulk work gets one: it must not starve.
const INTERACTIVE_RUN: usize = 16;

/// An idle lane hands memory back after this long.
const TRIM_AFTER: Duration = Duration::from_secs(2);

pub(crate) struct Scheduler {
    state: Mutex<State>,
    /// One per lane, so that the lane that ran last, whose caches are warm, is woken first. Lanes at the back follow
    /// those at the front.
    wake: Vec<Condvar>,
    lanes: usize,
}

/// Which lanes: those at the back run bulk items of models that step back, those at the front everything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Front,
    Back,
}

struct State {
    queues: Vec<Queue>,
    /// Waiting lanes at the front; the last one ran last.
    idle: Vec<usize>,
    /// Waiting lanes at the back.
    idle_back: Vec<usize>,
    /// Slots that no call at the front occupies.
    free_slots: usize,
    /// Slots of calls at the back.
    back_slots: usize,
    /// Interactive calls in a row since the last bulk call.
    interactive_run: usize,
    /// Set once memory was given back and nothing has run since.
    trimmed: bool,
    stopped: bool,
}

struct Queue {
    model: Arc<Model>,
    interactive: VecDeque<Entry>,
    bulk: VecDeque<Entry>,
    /// Lane time used so far, in seconds times slots: the queue with the least goes next.
    virtual_time: f64,
    /// Calls at the front.
    running: usize,
    /// Calls at the back.
    running_back: usize,
}

/// One call to be made: its items, and what [`Scheduler::done`] has to settle after it.
pub(crate) struct Work {
    pub(crate) model: Arc<Model>,
    pub(crate) picked: Picked,
    /// Seconds times slots that the queue was charged in advance, by estimate; `done` replaces them by what the call
    /// took.
    charged: f64,
    side: Side,
    /// The class of all its items.
    pub(crate) class: Class,
}

impl Queue {
    fn waiting(&self, class: Class) -> usize {
        match class {
            Class::Interactive => self.interactive.len(),
            Class::Bulk => self.bulk.len(),
        }
    }

    fn is_empty(&self) -> bool {
        self.interactive.is_empty() && self.bulk.is_empty()
    }

    /// Whether items of a class wait that lanes of a side run.
    fn awaits(&self, side: Side, class: Class) -> bool {
        self.model.side(class) == side && self.waiting(class) > 0
    }

    fn awaits_any(&self, side: Side) -> bool {
        self.awaits(side, Class::Interactive) || self.awaits(side, Class::Bulk)
    }

    /// Whether another call of the class may begin on a side; `starving` is [`State::starving`].
    fn may_run(&self, side: Side, class: Class, starving: bool, lanes: usize) -> bool {
        let most = self.model.max_running;
        // Where lanes are the bound, bulk that starves gets one more call; a bound of the model's own holds for both sides,
        // so that requests leave it a turn.
        let own_bound = most < lanes;
        let room = match side {
            Side::Front if own_bound && starving && self.awaits(Side::Back, Class::Bulk) => false,
            Side::Front => self.running < most,
            Side::Back if starving && !own_bound => true,
            Side::Back => self.running + self.running_back < most,
        };
        self.awaits(side, class) && room
    }
}

impl Scheduler {
    /// `lanes` calls at a time; with `back` as many lanes again for models that step back.
    pub(crate) fn new(lanes: usize, back: bool) -> Self {
        let state = State {
            queues: Vec::new(),
            idle: Vec::with_capacity(lanes),
            idle_back: Vec::with_capacity(lanes),
            free_slots: lanes,
            back_slots: 0,
            interactive_run: 0,
            trimmed: true,
            stopped: false,
        };
        let threads = if back { 2 * lanes } else { lanes };
        Self { state: Mutex::new(state), wake: (0..threads).map(|_| Condvar::new()).collect(), lanes }
    }

    /// Calls that run at a time.
    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    /// Lanes, those at the back with them.
    pub(crate) fn threads(&self) -> usize {
        self.wake.len()
    }

    pub(crate) fn side(&self, lane: usize) -> Side {
        if lane < self.lanes { Side::Front } else { Side::Back }
    }

    pub(crate) fn add(&self, model: Arc<Model>) {
        let mut state = self.lock();
        let virtual_time = state.earliest_virtual_time();
        state.queues.push(Queue {
            model,
            interactive: VecDeque::new(),
            bulk: VecDeque::new(),
            virtual_time,
            running: 0,
            running_back: 0,
        });
    }

    /// Forgets a model; what still waits in its queue is answered with [`crate::EngineError::Stopped`].
    pub(crate) fn remove(&self, model: &Arc<Model>) {
        let removed = {
            let mut state = self.lock();
            let index = state.queues.iter().position(|queue| Arc::ptr_eq(&queue.model, model));
            index.map(|index| state.queues.swap_remove(index))
        };
        if let Some(queue) = removed {
            let (gone, waiting): (Vec<Entry>, Vec<Entry>) =
                queue.interactive.into_iter().chain(queue.bulk).partition(|entry| entry.reply.is_closed());
            let items = gone.iter().map(|entry| entry.input.items() as u64).sum();
            queue.model.metrics.count(Outcome::Cancelled, items);
            refuse(waiting);
        }
    }

    /// Queues items and wakes as many waiting lanes as they can use.
    ///
    /// With `here`, a single item that finds the machine idle comes back as work for the thread that asks, which must
    /// run it: waking a lane and being woken by it would take longer than a short call's own overhead.
    pub(crate) fn submit(
        &self,
        model: &Arc<Model>,
        class: Class,
        entries: Vec<Entry>,
        here: bool,
    ) -> Option<Work> {
        let mut state = self.lock();
        let earliest = state.earliest_virtual_time();
        let stopped = state.stopped;
        let side = model.side(class);
        let quiet =
            state.free_slots == self.lanes && state.queues.iter().all(|queue| !queue.awaits_any(Side::Front));
        let Some(queue) = state.queues.iter_mut().find(|queue| Arc::ptr_eq(&queue.model, model)) else {
            drop(state);
            refuse(entries);
            return None;
        };
        if stopped {
            drop(state);
            refuse(entries);
            return None;
        }
        if queue.is_empty() && queue.running + queue.running_back == 0 {
            // Time spent without work is not saved up.
            queue.virtual_time = queue.virtual_time.max(earliest);
        }
        let added = entries.len();
        match class {
            Class::Interactive => queue.interactive.extend(entries),
            Class::Bulk => queue.bulk.extend(entries),
        }
        if here
            && quiet
            && added == 1
            && let Some(work) = state.take(Side::Front, Instant::now(), self.lanes)
        {
            return Some(work);
        }
        for _ in 0..added {
            if !wake_one(&self.wake, &mut state, side) {
                break;
            }
        }
        None
    }

    /// The next items for a lane; waits for some. `None` once the scheduler has stopped and its queues are empty.
    pub(crate) fn next(&self, lane: usize) -> Option<Work> {
        let side = self.side(lane);
        let mut state = self.lock();
        loop {
            if let Some(work) = state.take(side, Instant::now(), self.lanes) {
                // What waits beyond this call is work for another lane; so is what was held back for this call.
                for other in [Side::Front, Side::Back] {
                    let beyond = other == side || (side == Side::Back && state.free_slots > 0);
                    if beyond && state.awaits_any(other) {
                        wake_one(&self.wake, &mut state, other);
                    }
                }
                return Some(work);
            }
            if state.stopped && state.queues.iter().all(Queue::is_empty) {
                return None;
            }
            state.idle(side).push(lane);
            state = self.wait(state, lane);
        }
    }

    /// Accounts for a finished call.
    pub(crate) fn done(&self, work: &Work, took: Duration) {
        let mut state = self.lock();
        let slots = work.model.slots;
        match work.side {
            Side::Front => state.free_slots += slots,
            Side::Back => state.back_slots -= slots,
        }
        if let Some(queue) = state.queues.iter_mut().find(|queue| Arc::ptr_eq(&queue.model, &work.model)) {
            match work.side {
                Side::Front => queue.running -= 1,
                Side::Back => queue.running_back -= 1,
            }
            queue.virtual_time += took.as_secs_f64() * slots as f64 - work.charged;
        }
        // A lane looks for more by itself; another thread that ran a call does not, and lanes may have found no slot.
        for side in [Side::Front, Side::Back] {
            if state.awaits_any(side) && state.free(side, self.lanes) > 0 {
                wake_one(&self.wake, &mut state, side);
            }
        }
    }

    /// Stops: what still waits is answered with [`crate::EngineError::Stopped`], lanes end after their present call.
    pub(crate) fn stop(&self) {
        let waiting: Vec<Entry> = {
            let mut state = self.lock();
            state.stopped = true;
            for side in [Side::Front, Side::Back] {
                while wake_one(&self.wake, &mut state, side) {}
            }
            state
                .queues
                .iter_mut()
                .flat_map(|queue| queue.interactive.drain(..).chain(queue.bulk.drain(..)))
                .collect()
        };
        refuse(waiting);
    }

    fn wait<'a>(&'a self, mut state: MutexGuard<'a, State>, lane: usize) -> MutexGuard<'a, State> {
        let side = self.side(lane);
        loop {
            let (guard, timeout) =
                self.wake[lane].wait_timeout(state, TRIM_AFTER).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            if !state.idle(side).contains(&lane) {
                return state;
            }
            // A lane at the front does it: those at the back have a low priority and may wait long for a core. Reads
            // `idle_back` as well, since memory is given back only while no call runs.
            let all_idle = state.idle.len() + state.idle_back.len() == self.wake.len();
            if timeout.timed_out() && side == Side::Front && !state.trimmed && all_idle {
                state.trimmed = true;
                // Not to be woken meanwhile: another lane is free at once.
                state.idle.retain(|waiting| *waiting != lane);
                let models: Vec<Arc<Model>> =
                    state.queues.iter().map(|queue| Arc::clone(&queue.model)).collect();
                drop(state);
                models.iter().for_each(|model| give_memory_back(model));
                drop(models);
                memory::trim();
                return self.lock();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock leaves counters at worst one call behind; refusing all work would be worse.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake_one(wake: &[Condvar], state: &mut State, side: Side) -> bool {
    state.idle(side).pop().is_some_and(|lane| {
        wake[lane].notify_one();
        true
    })
}

fn refuse(entries: Vec<Entry>) {
    for entry in entries {
        let _ = entry.reply.send(Err(crate::EngineError::Stopped));
    }
}

impl State {
    fn earliest_virtual_time(&self) -> f64 {
        let active = self.queues.iter().filter(|queue| !queue.is_empty() || queue.running > 0);
        let earliest = active.map(|queue| queue.virtual_time).fold(f64::INFINITY, f64::min);
        if earliest.is_finite() {
            earliest
        } else {
            self.queues.iter().map(|queue| queue.virtual_time).fold(0.0, f64::max)
        }
    }

    fn idle(&mut self, side: Side) -> &mut Vec<usize> {
        match side {
            Side::Front => &mut self.idle,
            Side::Back => &mut self.idle_back,
        }
    }

    fn awaits_any(&self, side: Side) -> bool {
        self.queues.iter().any(|queue| queue.awaits_any(side))
    }

    fn take(&mut self, side: Side, now: Instant, lanes: usize) -> Option<Work> {
        let class = self.class(side, lanes)?;
        let (free, starving) = (self.free(side, lanes), self.starving());
        let queue = self
            .queues
            .iter_mut()
            .filter(|queue| queue.may_run(side, class, starving, lanes))
            .min_by(|left, right| left.virtual_time.total_cmp(&right.virtual_time))?;
        let slots = queue.model.slots;
        if slots > free {
            // The fairest queue waits for its slots; letting others pass would starve calls of several threads.
            return None;
        }
        let share = queue.waiting(class).div_ceil(lanes);
        let limits = queue.model.limits();
        let waiting = match class {
            Class::Interactive => &mut queue.interactive,
            Class::Bulk => &mut queue.bulk,
        };
        let picked = pick(waiting, &limits, share, now);
        let charged = queue.model.estimate(&picked.batch).as_secs_f64() * slots as f64;
        queue.virtual_time += charged;
        match side {
            Side::Front => {
                queue.running += 1;
                self.free_slots -= slots;
            }
            Side::Back => {
                queue.running_back += 1;
                self.back_slots += slots;
            }
        }
        self.trimmed = false;
        self.interactive_run = if class == Class::Interactive { self.interactive_run + 1 } else { 0 };
        Some(Work { model: Arc::clone(&queue.model), picked, charged, side, class })
    }

    /// Whether requests have left bulk no turn for long.
    fn starving(&self) -> bool {
        self.back_slots == 0 && self.interactive_run >= INTERACTIVE_RUN
    }

    /// Slots for another call of a side.
    fn free(&self, side: Side, lanes: usize) -> usize {
        match side {
            Side::Front => self.free_slots,
            // One more than fits: even where requests leave no lane free, bulk must not starve.
            Side::Back if self.starving() => lanes,
            Side::Back => self.free_slots.saturating_sub(self.back_slots),
        }
    }

    fn class(&self, side: Side, lanes: usize) -> Option<Class> {
        let starving = self.starving();
        let runnable =
            |class: Class| self.queues.iter().any(|queue| queue.may_run(side, class, starving, lanes));
        match (runnable(Class::Interactive), runnable(Class::Bulk)) {
            (true, true) if self.interactive_run >= INTERACTIVE_RUN => Some(Class::Bulk),
            (true, _) => Some(Class::Interactive),
            (false, true) => Some(Class::Bulk),
            (false, false) => None,
        }
    }
}
