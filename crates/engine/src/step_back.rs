//! Threads that make way for all others.

use thread_priority::{
    NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// From now on the calling thread, and those it starts, run when no other thread of the machine wants the core: what
/// waits for nobody must not hold up what somebody waits for. Linux calls it `SCHED_IDLE`. There is no way back
/// without privileges. Where the system refuses, the thread goes on as it is.
pub fn step_back() {
    let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
        tracing::debug!(?error, "a thread could not step back");
    }
}
