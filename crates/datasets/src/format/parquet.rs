//! Parquet: the columns that are read, row by row.
//!
//! Of Hugging Face's files, `image` and `audio` structs (`bytes`, `path`) and the names of class labels, which stand in the
//! schema's metadata, are understood.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData, RowGroupMetaData};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::reader::{ReaderIter, TreeBuilder};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::{SchemaDescPtr, SchemaDescriptor, Type};

use super::columns::{Column, Header};
use super::{Rows, fault_of, pages};
use crate::draft::{Cell, Fault, Fields, Step};
use crate::source::Chunks;
use crate::{Code, DatasetError, Limits, Place, Source};

/// Rows whose content is held together, in bytes as the file states their size.
const HELD_BYTES: u64 = 4 << 20;

/// Labels of a row at most, on average: what bounds a column of lists before it is read.
const VALUES_PER_ROW: u64 = 16;

/// The rows of a Parquet file.
pub(crate) struct Table {
    reader: Option<SerializedFileReader<Chunks>>,
    projection: Option<SchemaDescPtr>,
    /// The columns that are read, in the order of the projection.
    columns: Vec<Column>,
    names: BTreeMap<String, Vec<String>>,
    notes: std::vec::IntoIter<Step>,
    group: usize,
    rows: Option<ReaderIter>,
    row: u64,
    total: u64,
    unpacked: u64,
    bytes: u64,
    limits: Limits,
}

impl Table {
    pub(crate) fn new(source: &Source, limits: &Limits) -> Result<Self, DatasetError> {
        let mut table = Self {
            reader: None,
            projection: None,
            columns: Vec::new(),
            names: BTreeMap::new(),
            notes: Vec::new().into_iter(),
            group: 0,
            rows: None,
            row: 0,
            total: 0,
            unpacked: 0,
            bytes: source.bytes(),
            limits: limits.clone(),
        };
        let notes = match guarded(|| SerializedFileReader::new(Chunks(source.clone())))? {
            Ok(reader) => table.understand(reader, source)?,
            Err(fault) => vec![Step::about_file(fault)],
        };
        table.notes = notes.into_iter();
        Ok(table)
    }

    /// Reads the schema and judges what the footer says; rows follow only if all is well.
    fn understand(
        &mut self,
        reader: SerializedFileReader<Chunks>,
        source: &Source,
    ) -> Result<Vec<Step>, DatasetError> {
        let metadata = reader.metadata();
        let schema = metadata.file_metadata().schema_descr();
        let root = schema.root_schema();
        let names: Vec<&str> = root.get_fields().iter().map(|field| field.name()).collect();
        let header = Header::new(names.iter().copied());
        let mut notes = header.notes;
        if !header.usable {
            return Ok(notes);
        }
        let kept: Vec<_> =
            header.columns.iter().filter_map(|&(index, _)| root.get_fields().get(index).cloned()).collect();
        let wanted: Vec<&str> = kept.iter().map(|field| field.name()).collect();
        let fault = match cost(metadata, &wanted, &self.limits) {
            None => match cost_of_pages(wanted_chunks(metadata, &wanted), source)? {
                Ok(cost) => cost.fault(&self.limits),
                Err(fault) => Some(fault),
            },
            fault => fault,
        };
        if let Some(fault) = fault {
            notes.push(Step::about_file(fault));
            return Ok(notes);
        }
        self.names = class_names(metadata);
        self.total = metadata.row_groups().iter().map(rows_of).fold(0, u64::saturating_add);
        self.columns = header.columns.iter().map(|&(_, column)| column).collect();
        match guarded(|| Type::group_type_builder(root.name()).with_fields(kept.clone()).build())? {
            Ok(root) => self.projection = Some(Arc::new(SchemaDescriptor::new(Arc::new(root)))),
            Err(fault) => notes.push(Step::about_file(fault)),
        }
        self.reader = Some(reader);
        Ok(notes)
    }

    /// Opens the next row group; `false` when there is none.
    fn open_group(&mut self) -> Result<Result<bool, Fault>, DatasetError> {
        let (Some(reader), Some(projection)) = (&self.reader, &self.projection) else { return Ok(Ok(false)) };
        let Some(metadata) = reader.metadata().row_groups().get(self.group) else { return Ok(Ok(false)) };
        let a_row = u64::try_from(metadata.total_byte_size()).unwrap_or(0) / rows_of(metadata).max(1);
        let batch = (HELD_BYTES / a_row.max(1)).clamp(1, 1024);
        let index = self.group;
        self.group += 1;
        let opened = guarded(|| {
            let group = reader.get_row_group(index)?;
            let batch = usize::try_from(batch).unwrap_or(1);
            TreeBuilder::new().with_batch_size(batch).as_iter(projection.clone(), &*group)
        })?;
        Ok(opened.map(|rows| {
            self.rows = Some(rows);
            true
        }))
    }

