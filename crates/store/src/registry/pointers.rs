//! Which version answers: production, traffic, shadow and aliases, each moved whole and written down.

use std::collections::BTreeMap;

use headstart_types::classifier::{Classifier, ClassifierId, Reason};

use super::publish::Expected;
use super::rows::{check_name, named};
use crate::backend::{Batch, to_json};
use crate::error::StoreError;
use crate::jobs::{TRIES, without_checkpoints};
use crate::store::Store;

/// How many earlier production versions a rollback can reach.
const HISTORY: usize = 100;
/// Most aliases of a classifier.
const ALIASES: usize = 100;

/// The latest entries of a history.
pub(crate) fn recent(mut history: Vec<u32>) -> Vec<u32> {
    let surplus = history.len().saturating_sub(HISTORY);
    history.drain(..surplus);
    history
}

/// Leaves no step in a history that leads to what answers already.
fn only_steps_back(classifier: &mut Classifier) {
    while classifier.history.pop_if(|earlier| Some(*earlier) == classifier.production).is_some() {}
}

impl Store {
    /// Makes a version production; a traffic split ends. With `compared`, only while that version is production, so
    /// that a gate's finding still holds.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Conflict`] when production has moved.
    pub async fn promote(
        &self,
        id: &ClassifierId,
        number: u32,
        compared: Option<u32>,
        reason: &Reason,
        now: i64,
    ) -> Result<Classifier, StoreError> {
        self.edit(id, "promote", reason, now, |classifier, numbers| {
            exists(id, numbers, number)?;
            if compared.is_some() && compared != classifier.production {
                return Err(StoreError::Conflict(format!("production of `{}` has moved", id.name)));
            }
            if classifier.production != Some(number) {
                classifier.history.extend(classifier.production);
            }
            classifier.production = Some(number);
            classifier.traffic.clear();
            Ok(())
        })
        .await
    }

