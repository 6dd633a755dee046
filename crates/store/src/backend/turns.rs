//! Writers of several processes take turns: SQLite's own lock goes to whoever asks at the right moment, which is the writer
//! that never rests.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::StoreError;

/// How often a writer that waits looks again; a commit that reaches the disk takes longer.
const LOOK_EVERY: Duration = Duration::from_micros(500);

/// Two locked files beside a database, which make writers queue. To write, a process locks `gate`, waits for `turn`
/// while it holds the gate, and unlocks the gate once it has the turn. A writer that has just finished and wants to
/// write again finds the gate locked by one that waits, and so comes after it. Locks of a process are freed when it
/// ends, however it ends.
pub(super) struct Turns {
    gate: File,
    turn: File,
}

/// The right to write, until dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    /// Whether nobody may even wait.
    alone: bool,
}

impl Turns {
    /// Those of a database. Each party needs its own: locks are of a file as it was opened.
    pub(super) fn open(database: &Path) -> Result<Self, StoreError> {
        let open = |ending| {
            let file = File::create(database.with_extension(ending));
            file.map_err(|error| StoreError::io("open the database's locks", error))
        };
        Ok(Self { gate: open("lock")?, turn: open("turn")? })
    }

    /// Waits for the turn.
    ///
    /// # Errors
    /// [`StoreError::is_busy`] where it does not come in time.
    pub(super) fn take(&self, within: Duration) -> Result<Turn<'_>, StoreError> {
        let until = Instant::now() + within;
        await_lock(&self.gate, until)?;
        let turn = await_lock(&self.turn, until);
        // Also without the turn: others may have more patience.
        let _ = self.gate.unlock();
        turn.map(|()| Turn { turns: self, alone: false })
    }

    /// Waits for the turn as a process that starts, which others that start wait for as long as it takes.
    ///
    /// # Errors
    /// [`StoreError::is_busy`] where those who write do not end in time.
    pub(super) fn start(&self, within: Duration) -> Result<Turn<'_>, StoreError> {
        self.gate.lock().map_err(unlockable)?;
        let turn = await_lock(&self.turn, Instant::now() + within);
        if turn.is_err() {
            let _ = self.gate.unlock();
        }
        turn.map(|()| Turn { turns: self, alone: true })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Closed, a file may stay locked by the copy that a process in the making has.
        let _ = self.turns.turn.unlock();
        if self.alone {
            let _ = self.turns.gate.unlock();
        }
    }
}

fn await_lock(file: &File, until: Instant) -> Result<(), StoreError> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOOK_EVERY),
            Err(TryLockError::WouldBlock) => return Err(StoreError::busy()),
            Err(TryLockError::Error(error)) => return Err(unlockable(error)),
        }
    }
}

fn unlockable(error: std::io::Error) -> StoreError {
    StoreError::io("lock the database", error)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn is_busy(taken: Result<Turn<'_>, StoreError>) -> bool {
        taken.is_err_and(|error| error.is_busy())
    }

    #[test]
    fn whoever_has_just_written_comes_behind_those_who_wait() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("store.db");
        let (ours, theirs) = (Turns::open(&database).unwrap(), Turns::open(&database).unwrap());
        let (taken, taking) = mpsc::channel();
        let (end, ended) = mpsc::channel::<()>();
        let turn = ours.take(LONG).unwrap();
        let waits = thread::spawn(move || {
            let turn = theirs.take(LONG).unwrap();
            taken.send(()).unwrap();
            let _ = ended.recv();
            drop(turn);
        });
        // They are at the gate.
        while ours.gate.try_lock().is_ok() {
            ours.gate.unlock().unwrap();
            thread::sleep(LOOK_EVERY);
        }
        drop(turn);
        assert!(is_busy(ours.take(Duration::ZERO)), "whoever waits is passed");
        taking.recv().unwrap();
        assert!(is_busy(ours.take(Duration::from_millis(5))));
        end.send(()).unwrap();
        assert!(ours.take(LONG).is_ok());
        waits.join().unwrap();
    }

    #[test]
    fn a_process_that_starts_keeps_others_out_and_gives_all_back() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("store.db");
        let (ours, theirs) = (Turns::open(&database).unwrap(), Turns::open(&database).unwrap());
        let start = ours.start(LONG).unwrap();
        assert!(is_busy(theirs.take(Duration::ZERO)));
        drop(start);
        let turn = theirs.take(Duration::ZERO).unwrap();
        assert!(is_busy(ours.start(Duration::ZERO)));
        drop(turn);
        assert!(theirs.take(Duration::ZERO).is_ok(), "a start that came to nothing kept the gate");
    }
}