    /// The next row as it is stored.
    fn advance(&mut self) -> Result<Result<Option<Row>, Fault>, DatasetError> {
        loop {
            if let Some(rows) = &mut self.rows {
                match guarded(|| rows.next().transpose())? {
                    Ok(Some(row)) => return Ok(Ok(Some(row))),
                    Ok(None) => self.rows = None,
                    Err(fault) => return Ok(Err(fault)),
                }
            }
            match self.open_group()? {
                Ok(true) => {}
                Ok(false) => return Ok(Ok(None)),
                Err(fault) => return Ok(Err(fault)),
            }
        }
    }

    fn fields(&mut self, row: Row) -> Fields {
        let mut fields = Fields::default();
        for (&column, (name, field)) in self.columns.iter().zip(row.into_columns()) {
            let names = self.names.get(&name);
            let cell = match column {
                Column::Image | Column::Audio => media(field),
                Column::Label | Column::Labels => label(field, names),
                Column::Text | Column::Group | Column::Split | Column::Id => plain(field),
            };
            self.unpacked += size(&cell);
            *column.of_fields(&mut fields) = cell;
        }
        fields
    }

    fn stop(&mut self) {
        self.rows = None;
        self.reader = None;
    }
}

impl Rows for Table {
    fn next(&mut self) -> Result<Option<Step>, DatasetError> {
        if let Some(note) = self.notes.next() {
            return Ok(Some(note));
        }
        match self.advance()? {
            Ok(Some(row)) => {
                self.row += 1;
                let fields = self.fields(row);
                if self.unpacked > self.limits.max_unpacked_bytes {
                    self.stop();
                    let message = format!("unpacks to more than {} bytes", self.limits.max_unpacked_bytes);
                    return Ok(Some(Step::about_file(Fault::new(Code::TooLarge, message))));
                }
                Ok(Some(Step::Row { place: Place::Line(self.row), draft: fields.check(&self.limits) }))
            }
            Ok(None) => {
                self.stop();
                Ok(None)
            }
            Err(fault) => {
                self.stop();
                Ok(Some(Step::Note { place: Some(Place::Line(self.row + 1)), fault }))
            }
        }
    }

    fn position(&self) -> Option<u64> {
        let share = u128::from(self.row) * u128::from(self.bytes) / u128::from(self.total.max(1));
        u64::try_from(share).ok()
    }
}

/// Runs the decoder. It is well tested but not made for hostile files: should it panic, the file is damaged.
pub(crate) fn guarded<T>(
    run: impl FnOnce() -> Result<T, ParquetError>,
) -> Result<Result<T, Fault>, DatasetError> {
    let damaged =
        |text: String| Fault::new(Code::DamagedFile, format!("parquet: {}", text.to_ascii_lowercase()));
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(Ok(value)),
        Ok(Err(ParquetError::External(inner))) => match inner.downcast::<std::io::Error>() {
            Ok(error) => fault_of(*error).map(Err),
            Err(other) => Ok(Err(damaged(other.to_string()))),
        },
        Ok(Err(other)) => Ok(Err(damaged(other.to_string()))),
        Err(_) => Ok(Err(damaged("the decoder failed".into()))),
    }
}

fn rows_of(group: &RowGroupMetaData) -> u64 {
    u64::try_from(group.num_rows()).unwrap_or(0)
}

/// Why the columns that are wanted cannot be read, or would cost too much.
fn cost(metadata: &ParquetMetaData, wanted: &[&str], limits: &Limits) -> Option<Fault> {
    let rows = metadata.row_groups().iter().map(rows_of).fold(0, u64::saturating_add);
    if rows > limits.max_examples {
        let message = format!("the file has {rows} rows; at most {} are taken", limits.max_examples);
        return Some(Fault::new(Code::TooManyExamples, message));
    }
    let mut cost = Cost::default();
    for chunk in wanted_chunks(metadata, wanted) {
        match chunk.compression() {
            Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) | Compression::ZSTD(_) => {
            }
            Compression::LZO | Compression::BROTLI(_) | Compression::LZ4 | Compression::LZ4_RAW => {
                let message = format!(
                    "the column `{}` is packed with {}; snappy, gzip and zstd are read",
                    chunk.column_path().string(),
                    chunk.compression().to_string().to_ascii_lowercase()
                );
                return Some(Fault::new(Code::UnsupportedCompression, message));
            }
        }
        // What the footer leaves negative is damaged, and refused as too much.
        let size = |stated: i64| u64::try_from(stated).unwrap_or(u64::MAX);
        cost.add(size(chunk.compressed_size()), size(chunk.uncompressed_size()), size(chunk.num_values()));
    }
    cost.fault(limits)
}

