//! Equal copies of one thing, of which a call uses one that no other call is in, where there is such a one.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// One copy or more, all alike: the sessions of one graph.
pub(crate) struct Replicas<T> {
    first: Replica<T>,
    more: Vec<Replica<T>>,
    /// Whether none of them may be entered twice at once.
    exclusive: bool,
}

struct Replica<T> {
    item: T,
    /// Held by the call that found it empty.
    taken: Mutex<()>,
}

impl<T> Replicas<T> {
    pub(crate) fn new(first: T, more: Vec<T>, exclusive: bool) -> Self {
        let replica = |item| Replica { item, taken: Mutex::new(()) };
        Self { first: replica(first), more: more.into_iter().map(replica).collect(), exclusive }
    }

    pub(crate) fn len(&self) -> usize {
        1 + self.more.len()
    }

    pub(crate) fn first(&self) -> &T {
        &self.first.item
    }

    /// One that nobody is in, to be left when the guard is dropped. Where all are taken the first is shared or, where it must
    /// not be, waited for.
    pub(crate) fn enter(&self) -> (&T, Option<MutexGuard<'_, ()>>) {
        for replica in std::iter::once(&self.first).chain(&self.more) {
            match replica.taken.try_lock() {
                Ok(taken) => return (&replica.item, Some(taken)),
                Err(TryLockError::Poisoned(poisoned)) => return (&replica.item, Some(poisoned.into_inner())),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        let wait = || self.first.taken.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.first.item, self.exclusive.then(wait))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::Replicas;

    #[test]
    fn calls_at_a_time_enter_different_ones_and_share_the_first_when_all_are_taken() {
        let replicas = Replicas::new('a', vec!['b', 'c'], false);
        let held: Vec<_> = (0..4).map(|_| replicas.enter()).collect();
        assert_eq!(held.iter().map(|(item, _)| **item).collect::<String>(), "abca");
        drop(held);
        assert_eq!(*replicas.enter().0, 'a');
    }

    #[test]
    fn one_that_was_left_is_entered_again_before_any_is_shared() {
        let replicas = Replicas::new('a', vec!['b'], false);
        let (_, first) = replicas.enter();
        let _second = replicas.enter();
        drop(first);
        assert!(matches!(replicas.enter(), ('a', Some(_))));
    }

    #[test]
    fn an_exclusive_one_is_waited_for() {
        let replicas = Replicas::new('a', Vec::new(), true);
        let (sender, receiver) = mpsc::channel();
        let (_, held) = replicas.enter();
        std::thread::scope(|scope| {
            let replicas = &replicas;
            scope.spawn(move || {
                let _second = replicas.enter();
                sender.send(()).unwrap();
            });
            receiver.recv_timeout(Duration::from_millis(50)).unwrap_err();
            drop(held);
            receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        });
    }
}
