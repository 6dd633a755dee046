//! Vectors added to an output. It and its record come into being with the first vector, not before.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;

use anyhow::{Context as _, bail};
use headstart_tasks::features::{Embedding, Vector};

use super::output::{Form, Held, Line, Output, npy_header};
use super::record::{Input, Record};
use super::source::{Item, TextsDigest};

/// Where vectors go.
pub(super) struct Sink {
    output: Output,
    record: Record,
    /// Of the texts whose vectors are written.
    digest: TextsDigest,
    held: Held,
    /// Vectors in the file.
    pub(super) rows: usize,
    /// Texts that were cut.
    pub(super) truncated: usize,
    file: Option<BufWriter<File>>,
}

impl Sink {
    /// Behind the vectors that are held.
    pub(super) fn new(output: Output, record: Record, held: Held, digest: TextsDigest) -> Self {
        Self { rows: held.rows, output, record, digest, held, truncated: 0, file: None }
    }

    /// Adds the vectors of some items, all of them or, after a crash, none.
    ///
    /// # Errors
    /// When the output or its record cannot be written.
    pub(super) fn add(&mut self, items: &[Item], embeddings: &[Embedding]) -> anyhow::Result<()> {
        let named = self.output.form == Form::Jsonl;
        let (mut rows, mut file) = (self.rows, self.begin()?);
        for (item, embedding) in items.iter().zip(embeddings) {
            let Vector::Float(values) = &embedding.embedding else { bail!("vectors came as base64") };
            if named {
                let truncated_tokens = embedding.truncated_tokens;
                let line =
                    Line { index: rows, file: item.file.as_deref(), truncated_tokens, embedding: values };
                serde_json::to_writer(&mut file, &line)?;
                file.write_all(b"\n")?;
            } else {
                for value in values.as_slice() {
                    file.write_all(&value.to_le_bytes())?;
                }
            }
            rows += 1;
        }
        file.flush()?;
        // Behind its rows: a run that ends here leaves an array of no more than it has.
        self.count(file.get_ref(), rows)?;
        self.file = Some(file);
        self.rows = rows;
        self.truncated += embeddings.iter().filter(|embedding| embedding.truncated_tokens > 0).count();
        if let Input::Texts { items: count, sha256 } = &mut self.record.input {
            items.iter().for_each(|item| self.digest.add(&item.bytes));
            (*count, *sha256) = (rows, self.digest.hex());
            self.record.write(&self.output.path)?;
        }
        Ok(())
    }

    /// Makes the file right as it is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        if self.file.is_none() && self.held.whole {
            return Ok(());
        }
        Ok(self.begin()?.flush()?)
    }

    /// Says in the file how many vectors it has, where it is of the form that does.
    fn count(&self, file: &File, rows: usize) -> std::io::Result<()> {
        match self.output.form {
            Form::Npy => file.write_all_at(&npy_header(rows, self.record.made_with.dimension), 0),
            Form::Jsonl => Ok(()),
        }
    }

    /// The open file. The first time the record is written before any vector, so that none is without one, and after what is
    /// written over has gone, so that no vector is taken for another record's.
    fn begin(&mut self) -> anyhow::Result<BufWriter<File>> {
        if let Some(file) = self.file.take() {
            return Ok(file);
        }
        let path = &self.output.path;
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let mut file = file.with_context(|| format!("{} cannot be written", path.display()))?;
        file.set_len(self.held.keep)?;
        self.record.write(path)?;
        self.count(&file, self.rows)?;
        file.seek(SeekFrom::End(0))?;
        Ok(BufWriter::new(file))
    }
}
