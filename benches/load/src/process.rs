//! Memory and CPU time of another process, from `/proc`.

use std::fs;

use anyhow::Context as _;

/// `sysconf(_SC_CLK_TCK)`, the same on every Linux in use.
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

/// A running process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn new(id: u32) -> Self {
        Self(id)
    }

    /// Resident memory in MB (10⁶ bytes).
    pub(crate) fn resident_mb(self) -> anyhow::Result<f64> {
        self.status_mb("VmRSS:")
    }

    /// The largest resident memory so far in MB (10⁶ bytes).
    pub(crate) fn peak_mb(self) -> anyhow::Result<f64> {
        self.status_mb("VmHWM:")
    }

    fn status_mb(self, key: &str) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/status", self.0);
        let status = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .and_then(|rest| rest.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()));
        Ok(kib.with_context(|| format!("{path} has no {key}"))? * 1024.0 / 1e6)
    }

    /// CPU time of all threads so far, in seconds.
    pub(crate) fn cpu_seconds(self) -> anyhow::Result<f64> {
        let path = format!("/proc/{}/stat", self.0);
        let stat = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        // The second field, the name in brackets, may itself hold spaces; user and system time are the 12th and 13th
        // after it.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: f64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<f64>().ok())
            .sum();
        Ok(ticks / CLOCK_TICKS_PER_SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_test_itself_uses_memory() {
        let own = Process::new(std::process::id());
        assert!(own.resident_mb().unwrap() > 0.5);
        assert!(own.peak_mb().unwrap() > 0.5);
        assert!(own.cpu_seconds().unwrap() >= 0.0);
    }
}
