//! JSON Lines: one object a line.

use std::io::BufRead;

use serde_json::{Map, Value};

use super::lines::{Line, Lines};
use super::{Piece, Rows, encoding, fault_of};
use crate::draft::{Cell, Draft, Fault, Fields, Step};
use crate::{Code, DatasetError, Limits, Place};

/// Keys that are named in a message at most.
const MOST_KEYS: usize = 12;

/// The rows of a JSON Lines stream.
pub(crate) struct JsonLines<R> {
    lines: Lines<R>,
    buffer: Vec<u8>,
    limits: Limits,
    ended: bool,
}

impl<R: BufRead> JsonLines<R> {
    /// `offset` is where the reader stands in its stream: behind a byte order mark, 3.
    pub(crate) fn new(reader: R, offset: u64, limits: &Limits) -> Self {
        let lines = Lines::new(reader, limits.max_line_bytes, offset);
        Self { lines, buffer: Vec::new(), limits: limits.clone(), ended: false }
    }
}

impl<R: BufRead + Send> Rows for JsonLines<R> {
    fn next(&mut self) -> Result<Option<Step>, DatasetError> {
        loop {
            if self.ended {
                return Ok(None);
            }
            let line = match self.lines.next(&mut self.buffer) {
                Ok(Some(line)) => line,
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.ended = true;
                    let place = Some(Place::Line(self.lines.number + 1));
                    return Ok(Some(Step::Note { place, fault: fault_of(error)? }));
                }
            };
            let place = Place::Line(self.lines.number);
            if line == Line::TooLong {
                let message = format!("the line has more than {} bytes", self.limits.max_line_bytes);
                return Ok(Some(Step::wrong(place, Code::LineTooLong, message)));
            }
            if self.buffer.trim_ascii().is_empty() {
                continue;
            }
            if self.lines.number == 1 && self.buffer.trim_ascii().starts_with(b"[") {
                // A JSON document would give a problem a line, all of them beside the point.
                self.ended = true;
                let message = "the file is one JSON list; one object a line is wanted";
                return Ok(Some(Step::wrong(place, Code::NotJson, message)));
            }
            let draft = parse(&self.buffer, self.lines.start, &self.limits);
            return Ok(Some(Step::Row { place, draft }));
        }
    }

    fn piece(&self) -> Option<(Piece, &[u8])> {
        Some((Piece { start: self.lines.start, end: self.lines.end() }, &self.buffer))
    }

    fn position(&self) -> Option<u64> {
        Some(self.lines.start)
    }
}

fn parse(line: &[u8], offset: u64, limits: &Limits) -> Result<Draft, Vec<Fault>> {
    let wrong = |code, message: String| vec![Fault::new(code, message)];
    if let Some(fault) = encoding::fault(line, offset) {
        return Err(vec![fault]);
    }
    let value: Value =
        serde_json::from_slice(line).map_err(|error| wrong(Code::NotJson, describe(&error)))?;
    let mut object = match value {
        Value::Object(object) => object,
        Value::Array(_) => {
            return Err(wrong(Code::NotJson, "the line is a list; an object is wanted".into()));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            return Err(wrong(Code::NotJson, "the line is a single value; an object is wanted".into()));
        }
    };
    if let Some(message) = chat_format(&object) {
        return Err(wrong(Code::ChatFormat, message));
    }
    let mut take = |key: &str| object.remove(key).map_or(Cell::Absent, Cell::from);
    let fields = Fields {
        text: take("text"),
        image: take("image"),
        audio: take("audio"),
        label: take("label"),
        labels: take("labels"),
        group: take("group"),
        split: take("split"),
        id: take("id"),
    };
    fields.check(limits).map_err(|faults| with_keys(faults, &object))
}

/// The parser counts lines inside the line; only the column helps.
fn describe(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("not JSON: {text} at column {}", error.column())
}

fn chat_format(object: &Map<String, Value>) -> Option<String> {
    let has = |key: &str| object.contains_key(key);
    let found = if has("messages") {
        "`messages`"
    } else if has("prompt") && has("completion") {
        "`prompt` and `completion`"
    } else {
        return None;
    };
    let labelled = (has("text") || has("image") || has("audio")) && (has("label") || has("labels"));
    let wanted = "classifiers learn from {\"text\": …, \"label\": …}, or `image`, `audio` and `labels`";
    (!labelled).then(|| format!("{found} train a language model; {wanted}"))
}

/// Where something is missing, what is there helps to see why.
fn with_keys(mut faults: Vec<Fault>, rest: &Map<String, Value>) -> Vec<Fault> {
    let mut keys: Vec<String> =
        rest.keys().take(MOST_KEYS).map(|key| format!("`{}`", clipped(key))).collect();
    if rest.len() > MOST_KEYS {
        keys.push("…".into());
    }
    for fault in &mut faults {
        if matches!(fault.code, Code::NoContent | Code::NoLabel) && !keys.is_empty() {
            fault.message = format!("{}; it has {}", fault.message, keys.join(", "));
        }
    }
    faults
}

/// The beginning of a name that a client chose.
pub(crate) fn clipped(name: &str) -> String {
    let clipped: String = name.chars().take(40).collect();
    if clipped.len() < name.len() { format!("{clipped}…") } else { clipped }
}
