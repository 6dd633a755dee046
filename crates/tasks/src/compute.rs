//! What computes a backbone's features: a graph on the engine's lanes, or a table of word vectors on the CPU pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use headstart_engine::{Backbone, EngineError, Folder, Permit, Places};
use headstart_telemetry::ModelMetrics;
use headstart_types::Manifest;
use headstart_vectors::Table;

/// What computes a backbone's features. Both kinds admit, refuse and count alike.
pub(crate) enum Compute {
    Graph(Backbone),
    Table(TableBackbone),
}

/// A table of word vectors with a queue as a graph has one.
pub(crate) struct TableBackbone {
    pub(crate) table: Arc<Table>,
    pub(crate) pace: Arc<Pace>,
    folder: Folder,
    places: Places,
}

/// How long an item takes, a moving average.
#[derive(Debug, Default)]
pub(crate) struct Pace(AtomicU64);

impl Pace {
    /// Learns from `items` that took so long in all. A lost update between two threads is harmless.
    pub(crate) fn learn(&self, items: usize, took: Duration) {
        let each = took.as_nanos() as u64 / items.max(1) as u64;
        let old = self.0.load(Ordering::Relaxed);
        let new = if old == 0 { each } else { old - old / 8 + each / 8 };
        // 0 stands for nothing seen yet.
        self.0.store(new.max(1), Ordering::Relaxed);
    }
}

impl TableBackbone {
    pub(crate) fn new(table: Arc<Table>, folder: Folder, places: Places) -> Self {
        Self { table, pace: Arc::default(), folder, places }
    }
}

impl Compute {
    pub(crate) fn folder(&self) -> &Folder {
        match self {
            Self::Graph(backbone) => backbone.folder(),
            Self::Table(table) => &table.folder,
        }
    }

    pub(crate) fn manifest(&self) -> &Manifest {
        self.folder().manifest()
    }

    pub(crate) fn metrics(&self) -> &ModelMetrics {
        match self {
            Self::Graph(backbone) => backbone.metrics(),
            Self::Table(table) => table.places.metrics(),
        }
    }

    pub(crate) fn queue_items(&self) -> usize {
        match self {
            Self::Graph(backbone) => backbone.queue_items(),
            Self::Table(table) => table.places.items(),
        }
    }

    /// Takes places in the queue, or refuses at once.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`] with a time to come back.
    pub(crate) fn admit(&self, items: usize) -> Result<Permit, EngineError> {
        match self {
            Self::Graph(backbone) => backbone.admit(items),
            Self::Table(TableBackbone { folder, places, pace, .. }) => {
                // One at a time: how many the pool runs beside others' work is not known here.
                let retry_after = || places.retry_after(items, pace.0.load(Ordering::Relaxed), 1);
                places.take(items).ok_or_else(|| EngineError::QueueFull {
                    model: folder.manifest().backbone.id.clone(),
                    limit: places.items(),
                    retry_after: retry_after(),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use headstart_telemetry::Metrics;
    use headstart_vectors::{Builder, INDEX, Precision, VECTORS};

    use super::*;

    #[test]
    fn a_table_refuses_more_than_its_queue_holds_and_takes_again_what_was_given_back() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("few");
        std::fs::create_dir(&path).unwrap();
        let mut builder = Builder::create(&path.join(VECTORS), 1, Precision::F32).unwrap();
        builder.push("a", &[1.0]).unwrap();
        let (bytes, sha256) = builder.finish().unwrap().to_bytes();
        std::fs::write(path.join(INDEX), bytes).unwrap();
        let manifest = format!(
            "version = 1\n[backbone]\nid = \"few\"\nmodality = \"text\"\nfile = \"{INDEX}\"\nsha256 = \"{sha256}\"\n\
             licence = \"CC0-1.0\"\nsource_task = \"none\"\n[words]\nvectors = \"{VECTORS}\"\nsplit = \"space\"\n\
             case = \"keep\"\n[output.features]\npooling = \"mean\"\nnormalise = false\ndimension = 1\n"
        );
        std::fs::write(path.join("headstart.toml"), manifest).unwrap();
        let folder = Folder::open(&path).unwrap();
        let table = Arc::new(Table::open(&path, folder.manifest()).unwrap());
        let metrics = Metrics::new("0").unwrap().for_model("few");
        let places = Places::new(2, metrics.clone());
        let compute = Compute::Table(TableBackbone::new(table, folder, places));
        let held = compute.admit(2).unwrap();
        let refused = compute.admit(1).err();
        assert!(
            matches!(refused, Some(EngineError::QueueFull { ref model, limit: 2, .. }) if model == "few")
        );
        assert_eq!((compute.queue_items(), metrics.queue_items.get()), (2, 2));
        drop(held);
        assert!(compute.admit(1).is_ok());
    }

    #[test]
    fn the_pace_follows_what_was_seen() {
        let pace = Pace::default();
        pace.learn(10, Duration::from_nanos(8000));
        assert_eq!(pace.0.load(Ordering::Relaxed), 800);
        pace.learn(1, Duration::from_nanos(1600));
        assert_eq!(pace.0.load(Ordering::Relaxed), 900);
    }
}
