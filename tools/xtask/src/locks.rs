//! The lock file of the fuzz targets, a workspace of its own that nothing else builds: it must know what our crates use.

use std::collections::HashSet;
use std::path::Path;

use anyhow::Context as _;

const LOCK: &str = "fuzz/Cargo.lock";

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let read = |path: &Path| -> anyhow::Result<toml::Table> {
        Ok(std::fs::read_to_string(path).with_context(|| path.display().to_string())?.parse()?)
    };
    let lock = read(&root.join(LOCK))?;
    let mut problems = Vec::new();
    for package in lock.get("package").and_then(toml::Value::as_array).into_iter().flatten() {
        let Some(name) = package.get("name").and_then(toml::Value::as_str) else { continue };
        let folder = match name {
            "headstart" => root.to_owned(),
            "headstart-fuzz" => root.join("fuzz"),
            _ => match name.strip_prefix("headstart-") {
                Some(ours) => root.join("crates").join(ours),
                None => continue,
            },
        };
        let known = package.get("dependencies").and_then(toml::Value::as_array).into_iter().flatten();
        // A name is followed by a version where there are several.
        let known: HashSet<&str> =
            known.filter_map(|known| known.as_str()?.split_whitespace().next()).collect();
        let manifest = read(&folder.join("Cargo.toml"))?;
        let used = manifest.get("dependencies").and_then(toml::Value::as_table);
        for (used, told) in used.into_iter().flatten() {
            let optional = told.get("optional").and_then(toml::Value::as_bool) == Some(true);
            if !optional && !known.contains(used.as_str()) {
                problems.push(format!("{LOCK}: {name} uses {used}: `cargo update --workspace` in fuzz/"));
            }
        }
    }
    Ok(problems)
}
