//! Every dependency that is declared is used: by the sources of its crate, or of the workspace's table by a member.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use toml::Table;

use crate::files::sources;

/// Tables of a manifest that declare dependencies.
const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut crates: BTreeMap<PathBuf, String> = BTreeMap::new();
    for path in sources(root, "rs")? {
        let owner = path.ancestors().find(|folder| folder.join("Cargo.toml").is_file());
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let code = crates.entry(owner.unwrap_or(root).to_owned()).or_default();
        add(code, &text);
        // A file of another crate that is compiled into this one.
        for other in
            text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")?.strip_suffix("\"]"))
        {
            let other = path.with_file_name(other);
            add(code, &std::fs::read_to_string(&other).with_context(|| other.display().to_string())?);
        }
    }
    let mut problems = Vec::new();
    let mut shared = BTreeSet::new();
    for (folder, code) in &crates {
        let manifest = read(&folder.join("Cargo.toml"))?;
        let name = folder.strip_prefix(root).unwrap_or(folder).join("Cargo.toml").display().to_string();
        problems.extend(idle(&manifest, code).into_iter().map(|problem| format!("{name}: {problem}")));
        shared.extend(inherited(&manifest));
    }
    let table = read(&root.join("Cargo.toml"))?;
    let declared = table.get("workspace").and_then(|workspace| workspace.get("dependencies"));
    for name in declared.and_then(toml::Value::as_table).into_iter().flat_map(Table::keys) {
        if !shared.contains(name) {
            problems.push(format!("Cargo.toml: no member uses `{name}` of the workspace's dependencies"));
        }
    }
    Ok(problems)
}

/// What is code of a source.
fn add(code: &mut String, text: &str) {
    code.extend(
        text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]),
    );
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.parse().with_context(|| path.display().to_string())
}

/// All that a manifest declares: the kind of table, the name, and what is said of it.
fn declared(manifest: &Table) -> impl Iterator<Item = (&'static str, &String, &toml::Value)> {
    TABLES.into_iter().flat_map(|kind| {
        let table = manifest.get(kind).and_then(toml::Value::as_table);
        table.into_iter().flatten().map(move |(name, told)| (kind, name, told))
    })
}

/// Dependencies that the code does not name, and those of tests that the crate has anyway.
fn idle(manifest: &Table, code: &str) -> Vec<String> {
    let own = manifest.get("dependencies").and_then(toml::Value::as_table);
    let has = |name: &String| own.is_some_and(|own| own.contains_key(name));
    let mut problems = Vec::new();
    for (kind, name, told) in declared(manifest) {
        if !names(code, &name.replace('-', "_")) {
            problems.push(format!("`{name}` is in [{kind}], and no source names it"));
        }
        // More features than the crate itself takes are a reason to say it again.
        if kind == "dev-dependencies" && has(name) && told.get("features").is_none() {
            problems.push(format!("`{name}` is in [{kind}] again"));
        }
    }
    problems
}

/// Names that a manifest takes from the workspace's table.
fn inherited(manifest: &Table) -> impl Iterator<Item = String> {
    let from_there = |told: &toml::Value| told.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    declared(manifest).filter(move |(_, _, told)| from_there(told)).map(|(_, name, _)| name.clone())
}

/// Whether code names a crate: `name::`, or `use name`.
fn names(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        let inside = before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        !inside && (after.starts_with("::") || before.ends_with("use ") && after.starts_with([';', ' ']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_no_source_names_is_told_and_so_is_one_that_is_there_twice() {
        let manifest: Table =
            "[dependencies]\nserde = \"1\"\nserde-json = { workspace = true }\nbytes = \"1\"\nhttp = \"1\"\n\
             [dev-dependencies]\nserde = \"1\"\nbytes = { workspace = true, features = [\"serde\"] }\n"
                .parse()
                .unwrap();
        let code = "use serde;\nlet bytes = bytes::Bytes::new();\nserde_json::to_vec(&bytes);\nlet http = my_http::get();\n";
        let idle = idle(&manifest, code);
        assert_eq!(
            idle,
            ["`http` is in [dependencies], and no source names it", "`serde` is in [dev-dependencies] again"]
        );
        assert_eq!(inherited(&manifest).collect::<Vec<_>>(), ["serde-json", "bytes"]);
    }

    #[test]
    fn of_a_tree_comments_use_nothing_and_the_workspaces_table_is_used_by_members() {
        let root = std::env::temp_dir().join(format!("headstart-dependencies-{}", std::process::id()));
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "Cargo.toml",
            "[workspace.dependencies]\nused = \"1\"\nidle = \"1\"\n[dependencies]\nused.workspace = true\n",
        );
        write("src/lib.rs", "//! used::here is only told of.\n");
        write("crates/one/Cargo.toml", "[dependencies]\nused.workspace = true\n");
        write("crates/one/src/lib.rs", "use used::here;\n");
        write("crates/two/Cargo.toml", "[dependencies]\nused.workspace = true\n");
        write("crates/two/src/lib.rs", "#[path = \"../../one/src/lib.rs\"]\nmod one;\n");
        let problems = check(&root);
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            problems.unwrap(),
            [
                "Cargo.toml: `used` is in [dependencies], and no source names it",
                "Cargo.toml: no member uses `idle` of the workspace's dependencies"
            ]
        );
    }
}
