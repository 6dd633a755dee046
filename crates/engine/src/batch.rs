//! Which waiting items run together: the oldest first, then those of like length, within a cost budget.

use std::collections::VecDeque;
use std::time::Instant;

use crate::call::Entry;

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

impl Limits {
    /// Budgets for the CPU: calls are at their best between 64 and 512 padded tokens, and padding eats the gain.
    pub(crate) const CPU_TOKENS: Self = Self { items: 8, tokens: 512, long_tokens: 256, waste: 1.12 };
    /// Convolutional networks gain nothing from batches on the CPU.
    pub(crate) const CPU_DENSE: Self = Self { items: 1, tokens: 1, long_tokens: 1, waste: 1.0 };
    /// A GPU wants large calls.
    pub(crate) const GPU: Self = Self { items: 64, tokens: 16_384, long_tokens: 16_384, waste: 1.5 };

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

/// Takes the oldest live item and those nearest to it in length that `limits` allow, at most `share` items.
pub(crate) fn pick(queue: &mut VecDeque<Entry>, limits: &Limits, share: usize, now: Instant) -> Picked {
    let mut picked = Picked::default();
    drop_dead(queue, now, &mut picked);
    let Some(oldest) = queue.pop_front() else { return picked };
    let target = oldest.input.length();
    let most = limits.items.min(share.max(1));
    picked.batch.push(oldest);
    if most == 1 || queue.is_empty() {
        return picked;
    }

    let mut nearest: Vec<(usize, usize)> = queue
        .iter()
        .take(WINDOW)
        .enumerate()
        .map(|(index, entry)| (entry.input.length().abs_diff(target), index))
        .collect();
    nearest.sort_unstable();
    let (mut longest, mut real) = (target, target);
    let mut chosen = Vec::with_capacity(most);
    for (_, index) in nearest {
        if chosen.len() + 1 == most {
            break;
        }
        let length = queue[index].input.length();
        let padded = longest.max(length) * (chosen.len() + 2);
        let within_waste = padded as f64 <= limits.waste * (real + length) as f64;
        if padded <= limits.token_budget(longest.max(length)) && within_waste {
            longest = longest.max(length);
            real += length;
            chosen.push(index);
        }
    }
    // From the back, so that the earlier indices stay right.
    chosen.sort_unstable_by(|left, right| right.cmp(left));
    picked.batch.extend(chosen.into_iter().filter_map(|index| queue.remove(index)));
    picked
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
            _ => picked.cancelled += 1,
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

    type Reply = oneshot::Receiver<Result<Row, EngineError>>;

    fn queue(lengths: &[usize], deadline: Option<Instant>) -> (VecDeque<Entry>, Vec<Reply>) {
        let places = Arc::new(Semaphore::new(lengths.len()));
        lengths
            .iter()
            .map(|&length| {
                let (reply, receiver) = oneshot::channel();
                let entry = Entry {
                    input: Input::Tokens { ids: vec![1; length], type_ids: None },
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
