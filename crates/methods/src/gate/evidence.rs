//! What a version said of its held-out rows, and what it learned from: digests of contents, never contents.

use std::collections::{BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::container::{Reader, Writer};
use crate::error::MethodError;
use crate::few_shot::{Content, FewShot, Shown};

/// What [`Evidence::to_bytes`] writes and [`Evidence::from_bytes`] reads.
const FORMAT: u32 = 1;

const WHAT: &str = "evidence";

/// What a version said of its held-out rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its labels, in the order of the numbers below.
    pub labels: Vec<String>,
    /// Whether a row may have several labels.
    pub multi_label: bool,
    /// Its held-out rows.
    pub held_out: Vec<Answered>,
    /// What it learned from or was tuned on.
    pub learned: BTreeSet<Content>,
    /// The version that was production as its job ended, asked about the same rows.
    pub rival: Option<Rival>,
}

/// A held-out row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What its content is known by.
    pub content: Content,
    /// Its labels, ascending.
    pub labels: Vec<u32>,
    /// Those the version gives it, ascending.
    pub said: Vec<u32>,
}

/// What another version says of the same rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rival {
    /// Its number.
    pub version: u32,
    /// What it says of each held-out row, by the numbers of its own labels, ascending; nothing where it was not asked.
    pub said: Vec<Option<Vec<u32>>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    labels: Vec<String>,
    multi_label: bool,
    /// Labels and answer of each held-out row.
    rows: Vec<(Vec<u32>, Vec<u32>)>,
    rival: Option<Rival>,
}

impl Evidence {
    /// Of a version that examples made: it holds nothing out.
    pub fn of_examples(few_shot: &FewShot, shown: &Shown) -> Self {
        Self {
            labels: few_shot.names().to_vec(),
            multi_label: few_shot.wording().multi_label,
            held_out: Vec::new(),
            learned: shown.contents().iter().copied().collect(),
            rival: None,
        }
    }

    /// The evidence without what is known of some contents; `None` when nothing is.
    pub fn without(&self, contents: &HashSet<Content>) -> Option<Self> {
        let stays = |content: &Content| !contents.contains(content);
        let kept: Vec<bool> = self.held_out.iter().map(|row| stays(&row.content)).collect();
        if kept.iter().all(|kept| *kept) && self.learned.iter().all(stays) {
            return None;
        }
        let mut without = self.clone();
        without.held_out.retain(|row| stays(&row.content));
        without.learned.retain(stays);
        if let Some(rival) = &mut without.rival {
            let mut kept = kept.into_iter();
            rival.said.retain(|_| kept.next().unwrap_or(true));
        }
        Some(without)
    }

    /// Its bytes, always the same for the same evidence.
    ///
    /// # Errors
    ///
    /// [`MethodError::Stored`] when they cannot be built.
    pub fn to_bytes(&self) -> Result<Vec<u8>, MethodError> {
        let mut writer = Writer::default();
        let held_out: Vec<u8> = self.held_out.iter().flat_map(|row| row.content).collect();
        writer.bytes("held_out", &held_out);
        let learned: Vec<u8> = self.learned.iter().flatten().copied().collect();
        writer.bytes("learned", &learned);
        let document = Document {
            format: FORMAT,
            labels: self.labels.clone(),
            multi_label: self.multi_label,
            rows: self.held_out.iter().map(|row| (row.labels.clone(), row.said.clone())).collect(),
            rival: self.rival.clone(),
        };
        writer.finish(WHAT, &document)
    }

    /// The evidence behind bytes from anywhere.
    ///
    /// # Errors
    ///
    /// [`MethodError::Stored`] naming the first thing that does not fit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MethodError> {
        let reader = Reader::new(WHAT, bytes)?;
        let document: Document = reader.document()?;
        if document.format != FORMAT {
            return Err(reader.error(format!("format {} is not {FORMAT}", document.format)));
        }
        let (held_out, rest) = reader.bytes("held_out")?.as_chunks::<32>();
        let (learned, left) = reader.bytes("learned")?.as_chunks::<32>();
        let rows = document.rows.len();
        if !rest.is_empty() || !left.is_empty() || held_out.len() != rows {
            return Err(reader.error("digests are not one a row"));
        }
        if document.rival.as_ref().is_some_and(|rival| rival.said.len() != rows) {
            return Err(reader.error("the rival's answers are not one a row"));
        }
        let held_out = held_out.iter().zip(document.rows);
        let held_out = held_out.map(|(content, (labels, said))| Answered { content: *content, labels, said });
        Ok(Self {
            labels: document.labels,
            multi_label: document.multi_label,
            held_out: held_out.collect(),
            learned: learned.iter().copied().collect(),
            rival: document.rival,
        })
    }
}