    /// Writes down that a gate kept a version from production; nothing moves.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn refuse(&self, id: &ClassifierId, reason: &Reason, now: i64) -> Result<(), StoreError> {
        self.edit(id, "refuse", reason, now, |_, _| Ok(())).await.map(|_| ())
    }

    /// Makes the version production that was so before; again, the one before that. A traffic split ends.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when there is no earlier one, or the classifier is not as expected; [`StoreError::NotFound`].
    pub async fn rollback(
        &self,
        id: &ClassifierId,
        expected: Expected,
        reason: &Reason,
        now: i64,
    ) -> Result<Classifier, StoreError> {
        self.edit(id, "rollback", reason, now, |classifier, _| {
            expected.check(id, Some(classifier))?;
            only_steps_back(classifier);
            let earlier = classifier.history.pop();
            let earlier = earlier.ok_or_else(|| {
                StoreError::Conflict(format!("classifier `{}` has no earlier production version", id.name))
            })?;
            classifier.production = Some(earlier);
            classifier.traffic.clear();
            Ok(())
        })
        .await
    }

    /// Splits requests between versions by percent; an empty split gives all to production.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the percents do not sum to 100, [`StoreError::NotFound`].
    pub async fn set_traffic(
        &self,
        id: &ClassifierId,
        traffic: &BTreeMap<u32, u8>,
        reason: &Reason,
        now: i64,
    ) -> Result<Classifier, StoreError> {
        let sum: u32 = traffic.values().map(|&percent| u32::from(percent)).sum();
        if !traffic.is_empty() && (sum != 100 || traffic.values().any(|&percent| percent == 0)) {
            let problem = format!("must be percents above 0 that sum to 100, not to {sum}");
            return Err(StoreError::Invalid { field: "traffic", problem });
        }
        self.edit(id, "traffic", reason, now, |classifier, numbers| {
            traffic.keys().try_for_each(|&number| exists(id, numbers, number))?;
            classifier.traffic.clone_from(traffic);
            Ok(())
        })
        .await
    }

    /// Lets a version score along, or none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn set_shadow(
        &self,
        id: &ClassifierId,
        shadow: Option<u32>,
        reason: &Reason,
        now: i64,
    ) -> Result<Classifier, StoreError> {
        self.edit(id, "shadow", reason, now, |classifier, numbers| {
            shadow.into_iter().try_for_each(|number| exists(id, numbers, number))?;
            classifier.shadow = shadow;
            Ok(())
        })
        .await
    }

    /// Names a version, or takes the name away.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] for a name that reads as a number, [`StoreError::NotFound`].
    pub async fn set_alias(
        &self,
        id: &ClassifierId,
        alias: &str,
        number: Option<u32>,
        reason: &Reason,
        now: i64,
    ) -> Result<Classifier, StoreError> {
        check_name("alias", alias)?;
        if alias.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(StoreError::Invalid {
                field: "alias",
                problem: "reads as a version's number".into(),
            });
        }
        self.edit(id, "alias", reason, now, |classifier, numbers| {
            match number {
                Some(number) => {
                    exists(id, numbers, number)?;
                    classifier.aliases.insert(alias.to_owned(), number);
                }
                None => {
                    let known = classifier.aliases.remove(alias);
                    known.ok_or_else(|| StoreError::missing("alias", alias))?;
                }
            }
            if classifier.aliases.len() > ALIASES {
                return Err(StoreError::TooMany { what: "aliases", limit: ALIASES as u32 });
            }
            Ok(())
        })
        .await
    }

    /// Deletes a version that nothing points to; its blobs go with the next collection.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] while production, traffic, shadow or an alias points to it, [`StoreError::NotFound`].
    pub async fn delete_version(
        &self,
        id: &ClassifierId,
        number: u32,
        reason: &Reason,
        now: i64,
    ) -> Result<Classifier, StoreError> {
        let gone = |batch: Batch| {
            let mut values = named(id);
            values.push(number.into());
            batch.must("DELETE FROM versions WHERE key = $1 AND name = $2 AND number = $3", values)
        };
        self.edit_with(id, "delete_version", reason, now, gone, |classifier, numbers| {
            exists(id, numbers, number)?;
            let pointing = pointing_to(classifier, number);
            if !pointing.is_empty() {
                let pointing = pointing.join(", ");
                let message = format!("version `{}@{number}` is in use as {pointing}", id.name);
                return Err(StoreError::Conflict(message));
            }
            classifier.history.retain(|&earlier| earlier != number);
            classifier.history.dedup();
            only_steps_back(classifier);
            Ok(())
        })
        .await
    }

    /// Deletes a classifier with all its versions, and the checkpoints of its jobs that are over. Its audit rows stay; a later
    /// classifier of that name goes on with new numbers.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not as expected, [`StoreError::NotFound`].
    pub async fn delete_classifier(
        &self,
        id: &ClassifierId,
        expected: Expected,
        reason: &Reason,
        now: i64,
    ) -> Result<(), StoreError> {
        let gone = |batch: Batch| {
            let mut values = named(id);
            values.push(now.into());
            let batch = batch
                .must("UPDATE classifiers SET deleted_at = $3 WHERE key = $1 AND name = $2", values)
                .must("DELETE FROM versions WHERE key = $1 AND name = $2", named(id));
            without_checkpoints(batch, id)
        };
        self.edit_with(id, "delete", reason, now, gone, |classifier, _| {
            expected.check(id, Some(classifier))?;
            classifier.production = None;
            classifier.history.clear();
            classifier.traffic.clear();
            classifier.shadow = None;
            classifier.aliases.clear();
            Ok(())
        })
        .await
        .map(|_| ())
    }

    async fn edit(
        &self,
        id: &ClassifierId,
        action: &'static str,
        reason: &Reason,
        now: i64,
        change: impl Fn(&mut Classifier, &[u32]) -> Result<(), StoreError> + Send + Sync,
    ) -> Result<Classifier, StoreError> {
        self.edit_with(id, action, reason, now, |batch| batch, change).await
    }

    /// Reads the row, changes it, and writes it with its audit row if it is still the same; else again. Versions come
    /// and go with the row's revision, so `change` may trust the numbers it is given.
    async fn edit_with(
        &self,
        id: &ClassifierId,
        action: &'static str,
        reason: &Reason,
        now: i64,
        more: impl Fn(Batch) -> Batch + Send + Sync,
        change: impl Fn(&mut Classifier, &[u32]) -> Result<(), StoreError> + Send + Sync,
    ) -> Result<Classifier, StoreError> {
        for _ in 0..TRIES {
            let mut classifier = self.classifier(id).await?;
            let before = classifier.production;
            change(&mut classifier, &self.numbers(id).await?)?;
            classifier.history = recent(classifier.history);
            let mut batch = pointers(&classifier)?;
            let mut audit = named(id);
            audit.extend([now.into(), action.into(), reason.who.as_str().into(), before.into()]);
            audit.extend([classifier.production.into(), reason.reason.as_str().into()]);
            audit.push(reason.gate.as_ref().map(to_json).transpose()?.into());
            batch = batch.then(
                "INSERT INTO audits (key, name, number, created_at, action, who, before, after, reason, gate) \
                 SELECT key, name, audit_count, $3, $4, $5, $6, $7, $8, $9 FROM classifiers \
                 WHERE key = $1 AND name = $2",
                audit,
            );
            if self.write(more(batch)).await?.is_ok() {
                classifier.revision += 1;
                return Ok(classifier);
            }
        }
        Err(StoreError::Conflict(format!("classifier `{}` changes too fast", id.name)))
    }
}

/// Writes a classifier's pointers over the revision they were computed from.
fn pointers(classifier: &Classifier) -> Result<Batch, StoreError> {
    let mut values = named(&classifier.id);
    values.extend([
        i64::try_from(classifier.revision).unwrap_or(i64::MAX).into(),
        classifier.production.into(),
        to_json(&classifier.history)?.into(),
        to_json(&classifier.traffic)?.into(),
        classifier.shadow.into(),
        to_json(&classifier.aliases)?.into(),
    ]);
    Ok(Batch::new().must(
        "UPDATE classifiers SET production = $4, history = $5, traffic = $6, shadow = $7, aliases = $8, \
         revision = revision + 1, audit_count = audit_count + 1 \
         WHERE key = $1 AND name = $2 AND revision = $3 AND deleted_at IS NULL",
        values,
    ))
}

/// What keeps a version, in words.
fn pointing_to(classifier: &Classifier, number: u32) -> Vec<String> {
    let aliases = classifier.aliases.iter().filter(|(_, aliased)| **aliased == number);
    let pointers = [
        (classifier.production == Some(number), "production"),
        (classifier.traffic.contains_key(&number), "a part of the traffic split"),
        (classifier.shadow == Some(number), "shadow"),
    ];
    let pointers = pointers.into_iter().filter(|(points, _)| *points).map(|(_, what)| what.to_owned());
    pointers.chain(aliases.map(|(alias, _)| format!("alias `{alias}`"))).collect()
}

fn exists(id: &ClassifierId, numbers: &[u32], number: u32) -> Result<(), StoreError> {
    if numbers.contains(&number) {
        Ok(())
    } else {
        Err(StoreError::missing("version", format!("{}@{number}", id.name)))
    }
}
