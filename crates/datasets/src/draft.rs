//! A row as its file states it → an example to be, or everything that is wrong with it.

use headstart_media::{MediaError, decode_base64};
use headstart_types::Modality;

use crate::{Code, Content, Limits, Place, Split};

/// One thing that is wrong, or to be known, without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// The number of another row's file, and where that row stands.
    pub(crate) other: Option<(u16, Place)>,
}

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), other: None }
    }

    /// The same, with the other row it is about.
    pub(crate) fn beside(self, part: u16, place: &Place) -> Self {
        Self { other: Some((part, place.clone())), ..self }
    }
}

/// A cell of any format.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    /// Not there, or null.
    Absent,
    /// A text; of a number or a truth value its usual spelling.
    Text(String),
    /// Bytes: the file of a picture or sound, or a text that is not declared as one.
    Bytes(Vec<u8>),
    /// A list of cells.
    List(Vec<Cell>),
    /// Something else, named for the message.
    Other(&'static str),
}

/// The cells of a row that are read.
#[derive(Debug)]
pub(crate) struct Fields {
    pub(crate) text: Cell,
    pub(crate) image: Cell,
    pub(crate) audio: Cell,
    pub(crate) label: Cell,
    pub(crate) labels: Cell,
    pub(crate) group: Cell,
    pub(crate) split: Cell,
    pub(crate) id: Cell,
}

impl Default for Fields {
    fn default() -> Self {
        let absent = || Cell::Absent;
        Self {
            text: absent(),
            image: absent(),
            audio: absent(),
            label: absent(),
            labels: absent(),
            group: absent(),
            split: absent(),
            id: absent(),
        }
    }
}

/// The content of a row, not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Material {
    Text(String),
    /// The file of a picture or sound, in base64.
    Base64(Modality, String),
    Image(Vec<u8>),
    Audio(Vec<u8>),
}

impl Material {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text(text) | Self::Base64(_, text) => text.len(),
            Self::Image(bytes) | Self::Audio(bytes) => bytes.len(),
        }
    }

    /// What it is once base64 is taken off.
    pub(crate) fn content(self, limits: &Limits) -> Result<Content, MediaError> {
        Ok(match self {
            Self::Text(text) => Content::Text(text),
            Self::Image(bytes) => Content::Image(bytes),
            Self::Audio(bytes) => Content::Audio(bytes),
            Self::Base64(Modality::Audio, text) => Content::Audio(decode_base64(&text, &limits.media)?),
            Self::Base64(Modality::Image | Modality::Text | Modality::Tensor, text) => {
                Content::Image(decode_base64(&text, &limits.media)?)
            }
        })
    }
}

/// The labels of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Labels {
    One(String),
    Many(Vec<String>),
}

impl Labels {
    pub(crate) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(label) => vec![label],
            Self::Many(labels) => labels,
        }
    }
}

/// A row whose form is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) material: Material,
    pub(crate) labels: Labels,
    pub(crate) group: Option<String>,
    pub(crate) split: Option<Split>,
    pub(crate) id: Option<String>,
}

/// What a file yields, one after the other.
#[derive(Debug)]
pub(crate) enum Step {
    /// A row, right or wrong.
    Row { place: Place, draft: Result<Draft, Vec<Fault>> },
    /// Something about the file, or about a part of it that is no row.
    Note { place: Option<Place>, fault: Fault },
}

impl Step {
    pub(crate) fn wrong(place: Place, code: Code, message: impl Into<String>) -> Self {
        Self::Row { place, draft: Err(vec![Fault::new(code, message)]) }
    }

    pub(crate) fn about_file(fault: Fault) -> Self {
        Self::Note { place: None, fault }
    }
}

impl Fields {
    /// Checks every field; all faults are returned, not the first.
    pub(crate) fn check(self, limits: &Limits) -> Result<Draft, Vec<Fault>> {
        let mut faults = Vec::new();
        let material = note(&mut faults, material([self.text, self.image, self.audio], limits));
        let labels = note(&mut faults, labels(self.label, self.labels, limits));
        let group = note(&mut faults, name("group", self.group, limits)).flatten();
        let id = note(&mut faults, name("id", self.id, limits)).flatten();
        let split = note(&mut faults, split(self.split, limits)).flatten();
        match (material, labels) {
            (Some(material), Some(labels)) if faults.is_empty() => {
                Ok(Draft { material, labels, group, split, id })
            }
            _ => Err(faults),
        }
    }
}

