//! Which waiting items run together: the oldest first, then those of like length, within a cost budget.
//!
//! Raw tensors share a call only where their shapes are the same, so that the oldest may have few like it: the largest
//! group goes first there, for as long as the oldest has not waited too long. Calls of the smaller groups, which are the
//! dear ones, come when they have grown.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::call::{Entry, Input};

/// What one call may hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Most items in a call.
    pub items: usize,
    /// Most padded tokens in a call; a single item may exceed it.
    pub tokens: usize,
    /// Most padded tokens once items are longer than 64 tokens: attention makes long batches dearer by the token.
    pub long_tokens: usize,
    /// Largest ratio of padded to real tokens.
    pub waste: f64,
}

/// From this length on `long_tokens` bounds a call.
const LONG: usize = 64;

/// How many of the oldest items are looked at for like lengths: bounds the time under the queue's lock.
const WINDOW: usize = 256;

/// How many of the oldest are looked at for the largest group: each is compared with every group.
const GROUPED: usize = 64;

/// Raw tensors that have waited so long go before larger groups.
const PATIENCE: Duration = Duration::from_millis(30);

impl Limits {
    /// Budgets for the CPU: calls are at their best between 64 and 512 padded tokens, and padding eats the gain.
    pub(crate) const CPU_TOKENS: Self = Self { items: 8, tokens: 512, long_tokens: 256, waste: 1.12 };
    /// Convolutional networks gain nothing from batches on the CPU.
    pub(crate) const CPU_DENSE: Self = Self { items: 1, tokens: 1, long_tokens: 1, waste: 1.0 };
    /// Rows of raw tensors are alike, and nobody knows what they cost before they ran: time alone bounds a call.
    pub(crate) const CPU_RAW: Self =
        Self { items: 64, tokens: usize::MAX, long_tokens: usize::MAX, waste: 1.0 };
    /// A GPU wants large calls.
    pub(crate) const GPU: Self = Self { items: 64, tokens: 16_384, long_tokens: 16_384, waste: 1.5 };

    /// How many items of a length one call may hold, at least one.
    pub(crate) fn most(&self, length: usize) -> usize {
        self.items.min(self.token_budget(length) / length.max(1)).max(1)
    }

    fn token_budget(&self, length: usize) -> usize {
        if length > LONG { self.long_tokens } else { self.tokens }
    }
}

/// What left a queue.
#[derive(Default)]
pub(crate) struct Picked {
    /// Items to compute together.
    pub(crate) batch: Vec<Entry>,
    /// Items whose deadline has passed.
    pub(crate) expired: Vec<Entry>,
    /// Items nobody waits for.
    pub(crate) cancelled: usize,
}

/// Takes the oldest live entry, or the oldest of the largest group, and those nearest to it in length that may join it and
/// `limits` allow, at most `share` entries.
pub(crate) fn pick(queue: &mut VecDeque<Entry>, limits: &Limits, share: usize, now: Instant) -> Picked {
    let mut picked = Picked::default();
    drop_dead(queue, now, &mut picked);
    let Some(first) = queue.remove(leader(queue, limits, now)) else { return picked };
    let target = first.input.length();
    let mut items = first.input.items();
    if share <= 1 || items >= limits.items || queue.is_empty() {
        picked.batch.push(first);
        return picked;
    }

    let mut nearest: Vec<(usize, usize)> = queue
        .iter()
        .take(WINDOW)
        .enumerate()
        .filter(|(_, entry)| first.input.joins(&entry.input))
        .map(|(index, entry)| (entry.input.length().abs_diff(target), index))
        .collect();
    nearest.sort_unstable();
    let (mut longest, mut real) = (target, target * items);
    let mut chosen = Vec::new();
    for (_, index) in nearest {
        if chosen.len() + 1 == share || items == limits.items {
            break;
        }
        let (length, more) = (queue[index].input.length(), queue[index].input.items());
        let padded = longest.max(length) * (items + more);
        let within_waste = padded as f64 <= limits.waste * (real + length * more) as f64;
        let within_items = items + more <= limits.items;
        if padded <= limits.token_budget(longest.max(length)) && within_waste && within_items {
            longest = longest.max(length);
            real += length * more;
            items += more;
            chosen.push(index);
        }
    }
    picked.batch.push(first);
    // From the back, so that the earlier indices stay right.
    chosen.sort_unstable_by(|left, right| right.cmp(left));
    picked.batch.extend(chosen.into_iter().filter_map(|index| queue.remove(index)));
    picked
}

