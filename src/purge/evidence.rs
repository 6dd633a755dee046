//! What evidence of versions knows of rows: whether they learned from them, and the evidence without their digests.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use headstart_methods::MethodError;
use headstart_methods::few_shot::Content;
use headstart_methods::gate::Evidence;
use headstart_store::Store;
use headstart_types::classifier::ClassifierVersion;
use headstart_types::ids::Sha256;

use crate::gate::LARGEST_EVIDENCE;
use crate::purge::PurgeError;

/// What evidence knows.
#[derive(Default)]
pub(super) struct Known {
    /// The evidence of versions that learned from such rows or were tuned on them.
    pub(super) learned: HashSet<Sha256>,
    /// The evidence that knows such rows, as it is and without them; the new one is durable.
    pub(super) changes: Vec<(Sha256, Sha256)>,
}

/// Looks into versions' evidence; with `change`, also makes up what it is to be.
pub(super) async fn knowing(
    store: &Store,
    versions: impl Iterator<Item = &ClassifierVersion>,
    contents: &Arc<HashSet<Content>>,
    change: bool,
) -> Result<Known, PurgeError> {
    let mut known = Known::default();
    if contents.is_empty() {
        return Ok(known);
    }
    let evidence: BTreeSet<&Sha256> = versions.filter_map(|version| version.evidence.as_ref()).collect();
    for blob in evidence {
        let bytes = store.blobs().read(blob, LARGEST_EVIDENCE).await?;
        let contents = Arc::clone(contents);
        let work = move || look(&bytes, &contents, change);
        let (learned, without) =
            tokio::task::spawn_blocking(work).await.map_err(|_| PurgeError::CutOff)??;
        if learned {
            known.learned.insert(blob.clone());
        }
        if let Some(without) = without {
            known.changes.push((blob.clone(), store.blobs().put(&without).await?.sha256));
        }
    }
    Ok(known)
}

/// Whether such rows were learned from, and the bytes without them where they are known and that was asked for.
fn look(
    bytes: &[u8],
    contents: &HashSet<Content>,
    change: bool,
) -> Result<(bool, Option<Vec<u8>>), MethodError> {
    let evidence = Evidence::from_bytes(bytes)?;
    let learned = contents.iter().any(|content| evidence.learned.contains(content));
    let without = if change { evidence.without(contents) } else { None };
    Ok((learned, without.map(|without| without.to_bytes()).transpose()?))
}
