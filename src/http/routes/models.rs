//! Which models there are, what they read and give, and what is broken and why.

use std::collections::HashSet;
use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use headstart_store::{Scope, Store};
use headstart_tasks::classifiers::{Described, Reach};
use headstart_tasks::{Entry, Known, State as Standing, TaskError};
use headstart_types::classifier::{Classifier, ClassifierId};
use headstart_types::job::Checkpoint;
use headstart_types::payload::Modality;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::auth::Identity;
use crate::http::error::{ApiError, ErrorBody};
use crate::http::path::Path;

/// All models.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// Always `list`.
    #[schema(example = "list")]
    object: &'static str,
    /// Backbones in order of their names; then the key's classifiers, and those of other keys, in order of theirs.
    data: Vec<ModelObject>,
}

/// A model: a backbone or a classifier. `created`, `id`, `object` and `owned_by` are OpenAI's.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelObject {
    /// The name requests use.
    #[schema(example = "all-minilm-l6-v2")]
    id: String,
    /// Always `model`.
    #[schema(example = "model")]
    object: &'static str,
    /// When it was loaded, or a classifier made, seconds since the epoch.
    created: u64,
    /// Always `headstart`.
    #[schema(example = "headstart")]
    owned_by: &'static str,
    /// `ready`, `loading`, `unloaded` or `broken`; of a classifier what its backbone is.
    #[schema(example = "ready")]
    status: &'static str,
    /// Why it is broken or unloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// What is known of a backbone that is ready.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ModelDetails)]
    details: Option<ModelDetails>,
    /// What is known of a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    classifier: Option<Described>,
}

/// What is known of a backbone that is ready; models of other kinds have none of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelDetails {
    /// What it reads.
    #[schema(required = false)]
    modality: Modality,
    /// All that it reads, where that is more than one modality.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    modalities: Vec<Modality>,
    /// Length of its vectors; absent where it reads pairs of texts and gives none.
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<usize>,
    /// Longest text in tokens, or in words for a table of word vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<usize>,
    /// Names of the prefixes it knows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    prompts: Vec<String>,
    /// Whether it scores labels that nobody trained on.
    #[schema(required = false)]
    zero_shot: bool,
    /// What its weights were trained on.
    #[schema(required = false)]
    source_task: String,
    /// The full-precision model a quantised one was made from.
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<String>,
    /// Licence of the weights.
    #[schema(required = false)]
    licence: String,
    /// SHA-256 of the graph, or of the index of a table of word vectors.
    #[schema(required = false)]
    sha256: String,
    /// Where it runs: `cpu` or `cuda`.
    #[schema(required = false)]
    provider: &'static str,
    /// Lowest cosine between an item alone and among others in one call, measured at the start where items may share one.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch_invariance: Option<f32>,
    /// Words of a table of word vectors.
    #[serde(skip_serializing_if = "Option::is_none")]
    table_words: Option<usize>,
}

/// Classifiers read at a time.
const PAGE: u32 = 500;

impl ModelObject {
    /// A classifier of this key; `None` when no version of it answers under that name.
    async fn classifier(app: &App, key: &str, id: &str, created_at: i64) -> Option<Self> {
        let described = app.tasks.classifiers.describe(key, id).await?;
        let (state, reason) = standing(app, &described);
        Some(Self {
            id: id.to_owned(),
            object: "model",
            created: u64::try_from(created_at / 1000).unwrap_or_default(),
            owned_by: "headstart",
            status: state.as_str(),
            error: reason.map(|reason| format!("its backbone: {reason}")),
            details: None,
            classifier: Some(described),
        })
    }

    pub(super) fn new(id: String, known: &Known) -> Self {
        let object = Self {
            id,
            object: "model",
            created: 0,
            owned_by: "headstart",
            status: known.state().as_str(),
            error: known.reason(),
            details: None,
            classifier: None,
        };
        match &known.entry {
            Entry::Resting | Entry::Unloaded | Entry::Broken(_) => object,
            Entry::Served(served) => {
                let manifest = served.manifest();
                let text = manifest.text.as_ref();
                let words = manifest.words.as_ref();
                let details = ModelDetails {
                    modality: manifest.backbone.modality,
                    modalities: Some(manifest.modalities()).filter(|all| all.len() > 1).unwrap_or_default(),
                    dimension: served.gives_features().then_some(manifest.dimension()),
                    max_tokens: text.map(|text| text.max_tokens).or(words.map(|words| words.max_words)),
                    prompts: text.map(|text| text.prompts.keys().cloned().collect()).unwrap_or_default(),
                    zero_shot: manifest.zero_shot.is_some(),
                    source_task: manifest.backbone.source_task.clone(),
                    original: manifest.backbone.original.clone(),
                    licence: manifest.backbone.licence.clone(),
                    sha256: manifest.backbone.sha256.clone(),
                    provider: served.provider(),
                    batch_invariance: served.batch_invariance(),
                    table_words: served.table_words(),
                };
                Self { created: served.loaded_at, details: Some(details), ..object }
            }
        }
    }
}

