//! What was done by whom: one list for everything that changes the service or its registry. What is done to rows is
//! noted in the transaction that does it; classifiers' audits and purges are taken along by the database.

use headstart_types::classifier::Reason;
use headstart_types::key::{ActRow, NewAct};
use serde_json::json;

use crate::backend::{Batch, Reader, Row, Value, to_json};
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::store::Store;

const COLUMNS: &str = "number, created_at, who, action, subject, details";

fn decode(row: Row) -> Result<ActRow, StoreError> {
    let mut row = Reader::new("acts", row);
    Ok(ActRow {
        number: row.count()?,
        created_at: row.integer()?,
        act: NewAct { who: row.text()?, action: row.text()?, subject: row.text()?, details: row.json()? },
    })
}

/// The act of deleting a row.
pub(crate) fn deletion(action: &str, id: &impl ToString, reason: &Reason) -> NewAct {
    NewAct {
        who: reason.who.clone(),
        action: action.to_owned(),
        subject: id.to_string(),
        details: json!({"reason": reason.reason}),
    }
}

/// Notes an act beside the statements that do it.
pub(crate) fn noted(batch: Batch, act: &NewAct, now: i64) -> Result<Batch, StoreError> {
    let values = vec![
        now.into(),
        act.who.as_str().into(),
        act.action.as_str().into(),
        act.subject.as_str().into(),
        to_json(&act.details)?.into(),
    ];
    Ok(batch.then(
        "INSERT INTO acts (created_at, who, action, subject, details) VALUES ($1, $2, $3, $4, $5)",
        values,
    ))
}

fn number_value(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

impl Store {
    /// Notes what was done to something that has no row here.
    ///
    /// # Errors
    /// What the database said.
    pub async fn note(&self, act: &NewAct, now: i64) -> Result<(), StoreError> {
        self.write(noted(Batch::new(), act, now)?).await.map(drop)
    }

    /// Acts in order of their numbers, those of one doer where `who` names one.
    ///
    /// # Errors
    /// What the database said.
    pub async fn acts(&self, who: Option<&str>, page: &PageRequest<u64>) -> Result<Page<ActRow>, StoreError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM acts WHERE ($1 IS NULL OR who = $1) AND ($2 IS NULL OR number {} $2) \
             ORDER BY number {} LIMIT $3",
            page.order.beyond(),
            page.order.sql()
        );
        let limit = i64::from(page.limit).saturating_add(1);
        let after = page.after.map_or(Value::Null, number_value);
        let rows = self.read(sql, vec![who.into(), after, limit.into()]).await?;
        Ok(Page::of(rows.into_iter().map(decode).collect::<Result<_, _>>()?, page.limit))
    }

    /// Forgets acts of before a time, and the same of classifiers' audits, whose numbers are not given again: how many acts.
    ///
    /// # Errors
    /// What the database said.
    pub async fn forget_acts(&self, before: i64) -> Result<u64, StoreError> {
        let sql = "DELETE FROM acts WHERE created_at < $1 RETURNING number";
        let audits = "DELETE FROM audits WHERE created_at < $1";
        let batch = Batch::quiet().then(sql, vec![before.into()]).then(audits, vec![before.into()]);
        match self.write(batch).await? {
            Ok(rows) => Ok(rows.first().map_or(0, Vec::len) as u64),
            Err(_) => Err(StoreError::Bug("a step that may touch no row was missed")),
        }
    }
}
