//! A file's examples as numbers: features, labels, splits and where each row stands. Written once a job as the output
//! of its first step, so that a job that goes on does not compute them again.

use std::collections::BTreeMap;
use std::sync::Arc;

use headstart_datasets::{Place, Split};
use headstart_methods::MethodError;
use headstart_methods::data::{Examples, Targets};
use ndarray::{Array2, Axis};
use serde::{Deserialize, Serialize};

/// Rows with their features.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) head: Header,
    /// `rows × dim`.
    pub(super) features: Array2<f32>,
}

/// All of a table but its features.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Header {
    /// Features a row.
    pub(super) dim: usize,
    /// Class names, sorted.
    pub(super) classes: Vec<String>,
    /// Whether rows have any number of labels.
    pub(super) multi_label: bool,
    /// The classes of each row, ascending.
    pub(super) labels: Vec<Vec<u32>>,
    /// The group of each row, where there are groups.
    pub(super) groups: Option<Vec<u32>>,
    /// Group names by number; none of a row that stands for itself.
    pub(super) group_names: Vec<Option<String>>,
    /// What each row is for, where the file says so.
    pub(super) splits: Vec<Option<Split>>,
    /// Where each row stands in its file.
    pub(super) places: Vec<Place>,
    /// The first row of the validation file; the number of rows where there is none.
    #[serde(rename = "tuned_from")]
    pub(super) validation_from: usize,
}

/// Collects rows in the order of the file.
#[derive(Debug)]
pub(super) struct TableBuilder {
    head: Header,
    class_of: BTreeMap<String, u32>,
    group_of: BTreeMap<String, u32>,
    features: Vec<f32>,
}

impl TableBuilder {
    pub(super) fn new(classes: Vec<String>, multi_label: bool, grouped: bool, dim: usize) -> Self {
        let class_of = (0u32..).zip(&classes).map(|(class, name)| (name.clone(), class)).collect();
        let groups = grouped.then(Vec::new);
        let head = Header { dim, classes, multi_label, groups, ..Header::default() };
        Self { head, class_of, group_of: BTreeMap::new(), features: Vec::new() }
    }

    /// Adds a row. A label that is no class is left out: only a validation file can have one.
    pub(super) fn add(&mut self, row: Row, features: &[f32]) {
        let mut labels: Vec<u32> =
            row.labels.iter().filter_map(|label| self.class_of.get(label)).copied().collect();
        labels.sort_unstable();
        labels.dedup();
        if labels.is_empty() && !self.head.multi_label {
            return;
        }
        if let Some(groups) = &mut self.head.groups {
            // A row without a group stands for itself.
            let next = self.head.group_names.len() as u32;
            let known = row.group.as_ref().and_then(|name| self.group_of.get(name)).copied();
            if known.is_none() {
                self.group_of.extend(row.group.clone().map(|name| (name, next)));
                self.head.group_names.push(row.group);
            }
            groups.push(known.unwrap_or(next));
        }
        self.head.labels.push(labels);
        self.head.validation_from += usize::from(!row.of_validation);
        self.head.splits.push(row.split);
        self.head.places.push(row.place);
        self.features.extend_from_slice(features);
    }

    pub(super) fn finish(mut self) -> Option<Table> {
        // One group around everything parts nothing.
        if self.head.group_names.len() < 2 {
            (self.head.groups, self.head.group_names) = (None, Vec::new());
        }
        let features = Array2::from_shape_vec((self.head.labels.len(), self.head.dim), self.features).ok()?;
        Some(Table { head: self.head, features })
    }
}

/// A row on its way into a table.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) labels: Vec<String>,
    pub(super) group: Option<String>,
    pub(super) split: Option<Split>,
    pub(super) place: Place,
    /// Whether it is of the validation file, which comes behind the training file.
    pub(super) of_validation: bool,
}

impl Table {
    /// The rows named, as a method takes them.
    ///
    /// # Errors
    /// [`MethodError::Data`] when they cannot be learned from.
    pub(super) fn examples(&self, rows: &[usize]) -> Result<Examples, MethodError> {
        let groups = self.head.groups.as_ref();
        let groups = groups.map(|all| rows.iter().filter_map(|row| all.get(*row).copied()).collect());
        let classes = Arc::from(self.head.classes.as_slice());
        // Only the rows named are copied: a table may be most of a job's memory.
        let features = self.features.select(Axis(0), rows);
        Ok(Examples::new(features, self.targets().select(rows), classes, groups)?)
    }

    /// Where a row stands in its file.
    pub(super) fn place(&self, row: usize) -> headstart_types::report::Row {
        let split = self.head.splits.get(row).copied().flatten().map(|split| split.as_str().to_owned());
        let (line, path) = match self.head.places.get(row) {
            Some(Place::Line(line)) => (Some(*line), None),
            Some(Place::Path(path)) => (None, Some(path.to_string())),
            None => (None, None),
        };
        headstart_types::report::Row { split, line, path }
    }

