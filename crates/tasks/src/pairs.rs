//! Pairs of texts through a cross-encoder: each text is tokenised once, and every pair is an item of the queue.

use headstart_engine::Want;
use headstart_media::{MediaError, Shorter, TextEncoder};
use headstart_types::payload::{Datum, Truncate};

use crate::catalog::Served;
use crate::context::{Caller, Owed, TaskContext};
use crate::error::TaskError;
use crate::items::{self, Items};
use crate::reader::{Read, Reader};

/// A text with what errors call it.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Every first text with every second one.
pub(crate) struct Pairs {
    pub(crate) first: Vec<Named>,
    pub(crate) second: Vec<Named>,
    pub(crate) shorter: Shorter,
    pub(crate) truncate: Truncate,
}

/// Takes pairs all the way to their logits: those of the first text with each second one, then those of the next. What is owed
/// is taken once there are places for them.
pub(crate) async fn compute(
    cx: &TaskContext,
    served: &Served,
    pairs: Pairs,
    owed: &Owed,
    caller: Caller,
) -> Result<Items, TaskError> {
    let count = pairs.first.len() * pairs.second.len();
    cx.check_items(count)?;
    let permit = served.admit(count)?;
    cx.take_owed(owed, caller)?;
    let bytes = pairs.first.iter().chain(&pairs.second).map(|named| named.text.len()).sum();
    let want = Want { features: false, logits: true };
    let read = move |reader: &Reader| pairs.encode(reader.tokens()?);
    items::compute_read(cx, served, ((permit, bytes), want), read, &cx.features, caller).await
}

/// The texts of a request's data, which are nothing else.
pub(crate) fn texts(cx: &TaskContext, field: &str, data: Vec<Datum>) -> Result<Vec<Named>, TaskError> {
    items::check_texts(cx, &data, field)?;
    let count = data.len();
    let named = |(index, datum)| {
        let name = items::item_name(field, index, count);
        match datum {
            Datum::Text(text) => Ok(Named { name, text }),
            Datum::Tokens(_) => {
                Err(TaskError::invalid(name, "is token ids, and the model reads pairs of texts"))
            }
            Datum::Image(_) | Datum::Audio(_) => Err(TaskError::Bug("a picture reached a pair of texts")),
        }
    };
    data.into_iter().enumerate().map(named).collect()
}

impl Pairs {
    fn encode(&self, encoder: &TextEncoder) -> Result<Vec<Read>, TaskError> {
        let contents = |side: &[Named]| -> Result<Vec<Vec<u32>>, TaskError> {
            let content = |named: &Named| encoder.content(&named.text).map_err(|error| refused(named, error));
            side.iter().map(content).collect()
        };
        let (first, second) = (contents(&self.first)?, contents(&self.second)?);
        let mut encoded = Vec::with_capacity(first.len() * second.len());
        for (one, ids) in self.first.iter().zip(&first) {
            for (other, others) in self.second.iter().zip(&second) {
                let pair = encoder.pair(ids, others, self.shorter, self.truncate);
                encoded.push(pair.map(Read::from).map_err(|error| match (&error, self.shorter) {
                    (MediaError::TooLong { .. }, Shorter::First) => refused(one, error),
                    _ => refused(other, error),
                })?);
            }
        }
        Ok(encoded)
    }
}

fn refused(named: &Named, source: MediaError) -> TaskError {
    TaskError::Media { param: named.name.clone(), source }
}
