//! What survives: files, jobs with their events and checkpoints, classifiers and their versions, idempotency keys, purges,
//! API keys, acts, and blobs. Rows live in SQLite inside one folder, bytes beside them; states, leases and limits are the same over any
//! back end. Nothing here knows what a job does.
//!
//! Every time is an argument, in milliseconds since the epoch, so that tests own the clock.

mod acts;
mod backend;
mod backup;
mod blobs;
mod error;
mod files;
mod idempotency;
mod jobs;
mod keys;
mod page;
mod private;
mod purges;
mod registry;
mod store;
mod webhooks;

pub use backup::{BackedUp, restore};
pub use blobs::{BlobInfo, BlobReader, BlobStore, BlobWriter, Collected, LocalBlobs, Withdrawn, Young};
pub use error::{StoreError, is_full};
pub use files::{DeletedFile, FileFilter};
pub use idempotency::{Begun, NewRequest, RequestKey, StoredAnswer, Ticket};
pub use jobs::{Beat, ClaimLimits, JobFilter, QueueSize, Trigger, next};
pub use keys::MAX_KEYS;
pub use page::{Order, Page, PageRequest, Scope};
pub use private::make_private;
pub use purges::{FileChange, NewPurge, VersionChange};
pub use registry::{Ending, Expected, Published, When};
pub use store::{MAX_LEASE_MS, Store};
pub use webhooks::Outbox;
