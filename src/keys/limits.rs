//! How much each key asks: requests in a minute, and at a time. Counted by the key's name, in this process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
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
    rate: Option<Rate>,
    open: Arc<AtomicU32>,
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
        let Some(rate) = &account.rate else { return Ok(Admitted { place, left: None }) };
        let limit = account.limits.requests_per_minute.unwrap_or(0);
        match rate.check() {
            Ok(state) => Ok(Admitted { place, left: Some(left(limit, state.remaining_burst_capacity())) }),
            Err(until) => {
                let wait = until.wait_time_from(MonotonicClock.now());
                Err(Refused::Rate { left: left(limit, 0), wait })
            }
        }
    }

    /// The account of a name; a new one when its limits have changed, with the requests that are open.
    fn account(&self, name: &'static str, limits: KeyLimits) -> Arc<Account> {
        let limits = KeyLimits {
            requests_per_minute: limits.requests_per_minute.or(self.defaults.requests_per_minute),
            concurrency: limits.concurrency.or(self.defaults.concurrency),
        };
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = of.get(name).filter(|known| known.limits == limits) {
            return Arc::clone(known);
        }
        let open = of.get(name).map_or_else(Arc::default, |known| Arc::clone(&known.open));
        let rate = limits.requests_per_minute.and_then(NonZeroU32::new).map(|limit| {
            RateLimiter::direct_with_clock(Quota::per_minute(limit), MonotonicClock)
                .with_middleware::<StateInformationMiddleware>()
        });
        let account = Arc::new(Account { limits, rate, open });
        of.insert(name, Arc::clone(&account));
        account
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

fn left(limit: u32, remaining: u32) -> Left {
    let one = Duration::from_secs(60) / limit.max(1);
    Left { limit, remaining, reset: one * limit.saturating_sub(remaining) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: KeyLimits = KeyLimits { requests_per_minute: None, concurrency: None };

    fn limited(requests_per_minute: u32, concurrency: u32) -> Accounts {
        Accounts::new(KeyLimits {
            requests_per_minute: Some(requests_per_minute),
            concurrency: Some(concurrency),
        })
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
        let free = KeyLimits { requests_per_minute: Some(0), concurrency: Some(0) };
        let open: Vec<_> = (0..50).map(|_| accounts.admit("a", free).ok().unwrap()).collect();
        // Limits that come while requests are open count them.
        let tight = KeyLimits { requests_per_minute: Some(0), concurrency: Some(50) };
        assert!(matches!(accounts.admit("a", tight), Err(Refused::Concurrency { limit: 50 })));
        drop(open);
        assert!(accounts.admit("a", tight).is_ok());
    }
}