/// What columns hold by what their pages state: the footer may state less.
fn cost_of_pages<'a>(
    chunks: impl Iterator<Item = &'a ColumnChunkMetaData>,
    source: &Source,
) -> Result<Result<Cost, Fault>, DatasetError> {
    let mut cost = Cost::default();
    for chunk in chunks {
        let (start, length) = match guarded(|| Ok(chunk.byte_range()))? {
            Ok(range) => range,
            Err(fault) => return Ok(Err(fault)),
        };
        let pages = match pages::stated(source.reader_at(start), length) {
            Ok(pages) => pages,
            Err(error) => return fault_of(error).map(Err),
        };
        cost.add(length, pages.unpacked, pages.values);
        let largest = cost.pages.entry(chunk.column_path().string()).or_default();
        *largest = pages.largest.max(*largest);
    }
    Ok(Ok(cost))
}

/// Why a file with all its columns, each read by itself, would cost too much. Those that hold no examples may have any number
/// of values, packed as well as they will.
pub(crate) fn cost_of_copying(
    metadata: &ParquetMetaData,
    source: &Source,
    limits: &Limits,
) -> Result<Option<Fault>, DatasetError> {
    let chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    Ok(match cost_of_pages(chunks, source)? {
        Ok(cost) => {
            Cost::of_pages(cost.pages.values().copied().max(), limits).or_else(|| cost.of_all(limits))
        }
        Err(fault) => Some(fault),
    })
}

fn wanted_chunks<'a>(
    metadata: &'a ParquetMetaData,
    wanted: &'a [&str],
) -> impl Iterator<Item = &'a ColumnChunkMetaData> {
    let chunks = metadata.row_groups().iter().flat_map(RowGroupMetaData::columns);
    chunks.filter(|chunk| {
        chunk.column_path().parts().first().is_some_and(|name| wanted.contains(&name.as_str()))
    })
}

/// What columns hold.
#[derive(Debug, Default)]
struct Cost {
    packed: u64,
    unpacked: u64,
    /// Values of the part of a column that has most.
    values: u64,
    /// Bytes unpacked of each column's largest page.
    pages: BTreeMap<String, u64>,
}

impl Cost {
    fn add(&mut self, packed: u64, unpacked: u64, values: u64) {
        self.packed = self.packed.saturating_add(packed);
        self.unpacked = self.unpacked.saturating_add(unpacked);
        self.values = self.values.max(values);
    }

    fn fault(&self, limits: &Limits) -> Option<Fault> {
        let Self { packed, unpacked, values, pages } = self;
        if *values > limits.max_examples.saturating_mul(VALUES_PER_ROW) {
            return Some(Fault::new(Code::TooManyExamples, format!("a column has {values} values")));
        }
        // A row is read of all columns at a time.
        let at_once = pages.values().copied().reduce(u64::saturating_add);
        if let Some(fault) = self.of_all(limits).or_else(|| Self::of_pages(at_once, limits)) {
            return Some(fault);
        }
        let message = || format!("its {packed} bytes would unpack to {unpacked}");
        limits.is_suspicious(*packed, *unpacked).then(|| Fault::new(Code::SuspiciousRatio, message()))
    }

    fn of_all(&self, limits: &Limits) -> Option<Fault> {
        let (unpacked, most) = (self.unpacked, limits.max_unpacked_bytes);
        let message = || format!("unpacks to {unpacked} bytes; at most {most} are taken");
        (unpacked > most).then(|| Fault::new(Code::TooLarge, message()))
    }

    /// The same of pages that are held at a time.
    fn of_pages(at_once: Option<u64>, limits: &Limits) -> Option<Fault> {
        let (bytes, most) = (at_once.unwrap_or_default(), limits.max_page_bytes);
        let message = || {
            format!(
                "its pages take {bytes} bytes at a time; at most {most} are taken: write it with smaller row groups"
            )
        };
        (bytes > most).then(|| Fault::new(Code::TooLarge, message()))
    }
}

