//! Why the store refused or failed.

use std::io::ErrorKind;

use headstart_types::ids::JobId;

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row for whoever asks.
    #[error("{what} `{id}` does not exist")]
    NotFound {
        /// The kind of row.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The row's state does not allow it; the message says which.
    #[error("{0}")]
    Conflict(String),
    /// Another worker holds the job, or it is over: nothing was written.
    #[error("the lease on job `{0}` is lost")]
    LeaseLost(JobId),
    /// A key has as many rows of a kind as it may.
    #[error("at most {limit} {what} at a time")]
    TooMany {
        /// The kind of row, in the plural.
        what: &'static str,
        /// The limit.
        limit: u32,
    },
    /// A key's files would take more room than it has.
    #[error("{needed} bytes more would exceed the quota: {used} of {limit} bytes are used")]
    Quota {
        /// Bytes its files take.
        used: u64,
        /// Bytes they may take.
        limit: u64,
        /// Bytes that the new file takes.
        needed: u64,
    },
    /// An argument that no row can hold.
    #[error("`{field}` {problem}")]
    Invalid {
        /// The argument.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The disk, or the quota of the user on it, is full.
    #[error("the disk is full")]
    DiskFull,
    /// A newer build has changed the database's form.
    #[error("the database has form {found}, this build knows {known}: run a newer build or restore a backup")]
    Newer {
        /// The database's form.
        found: i64,
        /// The newest form that this build knows.
        known: i64,
    },
    /// A row or blob holds what the store never writes.
    #[error("{what} is corrupt: {problem}")]
    Corrupt {
        /// Where it stands.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The database failed, or was kept busy: [`StoreError::is_busy`].
    #[error("database: {0}")]
    Database(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// What cannot happen did.
    #[error("bug: {0}")]
    Bug(&'static str),
}

impl StoreError {
    /// An error of the file system, with a full disk told apart.
    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        if is_full(source.kind()) { Self::DiskFull } else { Self::Io { what: what.into(), source } }
    }

    pub(crate) fn busy() -> Self {
        Self::Database(Box::new(Busy))
    }

    /// Whether other processes on the data folder did not let this one write in time: nothing was written, and it may be tried
    /// again.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Database(source) if source.is::<Busy>())
    }

    /// Whether the same will be said again: what is asked for is gone or damaged, and the store itself is not.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::Invalid { .. } | Self::Newer { .. } | Self::Corrupt { .. } => true,
            Self::Conflict(_)
            | Self::LeaseLost(_)
            | Self::TooMany { .. }
            | Self::Quota { .. }
            | Self::Database(_)
            | Self::Io { .. }
            | Self::DiskFull
            | Self::Closed
            | Self::Bug(_) => false,
        }
    }

    pub(crate) fn missing(what: &'static str, id: impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    pub(crate) fn corrupt(what: impl Into<String>, problem: impl ToString) -> Self {
        Self::Corrupt { what: what.into(), problem: problem.to_string() }
    }
}

/// No turn to write came in time.
#[derive(Debug, thiserror::Error)]
#[error("other processes kept it busy for too long")]
struct Busy;

/// Whether an error of the file system says that there is no room: on the disk, or for the user on it.
#[must_use]
pub fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_that_is_used_up_is_a_full_disk_and_other_errors_are_not() {
        for (kind, full) in [
            (ErrorKind::StorageFull, true),
            (ErrorKind::QuotaExceeded, true),
            (ErrorKind::PermissionDenied, false),
            (ErrorKind::FileTooLarge, false),
        ] {
            assert_eq!(is_full(kind), full, "{kind}");
            let error = StoreError::io("a blob", kind.into());
            assert_eq!(matches!(error, StoreError::DiskFull), full, "{error}");
        }
    }
}