/// The place of the entry that the next call is made for.
fn leader(queue: &VecDeque<Entry>, limits: &Limits, now: Instant) -> usize {
    let Some(oldest) = queue.front() else { return 0 };
    let waited = now.saturating_duration_since(oldest.queued_at);
    if !matches!(oldest.input, Input::Tensors(_)) || waited >= PATIENCE {
        return 0;
    }
    // The place of each group's oldest, and its items.
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (place, entry) in queue.iter().take(GROUPED).enumerate() {
        match groups.iter_mut().find(|(oldest, _)| queue[*oldest].input.joins(&entry.input)) {
            Some((_, items)) => *items += entry.input.items(),
            None => groups.push((place, entry.input.items())),
        }
    }
    let largest = groups.iter().max_by_key(|(place, items)| (*items.min(&limits.items), Reverse(*place)));
    largest.map_or(0, |(place, _)| *place)
}

/// Removes items without a waiting client or past their deadline from the part of the queue that is looked at.
fn drop_dead(queue: &mut VecDeque<Entry>, now: Instant, picked: &mut Picked) {
    let mut index = 0;
    while index < queue.len().min(WINDOW) {
        let entry = &queue[index];
        let expired = entry.deadline.is_some_and(|deadline| deadline <= now);
        if !entry.reply.is_closed() && !expired {
            index += 1;
            continue;
        }
        match queue.remove(index) {
            // Whoever waited may have given up at the same deadline; it is the deadline that ended the item.
            Some(entry) if expired => picked.expired.push(entry),
            Some(entry) => picked.cancelled += entry.input.items(),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::{Semaphore, oneshot};

    use super::*;
    use crate::call::{Input, Row, Want};
    use crate::error::EngineError;
    use crate::tensors::Tensors;

    type Reply = oneshot::Receiver<Result<Row, EngineError>>;

    fn queue(lengths: &[usize], deadline: Option<Instant>) -> (VecDeque<Entry>, Vec<Reply>) {
        of(lengths.iter().map(|&length| Input::Tokens { ids: vec![1; length], type_ids: None }), deadline)
    }

    fn raw(shapes: &[(&[usize], Option<usize>)]) -> (VecDeque<Entry>, Vec<Reply>) {
        of(shapes.iter().map(|(shape, rows)| Input::Tensors(Tensors::made_up(shape, *rows))), None)
    }

    fn of(inputs: impl Iterator<Item = Input>, deadline: Option<Instant>) -> (VecDeque<Entry>, Vec<Reply>) {
        let places = Arc::new(Semaphore::new(1000));
        inputs
            .map(|input| {
                let (reply, receiver) = oneshot::channel();
                let entry = Entry {
                    input,
                    want: Want { features: true, logits: false },
                    deadline,
                    queued_at: Instant::now(),
                    reply,
                    permit: Arc::clone(&places).try_acquire_owned().unwrap(),
                };
                (entry, receiver)
            })
            .unzip()
    }

    fn lengths(entries: &[Entry]) -> Vec<usize> {
        entries.iter().map(|entry| entry.input.length()).collect()
    }

    #[test]
    fn the_oldest_item_runs_with_those_nearest_in_length() {
        let (mut waiting, _replies) = queue(&[20, 200, 21, 5, 19, 20], None);
        let picked = pick(&mut waiting, &Limits::CPU_TOKENS, 8, Instant::now());
        let mut together = lengths(&picked.batch);
        assert_eq!(together[0], 20);
        together.sort_unstable();
        assert_eq!(together, [19, 20, 20, 21]);
        let left: Vec<usize> = waiting.iter().map(|entry| entry.input.length()).collect();
        assert_eq!(left, [200, 5]);
    }

    #[test]
    fn padding_never_exceeds_the_allowed_waste() {
        let (mut waiting, _replies) = queue(&[7, 9, 12, 3, 30, 31, 8, 10, 64, 33, 29, 11], None);
        while !waiting.is_empty() {
            let picked = pick(&mut waiting, &Limits::CPU_TOKENS, 8, Instant::now());
            let together = lengths(&picked.batch);
            let padded = together.len() * together.iter().max().unwrap();
            let real: usize = together.iter().sum();
            assert!(padded as f64 <= 1.12 * real as f64, "{together:?}");
        }
    }

    #[test]
    fn a_call_stays_within_its_token_budget_and_a_longer_item_runs_alone() {
        let (mut waiting, _replies) = queue(&[100, 100, 100, 100], None);
        assert_eq!(pick(&mut waiting, &Limits::CPU_TOKENS, 8, Instant::now()).batch.len(), 2);
        let (mut waiting, _replies) = queue(&[600, 600], None);
        assert_eq!(pick(&mut waiting, &Limits::CPU_TOKENS, 8, Instant::now()).batch.len(), 1);
    }

    #[test]
    fn a_share_of_the_queue_is_left_for_the_other_lanes() {
        let (mut waiting, _replies) = queue(&[10; 6], None);
        assert_eq!(pick(&mut waiting, &Limits::CPU_TOKENS, 3, Instant::now()).batch.len(), 3);
        assert_eq!(waiting.len(), 3);
    }

    #[test]
    fn rows_of_one_shape_share_a_call_and_no_others() {
        let (mut waiting, _replies) = raw(&[
            (&[2, 4], Some(2)),
            (&[1, 5], Some(1)),
            (&[3, 4], Some(3)),
            (&[3, 4], None),
            (&[1, 4], Some(1)),
        ]);
        // Its receiver stays, or it would be cancelled.
        let (mut tokens, _reply) = queue(&[4], None);
        waiting.append(&mut tokens);
        let picked = pick(&mut waiting, &Limits::CPU_RAW, 8, Instant::now());
        let rows: Vec<usize> = picked.batch.iter().map(|entry| entry.input.items()).collect();
        assert_eq!(rows[0], 2);
        assert_eq!(rows.iter().sum::<usize>(), 6);
        assert_eq!(waiting.len(), 3);
        for _ in 0..3 {
            assert_eq!(pick(&mut waiting, &Limits::CPU_RAW, 8, Instant::now()).batch.len(), 1);
        }
    }

    #[test]
    fn rows_that_are_kept_apart_share_no_call() {
        let rows = || Tensors::made_up(&[2, 4], Some(2));
        let inputs = [rows().apart(), rows().apart(), rows()].map(Input::Tensors);
        let (mut waiting, _replies) = of(inputs.into_iter(), None);
        for left in [2, 1, 0] {
            assert_eq!(pick(&mut waiting, &Limits::CPU_RAW, 8, Instant::now()).batch.len(), 1);
            assert_eq!(waiting.len(), left);
        }
    }

    #[test]
    fn the_shape_of_most_rows_goes_first_until_the_oldest_has_waited() {
        let shapes =
            || raw(&[(&[1, 5], Some(1)), (&[1, 4], Some(1)), (&[2, 6], Some(2)), (&[1, 4], Some(1))]);
        let (mut waiting, _replies) = shapes();
        let now = waiting[3].queued_at;
        let sizes: Vec<(usize, usize)> = std::iter::from_fn(|| {
            let batch = pick(&mut waiting, &Limits::CPU_RAW, 8, now).batch;
            batch.first().map(|entry| (entry.input.length(), batch.len()))
        })
        .collect();
        assert_eq!(sizes, [(4, 2), (6, 1), (5, 1)]);
        let (mut waiting, _replies) = shapes();
        let late = waiting[0].queued_at + PATIENCE;
        assert_eq!(lengths(&pick(&mut waiting, &Limits::CPU_RAW, 8, late).batch), [5]);
    }

    #[test]
    fn a_group_beyond_what_a_call_holds_counts_as_that() {
        let (mut waiting, _replies) = raw(&[(&[2, 5], Some(2)), (&[8, 4], Some(8))]);
        let limits = Limits { items: 2, ..Limits::CPU_RAW };
        let now = waiting[1].queued_at;
        assert_eq!(lengths(&pick(&mut waiting, &limits, 8, now).batch), [5]);
    }

    #[test]
    fn rows_count_as_items_of_a_call() {
        let shape: &[usize] = &[30, 4];
        let (mut waiting, _replies) = raw(&[(shape, Some(30)); 3]);
        assert_eq!(pick(&mut waiting, &Limits::CPU_RAW, 8, Instant::now()).batch.len(), 2);
        let limits = Limits { tokens: 100, long_tokens: 100, ..Limits::CPU_RAW };
        assert_eq!((limits.most(4), limits.most(101), Limits::CPU_RAW.most(4)), (25, 1, 64));
    }

    #[test]
    fn an_item_whose_client_left_is_not_computed() {
        let (mut waiting, mut replies) = queue(&[10, 10, 10], None);
        drop(replies.remove(1));
        let picked = pick(&mut waiting, &Limits::CPU_TOKENS, 8, Instant::now());
        assert_eq!((picked.batch.len(), picked.cancelled), (2, 1));
    }

    #[test]
    fn an_item_past_its_deadline_is_returned_as_expired() {
        let now = Instant::now();
        let (mut waiting, _replies) = queue(&[10, 10], Some(now));
        let picked = pick(&mut waiting, &Limits::CPU_TOKENS, 8, now + Duration::from_millis(1));
        assert_eq!((picked.batch.len(), picked.expired.len()), (0, 2));
    }
}
