//! Threads that make way for others.

/// How far: such a thread has a tenth of another's share of a core that both want. Less, and jobs would stand still
/// beside other busy processes.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// From now on the calling thread, and those it starts, make way for others: what waits for nobody must not hold up what
/// somebody waits for. There is no way back without privileges. Where the system refuses, the thread goes on as it is.
pub fn step_back() {
    // Linux keeps this a thread; elsewhere it would be the whole process.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread could not step back");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_steps_back_alone() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let stepped = std::thread::spawn(move || {
            step_back();
            nice()
        });
        assert_eq!(stepped.join().unwrap(), before.max(NICE));
        assert_eq!(nice(), before);
    }
}
