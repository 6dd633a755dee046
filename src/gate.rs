//! The gate before production: a version against the one that answers, on rows that neither learned from.

use headstart_methods::artifact::Artifact;
use headstart_methods::gate::{self, Evidence, Versions};
use headstart_methods::{MethodError, few_shot};
use headstart_store::{Expected, Store, StoreError};
use headstart_types::classifier::{ClassifierId, ClassifierVersion, Origin};
use headstart_types::gate::Comparison;

use crate::rollout::LARGEST_ARTIFACT;

/// Largest evidence of a version, in bytes.
pub(crate) const LARGEST_EVIDENCE: u64 = 1 << 30;

/// Why versions are not compared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored beside a version is not what this service writes.
    #[error("{version}: {source}")]
    Evidence {
        /// The version.
        version: String,
        /// What is wrong.
        source: MethodError,
    },
    /// The thread that did it.
    #[error("the versions were not compared")]
    CutOff,
}

/// A classifier as it was looked at, and the version in production.
pub(crate) struct Standing {
    pub(crate) expected: Expected,
    /// The number of its last version; 0 where there was none.
    pub(crate) last: u32,
    pub(crate) production: Option<ClassifierVersion>,
}

/// What there is under a name, and in production if anything is.
pub(crate) async fn standing(store: &Store, id: &ClassifierId) -> Result<Standing, StoreError> {
    let classifier = match store.classifier(id).await {
        Ok(classifier) => classifier,
        Err(StoreError::NotFound { .. }) => {
            return Ok(Standing { expected: Expected::New, last: 0, production: None });
        }
        Err(error) => return Err(error),
    };
    let production = match classifier.production {
        Some(number) => Some(store.version(id, number).await?),
        None => None,
    };
    let expected = Expected::Revision(classifier.revision);
    Ok(Standing { expected, last: classifier.last_version, production })
}

/// What a version said of its held-out rows and learned from, where that is stored.
pub(crate) async fn evidence_of(
    store: &Store,
    version: &ClassifierVersion,
) -> Result<Option<Evidence>, GateError> {
    let damaged = |source| GateError::Evidence { version: version.model_name(), source };
    if let Some(blob) = &version.evidence {
        let bytes = store.blobs().read(blob, LARGEST_EVIDENCE).await?;
        return Evidence::from_bytes(&bytes).map(Some).map_err(damaged);
    }
    if version.origin == Origin::Job {
        return Ok(None);
    }
    let bytes = store.blobs().read(&version.artifact, LARGEST_ARTIFACT).await?;
    match Artifact::load(&bytes).map_err(damaged)? {
        // A head that took examples in knows no more of them than their means.
        Artifact::Head(_) => Ok(None),
        Artifact::FewShot(_) => {
            let (few_shot, shown) = few_shot::load(&bytes).map_err(damaged)?;
            Ok(Some(Evidence::of_examples(&few_shot, &shown)))
        }
    }
}

/// Compares a version with the one in production; `None` where there is no other.
pub(crate) async fn compare(
    store: &Store,
    id: &ClassifierId,
    number: u32,
    alpha: f64,
) -> Result<Option<Comparison>, GateError> {
    let candidate = store.version(id, number).await?;
    let production = standing(store, id).await?.production.filter(|production| production.number != number);
    let Some(production) = production else { return Ok(None) };
    let versions = Versions { candidate: number, production: production.number };
    let of = (evidence_of(store, &candidate).await?, evidence_of(store, &production).await?);
    judge(versions, of, alpha).await.map(Some)
}

/// Compares by what is known of both, on a thread that may take its time.
pub(crate) async fn judge(
    versions: Versions,
    (candidate, production): (Option<Evidence>, Option<Evidence>),
    alpha: f64,
) -> Result<Comparison, GateError> {
    let work = move || gate::compare(versions, candidate.as_ref(), production.as_ref(), alpha);
    tokio::task::spawn_blocking(work).await.map_err(|_| GateError::CutOff)
}
