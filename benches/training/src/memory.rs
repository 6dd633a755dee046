//! Resident memory of this process, as Linux counts it.

use anyhow::Context as _;

/// Bytes now.
pub(crate) fn resident() -> anyhow::Result<u64> {
    line("VmRSS:")
}

/// The most bytes so far.
pub(crate) fn peak() -> anyhow::Result<u64> {
    line("VmHWM:")
}

fn line(name: &str) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|line| line.strip_prefix(name)).context("no such line")?;
    let kilobytes: u64 = found.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}
