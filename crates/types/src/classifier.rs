//! Classifiers: a name, its immutable versions, and which of them answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ids::{FileId, JobId, Sha256};

/// A classifier's name within its API key's own names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClassifierId {
    /// Name of the API key it belongs to.
    pub key: String,
    /// Its name.
    pub name: String,
}

/// What stands between a backbone's id and what tells apart the backbones that jobs made of it. No folder's id may hold it.
pub const TUNED: char = '+';

/// The backbone behind an id: itself, or the one that a job made it of.
#[must_use]
pub fn untuned(backbone: &str) -> &str {
    backbone.split_once(TUNED).map_or(backbone, |(id, _)| id)
}

/// Where a version comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Fitted by a job: the artifact is a head.
    Job,
    /// Labels and examples without a job: the artifact lists them.
    Examples,
}

impl Origin {
    /// The name in answers and rows.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Examples => "examples",
        }
    }

    /// The origin of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        [Self::Job, Self::Examples].into_iter().find(|origin| origin.as_str() == name)
    }
}

/// A version to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewVersion {
    /// Where it comes from.
    pub origin: Origin,
    /// The blob that makes it answer.
    pub artifact: Sha256,
    /// The report's blob.
    pub report: Option<Sha256>,
    /// The blob that says what it answers on its held-out rows, where it has some.
    pub evidence: Option<Sha256>,
    /// Numbers worth listing.
    pub metrics: Value,
    /// The backbone's id.
    pub backbone: String,
    /// Digest of the backbone's weights, as its manifest states it.
    pub backbone_sha256: String,
}

/// An immutable version, but where a purge takes examples out of its artifact. Times are milliseconds since the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassifierVersion {
    /// The classifier.
    pub classifier: ClassifierId,
    /// From 1; a number is never used twice, even when versions are deleted.
    pub number: u32,
    /// Where it comes from.
    pub origin: Origin,
    /// The blob that makes it answer.
    pub artifact: Sha256,
    /// The report's blob.
    pub report: Option<Sha256>,
    /// The blob that says what it answers on its held-out rows, where it has some.
    pub evidence: Option<Sha256>,
    /// Numbers worth listing.
    pub metrics: Value,
    /// The backbone's id.
    pub backbone: String,
    /// Digest of the backbone's weights, as its manifest states it.
    pub backbone_sha256: String,
    /// The job that made it.
    pub job: Option<JobId>,
    /// The file it was trained on.
    pub training_file: Option<FileId>,
    /// The file it was tuned on.
    pub validation_file: Option<FileId>,
    /// When it was made.
    pub created_at: i64,
}

impl ClassifierVersion {
    /// `name@number`.
    #[must_use]
    pub fn model_name(&self) -> String {
        format!("{}@{}", self.classifier.name, self.number)
    }
}

/// A classifier: its pointers into its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Classifier {
    /// Whose it is and what it is called.
    pub id: ClassifierId,
    /// When its first version was made, milliseconds since the epoch.
    pub created_at: i64,
    /// The highest number given so far.
    pub last_version: u32,
    /// The version the bare name means.
    pub production: Option<u32>,
    /// Versions that were production before, the latest last.
    pub history: Vec<u32>,
    /// Percent of requests by version, summing to 100; empty when production answers all.
    pub traffic: BTreeMap<u32, u8>,
    /// The version that scores along without being heard.
    pub shadow: Option<u32>,
    /// Names of versions, as in `name@alias`.
    pub aliases: BTreeMap<String, u32>,
    /// Grows with every change.
    pub revision: u64,
}

impl Classifier {
    /// The version that `name@selector` means: a number or an alias; without one, production.
    #[must_use]
    pub fn resolve(&self, selector: Option<&str>) -> Option<u32> {
        match selector {
            None => self.production,
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().ok().filter(|number| (1..=self.last_version).contains(number))
            }
            Some(alias) => self.aliases.get(alias).copied(),
        }
    }
}

/// Who moves a pointer, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// Name of the API key, or of the part of the service.
    pub who: String,
    /// In words.
    pub reason: String,
    /// What a gate found, where there was one.
    pub gate: Option<Value>,
}

/// One change of a classifier, or one that a gate refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRow {
    /// From 1 within the classifier.
    pub number: u64,
    /// When, milliseconds since the epoch.
    pub created_at: i64,
    /// What was done: `promote`, `rollback`, `publish`, `traffic`, `shadow`, `alias`, `delete`,
    /// `delete_version`, `refuse`.
    pub action: String,
    /// Who did it.
    pub who: String,
    /// Production before.
    pub from: Option<u32>,
    /// Production after.
    pub to: Option<u32>,
    /// In words.
    pub reason: String,
    /// What a gate found.
    pub gate: Option<Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_a_number_or_an_alias_and_nothing_is_production() {
        let classifier = Classifier {
            id: ClassifierId { key: "alice".into(), name: "intent".into() },
            created_at: 0,
            last_version: 3,
            production: Some(2),
            history: Vec::new(),
            traffic: BTreeMap::new(),
            shadow: None,
            aliases: BTreeMap::from([("candidate".into(), 3)]),
            revision: 1,
        };
        let resolved = [None, Some("1"), Some("candidate"), Some("0"), Some("4"), Some(""), Some("other")]
            .map(|selector| classifier.resolve(selector));
        assert_eq!(resolved, [Some(2), Some(1), Some(3), None, None, None, None]);
    }
}
