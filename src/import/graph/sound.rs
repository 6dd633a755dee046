//! Sounds: samples or frames of mel bands, by the input's sizes; how frames were made no graph tells.

use anyhow::{Context as _, bail};
use headstart_types::Manifest;
use headstart_types::manifest::{
    AudioSpec, FrameLayout, LogSpec, MelNorm, MelScale, MelSpec, Silence, Tail, WindowOf, WindowSpec,
};
use headstart_types::tensor::DataType;

use super::super::facts::Facts;
use super::super::trial::filled;
use super::Probe;
use super::anatomy::{Anatomy, Given};
use super::outputs::{Of, decide};

/// Samples a second of nearly every model of speech and sound.
const RATE: u32 = 16_000;

/// Whisper's sounds: half a minute, in frames of 10 ms.
const WHISPER_FRAMES: usize = 3000;
const WHISPER_BANDS: [usize; 2] = [80, 128];
const WHISPER_SAMPLES: usize = 480_000;

pub(super) fn fill(
    manifest: &mut Manifest,
    anatomy: &Anatomy,
    probe: &Probe<'_>,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    let [input] = anatomy.inputs.as_slice() else {
        bail!("`backbone.modality` is audio, and the graph takes {} inputs", anatomy.inputs.len());
    };
    let (spec, shape) = front(input, facts)?;
    let count: usize = shape.iter().product();
    let noise = (0..count as u32).map(|place| {
        let bits = place.wrapping_mul(0x9E37_79B9) >> 8;
        bits as f32 / 8_388_608.0 - 1.0
    });
    let (datatype, bytes) = if input.datatype == Some(DataType::Fp16) {
        (DataType::Fp16, noise.flat_map(|value| half::f16::from_f32(value).to_le_bytes()).collect())
    } else {
        (DataType::Fp32, noise.flat_map(f32::to_le_bytes).collect())
    };
    let outputs = probe.run(vec![filled(&input.name, datatype, shape, bytes)]);
    let outputs = outputs.context("the graph takes no sound")?;
    manifest.output = decide(&outputs, Of::Windows { cut: spec.windows.is_some() }, None, facts)?;
    manifest.audio = Some(spec);
    Ok(())
}

/// What stands before the graph, and the shape of one input.
fn front(input: &Given, facts: &mut Facts) -> anyhow::Result<(AudioSpec, Vec<usize>)> {
    let rate = "most models of sounds read so many samples a second, and no graph tells";
    let rate = facts.decide("audio.rate", RATE, rate)?;
    let scale = facts.decide("audio.scale", 1.0, "most models read samples of −1…1")?;
    let spec = AudioSpec {
        rate,
        scale,
        shortest: 0,
        silence: Silence::Around,
        layout: FrameLayout::Frames,
        mel: None,
        stage: None,
        windows: None,
    };
    let frames = input.dims.len() >= 3 && input.bands().is_some();
    if frames { of_frames(input, spec, facts) } else { of_samples(input, spec, facts) }
}

/// A graph of samples: `[n, samples]`, with axes of one anywhere.
fn of_samples(
    input: &Given,
    mut spec: AudioSpec,
    facts: &mut Facts,
) -> anyhow::Result<(AudioSpec, Vec<usize>)> {
    let length = input.dims.last().copied().flatten();
    if let Some(length) = length {
        let because = format!("its input is {}", input.shown());
        let length = facts.decide("audio.windows.length", length, &because)?;
        let hop = facts.decide("audio.windows.hop", length, "windows beside each other miss nothing")?;
        let tail = facts.decide("audio.windows.tail", Tail::Pad, "an end is part of the sound")?;
        spec.windows = Some(WindowSpec { of: WindowOf::Samples, length, hop, tail });
    } else {
        spec.shortest = shortest(spec.rate, facts)?;
    }
    Ok((spec.clone(), shape(input, length.unwrap_or(spec.rate as usize))))
}

