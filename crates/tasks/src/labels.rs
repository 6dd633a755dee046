//! Labels that nobody trained on, as requests bring them.

use std::collections::HashSet;
use std::fmt;

use headstart_types::{Label, object};
use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use utoipa::ToSchema;

use crate::context::TaskLimits;
use crate::error::TaskError;

/// Most example texts of one label.
const MOST_EXAMPLES: usize = 64;

/// The labels of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels(pub Vec<Label>);

/// A label as it is written in requests.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(expecting = "a label is a string or an object with `label`, `description`, `examples`", untagged)]
#[schema(title = "Label")]
pub enum LabelForm {
    /// The label alone.
    Plain(String),
    /// The label with what is known of it.
    Described(
        #[serde(deserialize_with = "object::one")]
        #[schema(inline)]
        Described,
    ),
}

/// A label with what is known of it.
#[derive(Debug, serde::Deserialize, ToSchema)]
pub struct Described {
    /// The label as answers name it.
    #[schema(min_length = 1, example = "refund")]
    label: String,
    /// What it means, in other words.
    #[schema(example = "the customer wants money back")]
    description: Option<String>,
    /// Texts that have it, at most 64.
    #[schema(max_items = 64)]
    examples: Option<Vec<String>>,
}

impl From<LabelForm> for Label {
    fn from(form: LabelForm) -> Self {
        match form {
            LabelForm::Plain(label) => Self { label, description: None, examples: Vec::new() },
            LabelForm::Described(Described { label, description, examples }) => {
                Self { label, description, examples: examples.unwrap_or_default() }
            }
        }
    }
}

impl Labels {
    /// Refuses empty, doubled and too many labels.
    pub(crate) fn check(self, field: &str, limits: &TaskLimits) -> Result<Vec<Label>, TaskError> {
        let labels = self.0;
        if labels.is_empty() {
            return Err(TaskError::invalid(field, "is empty"));
        }
        if labels.len() > limits.labels {
            let problem = format!("has {} labels; at most {} are taken", labels.len(), limits.labels);
            return Err(TaskError::invalid(field, problem));
        }
        let mut seen = HashSet::new();
        for (index, label) in labels.iter().enumerate() {
            let refuse = |problem: String| Err(TaskError::invalid(format!("{field}[{index}]"), problem));
            if label.label.trim().is_empty() {
                return refuse("is empty".into());
            }
            if !seen.insert(label.label.as_str()) {
                return refuse(format!("is `{}` once more", label.label));
            }
            if label.examples.len() > MOST_EXAMPLES {
                return refuse(format!(
                    "has {} examples; at most {MOST_EXAMPLES} are taken",
                    label.examples.len()
                ));
            }
            let words = label.examples.iter().chain(&label.description).chain(std::iter::once(&label.label));
            if words.clone().any(|text| text.trim().is_empty()) {
                return refuse("has an empty description or example".into());
            }
            if words.clone().any(|text| text.len() > limits.text_bytes) {
                return refuse(format!("has a text of more than {} bytes", limits.text_bytes));
            }
        }
        Ok(labels)
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(LabelsVisitor)
    }
}

struct LabelsVisitor;

impl<'de> Visitor<'de> for LabelsVisitor {
    type Value = Labels;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of labels")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Labels, A::Error> {
        let mut labels: Vec<Label> = Vec::with_capacity(list.size_hint().unwrap_or(0).min(4096));
        while let Some(form) = list.next_element::<LabelForm>()? {
            labels.push(form.into());
        }
        Ok(Labels(labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> TaskLimits {
        let media = headstart_media::Limits { max_pixels: 1, max_seconds: 1, max_bytes: 1 };
        TaskLimits { items: 8, labels: 3, text_bytes: 100, media }
    }

    fn check(json: &str) -> Result<Vec<Label>, String> {
        let labels: Labels = serde_json::from_str(json).map_err(|error| error.to_string())?;
        labels.check("labels", &limits()).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_are_strings_or_objects() {
        let labels =
            check(r#"["cat", {"label": "dog", "description": "a pet", "examples": ["woof"]}]"#).unwrap();
        assert_eq!(labels[0], Label::from("cat"));
        assert_eq!((labels[1].description.as_deref(), labels[1].examples.len()), (Some("a pet"), 1));
    }

    #[test]
    fn empty_doubled_and_too_many_labels_are_refused_by_position() {
        assert_eq!(check("[]").unwrap_err(), "`labels` is empty");
        assert_eq!(check(r#"["a", " "]"#).unwrap_err(), "`labels[1]` is empty");
        assert_eq!(check(r#"["a", "a"]"#).unwrap_err(), "`labels[1]` is `a` once more");
        assert_eq!(
            check(r#"["a", "b", "c", "d"]"#).unwrap_err(),
            "`labels` has 4 labels; at most 3 are taken"
        );
        assert!(check("[1]").unwrap_err().contains("a label is a string or an object"));
    }
}
