//! Which part of a list a query asks for, and a list's body.

use std::str::FromStr;

use axum::http::Uri;
use headstart_store::{Order, Page, PageRequest};
use headstart_types::ids::IdError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List<T: ToSchema> {
    /// Always `list`.
    #[schema(example = "list")]
    object: &'static str,
    /// The entries.
    data: Vec<T>,
    /// Id of the first entry.
    #[schema(required = true)]
    first_id: Option<String>,
    /// Id of the last entry: `after` of the next page.
    #[schema(required = true)]
    last_id: Option<String>,
    /// Whether others follow.
    has_more: bool,
}

impl<T: ToSchema> List<T> {
    /// A page's rows as entries; `id` names a row.
    pub(crate) fn of<R>(page: Page<R>, id: impl Fn(&R) -> String, object: impl FnMut(R) -> T) -> Self {
        let first_id = page.data.first().map(&id);
        let last_id = page.data.last().map(&id);
        let data = page.data.into_iter().map(object).collect();
        Self { object: "list", data, first_id, last_id, has_more: page.has_more }
    }
}

/// Most pairs of a query: no row has more.
const PAIRS: usize = 16;

/// The fields of a query.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn of(uri: &Uri) -> Self {
        Self(form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, value)| known == name && !value.is_empty());
        found.map(|(_, value)| value.as_str())
    }

    /// The pairs of `name[key]=value`.
    pub(crate) fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, ApiError> {
        let key =
            |field: &str| Some(field.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?.to_owned());
        let pairs = self.0.iter().filter_map(|(field, value)| Some((key(field)?, value.clone())));
        let pairs: Vec<_> = pairs.take(PAIRS + 1).collect();
        if pairs.len() > PAIRS {
            return Err(ApiError::invalid(name, format!("`{name}[…]` may be given at most {PAIRS} times")));
        }
        Ok(pairs)
    }

    /// `after` and `limit`, newest first; `limits` are the default and the most.
    pub(crate) fn page<I>(&self, limits: (u32, u32)) -> Result<PageRequest<I>, ApiError>
    where
        I: FromStr<Err = IdError>,
    {
        let after = self.get("after").map(str::parse).transpose();
        let after =
            after.map_err(|error: IdError| ApiError::invalid("after", format!("`after`: {error}")))?;
        Ok(PageRequest { after, limit: self.limit(limits)?, order: Order::Descending })
    }

    /// `limit`; `limits` are the default and the most.
    pub(crate) fn limit(&self, (default, most): (u32, u32)) -> Result<u32, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(default) };
        text.parse().ok().filter(|limit| (1..=most).contains(limit)).ok_or_else(|| {
            ApiError::invalid("limit", format!("`limit` must be a whole number from 1 to {most}"))
        })
    }

    /// `order`, newest first unless told otherwise.
    pub(crate) fn order(&self) -> Result<Order, ApiError> {
        match self.get("order") {
            None | Some("desc") => Ok(Order::Descending),
            Some("asc") => Ok(Order::Ascending),
            Some(_) => Err(ApiError::invalid("order", "`order` must be `asc` or `desc`")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &'static str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap())
    }

    #[test]
    fn a_query_gives_its_pairs_decoded() {
        let query = query("metadata%5Ba%20b%5D=c+d&metadata[e]=f&limit=3");
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(query.pairs("metadata").unwrap(), [pair("a b", "c d"), pair("e", "f")]);
        assert_eq!(query.limit((20, 100)).unwrap(), 3);
    }

    #[test]
    fn a_limit_out_of_range_is_refused() {
        for text in ["limit=0", "limit=101", "limit=-1", "limit=many"] {
            assert!(query(text).limit((20, 100)).is_err(), "{text}");
        }
        assert_eq!(query("limit=").limit((20, 100)).unwrap(), 20);
    }
}
