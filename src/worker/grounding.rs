//! The backbone that a job's features come of and its versions are made of: what is known of it, while it may come and go.

use std::sync::Arc;

use headstart_engine::Folder;
use headstart_methods::tune::Plan;
use headstart_methods::{Method, Needs};
use headstart_tasks::{Served, TaskError};
use headstart_types::Manifest;
use headstart_types::payload::Modality;

use crate::app::App;
use crate::precision;
use crate::worker::control::Stop;

/// The backbone that gives a job its features: its folder and key, not the loaded model, which may be unloaded between
/// two steps.
#[derive(Clone)]
pub(super) struct FeatureBackbone {
    pub(super) folder: Folder,
    /// Names its weights: steps are kept under it, so that none is taken up on another's.
    pub(super) key: String,
}

/// What the examples' features come of, and the version will be made of: the backbone that is asked for where that is trained
/// itself or rounded again, else the one that is trained.
///
/// # Errors
/// The job's stop.
pub(super) async fn grounded(
    app: &App,
    asked: &str,
    method: &dyn Method,
    plan: Option<&Plan>,
) -> Result<FeatureBackbone, Stop> {
    let features = FeatureBackbone::of(&*app.tasks.catalog.get(asked).await?);
    let (Needs::Graph, Some(plan)) = (method.needs(), plan) else { return Ok(features) };
    let refused = |problem: String| {
        Stop::refused("unsuitable_model", format!("`{asked}` cannot be trained: {problem}"), "model")
    };
    let trained =
        features.trained(app).await?.map(|trained| FeatureBackbone::of(&trained)).map_err(refused)?;
    let embeddings = plan.recipe.embeddings;
    precision::check(app, &features.folder, &trained.folder, embeddings).await.map_err(refused)?;
    Ok(if features.manifest().backbone.requantise { features } else { trained })
}

impl FeatureBackbone {
    fn of(served: &Served) -> Self {
        Self { folder: served.folder().clone(), key: served.key() }
    }

    pub(super) fn manifest(&self) -> &Manifest {
        self.folder.manifest()
    }

    pub(super) fn id(&self) -> &str {
        &self.manifest().backbone.id
    }

    pub(super) fn modality(&self) -> Modality {
        self.manifest().backbone.modality
    }

    /// Keeps it in memory for as long as what is returned lives.
    ///
    /// # Errors
    /// The job's stop, also when another backbone has its name by now.
    pub(super) async fn held(&self, app: &App) -> Result<Arc<Served>, Stop> {
        let served = app.tasks.catalog.get(self.id()).await?;
        if served.key() == self.key {
            Ok(served)
        } else {
            Err(Stop::Broken("the backbone was replaced".into()))
        }
    }

    /// What is trained in its place, or itself, in memory; within, why it cannot be trained.
    ///
    /// # Errors
    /// [`TaskError::NoRoom`] and [`TaskError::Unloaded`].
    pub(super) async fn trained(&self, app: &App) -> Result<Result<Arc<Served>, String>, TaskError> {
        app.tasks.trained(self.manifest()).await
    }
}