/// The names of class labels by column. Source: the `datasets` library's features, as it writes them into the schema.
fn class_names(metadata: &ParquetMetaData) -> BTreeMap<String, Vec<String>> {
    let pairs = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let text = pairs.iter().find(|pair| pair.key == "huggingface").and_then(|pair| pair.value.as_deref());
    let Some(info) = text.and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok()) else {
        return BTreeMap::new();
    };
    let Some(features) = info.pointer("/info/features").and_then(serde_json::Value::as_object) else {
        return BTreeMap::new();
    };
    let names = |feature: &serde_json::Value| {
        // A list's feature stands under `feature`, in older files as the only element of a list.
        let inner = feature.get("feature").or_else(|| feature.get(0)).unwrap_or(feature);
        let names = inner.get("names")?.as_array()?;
        names.iter().map(|name| name.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    };
    features.iter().filter_map(|(column, feature)| Some((column.clone(), names(feature)?))).collect()
}

fn plain(field: Field) -> Cell {
    match field {
        Field::Null => Cell::Absent,
        Field::Str(text) => Cell::Text(text),
        Field::Bytes(bytes) => Cell::Bytes(bytes.data().to_vec()),
        Field::Bool(truth) => Cell::Text(truth.to_string()),
        Field::Byte(number) => Cell::Text(number.to_string()),
        Field::Short(number) => Cell::Text(number.to_string()),
        Field::Int(number) => Cell::Text(number.to_string()),
        Field::Long(number) => Cell::Text(number.to_string()),
        Field::UByte(number) => Cell::Text(number.to_string()),
        Field::UShort(number) => Cell::Text(number.to_string()),
        Field::UInt(number) => Cell::Text(number.to_string()),
        Field::ULong(number) => Cell::Text(number.to_string()),
        Field::Float16(_) | Field::Float(_) | Field::Double(_) | Field::Decimal(_) => {
            Cell::Other("a fraction")
        }
        Field::Date(_)
        | Field::TimeMillis(_)
        | Field::TimeMicros(_)
        | Field::TimestampMillis(_)
        | Field::TimestampMicros(_) => Cell::Other("a time"),
        Field::Group(_) | Field::MapInternal(_) => Cell::Other("a structure"),
        Field::ListInternal(list) => Cell::List(list.elements().iter().cloned().map(plain).collect()),
    }
}

/// A label, which may be bytes that are text, or the number of a name.
fn label(field: Field, names: Option<&Vec<String>>) -> Cell {
    match plain(field) {
        Cell::Bytes(bytes) => {
            String::from_utf8(bytes).map_or(Cell::Other("bytes that are no text"), Cell::Text)
        }
        Cell::Text(number) => named(number, names),
        Cell::List(cells) => Cell::List(
            cells
                .into_iter()
                .map(|cell| match cell {
                    Cell::Text(number) => named(number, names),
                    Cell::Bytes(bytes) => {
                        String::from_utf8(bytes).map_or(Cell::Other("bytes that are no text"), Cell::Text)
                    }
                    other @ (Cell::Absent | Cell::List(_) | Cell::Other(_)) => other,
                })
                .collect(),
        ),
        other @ (Cell::Absent | Cell::Other(_)) => other,
    }
}

/// The name of a class number. -1 stands for no label in files made for contests.
fn named(number: String, names: Option<&Vec<String>>) -> Cell {
    let Some(names) = names else { return Cell::Text(number) };
    match number.parse::<i64>() {
        Ok(-1) => Cell::Absent,
        Ok(index) => usize::try_from(index)
            .ok()
            .and_then(|index| names.get(index))
            .map_or(Cell::Other("a number without a name"), |name| Cell::Text(name.clone())),
        Err(_) => Cell::Text(number),
    }
}

/// A picture or sound: bytes, base64 text, or a structure with `bytes`.
fn media(field: Field) -> Cell {
    let Field::Group(row) = field else { return plain(field) };
    match row.into_columns().into_iter().find(|(name, _)| name == "bytes") {
        Some((_, Field::Null)) | None => Cell::Other("a path without bytes"),
        Some((_, bytes)) => plain(bytes),
    }
}

fn size(cell: &Cell) -> u64 {
    match cell {
        Cell::Absent | Cell::Other(_) => 0,
        Cell::Text(text) => text.len() as u64,
        Cell::Bytes(bytes) => bytes.len() as u64,
        Cell::List(cells) => cells.iter().map(size).sum(),
    }
}
