//! Evidence of versions without the digests that rows are known by.

use std::collections::{BTreeSet, HashSet};

use headstart_methods::few_shot::Content;
use headstart_methods::gate::Evidence;
use headstart_store::Store;
use headstart_types::classifier::ClassifierVersion;
use headstart_types::ids::Sha256;

use crate::gate::LARGEST_EVIDENCE;
use crate::purge::PurgeError;

/// The evidence that knows such rows, as it is and without them; the new one is durable.
pub(super) async fn without(
    store: &Store,
    versions: &[ClassifierVersion],
    contents: &HashSet<Content>,
) -> Result<Vec<(Sha256, Sha256)>, PurgeError> {
    let evidence: BTreeSet<&Sha256> =
        versions.iter().filter_map(|version| version.evidence.as_ref()).collect();
    let mut changed = Vec::new();
    for blob in evidence {
        let bytes = store.blobs().read(blob, LARGEST_EVIDENCE).await?;
        if let Some(without) = Evidence::from_bytes(&bytes)?.without(contents) {
            let without = store.blobs().put(&without.to_bytes()?).await?.sha256;
            changed.push((blob.clone(), without));
        }
    }
    Ok(changed)
}
