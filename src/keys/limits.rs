//! How much each key asks: requests and items in a minute, and requests at a time. Counted by the key's name, in this process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use headstart_tasks::{Meter, TaskError};
use headstart_types::key::KeyLimits;

type Rate = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, StateInformationMiddleware>;

/// What every name has asked.
pub(crate) struct Accounts {
    /// For keys without limits of their own.
    defaults: KeyLimits,
    of: Mutex<HashMap<&'static str, Arc<Account>>>,
}

/// What one name has asked.
struct Account {
    limits: KeyLimits,
    requests: Option<Counted>,
    items: Option<Counted>,
    open: Arc<AtomicU32>,
}

/// Requests or items of a minute.
struct Counted {
    limit: NonZeroU32,
    rate: Rate,
    /// What the request before has left.
    remaining: AtomicU32,
}

impl Counted {
    fn new(limit: NonZeroU32) -> Self {
        Self { limit, rate: per_minute(limit), remaining: AtomicU32::new(limit.get()) }
    }

    /// What is left of the minute.
    fn left(&self) -> Left {
        left(self.limit.get(), self.remaining.load(Ordering::Acquire))
    }
}

/// A request that may go on.
pub(crate) struct Admitted {
    /// Its place among those that are open, until it is dropped.
    pub(crate) place: Place,
    /// What is left of the minute, where there is a limit.
    pub(crate) left: Option<Left>,
}

/// A place among the requests of a name that are open at a time.
pub(crate) struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is left of a limit of requests in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) limit: u32,
    pub(crate) remaining: u32,
    /// Until all of it may be asked again.
    pub(crate) reset: Duration,
}

/// Why a request may not go on.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The minute's requests are asked; one more may be after `wait`.
    Rate { left: Left, wait: Duration },
    /// As many are open as may be.
    Concurrency { limit: u32 },
}

impl Accounts {
    pub(crate) fn new(defaults: KeyLimits) -> Self {
        Self { defaults, of: Mutex::default() }
    }

    /// Takes a place for a request of the name, and one of the minute's requests. What is refused counts for nothing.
    pub(crate) fn admit(&self, name: &'static str, limits: KeyLimits) -> Result<Admitted, Refused> {
        let account = self.account(name, limits);
        let limit = account.limits.concurrency.unwrap_or(0);
        let place = Place::take(&account.open, limit).ok_or(Refused::Concurrency { limit })?;
        let Some(requests) = &account.requests else { return Ok(Admitted { place, left: None }) };
        let limit = requests.limit.get();
        match requests.rate.check() {
            Ok(state) => {
                let remaining = state.remaining_burst_capacity();
                requests.remaining.store(remaining, Ordering::Release);
                Ok(Admitted { place, left: Some(left(limit, remaining)) })
            }
            Err(until) => {
                requests.remaining.store(0, Ordering::Release);
                let wait = until.wait_time_from(MonotonicClock.now());
                Err(Refused::Rate { left: left(limit, 0), wait })
            }
        }
    }

    /// What is left of the name's requests, where there is a limit.
    pub(crate) fn requests_left(&self, name: &str) -> Option<Left> {
        self.known(name)?.requests.as_ref().map(Counted::left)
    }

    /// What is left of the name's items, where there is a limit.
    pub(crate) fn items_left(&self, name: &str) -> Option<Left> {
        self.known(name)?.items.as_ref().map(Counted::left)
    }

    /// The account of a name that has asked before.
    fn known(&self, name: &str) -> Option<Arc<Account>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// The account of a name; a new one when its limits have changed, with the requests that are open.
    fn account(&self, name: &'static str, limits: KeyLimits) -> Arc<Account> {
        let limits = KeyLimits {
            requests_per_minute: limits.requests_per_minute.or(self.defaults.requests_per_minute),
            concurrency: limits.concurrency.or(self.defaults.concurrency),
            items_per_minute: limits.items_per_minute.or(self.defaults.items_per_minute),
        };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = of.get(name).filter(|known| known.limits == limits) {
            return Arc::clone(known);
        }
        let open = of.get(name).map_or_else(Arc::default, |known| Arc::clone(&known.open));
        let requests = limits.requests_per_minute.and_then(NonZeroU32::new).map(Counted::new);
        let items = limits.items_per_minute.and_then(NonZeroU32::new).map(Counted::new);
        let account = Arc::new(Account { limits, requests, items, open });
        of.insert(name, Arc::clone(&account));
        account
    }
}

impl Meter for Accounts {
    fn take(&self, key: &str, items: usize) -> Result<(), TaskError> {
        let account = self.known(key);
        let Some(counted) = account.as_ref().and_then(|account| account.items.as_ref()) else {
            return Ok(());
        };
        let limit = counted.limit.get() as usize;
        let Some(count) = u32::try_from(items).ok().and_then(NonZeroU32::new) else { return Ok(()) };
        match counted.rate.check_n(count) {
            Ok(Ok(state)) => {
                counted.remaining.store(state.remaining_burst_capacity(), Ordering::Release);
                Ok(())
            }
            Ok(Err(until)) => {
                let wait = until.wait_time_from(MonotonicClock.now());
                Err(TaskError::ItemRate { limit, wait })
            }
            Err(_) => Err(TaskError::TooManyItems { items, limit }),
        }
    }
}

