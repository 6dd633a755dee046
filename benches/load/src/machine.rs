//! What the figures were measured on, and by which command.

use std::fs;

/// CPU model, cores, memory and the command, as Markdown.
pub(crate) fn describe() -> String {
    let cpu = field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    let kib: f64 = field("/proc/meminfo", "MemTotal")
        .and_then(|value| value.split_whitespace().next().and_then(|number| number.parse().ok()))
        .unwrap_or(0.0);
    format!(
        "CPU: {cpu}, {} cores for this process; memory: {:.0} GiB.  \nCommand: `{}`",
        cores(),
        kib / (1024.0 * 1024.0),
        command()
    )
}

/// Cores this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn command() -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() {
        "make bench".into()
    } else {
        format!("make bench BENCH=\"{}\"", arguments.join(" "))
    }
}

fn field(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_once(':').map(|(_, value)| value.trim().to_owned())
}
