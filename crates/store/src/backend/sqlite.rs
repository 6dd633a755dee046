//! SQLite in this process: one thread writes, others read, a write-ahead log lets them pass each other.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};
use tokio::sync::{mpsc, oneshot};

use super::turns::Turns;
use super::{Backend, Batch, Row, Statement, Value, Written};
use crate::error::StoreError;

/// Each file is applied once, in order, and never edited: `user_version` counts them.
const MIGRATIONS: [&str; 8] = [
    include_str!("../../migrations/sqlite/0001_start.sql"),
    include_str!("../../migrations/sqlite/0002_webhooks.sql"),
    include_str!("../../migrations/sqlite/0003_purges.sql"),
    include_str!("../../migrations/sqlite/0004_evidence.sql"),
    include_str!("../../migrations/sqlite/0005_served.sql"),
    include_str!("../../migrations/sqlite/0006_keys.sql"),
    include_str!("../../migrations/sqlite/0007_traceparent.sql"),
    include_str!("../../migrations/sqlite/0008_items_of_keys.sql"),
];

/// How long a writer waits for its turn, and for a transaction of whoever takes no turns.
const BUSY: Duration = Duration::from_secs(10);
/// How long the log's end waits for readers.
const SCRUB: Duration = Duration::from_secs(1);
/// Connections that read.
const READERS: usize = 2;
/// Work that waits for a connection; senders beyond wait themselves.
const QUEUE: usize = 64;

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A thread with its connection.
struct Worker {
    work: Option<mpsc::Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

/// A database in one file, or in memory.
pub(crate) struct Sqlite {
    /// `None` in memory, where nobody else can open it.
    file: Option<PathBuf>,
    /// Likewise.
    turns: Option<Arc<Turns>>,
    busy: Duration,
    writer: Worker,
    /// Empty in memory: the writer reads.
    readers: Vec<Worker>,
    turn: AtomicUsize,
}

impl Sqlite {
    /// Opens or makes the database in `file`. Blocking.
    pub(crate) fn open(file: &Path) -> Result<Self, StoreError> {
        Self::open_within(file, BUSY)
    }

    /// The same with another patience for those who write.
    pub(crate) fn open_within(file: &Path, busy: Duration) -> Result<Self, StoreError> {
        let turns = Turns::open(file)?;
        // Processes that start together would meet in the change of mode, which waits for nobody.
        let start = turns.start(busy)?;
        let mut writer = connect(file, busy)?;
        // The mode is a property of the file: every later connection finds it.
        writer.pragma_update(None, "journal_mode", "wal").map_err(translate)?;
        migrate(&mut writer)?;
        drop(start);
        let mut readers = Vec::with_capacity(READERS);
        for number in 0..READERS {
            let reader = connect(file, busy)?;
            reader.pragma_update(None, "query_only", true).map_err(translate)?;
            readers.push(Worker::start(format!("store-read-{number}"), reader)?);
        }
        let writer = Worker::start("store-write".into(), writer)?;
        let (file, turns) = (Some(file.to_owned()), Some(Arc::new(turns)));
        Ok(Self { file, turns, busy, writer, readers, turn: AtomicUsize::new(0) })
    }

    /// A database that ends with the process. Blocking.
    pub(crate) fn in_memory() -> Result<Self, StoreError> {
        let mut connection = Connection::open_in_memory().map_err(translate)?;
        prepare(&connection, BUSY)?;
        migrate(&mut connection)?;
        let writer = Worker::start("store-write".into(), connection)?;
        let (readers, turn) = (Vec::new(), AtomicUsize::new(0));
        Ok(Self { file: None, turns: None, busy: BUSY, writer, readers, turn })
    }

    fn reader(&self) -> &Worker {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.readers.get(turn % self.readers.len().max(1)).unwrap_or(&self.writer)
    }
}

#[async_trait]
impl Backend for Sqlite {
    async fn read(&self, statement: Statement) -> Result<Vec<Row>, StoreError> {
        self.reader().run(move |connection| run(connection, &statement).map(|(rows, _)| rows)).await
    }

