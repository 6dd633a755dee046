//! A Parquet file without some of its rows: each column is read and written again with what the file says of it.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use ::parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use ::parquet::data_type::DataType;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use ::parquet::schema::types::ColumnDescPtr;

use crate::draft::Fault;
use crate::format::{cost_of_copying, guarded};
use crate::source::Chunks;
use crate::{DatasetError, Limits, Source};

/// Rows that are held at a time, of one column.
const BATCH: usize = 64;

/// Copies the rows whose numbers, from 1, are not in `gone`. Where examples were looked for, only their columns were: what the
/// others cost is asked first.
pub(super) fn copy(
    source: &Source,
    gone: &HashSet<u64>,
    limits: &Limits,
    out: impl Write + Send,
) -> Result<(), DatasetError> {
    let cannot = |fault: Fault| DatasetError::CannotRewrite(fault.message);
    let reader = guarded(|| SerializedFileReader::new(Chunks(source.clone())))?.map_err(cannot)?;
    if let Some(fault) = cost_of_copying(reader.metadata(), source, limits)? {
        return Err(cannot(fault));
    }
    let copied = guarded(|| {
        let metadata = reader.metadata();
        let schema = metadata.file_metadata().schema_descr().root_schema_ptr();
        let mut writer = SerializedFileWriter::new(out, schema, Arc::new(properties(metadata)))?;
        let mut before = 0;
        for (number, group) in metadata.row_groups().iter().enumerate() {
            let rows = rows_of(group);
            let kept = (before + 1..=before + rows).any(|row| !gone.contains(&row));
            if kept {
                copy_group(&*reader.get_row_group(number)?, &mut writer, before, gone)?;
            }
            before += rows;
        }
        writer.into_inner()?.flush()?;
        Ok(())
    })?;
    copied.map_err(cannot)
}

fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// Columns stay packed as they were, and what tools keep in the footer stays.
fn properties(metadata: &ParquetMetaData) -> WriterProperties {
    let notes = metadata.file_metadata().key_value_metadata().cloned();
    let mut properties = WriterProperties::builder().set_key_value_metadata(notes);
    for column in metadata.row_groups().first().map(RowGroupMetaData::columns).unwrap_or_default() {
        properties = properties.set_column_compression(column.column_path().clone(), column.compression());
    }
    properties.build()
}

fn copy_group<W: Write + Send>(
    group: &dyn RowGroupReader,
    writer: &mut SerializedFileWriter<W>,
    before: u64,
    gone: &HashSet<u64>,
) -> Result<(), ParquetError> {
    let mut to = writer.next_row_group()?;
    let columns = group.metadata().columns();
    for (number, column) in columns.iter().enumerate() {
        let part = Part { column: column.column_descr_ptr(), before, gone };
        let missing = || ParquetError::General("a column is missing".into());
        let mut column = to.next_column()?.ok_or_else(missing)?;
        match group.get_column_reader(number)? {
            ColumnReader::BoolColumnReader(from) => part.copy(from, &mut column),
            ColumnReader::Int32ColumnReader(from) => part.copy(from, &mut column),
            ColumnReader::Int64ColumnReader(from) => part.copy(from, &mut column),
            ColumnReader::Int96ColumnReader(from) => part.copy(from, &mut column),
            ColumnReader::FloatColumnReader(from) => part.copy(from, &mut column),
            ColumnReader::DoubleColumnReader(from) => part.copy(from, &mut column),
            ColumnReader::ByteArrayColumnReader(from) => part.copy(from, &mut column),
            ColumnReader::FixedLenByteArrayColumnReader(from) => part.copy(from, &mut column),
        }?;
        column.close()?;
    }
    to.close().map(drop)
}

/// A column of a row group, whose first row stands behind `before` others.
struct Part<'a> {
    column: ColumnDescPtr,
    before: u64,
    gone: &'a HashSet<u64>,
}

impl Part<'_> {
    /// Copies the values of rows that stay. Source: Dremel's definition and repetition levels, as Parquet keeps them: a
    /// value is there where its definition is the highest, a row begins where the repetition is zero.
    fn copy<T: DataType>(
        &self,
        mut from: ColumnReaderImpl<T>,
        to: &mut SerializedColumnWriter<'_>,
    ) -> Result<(), ParquetError> {
        let (most_defined, most_repeated) = (self.column.max_def_level(), self.column.max_rep_level());
        let (defined, repeated) = (most_defined > 0, most_repeated > 0);
        let mut row = self.before;
        loop {
            let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
            let (records, _, levels) = from.read_records(
                BATCH,
                defined.then_some(&mut definitions),
                repeated.then_some(&mut repetitions),
                &mut values,
            )?;
            if records == 0 {
                return Ok(());
            }
            let mut values = values.into_iter();
            let mut kept = (Vec::new(), Vec::new(), Vec::new());
            for level in 0..levels.max(records) {
                let repetition = repetitions.get(level).copied().unwrap_or(0);
                row += u64::from(repetition == 0);
                let stays = !self.gone.contains(&row);
                let definition = definitions.get(level).copied().unwrap_or(most_defined);
                let value = if definition == most_defined { values.next() } else { None };
                if stays {
                    kept.0.extend(value);
                    kept.1.push(definition);
                    kept.2.push(repetition);
                }
            }
            let (values, definitions, repetitions) = kept;
            to.typed::<T>().write_batch(
                &values,
                defined.then_some(definitions.as_slice()),
                repeated.then_some(repetitions.as_slice()),
            )?;
        }
    }
}