impl Place {
    /// One more place, where fewer than `limit` are taken; zero is without limit.
    fn take(open: &Arc<AtomicU32>, limit: u32) -> Option<Self> {
        let more = |taken| (limit == 0 || taken < limit).then_some(taken + 1);
        open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Self(Arc::clone(open)))
    }
}

fn per_minute(limit: NonZeroU32) -> Rate {
    RateLimiter::direct_with_clock(Quota::per_minute(limit), MonotonicClock)
        .with_middleware::<StateInformationMiddleware>()
}

fn left(limit: u32, remaining: u32) -> Left {
    let one = Duration::from_secs(60) / limit.max(1);
    Left { limit, remaining, reset: one * limit.saturating_sub(remaining) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: KeyLimits =
        KeyLimits { requests_per_minute: None, concurrency: None, items_per_minute: None };

    fn limited(requests_per_minute: u32, concurrency: u32) -> Accounts {
        Accounts::new(KeyLimits {
            requests_per_minute: Some(requests_per_minute),
            concurrency: Some(concurrency),
            items_per_minute: None,
        })
    }

    #[test]
    fn a_minutes_items_are_taken_all_or_none_and_more_than_a_minute_has_is_never_waited_for() {
        let accounts = Accounts::new(KeyLimits { items_per_minute: Some(6), ..KeyLimits::default() });
        assert!(accounts.take("a", 1000).is_ok(), "who never asked has no account");
        let _place = accounts.admit("a", NONE).ok().unwrap();
        assert!(accounts.take("a", 4).is_ok());
        assert_eq!(accounts.items_left("a").map(|left| (left.limit, left.remaining)), Some((6, 2)));
        let Err(TaskError::ItemRate { limit: 6, wait }) = accounts.take("a", 4) else {
            panic!("not refused")
        };
        assert!((10..=20).contains(&wait.as_secs()), "{wait:?}");
        assert!(accounts.take("a", 2).is_ok(), "a refusal takes nothing");
        assert!(matches!(accounts.take("a", 7), Err(TaskError::TooManyItems { items: 7, limit: 6 })));
        let _other = accounts.admit("b", NONE).ok().unwrap();
        assert!(accounts.take("b", 6).is_ok());
    }

    #[test]
    fn a_minutes_requests_are_counted_by_name_and_the_next_is_told_when_to_come() {
        let accounts = limited(2, 0);
        let left = accounts.admit("a", NONE).map(|admitted| admitted.left).ok().flatten().unwrap();
        assert_eq!((left.limit, left.remaining, left.reset.as_secs()), (2, 1, 30));
        assert!(accounts.admit("a", NONE).is_ok());
        let Err(Refused::Rate { left, wait }) = accounts.admit("a", NONE) else { panic!("not refused") };
        assert_eq!((left.remaining, left.reset.as_secs()), (0, 60));
        assert!((20..=30).contains(&wait.as_secs()), "{wait:?}");
        assert!(accounts.admit("b", NONE).is_ok());
    }

    #[test]
    fn places_are_free_again_once_requests_end_and_a_refusal_takes_none() {
        let accounts = limited(0, 2);
        let first = accounts.admit("a", NONE).ok().unwrap();
        let second = accounts.admit("a", NONE).ok().unwrap();
        for _ in 0..3 {
            assert!(matches!(accounts.admit("a", NONE), Err(Refused::Concurrency { limit: 2 })));
        }
        drop(first);
        let third = accounts.admit("a", NONE).ok().unwrap();
        assert!(accounts.admit("a", NONE).is_err());
        drop((second, third));
        assert!(accounts.admit("a", NONE).is_ok());
    }

    #[test]
    fn a_request_without_a_place_is_not_one_of_the_minutes() {
        let accounts = limited(2, 1);
        let open = accounts.admit("a", NONE).ok().unwrap();
        assert!(accounts.admit("a", NONE).is_err());
        drop(open);
        assert!(accounts.admit("a", NONE).is_ok());
    }

    #[test]
    fn a_keys_own_limits_win_and_zero_is_without_limit() {
        let accounts = limited(1, 1);
        let free = KeyLimits { requests_per_minute: Some(0), concurrency: Some(0), ..NONE };
        let open: Vec<_> = (0..50).map(|_| accounts.admit("a", free).ok().unwrap()).collect();
        // Limits that come while requests are open count them.
        let tight = KeyLimits { requests_per_minute: Some(0), concurrency: Some(50), ..NONE };
        assert!(matches!(accounts.admit("a", tight), Err(Refused::Concurrency { limit: 50 })));
        drop(open);
        assert!(accounts.admit("a", tight).is_ok());
    }
}
