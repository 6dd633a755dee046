//! API keys: made, revoked, listed. Rows stay; a secret is never here, only its digest.

use headstart_types::key::{KeyLimits, KeyRow, NewAct};
use serde_json::json;

use crate::acts::noted;
use crate::backend::{Batch, Reader, Row, Value};
use crate::error::StoreError;
use crate::store::Store;

const COLUMNS: &str = "id, name, scopes, digest, requests_per_minute, concurrency, created_at, expires_at, revoked_at, \
     items_per_minute";

/// Most keys that may be taken at a time: each request is compared with all of them.
pub const MAX_KEYS: u32 = 1000;

const GROW: &str = "UPDATE meta SET value = value + 1 WHERE name = 'keys'";

/// Keys that are taken at the time `$2`.
const ACTIVE: &str = "revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $2)";

/// Whether the name `$3` has or had a key, or owns anything.
const OWNED: &str = "EXISTS (SELECT 1 FROM keys WHERE name = $3) OR EXISTS (SELECT 1 FROM files WHERE key = $3) \
     OR EXISTS (SELECT 1 FROM jobs WHERE key = $3) OR EXISTS (SELECT 1 FROM classifiers WHERE key = $3) \
     OR EXISTS (SELECT 1 FROM purges WHERE key = $3)";

fn decode(row: Row) -> Result<KeyRow, StoreError> {
    let mut row = Reader::new("keys", row);
    let mut key = KeyRow {
        id: row.parsed()?,
        name: row.text()?,
        scopes: row.text()?,
        digest: row.parsed()?,
        limits: KeyLimits {
            requests_per_minute: row.optional_count()?,
            concurrency: row.optional_count()?,
            items_per_minute: None,
        },
        created_at: row.integer()?,
        expires_at: row.optional_integer()?,
        revoked_at: row.optional_integer()?,
    };
    key.limits.items_per_minute = row.optional_count()?;
    Ok(key)
}

fn act(who: &str, action: &str, key: &KeyRow) -> NewAct {
    NewAct {
        who: who.to_owned(),
        action: action.to_owned(),
        subject: key.name.clone(),
        details: json!({"id": key.id, "scopes": key.scopes, "expires_at": key.expires_at}),
    }
}

impl Store {
    /// Writes a new key. A name that has a key or owns anything is refused unless `reuse` says that the new key is to have
    /// all of it; beside a key of the name that is taken, only one of the same scopes is.
    ///
    /// # Errors
    /// [`StoreError::Conflict`]; [`StoreError::TooMany`] at [`MAX_KEYS`].
    pub async fn add_key(&self, key: &KeyRow, reuse: bool, who: &str) -> Result<(), StoreError> {
        let values: Vec<Value> = vec![
            (&key.id).into(),
            key.created_at.into(),
            key.name.as_str().into(),
            key.scopes.as_str().into(),
            (&key.digest).into(),
            key.limits.requests_per_minute.into(),
            key.limits.concurrency.into(),
            key.expires_at.into(),
            i64::from(reuse).into(),
            MAX_KEYS.into(),
            key.limits.items_per_minute.into(),
        ];
        let sql = format!(
            "INSERT INTO keys ({COLUMNS}) SELECT $1, $3, $4, $5, $6, $7, $2, $8, NULL, $11 \
             WHERE ($9 = 1 OR NOT ({OWNED})) \
             AND NOT EXISTS (SELECT 1 FROM keys WHERE name = $3 AND scopes <> $4 AND {ACTIVE}) \
             AND (SELECT COUNT(*) FROM keys WHERE {ACTIVE}) < $10 ON CONFLICT DO NOTHING"
        );
        let batch = Batch::new().must(sql, values).then(GROW, Vec::new());
        let batch = noted(batch, &act(who, "key.add", key), key.created_at)?;
        if self.write(batch).await?.is_ok() {
            return Ok(());
        }
        Err(self.why_not(key, reuse).await?)
    }

    async fn why_not(&self, key: &KeyRow, reuse: bool) -> Result<StoreError, StoreError> {
        let now = key.created_at;
        let keys = self.keys().await?;
        let mut active = keys.iter().filter(|row| row.is_active(now));
        if let Some(other) = active.clone().find(|row| row.name == key.name && row.scopes != key.scopes) {
            return Ok(StoreError::Conflict(format!(
                "`{}` has a key with the scopes {}: give the same, or revoke it first",
                key.name, other.scopes
            )));
        }
        if !reuse && self.owns(&key.name).await? {
            return Ok(StoreError::Conflict(format!(
                "`{}` has or had a key, or owns files, jobs or classifiers",
                key.name
            )));
        }
        if active.by_ref().count() >= MAX_KEYS as usize {
            return Ok(StoreError::TooMany { what: "keys", limit: MAX_KEYS });
        }
        Ok(StoreError::Conflict("the key is there already".into()))
    }

    /// Whether a name has or had a key, or owns files, jobs, classifiers or purges.
    async fn owns(&self, name: &str) -> Result<bool, StoreError> {
        let sql = format!("SELECT {}", OWNED.replace("$3", "$1"));
        let rows = self.read(sql, vec![name.into()]).await?;
        rows.into_iter().next().map_or(Ok(false), |row| Ok(Reader::new("keys", row).integer()? != 0))
    }

    /// Ends the keys of a name, or the one of an id: those that it ended.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when there is no such key, [`StoreError::Conflict`] when all are revoked.
    pub async fn revoke_keys(&self, which: &str, who: &str, now: i64) -> Result<Vec<KeyRow>, StoreError> {
        let named: Vec<KeyRow> = self
            .keys()
            .await?
            .into_iter()
            .filter(|key| key.name == which || key.id.as_str() == which)
            .collect();
        if named.is_empty() {
            return Err(StoreError::missing("key", which));
        }
        let mut batch = Batch::new();
        let ended: Vec<KeyRow> = named.into_iter().filter(|key| key.revoked_at.is_none()).collect();
        if ended.is_empty() {
            return Err(StoreError::Conflict(format!("`{which}` is revoked")));
        }
        for key in &ended {
            let sql = "UPDATE keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL";
            batch = batch.must(sql, vec![(&key.id).into(), now.into()]);
            batch = noted(batch, &act(who, "key.revoke", key), now)?;
        }
        match self.write(batch.then(GROW, Vec::new())).await? {
            Ok(_) => Ok(ended.into_iter().map(|key| KeyRow { revoked_at: Some(now), ..key }).collect()),
            Err(_) => Err(StoreError::Conflict(format!("`{which}` was revoked meanwhile"))),
        }
    }

    /// Every key, those that are taken no more too, in the order they were made in.
    ///
    /// # Errors
    /// What the database said.
    pub async fn keys(&self) -> Result<Vec<KeyRow>, StoreError> {
        let rows = self.read(format!("SELECT {COLUMNS} FROM keys ORDER BY id"), Vec::new()).await?;
        rows.into_iter().map(decode).collect()
    }

    /// Grows whenever a key is made or revoked.
    ///
    /// # Errors
    /// What the database said.
    pub async fn keys_revision(&self) -> Result<u64, StoreError> {
        let rows = self.read("SELECT value FROM meta WHERE name = 'keys'", Vec::new()).await?;
        let row = rows.into_iter().next();
        row.map_or_else(
            || Err(StoreError::corrupt("`meta`", "the keys' revision is missing")),
            |row| Reader::new("meta", row).count(),
        )
    }
}
