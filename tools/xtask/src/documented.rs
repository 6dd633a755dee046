//! Every option and every metric has its place in the operator's guide, and every decision record a number.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::files;

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
    // Whichever file registers them.
    let read_all = |path: &PathBuf| std::fs::read_to_string(path).with_context(|| path.display().to_string());
    let declaring = files::sources(&root.join("crates/telemetry/src"), "rs")?;
    let metrics: String = declaring.iter().map(read_all).collect::<anyhow::Result<_>>()?;
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
