//! What a caller may see: the store behind a request, and whose rows are shown.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::sync::Arc;

use headstart_store::{Scope, Store};
use headstart_types::classifier::{Classifier, ClassifierId, Reason};

use crate::app::App;
use crate::auth::Identity;
use crate::http::error::ApiError;
use crate::keys::Place;

/// The store as one caller sees it.
#[derive(Clone)]
pub(crate) struct Visible {
    pub(crate) app: Arc<App>,
    pub(crate) store: Store,
    pub(crate) identity: Identity,
    /// The request's place among those of its key that are open; none where no keys are set.
    pub(crate) place: Option<Arc<Place>>,
}

impl FromRequestParts<Arc<App>> for Visible {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let identity = parts.extensions.get::<Identity>().copied().ok_or_else(ApiError::internal)?;
        let store = app.store().cloned().ok_or_else(ApiError::not_ready)?;
        let place = parts.extensions.get::<Arc<Place>>().cloned();
        Ok(Self { app: Arc::clone(app), store, identity, place })
    }
}

impl Visible {
    /// Whose files and jobs are shown.
    pub(crate) fn scope(&self) -> Scope<'static> {
        if self.sees_all() { Scope::All } else { Scope::Key(self.identity.key) }
    }

    fn sees_all(&self) -> bool {
        self.identity.admin && self.app.keys.are_asked_for()
    }

    /// The classifier of a name: the caller's own, or for an administrator `owner/name`.
    pub(crate) fn classifier(&self, id: &str) -> Result<ClassifierId, ApiError> {
        match id.rsplit_once('/') {
            None => Ok(ClassifierId { key: self.identity.key.to_owned(), name: id.to_owned() }),
            Some((key, name)) if self.sees_all() || key == self.identity.key => {
                Ok(ClassifierId { key: key.to_owned(), name: name.to_owned() })
            }
            Some(_) => Err(ApiError::not_found(format!("classifier `{id}` does not exist"))),
        }
    }

    /// The name under which the caller reaches a classifier.
    pub(crate) fn name_of(&self, id: &ClassifierId) -> String {
        if id.key == self.identity.key { id.name.clone() } else { format!("{}/{}", id.key, id.name) }
    }

    /// How often the classifier's shadow said the same as the version that answered, and how often something else.
    pub(crate) fn shadow_counts(&self, classifier: &Classifier) -> Option<(u64, u64)> {
        let id = (classifier.id.key.as_str(), classifier.id.name.as_str());
        classifier.shadow.map(|version| self.app.tasks.classifiers.shadow_counts(id, version))
    }

    /// The caller's reason for moving a pointer.
    pub(crate) fn reason(&self, words: Option<String>) -> Reason {
        Reason { who: self.identity.key.to_owned(), reason: words.unwrap_or_default(), gate: None }
    }
}
