//! An entry of the catalogue: where a backbone is published, which of its files are wanted, and what they leave unsaid.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use headstart_types::Manifest;
use headstart_types::hugging_face::Graph;
use serde::Deserialize;

use super::paths;

/// Most files of an entry.
const MOST_FILES: usize = 64;

/// Whether somebody has run what an entry describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Verified {
    /// Its files were fetched from the hub, served, and compared with a reference.
    Hub,
    /// Files of its form were fetched from a stand-in of the hub and served; those of the hub itself never were.
    StandIn,
    /// Nobody has.
    Never,
}

impl Verified {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Hub => "yes",
            Self::StandIn => "its form only",
            Self::Never => "never run",
        }
    }
}

/// Where a backbone's manifest comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Reading {
    /// From the folder's own files, as of any folder of Hugging Face's; the entry's `[manifest]` is laid over it.
    Folder,
    /// From the entry's `[manifest]` alone.
    Entry,
}

/// One entry. `[manifest]` is a `headstart.toml` without digests, id, licence and source task, which are filled in.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// What it is, in a few words.
    pub(super) title: String,
    /// What it reads: text, image, both, or audio.
    pub(super) reads: String,
    /// Owner and name at the hub.
    pub(super) repository: String,
    /// Branch, tag or commit; what it was when it was pulled stands in the lock file.
    pub(super) revision: String,
    /// Licence of the weights, an SPDX expression.
    pub(super) licence: String,
    /// What the weights were trained on, one sentence.
    pub(super) source_task: String,
    /// Whether it was ever run.
    pub(super) verified: Verified,
    /// Where its manifest comes from.
    pub(super) reading: Reading,
    /// All files together may have so many bytes · 10⁶; the hub is not believed beyond.
    pub(super) most_megabytes: u64,
    /// Files that it needs, by their paths in the repository.
    pub(super) files: Vec<String>,
    /// Files that it takes where they are.
    #[serde(default)]
    pub(super) optional: Vec<String>,
    /// What to know before it is used.
    #[serde(default)]
    pub(super) note: Option<String>,
    /// What its files do not say.
    #[serde(default)]
    pub(super) manifest: toml::Table,
}

impl Entry {
    /// Reads and checks an entry.
    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let entry: Self = toml::from_str(text)?;
        ensure!(is_repository(&entry.repository), "`repository` must be an owner and a name: `owner/name`");
        ensure!(is_revision(&entry.revision), "`revision` must be a branch, a tag or a commit");
        for (field, value) in
            [("title", &entry.title), ("licence", &entry.licence), ("source_task", &entry.source_task)]
        {
            ensure!(!value.trim().is_empty(), "`{field}` must not be empty");
        }
        ensure!(
            matches!(entry.reads.as_str(), "text" | "image" | "image, text" | "audio"),
            "`reads` must be text, image, audio, or image, text"
        );
        ensure!(entry.most_megabytes > 0, "`most_megabytes` must be at least 1");
        let all = || entry.files.iter().chain(&entry.optional);
        ensure!(
            !entry.files.is_empty() && all().count() <= MOST_FILES,
            "`files` must name 1 to {MOST_FILES} files"
        );
        let mut seen = BTreeSet::new();
        for file in all() {
            ensure!(paths::is_inside(file), "`files`: `{file}` is not a plain path inside the folder");
            ensure!(seen.insert(file), "`files`: `{file}` is there twice");
        }
        if entry.reading == Reading::Entry {
            entry.filled("entry", |file| Ok(imagined(file))).context("`[manifest]`")?;
        }
        Ok(entry)
    }

    /// Reads an entry from a file of somebody's own.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    /// The manifest that the entry alone makes. `graph` tells of a graph among its files.
    pub(super) fn filled(
        &self,
        id: &str,
        mut graph: impl FnMut(&str) -> anyhow::Result<Graph>,
    ) -> anyhow::Result<Manifest> {
        let mut table = self.manifest.clone();
        for path in [&["backbone"][..], &["text_tower"], &["audio", "stage"]] {
            let Some(section) = section(&mut table, path) else { continue };
            let Some(file) = section.get("file").and_then(toml::Value::as_str).map(str::to_owned) else {
                bail!("`{}.file` is missing", path.join("."));
            };
            ensure!(self.files.contains(&file), "`files` lacks `{file}`, which the manifest names");
            let graph = graph(&file)?;
            section.insert("sha256".into(), graph.sha256.clone().into());
            if !graph.external.is_empty() {
                section.insert("external".into(), toml::Table::try_from(&graph.external)?.into());
            }
            if path == ["backbone"] {
                name_output(&mut table, &graph)?;
            }
        }
        self.laid_over(table, id)
    }

    /// The manifest of a folder that was understood by its own files, with what the entry says beside.
    pub(super) fn over(&self, understood: &Manifest, id: &str) -> anyhow::Result<Manifest> {
        let mut table = toml::Table::try_from(understood)?;
        merge(&mut table, &self.manifest);
        self.laid_over(table, id)
    }

    /// What every entry says alike.
    fn laid_over(&self, mut table: toml::Table, id: &str) -> anyhow::Result<Manifest> {
        table.insert("version".into(), i64::from(headstart_types::manifest::VERSION).into());
        let backbone = section(&mut table, &["backbone"]).context("`backbone` is missing")?;
        for (key, value) in [("id", id), ("licence", &self.licence), ("source_task", &self.source_task)] {
            backbone.insert(key.into(), value.into());
        }
        let manifest = Manifest::parse(&toml::to_string(&table)?)?;
        for (field, file) in manifest.files() {
            let fetched = self.files.iter().chain(&self.optional).any(|wanted| wanted == file);
            ensure!(fetched, "`{field}` names `{file}`, which is not among `files`");
        }
        Ok(manifest)
    }
}

