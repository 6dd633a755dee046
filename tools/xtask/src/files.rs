//! Rules for single files: length, first line, names, leftovers.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Lines a source file may have.
const MOST_LINES: usize = 600;

/// Module names that say nothing about their job.
const EMPTY_NAMES: [&str; 5] = ["utils", "common", "helpers", "misc", "core"];

/// Written in pieces, so that this file does not accuse itself.
const LEFTOVERS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("db", "g!(")];

/// Endings of texts that are merged.
const MERGED: [&str; 7] = ["md", "rs", "py", "toml", "yaml", "json", "html"];

/// How lines begin that a merge leaves where both sides changed.
const CONFLICTS: [&str; 2] = ["<<<<<<< ", ">>>>>>> "];

/// Folders that hold no source of ours.
const SKIPPED: [&str; 6] = ["target", "vendor", "data", ".git", "node_modules", "__pycache__"];

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for path in sources(root, "rs")? {
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string();
        let lines = text.lines().count();
        if lines > MOST_LINES {
            problems.push(format!("{name}: {lines} lines; at most {MOST_LINES}"));
        }
        if !text.starts_with("//!") {
            problems.push(format!("{name}: the first line says the file's job, as `//! …`"));
        }
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if EMPTY_NAMES.contains(&stem.as_str()) {
            problems.push(format!("{name}: the name says nothing about the file's job"));
        }
        if path.with_extension("").is_dir() {
            problems.push(format!("{name}: a module is either `x.rs` or `x/mod.rs`"));
        }
        for leftover in LEFTOVERS.iter().filter(|leftover| text.contains(*leftover)) {
            problems.push(format!("{name}: {leftover} is left in it"));
        }
    }
    for ending in MERGED {
        for path in sources(root, ending)? {
            let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let conflicts = |line: &&str| CONFLICTS.iter().any(|conflict| line.starts_with(conflict));
            if let Some(line) = text.lines().find(conflicts) {
                let name = path.strip_prefix(root).unwrap_or(&path).display();
                problems.push(format!("{name}: a merge is unfinished at `{line}`"));
            }
        }
    }
    Ok(problems)
}

/// Every file of ours with an ending.
pub(crate) fn sources(root: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() && !SKIPPED.contains(&name.as_str()) && !name.starts_with('.') {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