    async fn write(&self, batch: Batch) -> Result<Written, StoreError> {
        let (turns, busy) = (self.turns.clone(), self.busy);
        let in_turn = move |connection: &mut Connection| {
            let _turn = turns.as_ref().map(|turns| turns.take(busy)).transpose()?;
            write(connection, &batch)
        };
        self.writer.run(in_turn).await
    }

    async fn scrub(&self) -> Result<bool, StoreError> {
        let Some(file) = self.file.clone() else { return Ok(true) };
        // A connection of its own: the writer is not to wait for readers.
        let scrub = move || -> Result<bool, StoreError> {
            let connection = connect(&file, SCRUB)?;
            // It keeps writers out too. Whoever never rests would not let it begin.
            let turns = Turns::open(&file)?;
            let _turn = match turns.take(SCRUB) {
                Err(error) if error.is_busy() => return Ok(false),
                turn => turn?,
            };
            let end = "PRAGMA wal_checkpoint(TRUNCATE)";
            let busy: i64 = connection.query_row(end, [], |row| row.get(0)).map_err(translate)?;
            Ok(busy == 0)
        };
        tokio::task::spawn_blocking(scrub).await.map_err(|_| StoreError::Closed)?
    }

    async fn copy_to(&self, file: &Path) -> Result<(), StoreError> {
        let to = file.to_owned();
        let copy = move |connection: &mut Connection| -> Result<(), StoreError> {
            let name = to
                .to_str()
                .ok_or_else(|| StoreError::Invalid { field: "file", problem: "is no Unicode path".into() })?;
            connection.execute("VACUUM INTO ?1", [name]).map_err(translate)?;
            let copied = std::fs::File::open(&to).map_err(|error| StoreError::io("open the copy", error))?;
            copied.sync_all().map_err(|error| StoreError::io("sync the copy", error))
        };
        let Some(file) = self.file.clone() else { return self.writer.run(copy).await };
        // A connection of its own: a large copy must not hold up readers.
        let outcome = tokio::task::spawn_blocking(move || copy(&mut connect(&file, BUSY)?)).await;
        outcome.map_err(|_| StoreError::Closed)?
    }
}

/// Reads a database file that is not in use and leaves no trace beside it. Blocking.
pub(crate) fn read_file(file: &Path, statement: &Statement) -> Result<Vec<Row>, StoreError> {
    run(&connect_to_read(file)?, statement).map(|(rows, _)| rows)
}

/// Checks a database file that is not in use. Blocking.
pub(crate) fn check_file(file: &Path) -> Result<(), StoreError> {
    let connection = connect_to_read(file)?;
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(translate)?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(translate)?;
    if verdict == "ok" { Ok(()) } else { Err(StoreError::corrupt("the database", verdict)) }
}

/// Brings a database file that is not in use to the form of this build. Blocking.
pub(crate) fn migrate_file(file: &Path) -> Result<(), StoreError> {
    migrate(&mut connect(file, BUSY)?)
}

impl Worker {
    fn start(name: String, mut connection: Connection) -> Result<Self, StoreError> {
        let (work, mut queue) = mpsc::channel::<Work>(QUEUE);
        let body = move || {
            while let Some(work) = queue.blocking_recv() {
                work(&mut connection);
            }
        };
        let thread = std::thread::Builder::new().name(name).spawn(body);
        let thread = thread.map_err(|error| StoreError::io("start a thread", error))?;
        Ok(Self { work: Some(work), thread: Some(thread) })
    }

    async fn run<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // The caller may have gone; what was asked for is done all the same.
            let _ = reply.send(work(connection));
        });
        let queue = self.work.as_ref().ok_or(StoreError::Closed)?;
        queue.send(work).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.work = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(file: &Path, busy: Duration) -> Result<Connection, StoreError> {
    let connection = Connection::open(file).map_err(translate)?;
    prepare(&connection, busy)?;
    Ok(connection)
}

fn connect_to_read(file: &Path) -> Result<Connection, StoreError> {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(translate)
}