    /// The rows of the training file (0) or of the validation file (1).
    pub(super) fn of_file(&self, file: usize) -> std::ops::Range<usize> {
        let rows = self.head.places.len();
        let border = self.head.validation_from.min(rows);
        if file == 0 { 0..border } else { border..rows }
    }

    /// The groups of rows by name, where they have one; `None` where the file has none.
    pub(super) fn group_names(&self, rows: &[usize]) -> Option<Vec<Option<String>>> {
        let groups = self.head.groups.as_ref()?;
        let name = |row: &usize| {
            groups.get(*row).and_then(|group| self.head.group_names.get(*group as usize)).cloned().flatten()
        };
        Some(rows.iter().map(name).collect())
    }

    pub(super) fn targets(&self) -> Targets {
        if self.head.multi_label {
            return Targets::Multi(self.head.labels.clone());
        }
        Targets::Single(self.head.labels.iter().filter_map(|labels| labels.first().copied()).collect())
    }

    /// Length of the header as 64 bits, the header as JSON, the features as 32-bit floats; all little-endian.
    ///
    /// # Errors
    /// When the header has no JSON form.
    pub(super) fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        let head = serde_json::to_vec(&self.head)?;
        let mut bytes = Vec::with_capacity(8 + head.len() + self.features.len() * 4);
        bytes.extend_from_slice(&(head.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&head);
        bytes.extend(self.features.iter().flat_map(|value| value.to_le_bytes()));
        Ok(bytes)
    }

    /// The table of [`Table::to_bytes`]; `None` for anything else.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (head, values) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let head: Header = serde_json::from_slice(head).ok()?;
        let shape = (head.labels.len(), head.dim);
        let (values, left) = values.as_chunks::<4>();
        if values.is_empty() || !left.is_empty() {
            return None;
        }
        let values = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        let features = Array2::from_shape_vec(shape, values).ok()?;
        Some(Self { head, features })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(label: &str, place: u64) -> Row {
        Row {
            labels: vec![label.into()],
            group: None,
            split: Some(Split::Train),
            place: Place::Line(place),
            of_validation: false,
        }
    }

    fn table() -> Table {
        let mut builder = TableBuilder::new(vec!["a".into(), "b".into()], false, true, 2);
        builder.add(row("b", 1), &[1.0, 2.0]);
        builder.add(row("unknown", 2), &[5.0, 6.0]);
        builder.add(row("a", 3), &[3.0, -4.5]);
        builder.finish().unwrap()
    }

    #[test]
    fn a_table_comes_back_from_its_bytes_as_it_was() {
        let bytes = table().to_bytes().unwrap();
        let back = Table::from_bytes(&bytes).unwrap();
        assert_eq!(back.features, table().features);
        assert_eq!(back.head.labels, [[1], [0]]);
        assert_eq!(back.head.places, [Place::Line(1), Place::Line(3)]);
        assert_eq!((back.of_file(0), back.of_file(1)), (0..2, 2..2));
        assert_eq!(back.head.groups.as_deref(), Some(&[0, 1][..]));
        assert_eq!(back.to_bytes().unwrap(), bytes);
    }

    #[test]
    fn a_row_without_a_group_stands_for_itself_and_has_no_groups_name() {
        let mut builder = TableBuilder::new(vec!["a".into()], false, true, 1);
        for (place, group) in
            [(1, None), (2, Some("line 1")), (3, Some("anna")), (4, None), (5, Some("anna"))]
        {
            builder.add(Row { group: group.map(str::to_owned), ..row("a", place) }, &[0.0]);
        }
        let table = builder.finish().unwrap();
        assert_eq!(table.head.groups.as_deref(), Some(&[0, 1, 2, 3, 2][..]));
        let names = table.group_names(&[0, 1, 2, 3, 4]).unwrap();
        let names: Vec<Option<&str>> = names.iter().map(Option::as_deref).collect();
        assert_eq!(names, [None, Some("line 1"), Some("anna"), None, Some("anna")]);
    }

    #[test]
    fn one_group_around_all_rows_is_none_and_beside_rows_without_a_group_it_is_one() {
        let table = |groups: [Option<&str>; 3]| {
            let mut builder = TableBuilder::new(vec!["a".into()], false, true, 1);
            for (place, group) in (1..).zip(groups) {
                builder.add(Row { group: group.map(str::to_owned), ..row("a", place) }, &[0.0]);
            }
            builder.finish().unwrap()
        };
        let all = table([Some("anna"); 3]);
        assert_eq!((all.head.groups.as_deref(), all.group_names(&[0])), (None, None));
        let some = table([Some("anna"), None, Some("anna")]);
        assert_eq!(some.head.groups.as_deref(), Some(&[0, 1, 0][..]));
    }

    #[test]
    fn bytes_that_are_cut_or_not_a_table_are_refused() {
        let bytes = table().to_bytes().unwrap();
        for length in 0..bytes.len() {
            assert!(Table::from_bytes(&bytes[..length]).is_none(), "{length}");
        }
        assert!(Table::from_bytes(&[255; 64]).is_none());
    }
}
