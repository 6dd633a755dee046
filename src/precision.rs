//! Backbones of low precision in jobs that train the backbone itself: what is trained is the original, and what comes of it is
//! rounded for the backbone again where its manifest says so.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use headstart_engine::Folder;
use headstart_methods::tune;

use crate::app::App;
use crate::folders;

/// Pairs of graphs that were looked at and go together: the digests of both, and whether tables of embeddings were among the
/// weights.
#[derive(Debug, Default)]
pub(crate) struct Pairs(Mutex<HashSet<(String, String, bool)>>);

/// Whether all that may be trained can be rounded for the backbone that was asked for, where it is to be; tables of embeddings
/// are among it where `embeddings` says so. Reads both graphs, until a pair is known to go together; neither backbone has to be in
/// memory.
///
/// # Errors
/// Why not, in words.
pub(crate) async fn check(
    app: &App,
    asked: &Folder,
    trained: &Folder,
    embeddings: bool,
) -> Result<(), String> {
    let id = |folder: &Folder| folder.manifest().backbone.id.clone();
    if !asked.manifest().backbone.requantise || id(asked) == id(trained) {
        return Ok(());
    }
    let sha256 = |folder: &Folder| folder.manifest().backbone.sha256.to_lowercase();
    let pair = (sha256(trained), sha256(asked), embeddings);
    let known = || app.pairs.0.lock().unwrap_or_else(PoisonError::into_inner);
    if known().contains(&pair) {
        return Ok(());
    }
    let (original, quantised) = (trained.clone(), asked.clone());
    let checking = tokio::task::spawn_blocking(move || {
        let (first, second) = (graph(&original)?, graph(&quantised)?);
        let checked = tune::can_be_rounded((&first.0, &first.1), (&second.0, &second.1), embeddings);
        checked.map_err(|error| error.to_string())
    });
    checking.await.map_err(|_| "its weights were not looked at".to_owned())??;
    known().insert(pair);
    Ok(())
}

/// A backbone's graph and the name of its features.
fn graph(folder: &Folder) -> Result<(Vec<u8>, String), String> {
    let graph = folders::features_graph(folder).map_err(|error| error.reason())?;
    graph.ok_or_else(|| "it has no features".to_owned())
}
