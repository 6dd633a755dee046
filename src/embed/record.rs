//! The side file of an output: what made its vectors, so that a later run adds none of another kind.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use headstart_types::payload::Truncate;
use serde::{Deserialize, Serialize};

/// The form of the side file that this build reads and writes.
const VERSION: u32 = 1;

/// What an output holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// What its vectors were made with.
    pub(super) made_with: Settings,
    /// What they are of.
    pub(super) input: Input,
}

/// Everything that decides a vector beside the item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) model: String,
    /// The graph's, as in the manifest.
    pub(super) sha256: String,
    /// Graph, preprocessing and output in one.
    pub(super) fingerprint: String,
    pub(super) prompt: Option<String>,
    pub(super) truncate: Truncate,
    pub(super) dimension: usize,
}

/// What the vectors of an output are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Input {
    /// The first texts of a file.
    Texts {
        /// How many.
        items: usize,
        /// Hash of these.
        sha256: String,
    },
    /// Pictures of a folder.
    Pictures(Files),
    /// Sounds of a folder.
    Sounds(Files),
}

/// Files of a folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Files {
    pub(super) folder: PathBuf,
    /// All of them in the order of the rows; lines name theirs themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) files: Option<Vec<String>>,
}

impl Record {
    pub(super) fn new(made_with: Settings, input: Input) -> Self {
        Self { version: VERSION, made_with, input }
    }

    /// Where the record of an output is.
    pub(super) fn path(output: &Path) -> PathBuf {
        let mut name = OsString::from(output);
        name.push(".headstart.json");
        name.into()
    }

    /// Reads the record of an output, if there is one.
    ///
    /// # Errors
    /// When it is no record, or a newer build's.
    pub(super) fn read(output: &Path) -> anyhow::Result<Option<Self>> {
        let path = Self::path(output);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("{} cannot be read", path.display())),
        };
        let record: Self = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is no record of `headstart embed`", path.display()))?;
        ensure!(record.version == VERSION, "{} has form {}, not {VERSION}", path.display(), record.version);
        Ok(Some(record))
    }

    /// Writes it in one step: a reader finds the old one or this one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write(&self, output: &Path) -> anyhow::Result<()> {
        let path = Self::path(output);
        let fresh = path.with_extension("json.part");
        std::fs::write(&fresh, serde_json::to_vec(self)?)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("{} cannot be written", path.display()))
    }
}

impl Settings {
    /// The first thing that is not the same, with both values.
    pub(super) fn difference(&self, asked: &Self) -> Option<String> {
        let prompt = |settings: &Self| settings.prompt.clone().unwrap_or_else(|| "none".into());
        let truncate = |settings: &Self| format!("{:?}", settings.truncate).to_lowercase();
        let kept =
            |what: &str, was: &str, is: &str| (was != is).then(|| format!("{what} `{was}`, now `{is}`"));
        kept("the model", &self.model, &asked.model)
            .or_else(|| kept("weights of sha-256", &self.sha256, &asked.sha256))
            .or_else(|| kept("the prompt", &prompt(self), &prompt(asked)))
            .or_else(|| kept("the truncation", &truncate(self), &truncate(asked)))
            .or_else(|| (self != asked).then(|| format!("another manifest of `{}`", self.model)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_said_with_both_values() {
        let made = Settings {
            model: "a".into(),
            sha256: "1".into(),
            fingerprint: "2".into(),
            prompt: None,
            truncate: Truncate::End,
            dimension: 3,
        };
        assert_eq!(made.difference(&made), None);
        let said = |asked: Settings| made.difference(&asked).unwrap();
        assert_eq!(said(Settings { model: "b".into(), ..made.clone() }), "the model `a`, now `b`");
        assert_eq!(said(Settings { sha256: "9".into(), ..made.clone() }), "weights of sha-256 `1`, now `9`");
        assert_eq!(
            said(Settings { prompt: Some("query".into()), ..made.clone() }),
            "the prompt `none`, now `query`"
        );
        assert_eq!(
            said(Settings { truncate: Truncate::None, ..made.clone() }),
            "the truncation `end`, now `none`"
        );
        assert_eq!(said(Settings { fingerprint: "9".into(), ..made.clone() }), "another manifest of `a`");
    }
}
