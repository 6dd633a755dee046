//! Labels that nobody trained on, as requests bring them.

use std::collections::HashSet;
use std::fmt;

use headstart_types::Label;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use utoipa::ToSchema;

use crate::context::TaskLimits;
use crate::error::TaskError;

/// Most example texts of one label.
const MOST_EXAMPLES: usize = 64;

/// Most labels that are kept of a list, which is more than any option allows; those beyond are counted. As values, the
/// millions of short labels that a body has room for would take many times its bytes.
pub const MOST_LABELS: usize = 1 << 16;

/// The labels of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Labels {
    kept: Vec<Label>,
    /// More than [`MOST_LABELS`].
    beyond: usize,
}

// For the document alone: this reader would first keep all of an object as values.
/// A label: a word, or an object that says more about it.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(title = "Label")]
pub enum LabelForm {
    /// The label alone.
    Plain(String),
    /// The label with what is known of it.
    Described(#[schema(inline)] Described),
}

/// A label with what is known of it.
#[derive(Debug, serde::Deserialize, ToSchema)]
#[schema(as = DescribedLabel)]
pub struct Described {
    /// The label as answers name it.
    #[schema(min_length = 1, example = "refund")]
    label: String,
    /// What it means, in other words.
    #[schema(example = "the customer wants money back")]
    description: Option<String>,
    /// Texts that have it, at most 64.
    #[schema(max_items = 64, value_type = Option<Vec<String>>)]
    examples: Option<Examples>,
}

impl From<Vec<Label>> for Labels {
    fn from(kept: Vec<Label>) -> Self {
        Self { kept, beyond: 0 }
    }
}

impl Labels {
    /// Refuses empty, doubled and too many labels.
    pub(crate) fn check(self, field: &str, limits: &TaskLimits) -> Result<Vec<Label>, TaskError> {
        let Self { kept: labels, beyond } = self;
        if labels.is_empty() {
            return Err(TaskError::invalid(field, "is empty"));
        }
        let count = labels.len() + beyond;
        if count > limits.labels {
            let problem = format!("has {count} labels; at most {} are taken", limits.labels);
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
        let mut labels = Labels::default();
        while labels.kept.len() < MOST_LABELS {
            let Some(OneLabel(label)) = list.next_element()? else { return Ok(labels) };
            labels.kept.push(label);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            labels.beyond += 1;
        }
        Ok(labels)
    }
}

/// A label as it was read.
struct OneLabel(Label);

impl<'de> Deserialize<'de> for OneLabel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneLabelVisitor)
    }
}

struct OneLabelVisitor;

impl<'de> Visitor<'de> for OneLabelVisitor {
    type Value = OneLabel;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a label: a string or an object with `label`, `description`, `examples`")
    }

    fn visit_str<E: serde::de::Error>(self, label: &str) -> Result<OneLabel, E> {
        Ok(OneLabel(label.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OneLabel, A::Error> {
        let Described { label, description, examples } =
            Described::deserialize(MapAccessDeserializer::new(map))?;
        let examples = examples.map(|Examples(examples)| examples).unwrap_or_default();
        Ok(OneLabel(Label { label, description, examples }))
    }
}

/// Texts that have a label, no more than are taken.
#[derive(Debug)]
struct Examples(Vec<String>);

impl<'de> Deserialize<'de> for Examples {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ExamplesVisitor)
    }
}

struct ExamplesVisitor;

impl<'de> Visitor<'de> for ExamplesVisitor {
    type Value = Examples;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of texts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Examples, A::Error> {
        let mut examples = Vec::new();
        while examples.len() < MOST_EXAMPLES {
            let Some(example) = list.next_element()? else { return Ok(Examples(examples)) };
            examples.push(example);
        }
        let mut count = examples.len();
        while list.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        if count > MOST_EXAMPLES {
            return Err(A::Error::custom(format!("has {count} examples; at most {MOST_EXAMPLES} are taken")));
        }
        Ok(Examples(examples))
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
        assert!(check("[1]").unwrap_err().contains("a label: a string or an object"));
        assert!(check(r#"[["a", null, []]]"#).unwrap_err().contains("a label: a string or an object"));
    }

    #[test]
    fn labels_beyond_any_limit_are_counted_and_not_kept() {
        let many = MOST_LABELS + 7;
        let json = format!("[{}]", ["1"; 7].join(","));
        let json = format!("[{},{}", vec![r#""a""#; MOST_LABELS].join(","), &json[1..]);
        let labels: Labels = serde_json::from_str(&json).unwrap();
        assert_eq!((labels.kept.len(), labels.beyond), (MOST_LABELS, 7));
        assert_eq!(
            labels.check("labels", &limits()).unwrap_err().to_string(),
            format!("`labels` has {many} labels; at most 3 are taken")
        );
    }

    #[test]
    fn too_many_examples_are_refused_and_counted() {
        let with = |count: usize| {
            let examples = vec![r#""a""#; count].join(",");
            check(&format!(r#"[{{"label": "a", "examples": [{examples}]}}]"#))
        };
        assert_eq!(with(64).unwrap()[0].examples.len(), 64);
        assert!(with(65).unwrap_err().starts_with("has 65 examples; at most 64 are taken"));
        assert_eq!(
            check(r#"[{"label": "a", "description": null, "examples": null, "other": [1]}]"#).unwrap(),
            ["a".into()]
        );
    }
}
