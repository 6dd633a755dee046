//! A table's rows as inputs of the graph that is trained: texts as tokens, pictures as the files they came in, which are
//! decoded anew in every step and so can be varied.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use headstart_datasets::{Content, Limits, Place};
use headstart_engine::Input;
use headstart_methods::MethodError;
use headstart_methods::rng::Rng;
use headstart_methods::tune::{Feed, Recipe};
use headstart_store::is_full;
use headstart_tasks::ExampleEncoder;
use headstart_types::tensor::Tensor;

use crate::disk;
use crate::worker::control::{Halt, Stop};
use crate::worker::reading::Upload;
use crate::worker::table::Table;

/// Examples read at a time.
const BATCH: usize = 256;

/// The rows of a table that are learnt from, and those that stop the run.
pub(super) struct Examples {
    /// Not the backbone itself, which would stay in memory for as long as the training goes on.
    encoder: ExampleEncoder,
    limits: headstart_media::Limits,
    rows: HashMap<usize, Kept>,
    files: Spool,
    folder: PathBuf,
    augment: bool,
    token_dropout: f64,
}

enum Kept {
    Tokens(Input),
    /// Where a picture's file lies among the others.
    File {
        at: u64,
        bytes: usize,
    },
}

/// Pictures one behind the other, in a file without a name.
struct Spool(Mutex<File>);

impl Spool {
    fn read(&self, at: u64, count: usize) -> Result<Vec<u8>, MethodError> {
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = vec![0; count];
        let read = file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes));
        // Whoever uploaded the examples has no part in it.
        read.map_err(|error| Examples::unkept(&error))?;
        Ok(bytes)
    }
}

impl Examples {
    /// Reads the rows named; pictures go into a file without a name in `folder`.
    ///
    /// # Errors
    /// The job's stop, or when a file changed since it was inspected.
    pub(super) async fn read(
        encoder: ExampleEncoder,
        (files, limits): (&[Upload], &Limits),
        (table, wanted): (&Table, &HashSet<usize>),
        recipe: &Recipe,
        (folder, halt): (&Path, &Halt),
    ) -> Result<Self, Stop> {
        let mut spool = tempfile::tempfile_in(folder).map_err(|error| unwritten(&error))?;
        let (mut rows, mut end) = (HashMap::with_capacity(wanted.len()), 0);
        for (number, file) in files.iter().enumerate() {
            let places = table.of_file(number).filter(|row| wanted.contains(row));
            let row_of: HashMap<Place, usize> =
                places.filter_map(|row| Some((table.head.places.get(row)?.clone(), row))).collect();
            if row_of.is_empty() {
                continue;
            }
            let mut reading = file.read(limits, BATCH, Some(row_of.keys().cloned().collect()));
            while let Some(batch) = reading.next().await? {
                halt.check()?;
                for example in batch {
                    let Some(row) = row_of.get(&example.place) else { continue };
                    let kept = match example.content {
                        Content::Text(text) => {
                            let input = encoder.text_input(&text);
                            Kept::Tokens(input.map_err(|error| Stop::Broken(error.to_string()))?)
                        }
                        Content::Image(bytes) | Content::Audio(bytes) => {
                            spool.write_all(&bytes).map_err(|error| unwritten(&error))?;
                            let at = end;
                            end += bytes.len() as u64;
                            Kept::File { at, bytes: bytes.len() }
                        }
                    };
                    rows.insert(*row, kept);
                }
            }
        }
        if rows.len() < wanted.len() {
            return Err(Stop::Broken("a row is not in its file any more".into()));
        }
        let (augment, token_dropout) = (recipe.augment, recipe.token_dropout);
        let (files, folder) = (Spool(Mutex::new(spool)), folder.to_owned());
        Ok(Self { encoder, limits: limits.media, rows, files, folder, augment, token_dropout })
    }

    /// Another file without a name where these lie.
    ///
    /// # Errors
    /// [`MethodError::NoRoom`] on a full disk.
    pub(super) fn beside(&self) -> Result<File, MethodError> {
        tempfile::tempfile_in(&self.folder).map_err(|error| Self::unkept(&error))
    }

    /// Bytes that may still be written there.
    ///
    /// # Errors
    /// [`MethodError::File`].
    pub(super) fn room(&self) -> Result<u64, MethodError> {
        let room = disk::room_now(&self.folder).map_err(|error| Self::unkept(&error))?;
        Ok(room.free.max(0).cast_unsigned())
    }

