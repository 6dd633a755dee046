//! Which of several equal things a call enters: one that nobody is in, where there is one.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// At least one of them, all alike.
pub(crate) struct Entries<T> {
    first: Entry<T>,
    more: Vec<Entry<T>>,
    /// Whether none of them may be entered twice at once.
    exclusive: bool,
}

struct Entry<T> {
    item: T,
    /// Held by the call that found it empty.
    taken: Mutex<()>,
}

impl<T> Entries<T> {
    pub(crate) fn new(first: T, more: Vec<T>, exclusive: bool) -> Self {
        let entry = |item| Entry { item, taken: Mutex::new(()) };
        Self { first: entry(first), more: more.into_iter().map(entry).collect(), exclusive }
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
        for entry in std::iter::once(&self.first).chain(&self.more) {
            match entry.taken.try_lock() {
                Ok(taken) => return (&entry.item, Some(taken)),
                Err(TryLockError::Poisoned(poisoned)) => return (&entry.item, Some(poisoned.into_inner())),
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

    use super::Entries;

    #[test]
    fn calls_at_a_time_enter_different_ones_and_share_the_first_when_all_are_taken() {
        let entries = Entries::new('a', vec!['b', 'c'], false);
        let held: Vec<_> = (0..4).map(|_| entries.enter()).collect();
        assert_eq!(held.iter().map(|(item, _)| **item).collect::<String>(), "abca");
        drop(held);
        assert_eq!(*entries.enter().0, 'a');
    }

    #[test]
    fn one_that_was_left_is_entered_again_before_any_is_shared() {
        let entries = Entries::new('a', vec!['b'], false);
        let (_, first) = entries.enter();
        let _second = entries.enter();
        drop(first);
        assert!(matches!(entries.enter(), ('a', Some(_))));
    }

    #[test]
    fn an_exclusive_one_is_waited_for() {
        let entries = Entries::new('a', Vec::new(), true);
        let (sender, receiver) = mpsc::channel();
        let (_, held) = entries.enter();
        std::thread::scope(|scope| {
            let entries = &entries;
            scope.spawn(move || {
                let _second = entries.enter();
                sender.send(()).unwrap();
            });
            receiver.recv_timeout(Duration::from_millis(50)).unwrap_err();
            drop(held);
            receiver.recv_timeout(Duration::from_secs(60)).unwrap();
        });
    }
}