fn prepare(connection: &Connection, busy: Duration) -> Result<(), StoreError> {
    let set = || -> rusqlite::Result<()> {
        connection.busy_timeout(busy)?;
        // A commit is on the disk before it is answered, also when the power fails.
        connection.pragma_update(None, "synchronous", "full")?;
        // What is deleted is overwritten, not only left to be written over.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(64);
        Ok(())
    };
    set().map_err(translate)
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    // The version is read inside the transaction: two processes may start at the same time.
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(translate)?;
    let known = MIGRATIONS.len() as i64;
    if found > known {
        return Err(StoreError::Newer { found, known });
    }
    for (sql, number) in MIGRATIONS.iter().zip(1..).filter(|(_, number)| *number > found) {
        transaction.execute_batch(sql).map_err(translate)?;
        transaction.pragma_update(None, "user_version", number).map_err(translate)?;
    }
    transaction.commit().map_err(translate)
}

fn write(connection: &mut Connection, batch: &Batch) -> Result<Written, StoreError> {
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(translate)?;
    let mut rows = Vec::new();
    let mut touched = 0;
    for (place, (statement, must)) in batch.steps.iter().enumerate() {
        let (returned, count) = run(&transaction, statement)?;
        if *must && count == 0 {
            return Ok(Written::Missed(place));
        }
        rows.push(returned);
        touched += count;
    }
    let mut revision = None;
    if !batch.quiet && touched > 0 {
        let grow = "UPDATE meta SET value = value + 1 WHERE name = 'revision' RETURNING value";
        let value: i64 = transaction.query_row(grow, [], |row| row.get(0)).map_err(translate)?;
        revision = Some(value.max(0).cast_unsigned());
    }
    transaction.commit().map_err(translate)?;
    Ok(Written::Done { rows, revision })
}

/// Runs a statement: the rows it returned and how many it touched.
fn run(connection: &Connection, statement: &Statement) -> Result<(Vec<Row>, usize), StoreError> {
    let inner = || -> rusqlite::Result<(Vec<Row>, usize)> {
        let mut prepared = connection.prepare_cached(&statement.sql.replace('$', "?"))?;
        let columns = prepared.column_count();
        let values = rusqlite::params_from_iter(statement.values.iter().map(Bound));
        if columns == 0 {
            return prepared.execute(values).map(|count| (Vec::new(), count));
        }
        let mut found = prepared.query(values)?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            rows.push((0..columns).map(|column| row.get_ref(column).map(owned)).collect::<Result<_, _>>()?);
        }
        let count = rows.len();
        Ok((rows, count))
    };
    inner().map_err(translate)
}

struct Bound<'a>(&'a Value);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(value) => ValueRef::Integer(*value),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

/// Columns are integers and texts alone; anything else reads as null and fails where it is decoded.
fn owned(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(value) => Value::Integer(value),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
    }
}

