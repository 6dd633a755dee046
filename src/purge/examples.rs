//! Classifiers made of single examples: which versions hold some, and what they are without them.

use std::collections::{HashMap, HashSet};

use headstart_methods::MethodError;
use headstart_methods::artifact::Artifact;
use headstart_methods::few_shot::{self, Content};
use headstart_store::{Order, PageRequest, Scope, Store, VersionChange};
use headstart_types::classifier::{Classifier, ClassifierId, ClassifierVersion, Origin};
use headstart_types::ids::Sha256;
use serde_json::Value;

use crate::few_shot::metrics;
use crate::purge::PurgeError;
use crate::rollout::LARGEST_ARTIFACT;

/// Rows read at a time.
const PAGE: u32 = 500;

/// What versions hold.
#[derive(Clone, Default)]
pub(super) struct Held {
    /// Versions that hold such examples, and how many.
    pub(super) versions: Vec<(ClassifierVersion, u64)>,
    /// What they are to be without them, in the order of their classifiers; nothing where nothing is to be done.
    pub(super) changes: Vec<VersionChange>,
    /// Versions that took examples in and keep only means of them.
    pub(super) unknown: Vec<ClassifierVersion>,
}

/// What was found before, by classifier and revision: one that has not changed since need not be looked into again, so that
/// the others' many versions leave a classifier that changes often no time to change again.
#[derive(Default)]
pub(super) struct Before {
    contents: Vec<Content>,
    found: HashMap<ClassifierId, (u64, Held)>,
}

/// What an artifact is without some examples.
enum Without {
    /// It holds none of them.
    Same,
    /// A head, which keeps no examples.
    Head,
    /// It holds so many; its bytes and the numbers to be listed without them, where that was asked for.
    Fewer(u64, Option<(Vec<u8>, Value)>),
}

/// Looks for examples in every version that was made of some. With `change`, also makes up what the versions are to be;
/// those artifacts are durable then.
pub(super) async fn holding(
    store: &Store,
    scope: Scope<'_>,
    contents: &HashSet<Content>,
    change: bool,
    before: &mut Before,
) -> Result<Held, PurgeError> {
    let mut held = Held::default();
    if contents.is_empty() {
        return Ok(held);
    }
    let mut contents: Vec<Content> = contents.iter().copied().collect();
    contents.sort_unstable();
    if before.contents != contents {
        *before = Before { contents, found: HashMap::new() };
    }
    let mut after: Option<ClassifierId> = None;
    loop {
        let page = store.classifiers(scope, after.as_ref(), PAGE).await?;
        for classifier in &page.data {
            let known =
                before.found.get(&classifier.id).filter(|(revision, _)| *revision == classifier.revision);
            let found = match known {
                Some((_, found)) => found.clone(),
                None => in_classifier(store, classifier, &before.contents, change).await?,
            };
            held.versions.extend(found.versions.iter().cloned());
            held.changes.extend(found.changes.iter().cloned());
            held.unknown.extend(found.unknown.iter().cloned());
            before.found.insert(classifier.id.clone(), (classifier.revision, found));
        }
        after = page.data.last().map(|classifier| classifier.id.clone());
        if !page.has_more {
            return Ok(held);
        }
    }
}

async fn in_classifier(
    store: &Store,
    classifier: &Classifier,
    contents: &[Content],
    change: bool,
) -> Result<Held, PurgeError> {
    let mut held = Held::default();
    for version in versions(store, &classifier.id).await? {
        if version.origin == Origin::Examples {
            look(store, (version, classifier.revision), contents, change, &mut held).await?;
        }
    }
    Ok(held)
}