fn note<T>(faults: &mut Vec<Fault>, outcome: Result<T, Fault>) -> Option<T> {
    outcome.map_err(|fault| faults.push(fault)).ok()
}

fn material(cells: [Cell; 3], limits: &Limits) -> Result<Material, Fault> {
    let there = |cell: &Cell| *cell != Cell::Absent;
    match cells.iter().filter(|cell| there(cell)).count() {
        0 => return Err(Fault::new(Code::NoContent, "has neither `text` nor `image` nor `audio`")),
        1 => {}
        _ => {
            return Err(Fault::new(
                Code::BadContent,
                "has two of `text`, `image` and `audio`; one is wanted",
            ));
        }
    }
    let [text, image, audio] = cells;
    if there(&text) {
        self::text(text, limits).map(Material::Text)
    } else if there(&image) {
        media(image, Modality::Image)
    } else {
        media(audio, Modality::Audio)
    }
}

/// The file of a picture or sound.
fn media(cell: Cell, modality: Modality) -> Result<Material, Fault> {
    let name = modality.as_str();
    match cell {
        Cell::Bytes(bytes) if modality == Modality::Audio => Ok(Material::Audio(bytes)),
        Cell::Bytes(bytes) => Ok(Material::Image(bytes)),
        Cell::Text(base64) if base64.trim_ascii().is_empty() => {
            Err(Fault::new(Code::NoContent, format!("`{name}` is empty")))
        }
        Cell::Text(base64) => Ok(Material::Base64(modality, base64)),
        Cell::Absent | Cell::List(_) | Cell::Other(_) => {
            Err(Fault::new(Code::BadContent, format!("`{name}` is {}; base64 is wanted", describe(&cell))))
        }
    }
}

fn text(cell: Cell, limits: &Limits) -> Result<String, Fault> {
    let text = match cell {
        Cell::Text(text) => text,
        Cell::Bytes(bytes) => String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Fault::new(Code::WrongEncoding, format!("`text` is not UTF-8 from its byte {at} on"))
        })?,
        Cell::Absent | Cell::List(_) | Cell::Other(_) => {
            let message = format!("`text` is {}; a text is wanted", describe(&cell));
            return Err(Fault::new(Code::BadContent, message));
        }
    };
    check_text(&text, limits).map(|()| text)
}

/// Refuses texts that are empty or too long.
pub(crate) fn check_text(text: &str, limits: &Limits) -> Result<(), Fault> {
    if text.trim().is_empty() {
        return Err(Fault::new(Code::EmptyText, "the text is empty"));
    }
    if text.len() > limits.max_text_bytes {
        let message =
            format!("the text has {} bytes; at most {} are taken", text.len(), limits.max_text_bytes);
        return Err(Fault::new(Code::TextTooLong, message));
    }
    Ok(())
}

fn labels(label: Cell, labels: Cell, limits: &Limits) -> Result<Labels, Fault> {
    match (label, labels) {
        (Cell::Absent, Cell::Absent) => Err(Fault::new(Code::NoLabel, "has neither `label` nor `labels`")),
        (label, Cell::Absent) => one_label("label", label, limits).map(Labels::One),
        (Cell::Absent, Cell::List(cells)) => label_list(cells, limits).map(Labels::Many),
        (Cell::Absent, other) => {
            let message = format!("`labels` is {}; a list is wanted, or `label`", describe(&other));
            Err(Fault::new(Code::BadLabel, message))
        }
        _ => Err(Fault::new(Code::BadLabel, "has both `label` and `labels`; one is wanted")),
    }
}