/// The state of a classifier's backbone, and why it does not answer at once.
fn standing(app: &App, classifier: &Described) -> (Standing, Option<String>) {
    let Some(known) = app.tasks.catalog.entry(&classifier.answering) else {
        return (Standing::Broken, Some("it is not there".into()));
    };
    match &known.entry {
        Entry::Served(served) if !classifier.answers_on(served) => {
            (Standing::Broken, Some("another one has its name now, whose features would not fit".into()))
        }
        Entry::Served(_) | Entry::Resting | Entry::Unloaded | Entry::Broken(_) => {
            (known.state(), known.reason())
        }
    }
}

/// The classifiers that a key may ask as models: its own, then those of others.
async fn classifiers(app: &App, key: &str) -> Result<Vec<ModelObject>, ApiError> {
    let Some(store) = app.store() else { return Ok(Vec::new()) };
    let mut models = of(app, store, key, Scope::Key(key)).await?;
    match app.tasks.classifiers.reach(key) {
        None => {}
        Some(Reach::All) => models.extend(of(app, store, key, Scope::All).await?),
        Some(Reach::Of(owners)) => {
            for owner in owners {
                models.extend(of(app, store, key, Scope::Key(&owner)).await?);
            }
        }
    }
    let mut known = HashSet::new();
    models.retain(|model| known.insert(model.id.clone()));
    Ok(models)
}

/// The classifiers of a scope as a key names them.
async fn of(app: &App, store: &Store, key: &str, scope: Scope<'_>) -> Result<Vec<ModelObject>, ApiError> {
    let mut models = Vec::new();
    let mut after = None;
    loop {
        let page = store.classifiers(scope, after.as_ref(), PAGE).await?;
        for Classifier { id, created_at, .. } in &page.data {
            let name = if id.key == key { id.name.clone() } else { format!("{}/{}", id.key, id.name) };
            models.extend(ModelObject::classifier(app, key, &name, *created_at).await);
        }
        after = page.data.last().map(|classifier| classifier.id.clone());
        if !page.has_more || after.is_none() {
            return Ok(models);
        }
    }
}

/// All models.
#[utoipa::path(
    get,
    path = "/v1/models",
    operation_id = "list_models",
    tag = "Models",
    summary = "List the models",
    description = "Backbones, broken ones with the reason; then the key's classifiers by their bare names, and those of \
                   other keys that it may ask as `owner/name`.",
    responses(
        (status = 200, description = "All models.", body = ModelList),
        (status = 401, description = "Missing or unknown key.", body = ErrorBody),
        (status = 403, description = "The key lacks the scope.", body = ErrorBody),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
) -> Result<Json<ModelList>, ApiError> {
    let backbones = app.tasks.catalog.list().into_iter();
    let mut data: Vec<ModelObject> = backbones.map(|(id, entry)| ModelObject::new(id, &entry)).collect();
    data.extend(classifiers(&app, identity.key).await?);
    Ok(Json(ModelList { object: "list", data }))
}

/// One model.
#[utoipa::path(
    get,
    path = "/v1/models/{id}",
    operation_id = "retrieve_model",
    tag = "Models",
    summary = "One model",
    description = "A backbone, or a classifier by its name, `name@version`, `name@alias` or the name of a job's checkpoint.",
    params(("id" = String, Path, description = "The model's name", example = "all-minilm-l6-v2")),
    responses(
        (status = 200, description = "The model.", body = ModelObject),
        (status = 401, description = "Missing or unknown key.", body = ErrorBody),
        (status = 403, description = "The key lacks the scope.", body = ErrorBody),
        (status = 404, description = "No model of that name.", body = ErrorBody),
    ),
    security((), ("key" = []))
)]
pub(crate) async fn retrieve(
    State(app): State<Arc<App>>,
    Extension(identity): Extension<Identity>,
    Path(id): Path<String>,
) -> Result<Json<ModelObject>, ApiError> {
    if let Some(entry) = app.tasks.catalog.named(&id) {
        return Ok(Json(ModelObject::new(id, &entry)));
    }
    let found = match made_at(&app, identity.key, &id).await {
        Some(made_at) => ModelObject::classifier(&app, identity.key, &id, made_at).await,
        None => None,
    };
    Ok(Json(found.ok_or(TaskError::UnknownModel(id))?))
}

/// When a key's classifier or checkpoint was made.
async fn made_at(app: &App, key: &str, model: &str) -> Option<i64> {
    let store = app.store()?;
    let (owner, name) = app.tasks.classifiers.owner_of(key, model)?;
    if let Some((_, job, step)) = Checkpoint::parse_name(name) {
        return store.checkpoint(&job, step).await.ok().map(|checkpoint| checkpoint.created_at);
    }
    let name = name.split('@').next().unwrap_or_default().to_owned();
    let id = ClassifierId { key: owner.to_owned(), name };
    store.classifier(&id).await.ok().map(|classifier| classifier.created_at)
}