/// Names the features where the entry does not: a graph's only output, whose name is its exporter's accident.
fn name_output(table: &mut toml::Table, graph: &Graph) -> anyhow::Result<()> {
    let Some(features) = section(table, &["output", "features"]) else { return Ok(()) };
    if features.contains_key("tensor") {
        return Ok(());
    }
    let names: Vec<&str> = graph.outputs.keys().map(String::as_str).collect();
    let [only] = names[..] else {
        bail!("{}: has the outputs {}, and the entry does not say which", graph.file, names.join(", "));
    };
    features.insert("tensor".into(), only.into());
    Ok(())
}

/// A graph that an entry is tried with before there is any.
fn imagined(file: &str) -> Graph {
    Graph {
        file: file.to_owned(),
        sha256: "0".repeat(64),
        external: BTreeMap::new(),
        outputs: BTreeMap::from([("output".to_owned(), Vec::new())]),
    }
}

/// A table within tables.
fn section<'a>(table: &'a mut toml::Table, path: &[&str]) -> Option<&'a mut toml::Table> {
    let (first, rest) = path.split_first()?;
    let found = table.get_mut(*first)?.as_table_mut()?;
    if rest.is_empty() { Some(found) } else { section(found, rest) }
}

/// Lays a table over another: tables join, everything else is replaced.
fn merge(under: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => merge(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

fn is_repository(name: &str) -> bool {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.len() <= 96 && !part.starts_with('.') && part.chars().all(plain)
    };
    matches!(name.split('/').collect::<Vec<_>>()[..], [owner, name] if part(owner) && part(name))
}

/// Whether a text may be a revision: a branch may have a slash in its name.
pub(super) fn is_revision(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    !text.is_empty() && text.len() <= 128 && text.chars().all(plain) && paths::is_inside(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "title = \"a\"\nreads = \"image\"\nrepository = \"o/n\"\nrevision = \"main\"\nlicence = \"MIT\"\n\
         source_task = \"b\"\nverified = \"never\"\nreading = \"entry\"\nmost_megabytes = 1\nfiles = [\"m.onnx\"]\n\
         [manifest.backbone]\nmodality = \"tensor\"\nfile = \"m.onnx\"\n";

    #[test]
    fn an_entry_that_could_reach_elsewhere_or_lacks_a_file_is_refused_by_field() {
        Entry::parse(GOOD).unwrap();
        for (from, to, problem) in [
            ("o/n", "o/../n", "`repository`"),
            ("o/n", "n", "`repository`"),
            ("\"main\"", "\"../main\"", "`revision`"),
            ("files = [\"m.onnx\"]", "files = [\"m.onnx\", \"../m\"]", "`files`"),
            ("files = [\"m.onnx\"]", "files = [\"m.onnx\", \"m.onnx\"]", "twice"),
            ("files = [\"m.onnx\"]", "files = [\"n.onnx\"]", "`[manifest]`"),
            ("licence = \"MIT\"", "licence = \" \"", "`licence`"),
            ("modality = \"tensor\"", "modality = \"text\"", "`[manifest]`"),
            ("most_megabytes = 1", "most_megabytes = 0", "`most_megabytes`"),
            ("most_megabytes = 1", "most_megabytes = 1\nsize = 3", "unknown field"),
        ] {
            let error = Entry::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(format!("{error:#}").contains(problem), "{to}: {error:#}");
        }
    }
}