fn label_list(cells: Vec<Cell>, limits: &Limits) -> Result<Vec<String>, Fault> {
    if cells.len() > limits.max_labels {
        let message = format!("has {} labels; at most {} are taken", cells.len(), limits.max_labels);
        return Err(Fault::new(Code::BadLabel, message));
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut labels = Vec::with_capacity(cells.len());
    for cell in cells {
        let label = one_label("labels", cell, limits)?;
        if !seen.insert(label.clone()) {
            return Err(Fault::new(Code::BadLabel, format!("names the label `{label}` twice")));
        }
        labels.push(label);
    }
    Ok(labels)
}

/// Trims a label and checks it.
fn one_label(field: &str, cell: Cell, limits: &Limits) -> Result<String, Fault> {
    let label = match cell {
        Cell::Text(label) => label,
        Cell::List(_) => {
            return Err(Fault::new(
                Code::BadLabel,
                format!("`{field}` holds a list; lists are named `labels`"),
            ));
        }
        Cell::Absent => return Err(Fault::new(Code::NoLabel, format!("`{field}` holds null"))),
        Cell::Bytes(_) | Cell::Other(_) => {
            let message = format!("`{field}` holds {}; texts are wanted", describe(&cell));
            return Err(Fault::new(Code::BadLabel, message));
        }
    };
    checked_label(&label, limits)
}

/// A label without the white space around it.
pub(crate) fn checked_label(label: &str, limits: &Limits) -> Result<String, Fault> {
    let label = label.trim();
    if label.is_empty() {
        return Err(Fault::new(Code::EmptyLabel, "a label is empty"));
    }
    if label.len() > limits.max_name_bytes {
        let message =
            format!("a label has {} bytes; at most {} are taken", label.len(), limits.max_name_bytes);
        return Err(Fault::new(Code::BadLabel, message));
    }
    Ok(label.to_owned())
}

fn name(field: &'static str, cell: Cell, limits: &Limits) -> Result<Option<String>, Fault> {
    match cell {
        Cell::Absent => Ok(None),
        Cell::Text(name) if name.trim().is_empty() => Ok(None),
        Cell::Text(name) if name.len() <= limits.max_name_bytes => Ok(Some(name.trim().to_owned())),
        Cell::Text(name) => {
            let message =
                format!("`{field}` has {} bytes; at most {} are taken", name.len(), limits.max_name_bytes);
            Err(Fault::new(Code::BadField, message))
        }
        Cell::Bytes(_) | Cell::List(_) | Cell::Other(_) => {
            Err(Fault::new(Code::BadField, format!("`{field}` is {}; a text is wanted", describe(&cell))))
        }
    }
}

fn split(cell: Cell, limits: &Limits) -> Result<Option<Split>, Fault> {
    let Some(name) = name("split", cell, limits)? else { return Ok(None) };
    let unknown =
        || Fault::new(Code::UnknownSplit, format!("the split `{name}` is none of train, val, test"));
    Split::parse(&name).map(Some).ok_or_else(unknown)
}

fn describe(cell: &Cell) -> &'static str {
    match cell {
        Cell::Absent => "null",
        Cell::Text(_) => "a text",
        Cell::Bytes(_) => "bytes",
        Cell::List(_) => "a list",
        Cell::Other(name) => name,
    }
}

/// The cells of a `labels` column in a format without lists: a JSON list, or names between `|` or `;`. Commas do not
/// part them: labels hold commas. An empty cell is a row with none of the labels.
pub(crate) fn split_labels(cell: &str) -> Cell {
    let cell = cell.trim();
    if cell.is_empty() {
        return Cell::List(Vec::new());
    }
    if cell.starts_with('[')
        && let Ok(serde_json::Value::Array(values)) = serde_json::from_str(cell)
    {
        return Cell::List(values.into_iter().map(Cell::from).collect());
    }
    Cell::List(cell.split(['|', ';']).map(|name| Cell::Text(name.to_owned())).collect())
}

impl From<serde_json::Value> for Cell {
    fn from(value: serde_json::Value) -> Self {
        use serde_json::Value;
        match value {
            Value::Null => Self::Absent,
            Value::Bool(truth) => Self::Text(truth.to_string()),
            Value::Number(number) if !number.is_f64() => Self::Text(number.to_string()),
            Value::Number(_) => Self::Other("a fraction"),
            Value::String(text) => Self::Text(text),
            Value::Array(values) => Self::List(values.into_iter().map(Self::from).collect()),
            Value::Object(_) => Self::Other("an object"),
        }
    }
}