    /// What could not be written or read of it.
    pub(super) fn unkept(error: &std::io::Error) -> MethodError {
        if is_full(error.kind()) {
            return MethodError::NoRoom;
        }
        MethodError::File(format!("a file in the data folder cannot be used: {error}"))
    }

    fn input(&self, row: usize, chance: Option<&mut Rng>) -> Result<Input, MethodError> {
        let unreadable = |problem: String| MethodError::Unsuitable(format!("row {row}: {problem}"));
        match self.rows.get(&row) {
            Some(Kept::Tokens(input)) => Ok(match chance.filter(|_| self.token_dropout > 0.0) {
                Some(chance) => thinned(input, self.token_dropout, chance),
                None => input.clone(),
            }),
            Some(Kept::File { at, bytes }) => {
                let bytes = self.files.read(*at, *bytes)?;
                let mut drawn = chance.filter(|_| self.augment).map(|chance| || chance.unit());
                let chance = drawn.as_mut().map(|drawn| drawn as &mut dyn FnMut() -> f64);
                let input = self.encoder.image_input(&bytes, &self.limits, chance);
                input.map_err(|error| unreadable(error.to_string()))
            }
            None => Err(MethodError::File(format!("row {row} was not read"))),
        }
    }
}

impl Feed for Examples {
    fn length(&self, row: usize) -> usize {
        match self.rows.get(&row) {
            Some(Kept::Tokens(Input::Tokens { ids, .. })) => ids.len(),
            Some(Kept::Tokens(_) | Kept::File { .. }) | None => 1,
        }
    }

    fn batch(
        &self,
        rows: &[usize],
        mut chance: Option<&mut Rng>,
    ) -> Result<Vec<(String, Tensor)>, MethodError> {
        let inputs = rows.iter().map(|row| self.input(*row, chance.as_deref_mut()));
        let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
        let batch = self.encoder.batch(&inputs.iter().collect::<Vec<_>>());
        batch.map_err(|error| MethodError::Graph(error.to_string()))
    }
}

/// A text with some of its tokens left out at random, but not the first and last, which frame it.
fn thinned(input: &Input, share: f64, chance: &mut Rng) -> Input {
    let Input::Tokens { ids, type_ids } = input else { return input.clone() };
    let last = ids.len().saturating_sub(1);
    let kept: Vec<bool> = (0..ids.len()).map(|at| at == 0 || at == last || chance.unit() >= share).collect();
    let some = |of: &[u32]| of.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(id, _)| *id).collect();
    Input::Tokens { ids: some(ids), type_ids: type_ids.as_deref().map(some) }
}

fn unwritten(error: &std::io::Error) -> Stop {
    if is_full(error.kind()) {
        return Stop::NoRoom;
    }
    Stop::Broken(format!("examples cannot be kept in the data folder: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn what_the_data_folder_loses_is_no_fault_of_the_training_file() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"12345678").unwrap();
        let spool = Spool(Mutex::new(file));
        assert_eq!(spool.read(2, 3).unwrap(), b"345");
        let stop = Stop::from(spool.read(6, 3).unwrap_err());
        assert!(matches!(stop, Stop::Broken(_)), "it is tried again: {stop:?}");
    }

    #[test]
    fn a_full_disk_and_a_quota_that_is_used_up_let_the_job_wait() {
        for kind in [ErrorKind::StorageFull, ErrorKind::QuotaExceeded] {
            let error = std::io::Error::from(kind);
            assert!(matches!(Examples::unkept(&error), MethodError::NoRoom), "{kind}");
            assert!(matches!(unwritten(&error), Stop::NoRoom), "{kind}");
        }
        let other = std::io::Error::from(ErrorKind::PermissionDenied);
        assert!(matches!(Examples::unkept(&other), MethodError::File(_)));
        assert!(matches!(unwritten(&other), Stop::Broken(_)));
    }

    #[test]
    fn a_thinned_text_keeps_its_frame_its_order_and_its_segments() {
        let ids: Vec<u32> = (100..200).collect();
        let input = Input::Tokens { type_ids: Some(ids.iter().map(|id| id % 2).collect()), ids };
        let Input::Tokens { ids, type_ids } = thinned(&input, 0.3, &mut Rng::new(1)) else { panic!() };
        assert!((50..90).contains(&ids.len()), "{}", ids.len());
        assert_eq!((ids.first(), ids.last()), (Some(&100), Some(&199)));
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(type_ids.unwrap(), ids.iter().map(|id| id % 2).collect::<Vec<u32>>());
    }
}
