//! The process's own figures, read from `/proc` when scraped; zero where there is no `/proc`.

use std::fs;

/// Resident memory in bytes.
#[must_use]
pub fn resident_bytes() -> u64 {
    status_kib("VmRSS:") * 1024
}

/// The largest resident memory so far in bytes.
pub(crate) fn peak_resident_bytes() -> u64 {
    status_kib("VmHWM:") * 1024
}

/// Open file descriptors.
pub(crate) fn open_files() -> u64 {
    fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64)
}

/// Threads of the process.
pub(crate) fn threads() -> u64 {
    status_number("Threads:")
}

/// CPU time used by all threads, in seconds.
pub(crate) fn cpu_seconds() -> f64 {
    // Fields 14 and 15 count from the process name, which may itself hold spaces: look behind its closing bracket.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / CLOCK_TICKS_PER_SECOND
}

/// Fixed on every Linux that this runs on (`sysconf(_SC_CLK_TCK)`).
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

fn status_kib(key: &str) -> u64 {
    status_number(key)
}

fn status_number(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_running_process_has_memory_threads_and_files() {
        assert!(super::resident_bytes() > 100_000);
        assert!(super::peak_resident_bytes() >= super::resident_bytes() / 2);
        assert!(super::threads() >= 1);
        assert!(super::open_files() >= 1);
        assert!(super::cpu_seconds() >= 0.0);
    }
}
