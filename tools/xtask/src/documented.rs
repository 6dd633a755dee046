//! Every option and every metric has its place in the operator's guide, and every decision record a number.

use std::path::Path;

use anyhow::Context as _;

const GUIDE: &str = "docs/OPERATIONS.md";

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let read = |name: &str| std::fs::read_to_string(root.join(name)).with_context(|| name.to_owned());
    let guide = read(GUIDE)?;
    let mut problems = Vec::new();
    let config = read("src/config.rs")?;
    for variable in quoted(&config, "env = \"") {
        if !guide.contains(&variable) {
            problems.push(format!("{GUIDE}: the option {variable} is not explained"));
        }
    }
    let metrics = ["metrics", "model", "edges", "requests"]
        .map(|file| read(&format!("crates/telemetry/src/{file}.rs")));
    let metrics = metrics.into_iter().collect::<anyhow::Result<String>>()?;
    for name in metric_names(&metrics) {
        if !guide.contains(&format!("headstart_{name}")) {
            problems.push(format!("{GUIDE}: the metric headstart_{name} is not explained"));
        }
    }
    Ok(problems)
}

/// What stands in quotes behind a marker.
fn quoted(text: &str, marker: &str) -> Vec<String> {
    text.split(marker).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// First arguments of the calls that register a family.
fn metric_names(text: &str) -> Vec<String> {
    let calls = [".counter(", ".counters(", ".gauge(", ".gauges(", ".histograms(", "options("];
    let mut names: Vec<String> = calls
        .iter()
        .flat_map(|call| text.split(call).skip(1))
        .filter_map(|rest| rest.trim_start().strip_prefix('"'))
        .filter_map(|rest| rest.split('"').next())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}
