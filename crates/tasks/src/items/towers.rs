//! The walk of items through two towers: pictures through one, texts through the other, side by side, and back in order.

use std::sync::Arc;

use headstart_engine::{Permit, Want};
use headstart_types::payload::{Datum, Modality};

use super::{Item, Items, Reading, item_name, one_graph};
use crate::cache::VectorCache;
use crate::catalog::Served;
use crate::context::{Caller, TaskContext};
use crate::error::TaskError;

/// Items of one tower, with their places among all.
#[derive(Default)]
struct Side {
    data: Vec<Datum>,
    places: Vec<usize>,
}

pub(super) async fn compute(
    cx: &TaskContext,
    ((pictures, places), (texts, places_of_texts)): ((&Served, Permit), (&Served, Permit)),
    data: Vec<Datum>,
    reading: Reading<'_>,
    cache: &Arc<VectorCache>,
    caller: Caller,
) -> Result<Items, TaskError> {
    let count = data.len();
    let (mut seen, mut read) = (Side::default(), Side::default());
    for (place, datum) in data.into_iter().enumerate() {
        let side = if datum.modality() == Modality::Text { &mut read } else { &mut seen };
        side.data.push(datum);
        side.places.push(place);
    }
    // A text tower has no head of its source task.
    let of_texts = Reading { want: Want { features: true, logits: false }, ..reading.clone() };
    let walk = async |served, (side, permit): (Side, Permit), reading: Reading<'_>| {
        if side.data.is_empty() {
            return Ok((Items::default(), side.places));
        }
        let field = reading.field.to_owned();
        let items = one_graph(cx, served, (side.data, permit), reading, cache, caller).await;
        let items = items.map_err(|error| in_its_place(error, &field, &side.places, count))?;
        Ok::<_, TaskError>((items, side.places))
    };
    let (pictures, texts) = tokio::try_join!(
        walk(pictures, (seen, places), reading),
        walk(texts, (read, places_of_texts), of_texts)
    )?;
    let timings = pictures.0.timings.beside(texts.0.timings);
    let mut all: Vec<Option<Item>> = vec![None; count];
    for (items, places) in [pictures, texts] {
        for (item, place) in items.items.into_iter().zip(places) {
            if let Some(slot) = all.get_mut(place) {
                *slot = Some(item);
            }
        }
    }
    let items: Option<Vec<Item>> = all.into_iter().collect();
    Ok(Items { items: items.ok_or(TaskError::Bug("an item went through no tower"))?, timings })
}

/// An error of a tower's item with the item's place among those of the request.
fn in_its_place(mut error: TaskError, field: &str, places: &[usize], count: usize) -> TaskError {
    if let TaskError::Invalid { param, .. } | TaskError::Media { param, .. } = &mut error {
        let index = match param.strip_prefix(field) {
            Some("") => Some(0),
            Some(rest) => rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')?.parse().ok()),
            None => None,
        };
        if let Some(place) = index.and_then(|index: usize| places.get(index)) {
            *param = item_name(field, *place, count);
        }
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place_among_all_items() {
        let moved = |param: &str, places: &[usize]| {
            in_its_place(TaskError::invalid(param, "is bad"), "input", places, 5).to_string()
        };
        let named = |param: &str| TaskError::invalid(param, "is bad").to_string();
        assert_eq!(moved("input[1]", &[2, 4]), named("input[4]"));
        assert_eq!(moved("input", &[3]), named("input[3]"));
        assert_eq!(moved("model", &[3]), named("model"));
    }
}
