//! Which columns of a table are read.

use super::jsonl::clipped;
use crate::Code;
use crate::draft::{Cell, Fault, Fields, Step};

/// Column names that are listed in a message at most.
const MOST_NAMES: usize = 20;

/// A column that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Text,
    Image,
    Audio,
    Label,
    Labels,
    Group,
    Split,
    Id,
}

impl Column {
    /// The column of a header's cell, whatever its case.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.trim().to_ascii_lowercase().as_str() {
            "text" => Some(Self::Text),
            "image" => Some(Self::Image),
            "audio" => Some(Self::Audio),
            "label" => Some(Self::Label),
            "labels" => Some(Self::Labels),
            "group" => Some(Self::Group),
            "split" => Some(Self::Split),
            "id" => Some(Self::Id),
            _ => None,
        }
    }

    /// Where its cell belongs.
    pub(crate) fn of_fields(self, fields: &mut Fields) -> &mut Cell {
        match self {
            Self::Text => &mut fields.text,
            Self::Image => &mut fields.image,
            Self::Audio => &mut fields.audio,
            Self::Label => &mut fields.label,
            Self::Labels => &mut fields.labels,
            Self::Group => &mut fields.group,
            Self::Split => &mut fields.split,
            Self::Id => &mut fields.id,
        }
    }
}

/// A table's header, understood.
#[derive(Debug, Default)]
pub(crate) struct Header {
    /// The number of each column that is read, from 0.
    pub(crate) columns: Vec<(usize, Column)>,
    /// What is to be said of it.
    pub(crate) notes: Vec<Step>,
    /// Whether rows can be read under it.
    pub(crate) usable: bool,
}

impl Header {
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut header = Self { usable: true, ..Self::default() };
        let (mut all, mut ignored) = (Vec::new(), Vec::new());
        for (index, name) in names.enumerate() {
            all.push(format!("`{}`", clipped(name)));
            match Column::of(name) {
                Some(column) if header.has(column) => {
                    let message = format!("the column `{}` is there twice", name.trim());
                    header.refuse(Code::DuplicateColumn, message);
                }
                Some(column) => header.columns.push((index, column)),
                None => ignored.push(format!("`{}`", clipped(name))),
            }
        }
        let there = list(&all);
        if header.contents() == 0 {
            let message = format!("no column `text`, `image` or `audio`; there are {there}");
            header.refuse(Code::MissingColumn, message);
        }
        if !header.has(Column::Label) && !header.has(Column::Labels) {
            header.refuse(Code::MissingColumn, format!("no column `label` or `labels`; there are {there}"));
        }
        if header.usable && !ignored.is_empty() {
            let message = format!("not read: {}", list(&ignored));
            header.notes.push(Step::about_file(Fault::new(Code::IgnoredColumn, message)));
        }
        header
    }

    pub(crate) fn has(&self, column: Column) -> bool {
        self.columns.iter().any(|&(_, known)| known == column)
    }

    /// Columns for what an example shows.
    pub(crate) fn contents(&self) -> usize {
        [Column::Text, Column::Image, Column::Audio].into_iter().filter(|column| self.has(*column)).count()
    }

    fn refuse(&mut self, code: Code, message: String) {
        self.usable = false;
        self.notes.push(Step::about_file(Fault::new(code, message)));
    }
}

fn list(names: &[String]) -> String {
    let mut text = names.get(..MOST_NAMES).unwrap_or(names).join(", ");
    if names.len() > MOST_NAMES {
        text.push_str(", …");
    }
    text
}
