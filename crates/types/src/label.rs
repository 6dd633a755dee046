//! A label and what is known of it in words.

use serde::{Deserialize, Serialize};

/// A label, alone or with what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    /// The label as answers name it.
    pub label: String,
    /// What it means, in other words.
    pub description: Option<String>,
    /// Texts that have it.
    pub examples: Vec<String>,
}

impl From<&str> for Label {
    fn from(label: &str) -> Self {
        Self { label: label.to_owned(), description: None, examples: Vec::new() }
    }
}
