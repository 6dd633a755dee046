//! The inputs of a table's rows as they were uploaded, for learners without transfer.

use std::collections::HashMap;
use std::fs::File;

use headstart_datasets::{Content, Limits, Place, Source};
use headstart_media::audio::MelFrontEnd;
use headstart_methods::evaluate::baseline::picture::{Descriptor, Pictures};
use headstart_methods::evaluate::baseline::sound::{Descriptor as SoundDescriptor, Sounds};
use headstart_methods::evaluate::baseline::tf_idf::Texts;
use headstart_types::manifest::{Edges, LogSpec, MelNorm, MelScale, MelSpec};

use crate::worker::control::Stop;
use crate::worker::evaluate::{Evidence, Raw};
use crate::worker::pace::Part;
use crate::worker::reading::Upload;

/// Samples a second that sounds are described at, and bands of a frame.
const SOUND_RATE: u32 = 16_000;
const SOUND_BANDS: usize = 26;

/// One input.
enum Input {
    Text(String),
    Picture(Descriptor),
    Sound(SoundDescriptor),
}

/// Reads the files once more: texts as they are, pictures and sounds as plain descriptors. Blocking.
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
    if train.iter().flatten().any(|input| matches!(input, Input::Sound(_))) {
        let described = |inputs: Vec<Option<&Input>>| {
            inputs.into_iter().map(sound_descriptor).collect::<Option<Vec<_>>>()
        };
        let missing = || Stop::Broken("a sound could not be described".into());
        let (train, held_out) =
            (described(train).ok_or_else(missing)?, described(held_out).ok_or_else(missing)?);
        return Ok(Raw::Sounds(Sounds::new(train, held_out)));
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
        Content::Audio(bytes) => {
            let sound = headstart_media::decode_sound(&bytes, SOUND_RATE, &limits.media).ok()?;
            let frames = MelFrontEnd::new(&sound_frames(), SOUND_RATE).frames(&sound.samples);
            Some(Input::Sound(SoundDescriptor::of(&frames, SOUND_BANDS)))
        }
    }
}

fn descriptor(input: Option<&Input>) -> Option<Descriptor> {
    match input {
        Some(Input::Picture(descriptor)) => Some(descriptor.clone()),
        Some(Input::Text(_) | Input::Sound(_)) | None => None,
    }
}

fn sound_descriptor(input: Option<&Input>) -> Option<SoundDescriptor> {
    match input {
        Some(Input::Sound(descriptor)) => Some(descriptor.clone()),
        Some(Input::Text(_) | Input::Picture(_)) | None => None,
    }
}

/// Frames of 25 ms every 10 ms, in 26 bands up to 4 kHz: what speech is commonly described by.
fn sound_frames() -> MelSpec {
    MelSpec {
        n_fft: 512,
        window: Some(400),
        hop: 160,
        bands: SOUND_BANDS,
        fmin: 50.0,
        fmax: Some(4_000.0),
        scale: MelScale::Htk,
        norm: MelNorm::None,
        power: 2,
        edges: Edges::None,
        log: LogSpec::Natural { floor: 1e-8, offset: 0.0 },
        mean: 0.0,
        std: 1.0,
    }
}

fn text(input: Option<&Input>) -> String {
    match input {
        Some(Input::Text(text)) => text.clone(),
        Some(Input::Picture(_) | Input::Sound(_)) | None => String::new(),
    }
}
