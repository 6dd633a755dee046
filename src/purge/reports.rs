//! Reports without the words that name a person: a group, or a path in an archive.

use std::collections::{BTreeSet, HashSet};

use headstart_store::Store;
use headstart_types::ids::Sha256;
use serde_json::Value;

use crate::purge::PurgeError;

/// Largest report.
const REPORT_BYTES: u64 = 64 << 20;

/// What stands where a word was.
const PURGED: &str = "(purged)";

/// The reports that hold such words, as they are and without them; the new ones are durable.
pub(super) async fn without(
    store: &Store,
    reports: &BTreeSet<&Sha256>,
    words: HashSet<String>,
) -> Result<Vec<(Sha256, Sha256)>, PurgeError> {
    let mut changed = Vec::new();
    if words.is_empty() {
        return Ok(changed);
    }
    for report in reports {
        let bytes = store.blobs().read(report, REPORT_BYTES).await?;
        let mut value: Value = serde_json::from_slice(&bytes)?;
        if strike(&mut value, &words) {
            let without = store.blobs().put(&serde_json::to_vec(&value)?).await?.sha256;
            changed.push(((*report).clone(), without));
        }
    }
    Ok(changed)
}

/// Takes words out of every text that is one of them, or quotes one; whether there was any.
fn strike(value: &mut Value, words: &HashSet<String>) -> bool {
    match value {
        Value::String(text) => {
            let before = text.clone();
            if words.contains(text) {
                *text = PURGED.to_owned();
            } else if text.contains('"') {
                // Sentences quote a group as Rust does.
                for word in words {
                    *text = text.replace(&format!("{word:?}"), PURGED);
                }
            }
            *text != before
        }
        Value::Array(values) => values.iter_mut().fold(false, |any, value| strike(value, words) | any),
        Value::Object(fields) => fields.values_mut().fold(false, |any, value| strike(value, words) | any),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_go_wherever_they_stand_alone_or_quoted_and_no_others_do() {
        let mut report = json!({
            "groups": {"groups": [{"group": "anna", "items": 3}, {"group": "annabel", "items": 4}],
                       "gap": {"best": "anna", "sentence": "between \"anna\" (3 items) and \"annabel\""}},
        });
        let words = HashSet::from(["anna".to_owned()]);
        assert!(strike(&mut report, &words));
        assert_eq!(
            report,
            json!({
                "groups": {"groups": [{"group": "(purged)", "items": 3}, {"group": "annabel", "items": 4}],
                           "gap": {"best": "(purged)", "sentence": "between (purged) (3 items) and \"annabel\""}},
            })
        );
        assert!(!strike(&mut report, &words));
    }
}