fn translate(error: rusqlite::Error) -> StoreError {
    let code = error.sqlite_error_code();
    // The index of the write-ahead log grows for want of nothing but room.
    let index = error.sqlite_error().is_some_and(|error| error.extended_code == ffi::SQLITE_IOERR_SHMSIZE);
    if index || code == Some(ErrorCode::DiskFull) {
        StoreError::DiskFull
    } else if code == Some(ErrorCode::DatabaseBusy) {
        StoreError::busy()
    } else if matches!(code, Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)) {
        StoreError::corrupt("the database", error)
    } else {
        StoreError::Database(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use headstart_types::ids::{FileId, JobId};

    use super::*;
    use crate::blobs::LocalBlobs;
    use crate::jobs::{Beat, ClaimLimits};
    use crate::store::Store;

    #[test]
    fn a_full_disk_is_an_error_of_its_own_and_undoes_the_batch() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let pages: i64 = connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
        connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 2), [], |_| Ok(())).unwrap();
        let count = Statement::new("SELECT COUNT(*) FROM meta", Vec::new());
        let before = run(&connection, &count).unwrap().0;
        let put = "INSERT INTO meta (name, value) VALUES ($1, 1)";
        let batch = Batch::new().must(put, vec!["small".into()]).must(put, vec!["x".repeat(100_000).into()]);
        assert!(matches!(write(&mut connection, &batch), Err(StoreError::DiskFull)));
        assert_eq!(run(&connection, &count).unwrap().0, before);
    }

    #[test]
    fn a_database_of_the_first_form_keeps_its_rows() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(MIGRATIONS[0]).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let job = "INSERT INTO jobs (id, key, state, model, method, classifier, training_file, seed, metadata, \
                   params_version, params, created_at, updated_at, queued_at) \
                   VALUES ('ftjob-1', 'k', 'queued', 'm', 'auto', 'c', 'file-1', 1, '{}', 1, '{}', 1, 1, 1)";
        connection.execute_batch(job).unwrap();
        migrate(&mut connection).unwrap();
        let found = Statement::new("SELECT id, webhook FROM jobs", Vec::new());
        assert_eq!(run(&connection, &found).unwrap().0, [["ftjob-1".into(), Value::Null]]);
    }

    #[test]
    fn migrations_run_once() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        migrate(&mut connection).unwrap();
        let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, MIGRATIONS.len() as i64);
    }

    /// Long enough for a few hundred commits, and for SQLite to ask two dozen times.
    const SHORT: Duration = Duration::from_secs(1);
    const GROW: &str = "UPDATE meta SET value = value + 1 WHERE name = 'revision'";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_writer_that_never_rests_keeps_no_other_from_writing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let never_rests = Arc::new(Sqlite::open_within(&file, SHORT).unwrap());
        let other = Sqlite::open_within(&file, SHORT).unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let store = Arc::clone(&never_rests);
            tasks.spawn(async move {
                loop {
                    store.write(Batch::quiet().must(GROW, Vec::new())).await.unwrap();
                }
            });
        }
        let mut failed = 0;
        for _ in 0..50 {
            failed += usize::from(other.write(Batch::quiet().must(GROW, Vec::new())).await.is_err());
        }
        tasks.shutdown().await;
        assert_eq!(failed, 0, "of 50");
    }

    #[tokio::test]
    async fn whoever_is_kept_waiting_too_long_is_told_so_and_reading_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let store = Sqlite::open_within(&file, Duration::from_millis(20)).unwrap();
        let write = async || store.write(Batch::quiet().must(GROW, Vec::new())).await;
        let read = async || store.read(Statement::new("SELECT value FROM meta", Vec::new())).await;
        let turns = Turns::open(&file).unwrap();
        let turn = turns.take(SHORT).unwrap();
        assert!(write().await.unwrap_err().is_busy());
        assert!(!store.scrub().await.unwrap());
        read().await.unwrap();
        drop(turn);
        write().await.unwrap();
        // One that takes no turns, such as an earlier build.
        let stranger = Connection::open(&file).unwrap();
        stranger.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(write().await.unwrap_err().is_busy());
        read().await.unwrap();
        stranger.execute_batch("COMMIT").unwrap();
        write().await.unwrap();
        assert!(store.scrub().await.unwrap());
    }

    #[tokio::test]
    async fn looking_for_a_job_and_after_a_lease_waits_for_no_writer() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let backend = Sqlite::open_within(&file, Duration::from_millis(20)).unwrap();
        let blobs = Arc::new(LocalBlobs::open(&folder.path().join("blobs")).unwrap());
        let store = Store::new(Box::new(backend), blobs, None).await.unwrap();
        let limits = ClaimLimits { lease_ms: 1000, lost_max: 3, running_max: 1 };
        let job = "INSERT INTO jobs (id, key, state, model, method, classifier, training_file, seed, metadata, \
                   params_version, params, created_at, updated_at, queued_at) VALUES \
                   ($1, 'k', 'queued', 'm', 'auto', 'c', $2, 1, '{}', 1, '{}', 1, 1, 1)";
        let file_id = FileId::new(1, [0; 10]);
        for number in 0..2 {
            let id = JobId::new(1, [number; 10]);
            store
                .write(Batch::new().must(job, vec![(&id).into(), (&file_id).into()]))
                .await
                .unwrap()
                .unwrap();
        }
        let (lease, _) = store.claim("w", limits, 10).await.unwrap().unwrap();
        let turns = Turns::open(&file).unwrap();
        let _turn = turns.take(SHORT).unwrap();
        assert!(store.claim("v", limits, 20).await.unwrap().is_none(), "its key has as many as it may");
        assert_eq!(store.standing(&lease).await.unwrap(), Beat::Held);
        assert!(store.heartbeat(&lease, 1000, 20).await.unwrap_err().is_busy());
    }
}