/// A graph of frames.
fn of_frames(
    input: &Given,
    mut spec: AudioSpec,
    facts: &mut Facts,
) -> anyhow::Result<(AudioSpec, Vec<usize>)> {
    let because = format!("its input is {}", input.shown());
    let (axis, bands) = input.bands().context("`audio.mel.bands`: no size of the input is one of bands")?;
    let bands = facts.decide("audio.mel.bands", bands, &because)?;
    let mut others =
        input.dims.iter().enumerate().skip(1).filter(|(place, size)| *place != axis && **size != Some(1));
    let (place, frames) = others.next_back().map_or((0, None), |(place, size)| (place, *size));
    let layout = if axis < place { FrameLayout::Bands } else { FrameLayout::Frames };
    spec.layout = facts.decide("audio.layout", layout, &because)?;
    if frames == Some(WHISPER_FRAMES) && WHISPER_BANDS.contains(&bands) {
        let because = "half a minute in 3000 frames is Whisper's form";
        let log = facts.decide("audio.mel.log", LogSpec::Whisper, because)?;
        spec.mel = Some(mel(bands, log, facts, because)?);
        let length = facts.decide("audio.windows.length", WHISPER_SAMPLES, because)?;
        spec.windows = Some(WindowSpec { of: WindowOf::Samples, length, hop: length, tail: Tail::Pad });
        return Ok((spec, shape(input, WHISPER_FRAMES)));
    }
    let because =
        "no graph tells how its frames were made, and this is usual: compare it with the model's makers'";
    let log = facts.decide("audio.mel.log", LogSpec::default(), because)?;
    spec.mel = Some(mel(bands, log, facts, because)?);
    if let Some(frames) = frames {
        let length =
            facts.decide("audio.windows.length", frames, format!("its input is {}", input.shown()))?;
        spec.windows = Some(WindowSpec { of: WindowOf::Frames, length, hop: length, tail: Tail::Pad });
    } else {
        spec.shortest = shortest(spec.rate, facts)?;
    }
    Ok((spec, shape(input, frames.unwrap_or(100))))
}

/// What sounds of any length are filled up to: a graph that strides takes none that is shorter than its first step.
fn shortest(rate: u32, facts: &mut Facts) -> anyhow::Result<usize> {
    let because = "the graph is tried with a second, and may take nothing that is much shorter";
    facts.decide("audio.shortest", rate as usize, because)
}

fn mel(bands: usize, log: LogSpec, facts: &mut Facts, because: &str) -> anyhow::Result<MelSpec> {
    let n_fft = facts.decide("audio.mel.n_fft", 400, because)?;
    let hop = facts.decide("audio.mel.hop", 160, because)?;
    let scale = facts.decide("audio.mel.scale", MelScale::Slaney, because)?;
    let norm = facts.decide("audio.mel.norm", MelNorm::Slaney, because)?;
    let power = facts.decide("audio.mel.power", 2, because)?;
    Ok(MelSpec {
        n_fft,
        window: None,
        hop,
        bands,
        fmin: 0.0,
        fmax: None,
        scale,
        norm,
        power,
        edges: headstart_types::manifest::Edges::Reflect,
        log,
        mean: 0.0,
        std: 1.0,
    })
}

/// The input's shape: one item, and so many where the last size behind the items' is free.
fn shape(input: &Given, length: usize) -> Vec<usize> {
    let items = usize::from(input.dims.len() > 1);
    let free = input.dims.iter().enumerate().skip(items).rfind(|(_, size)| size.is_none());
    let free = free.map(|(place, _)| place);
    let sizes = input.dims.iter().enumerate();
    sizes.map(|(place, size)| size.unwrap_or(if Some(place) == free { length } else { 1 })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(dims: &[Option<usize>]) -> (AudioSpec, Vec<usize>) {
        let input = Given { name: "x".into(), datatype: Some(DataType::Fp32), dims: dims.to_vec() };
        front(&input, &mut Facts::default()).unwrap()
    }

    #[test]
    fn samples_of_a_fixed_number_are_cut_and_others_are_not() {
        let (fixed, shape) = of(&[Some(1), Some(15_600)]);
        assert_eq!((fixed.windows.unwrap().length, fixed.shortest, shape), (15_600, 0, vec![1, 15_600]));
        assert_eq!(of(&[None, Some(8000)]).1, [1, 8000]);
        assert_eq!(of(&[None]).1, [16_000]);
        let (free, shape) = of(&[None, None]);
        assert_eq!((free.windows, free.mel, shape), (None, None, vec![1, 16_000]));
        assert_eq!(free.shortest, 16_000, "a sound of a few samples would fail in the graph");
    }

    #[test]
    fn frames_are_known_by_their_bands_and_whispers_by_their_number() {
        let (whisper, shape) = of(&[None, Some(80), Some(3000)]);
        let mel = whisper.mel.unwrap();
        assert_eq!((mel.bands, mel.log, whisper.layout), (80, LogSpec::Whisper, FrameLayout::Bands));
        assert_eq!((whisper.windows.unwrap().length, shape), (480_000, vec![1, 80, 3000]));
        let (other, shape) = of(&[None, Some(1), Some(96), Some(64)]);
        assert_eq!((other.mel.unwrap().bands, other.layout), (64, FrameLayout::Frames));
        assert_eq!((other.windows.unwrap().length, shape), (96, vec![1, 1, 96, 64]));
        let (free, _) = of(&[None, None, Some(40)]);
        assert_eq!((free.windows, free.layout, free.shortest), (None, FrameLayout::Frames, 16_000));
    }
}