async fn look(
    store: &Store,
    (version, revision): (ClassifierVersion, u64),
    contents: &[Content],
    change: bool,
    held: &mut Held,
) -> Result<(), PurgeError> {
    let bytes = store.blobs().read(&version.artifact, LARGEST_ARTIFACT).await?;
    let contents = contents.to_vec();
    let work = move || without(&bytes, &contents, change);
    let without = tokio::task::spawn_blocking(work).await.map_err(|_| PurgeError::CutOff)??;
    match without {
        Without::Same => {}
        Without::Head => held.unknown.push(version),
        Without::Fewer(examples, changed) => {
            if let Some((bytes, metrics)) = changed {
                let to: Sha256 = store.blobs().put(&bytes).await?.sha256;
                held.changes.push(VersionChange {
                    classifier: version.classifier.clone(),
                    revision,
                    number: version.number,
                    from: version.artifact.clone(),
                    to,
                    metrics,
                });
            }
            held.versions.push((version, examples));
        }
    }
    Ok(())
}

fn without(bytes: &[u8], contents: &[Content], change: bool) -> Result<Without, MethodError> {
    if let Artifact::Head(_) = Artifact::load(bytes)? {
        return Ok(Without::Head);
    }
    let (few_shot, mut shown) = few_shot::load(bytes)?;
    let forgotten = shown.forget(contents).forgotten as u64;
    if forgotten == 0 {
        return Ok(Without::Same);
    }
    if !change {
        return Ok(Without::Fewer(forgotten, None));
    }
    let few_shot = few_shot.fitted(&shown)?;
    let made = (few_shot::save(&few_shot, &shown)?, metrics(&few_shot, &shown));
    Ok(Without::Fewer(forgotten, Some(made)))
}

async fn versions(store: &Store, id: &ClassifierId) -> Result<Vec<ClassifierVersion>, PurgeError> {
    let mut page = PageRequest { after: None, limit: PAGE, order: Order::Ascending };
    let mut versions = Vec::new();
    loop {
        let found = store.versions(id, &page).await?;
        page.after = found.data.last().map(|version| version.number);
        versions.extend(found.data);
        if !found.has_more {
            return Ok(versions);
        }
    }
}

/// Versions that grew out of others by examples, and hold what those learned: also where versions in between are pruned.
pub(super) async fn grown_from(
    store: &Store,
    roots: &[ClassifierVersion],
) -> Result<Vec<ClassifierVersion>, PurgeError> {
    let mut of: HashMap<&ClassifierId, HashSet<String>> = HashMap::new();
    for root in roots {
        of.entry(&root.classifier).or_default().insert(root.model_name());
    }
    let mut grown = Vec::new();
    for (id, mut names) in of {
        for version in versions(store, id).await? {
            let grew_from = |field| version.metrics.get(field).and_then(Value::as_str);
            if ["from", "root"].into_iter().filter_map(grew_from).any(|name| names.contains(name)) {
                names.insert(version.model_name());
                grown.push(version);
            }
        }
    }
    Ok(grown)
}

#[cfg(test)]
mod tests {
    use headstart_store::{Expected, When};
    use headstart_types::classifier::{NewVersion, Reason};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn what_grew_out_of_a_version_is_found_also_where_those_between_are_pruned() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).await.unwrap();
        let id = ClassifierId { key: "alice".into(), name: "weather".into() };
        let why = Reason { who: "alice".into(), reason: String::new(), gate: None };
        let artifact = store.blobs().put(b"head").await.unwrap().sha256;
        for metrics in [
            json!({}),
            json!({"from": "weather@1", "root": "weather@1"}),
            json!({"from": "weather@2", "root": "weather@1"}),
            json!({}),
            json!({"from": "weather@4"}),
        ] {
            let version = NewVersion {
                origin: Origin::Examples,
                artifact: artifact.clone(),
                report: None,
                evidence: None,
                metrics,
                backbone: "b".into(),
                backbone_sha256: "00".into(),
            };
            store.publish(&id, &version, When::Always, Expected::Any, &why, 0).await.unwrap();
        }
        store.delete_version(&id, 2, &why, 0).await.unwrap();
        for (root, grown) in [(1, [3]), (4, [5])] {
            let root = store.version(&id, root).await.unwrap();
            let found = grown_from(&store, &[root]).await.unwrap();
            assert_eq!(found.iter().map(|version| version.number).collect::<Vec<_>>(), grown);
        }
    }
}
