//! Values of a row, and reading them as nouns.

use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;

/// What a column holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Null,
    Integer(i64),
    Text(String),
}

/// A row, in the order of the statement's columns.
pub(crate) type Row = Vec<Value>;

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Self::Integer(value.into())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! value_from_id {
    ($($name:ident),*) => {$(
        impl From<&headstart_types::ids::$name> for Value {
            fn from(id: &headstart_types::ids::$name) -> Self {
                Self::Text(id.as_str().to_owned())
            }
        }
    )*};
}
value_from_id!(FileId, JobId, KeyId, PurgeId, Sha256);

/// JSON text of a value. Rows hold maps sorted by key, so equal values are equal texts.
pub(crate) fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value)
        .map_err(|error| StoreError::Invalid { field: "json", problem: error.to_string() })
}

/// Reads a row's values one after the other.
pub(crate) struct Reader {
    table: &'static str,
    values: std::vec::IntoIter<Value>,
}

impl Reader {
    pub(crate) fn new(table: &'static str, row: Row) -> Self {
        Self { table, values: row.into_iter() }
    }

    fn corrupt(&self, problem: impl ToString) -> StoreError {
        StoreError::corrupt(format!("a row of `{}`", self.table), problem)
    }

    pub(crate) fn optional_text(&mut self) -> Result<Option<String>, StoreError> {
        match self.values.next() {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            Some(Value::Integer(_)) | None => Err(self.corrupt("a text is missing")),
        }
    }

    pub(crate) fn text(&mut self) -> Result<String, StoreError> {
        self.optional_text()?.ok_or_else(|| self.corrupt("a text is null"))
    }

    pub(crate) fn optional_integer(&mut self) -> Result<Option<i64>, StoreError> {
        match self.values.next() {
            Some(Value::Integer(value)) => Ok(Some(value)),
            Some(Value::Null) => Ok(None),
            Some(Value::Text(_)) | None => Err(self.corrupt("an integer is missing")),
        }
    }

    pub(crate) fn integer(&mut self) -> Result<i64, StoreError> {
        self.optional_integer()?.ok_or_else(|| self.corrupt("an integer is null"))
    }

    /// A count: an integer that fits the type asked for.
    pub(crate) fn count<T: TryFrom<i64>>(&mut self) -> Result<T, StoreError> {
        let value = self.integer()?;
        T::try_from(value).map_err(|_| self.corrupt(format!("{value} is out of range")))
    }

    pub(crate) fn optional_count<T: TryFrom<i64>>(&mut self) -> Result<Option<T>, StoreError> {
        let value = self.optional_integer()?;
        value
            .map(|value| T::try_from(value).map_err(|_| self.corrupt(format!("{value} is out of range"))))
            .transpose()
    }

    /// A text with a form of its own.
    pub(crate) fn parsed<T: FromStr<Err: ToString>>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        text.parse().map_err(|error: T::Err| self.corrupt(error.to_string()))
    }

    pub(crate) fn optional_parsed<T: FromStr<Err: ToString>>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.optional_text()?;
        text.map(|text| text.parse().map_err(|error: T::Err| self.corrupt(error.to_string()))).transpose()
    }

    /// A text that is one of a closed set of names.
    pub(crate) fn named<T>(&mut self, of: fn(&str) -> Option<T>) -> Result<T, StoreError> {
        let text = self.text()?;
        of(&text).ok_or_else(|| self.corrupt(format!("`{text}` is no known name")))
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Result<T, StoreError> {
        let text = self.text()?;
        serde_json::from_str(&text).map_err(|error| self.corrupt(error))
    }

    pub(crate) fn optional_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StoreError> {
        let text = self.optional_text()?;
        text.map(|text| serde_json::from_str(&text).map_err(|error| self.corrupt(error))).transpose()
    }
}
