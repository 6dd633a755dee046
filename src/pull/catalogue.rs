//! The catalogue: one file a backbone in `catalogue/`, built into the program.

use anyhow::{Context as _, bail};

use super::entry::Entry;

/// Every entry: its name and its text.
macro_rules! entries {
    ($($name:literal),+ $(,)?) => {
        [$(($name, include_str!(concat!("../../catalogue/", $name, ".toml")))),+]
    };
}

/// The entries in order of name.
const ENTRIES: [(&str, &str); 27] = entries![
    "all-minilm-l6",
    "all-mpnet-base",
    "bge-reranker-base",
    "bge-small-en",
    "clap-htsat",
    "clip-vit-b32",
    "dinov2-small",
    "e5-small",
    "efficientnet-b0",
    "efficientnet-lite4",
    "gte-small",
    "hubert-base",
    "inception-v3",
    "mobilenet-v2",
    "ms-marco-minilm",
    "multilingual-e5-small",
    "nli-deberta-v3-small",
    "nli-distilbert",
    "paraphrase-multilingual-minilm",
    "resnet-18",
    "resnet-50",
    "siglip-base",
    "vgg-16",
    "vit-base",
    "wav2vec2-base",
    "whisper-tiny",
    "yamnet",
];

/// All entries with their names.
///
/// # Errors
/// Naming the entry that cannot be read; a test reads them all.
pub(super) fn all() -> anyhow::Result<Vec<(&'static str, Entry)>> {
    let read = |(name, text): &(&'static str, &str)| {
        Ok((*name, Entry::parse(text).with_context(|| format!("the catalogue's `{name}`"))?))
    };
    ENTRIES.iter().map(read).collect()
}

/// The text of an entry.
///
/// # Errors
/// With the names that come near where there is none.
pub(super) fn text(name: &str) -> anyhow::Result<&'static str> {
    if let Some((_, text)) = ENTRIES.iter().find(|(known, _)| *known == name) {
        return Ok(text);
    }
    let near: Vec<&str> = ENTRIES
        .iter()
        .map(|(known, _)| *known)
        .filter(|known| known.contains(name) || name.contains(known) || starts_alike(known, name))
        .collect();
    let near = if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(", ")) };
    bail!("the catalogue has no `{name}`; `headstart pull --list` shows it.{near}")
}

fn starts_alike(one: &str, other: &str) -> bool {
    one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count() >= 4
}

/// The catalogue as the table of the documentation.
///
/// # Errors
/// As [`all`].
pub(super) fn markdown() -> anyhow::Result<String> {
    let mut rows = vec![
        "| name | what | reads | licence | verified | repository | to know |".to_owned(),
        "|---|---|---|---|---|---|---|".to_owned(),
    ];
    for (name, entry) in all()? {
        let note = entry.note.as_deref().unwrap_or_default();
        rows.push(format!(
            "| `{name}` | {} | {} | {} | {} | `{}` | {note} |",
            entry.title,
            entry.reads,
            entry.licence,
            entry.verified.as_str(),
            entry.repository,
        ));
    }
    Ok(rows.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::pull::entry::{Reading, Verified};

    fn root() -> &'static Path {
        Path::new(env!("CARGO_MANIFEST_DIR"))
    }

    #[test]
    fn every_entry_parses_has_a_licence_and_a_manifest_that_a_server_reads() {
        let entries = all().unwrap();
        assert_eq!(entries.len(), ENTRIES.len());
        for (name, entry) in &entries {
            // What has no manifest of its own is read by its files: the one that decides is among them.
            let by_files = entry.files.iter().any(|file| file == "config.json");
            assert_eq!(by_files, entry.reading == Reading::Folder, "{name}");
            assert!(!entry.licence.is_empty() && !entry.title.contains('|'), "{name}");
            assert_ne!(entry.verified, Verified::Hub, "{name}: nothing was ever fetched from the hub itself");
        }
    }

    #[test]
    fn the_folder_and_the_list_have_the_same_entries_in_order_and_none_twice() {
        let files = std::fs::read_dir(root().join("catalogue")).unwrap();
        let files: BTreeSet<String> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let listed: Vec<String> = ENTRIES.iter().map(|(name, _)| format!("{name}.toml")).collect();
        assert!(
            listed.is_sorted() && files.iter().eq(&listed),
            "catalogue/ has {files:?}, the list {listed:?}"
        );
        let entries = all().unwrap();
        let repositories: BTreeSet<&str> =
            entries.iter().map(|(_, entry)| entry.repository.as_str()).collect();
        assert_eq!(repositories.len(), entries.len(), "a repository is there twice");
    }

    #[test]
    fn the_table_of_the_documentation_is_the_catalogues() {
        let text = std::fs::read_to_string(root().join("docs/MODELS.md")).unwrap();
        let table = markdown().unwrap();
        assert!(text.contains(&table), "put what `headstart pull --markdown` prints into docs/MODELS.md");
    }

    #[test]
    fn a_name_that_is_not_there_brings_those_that_are_like_it() {
        let said = text("resnet-34").unwrap_err().to_string();
        assert!(said.contains("resnet-18, resnet-50"), "{said}");
        assert!(!text("qqqq").unwrap_err().to_string().contains("Did you mean"));
    }
}
