//! The inputs of a table's rows as they were uploaded, for learners without transfer.

use std::collections::HashMap;
use std::fs::File;

use headstart_datasets::{Content, Limits, Place, Source};
use headstart_methods::evaluate::baseline::picture::{Descriptor, Pictures};
use headstart_methods::evaluate::baseline::tf_idf::Texts;

use crate::worker::control::Stop;
use crate::worker::evaluate::{Evidence, Raw};
use crate::worker::pace::Part;
use crate::worker::reading::Upload;

/// One input.
enum Input {
    Text(String),
    Picture(Descriptor),
}

/// Reads the files once more: texts as they are, pictures as plain descriptors. Blocking.
///
/// # Errors
/// When a file changed since it was inspected.
pub(super) fn read(evidence: &Evidence, limits: &Limits) -> Result<Raw, Stop> {
    let Evidence { table, parts, pace, .. } = evidence;
    pace.begin(Part::Read);
    let mut seen = 0;
    let mut inputs: Vec<Option<Input>> = table.head.places.iter().map(|_| None).collect();
    for (number, Upload { path, name, inspection, .. }) in evidence.found.files.iter().enumerate() {
        let rows: HashMap<&Place, usize> =
            table.of_file(number).filter_map(|row| Some((table.head.places.get(row)?, row))).collect();
        let broken = |error: &dyn std::error::Error| Stop::Broken(error.to_string());
        let file = File::open(path).map_err(|error| broken(&error))?;
        let source = Source::new(file, name).map_err(|error| broken(&error))?;
        for example in
            headstart_datasets::read(&source, inspection, limits).map_err(|error| broken(&error))?
        {
            let example = example.map_err(|error| broken(&error))?;
            seen += 1;
            pace.count(seen, inputs.len());
            if let Some(slot) = rows.get(&example.place).and_then(|row| inputs.get_mut(*row)) {
                *slot = input(example.content, limits);
            }
        }
    }
    let of =
        |rows: &[usize]| rows.iter().map(|row| inputs.get(*row).and_then(Option::as_ref)).collect::<Vec<_>>();
    let (train, held_out) = (of(&parts.learn), of(&parts.score));
    let pictures = train.iter().flatten().any(|input| matches!(input, Input::Picture(_)));
    if pictures {
        let described =
            |inputs: Vec<Option<&Input>>| inputs.into_iter().map(descriptor).collect::<Option<Vec<_>>>();
        let missing = || Stop::Broken("a picture could not be described".into());
        let (train, held_out) =
            (described(train).ok_or_else(missing)?, described(held_out).ok_or_else(missing)?);
        return Ok(Raw::Pictures(Pictures::new(train, held_out)));
    }
    let texts = |inputs: Vec<Option<&Input>>| inputs.into_iter().map(text).collect::<Vec<_>>();
    Ok(Raw::Texts(Texts::new(&texts(train), &texts(held_out))))
}

fn input(content: Content, limits: &Limits) -> Option<Input> {
    match content {
        Content::Text(text) => Some(Input::Text(text)),
        Content::Image(bytes) => {
            let picture = headstart_media::decode(&bytes, &limits.media).ok()?;
            let (width, height) = (picture.width() as usize, picture.height() as usize);
            Descriptor::of(&picture.pixels(), width, height).ok().map(Input::Picture)
        }
    }
}

fn descriptor(input: Option<&Input>) -> Option<Descriptor> {
    match input {
        Some(Input::Picture(descriptor)) => Some(descriptor.clone()),
        Some(Input::Text(_)) | None => None,
    }
}

fn text(input: Option<&Input>) -> String {
    match input {
        Some(Input::Text(text)) => text.clone(),
        Some(Input::Picture(_)) | None => String::new(),
    }
}
