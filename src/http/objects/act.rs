//! Acts as administrators read them.

use headstart_types::key::ActRow;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::objects::seconds;

/// What every id of an act starts with.
pub(crate) const PREFIX: &str = "act-";

/// Something that was done to the service or its registry.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActObject {
    /// Its id; grows with time.
    #[schema(example = "act-17")]
    id: String,
    /// Always `act`.
    #[schema(example = "act")]
    object: &'static str,
    /// When, seconds since the epoch.
    created_at: i64,
    /// Name of the API key that did it; empty where no keys are set, `headstart keys` for that command.
    #[schema(example = "ops")]
    who: String,
    /// What was done.
    #[schema(example = "classifier.promote")]
    action: String,
    /// What it was done to: a name or an id.
    #[schema(example = "team-a/intent")]
    subject: String,
    /// More of it, by action.
    #[schema(value_type = Object, example = json!({"before": 1, "after": 2, "reason": "better on held-out rows"}))]
    details: Value,
}

impl ActObject {
    pub(crate) fn new(row: ActRow) -> Self {
        Self {
            id: id(&row),
            object: "act",
            created_at: seconds(row.created_at),
            who: row.act.who,
            action: row.act.action,
            subject: row.act.subject,
            details: row.act.details,
        }
    }
}

/// The id of an act.
pub(crate) fn id(row: &ActRow) -> String {
    format!("{PREFIX}{}", row.number)
}
