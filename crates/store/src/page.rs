//! Lists in pages, and whose rows a caller sees.

use crate::backend::Value;

/// Whose rows a caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// Those of one API key.
    Key(&'a str),
    /// All, for an administrator and for the service itself.
    All,
}

impl Scope<'_> {
    /// The value of a condition `($n IS NULL OR key = $n)`.
    pub(crate) fn value(self) -> Value {
        match self {
            Self::Key(key) => key.into(),
            Self::All => Value::Null,
        }
    }
}

/// Direction of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    #[default]
    Descending,
}

impl Order {
    pub(crate) fn sql(self) -> &'static str {
        match self {
            Self::Ascending => "ASC",
            Self::Descending => "DESC",
        }
    }

    /// What a row of the next page is to the last row of this one.
    pub(crate) fn beyond(self) -> &'static str {
        match self {
            Self::Ascending => ">",
            Self::Descending => "<",
        }
    }
}

/// Which part of a list. The row that `after` names need not exist any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest<I> {
    /// The last row of the page before.
    pub after: Option<I>,
    /// Most rows.
    pub limit: u32,
    /// Direction.
    pub order: Order,
}

impl<I> PageRequest<I> {
    /// The newest `limit` rows.
    #[must_use]
    pub fn newest(limit: u32) -> Self {
        Self { after: None, limit, order: Order::Descending }
    }
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows.
    pub data: Vec<T>,
    /// Whether others follow.
    pub has_more: bool,
}

impl<T> Page<T> {
    /// Of one row more than was asked for, which only tells that others follow.
    pub(crate) fn of(mut data: Vec<T>, limit: u32) -> Self {
        let has_more = data.len() > limit as usize;
        data.truncate(limit as usize);
        Self { data, has_more }
    }
}
