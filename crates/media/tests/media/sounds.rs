//! Sounds: what was encoded comes out again, resampled and as frames, as the reference libraries have it.

use headstart_media::audio::{MelFrontEnd, Resampler};
use headstart_media::{
    Limits, MediaError, Sound, SoundEncoder, SoundFormat, decode_sound, probe_sound, sniff,
};
use headstart_types::manifest::{
    AudioSpec, Edges, FrameLayout, LogSpec, MelNorm, MelScale, MelSpec, Silence, Tail, WindowOf, WindowSpec,
};
use headstart_types::payload::Modality;
use serde_json::Value;

use crate::fixtures::{Chance, number, read, text};

const RATE: u32 = 16_000;

/// The sound that all files hold: two tones under a bell.
fn wave(rate: u32, seconds: f64) -> Vec<f32> {
    use std::f64::consts::{PI, TAU};
    let count = (seconds * f64::from(rate)).round() as usize;
    let at = |index: usize| {
        let t = index as f64 / f64::from(rate);
        let bell = (PI * t / seconds).sin().powi(2);
        (bell * (0.4 * (TAU * 440.0 * t).sin() + 0.25 * (TAU * 1_234.0 * t + 1.0).sin())) as f32
    };
    (0..count).map(at).collect()
}

fn index() -> Value {
    serde_json::from_slice(&read("tests/golden/sounds/index.json")).unwrap()
}

/// Each golden file with its bytes.
fn files() -> Vec<(Value, Vec<u8>)> {
    let with_bytes = |entry: &Value| {
        let bytes = read(&format!("tests/golden/sounds/{}", text(entry, "file")));
        (entry.clone(), bytes)
    };
    index()["files"].as_array().unwrap().iter().map(with_bytes).collect()
}

fn named(name: &str) -> Vec<u8> {
    read(&format!("tests/golden/sounds/{name}"))
}

/// Distance from the sound as a share of its strength; samples behind its end count.
fn error(found: &[f32], expected: &[f32]) -> f64 {
    let at = |samples: &[f32], index: usize| f64::from(samples.get(index).copied().unwrap_or(0.0));
    let count = found.len().max(expected.len());
    let apart: f64 = (0..count).map(|index| (at(found, index) - at(expected, index)).powi(2)).sum();
    (apart / expected.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>()).sqrt()
}

#[test]
fn every_format_gives_the_sound_that_was_encoded() {
    for (entry, bytes) in files() {
        let (file, seconds) = (text(&entry, "file"), entry["seconds"].as_f64().unwrap());
        let expected = wave(RATE, seconds);
        let sound = decode_sound(&bytes, RATE, &Limits::default()).unwrap_or_else(|e| panic!("{file}: {e}"));
        let allowed = entry["error"].as_f64().unwrap() * 1.1 + 2e-4;
        let error = error(&sound.samples, &expected);
        assert!(error < allowed, "{file}: {error} off where the reference is {}", entry["error"]);
        // A frame of the encoder at most is left at the end where the format cannot say how much that is.
        let longer = sound.samples.len() as f64 / f64::from(RATE) - seconds;
        assert!((-0.001..0.06).contains(&longer), "{file}: {longer} s longer");
    }
}

#[test]
fn headers_tell_format_rate_channels_and_length() {
    for (entry, bytes) in files() {
        let file = text(&entry, "file");
        let header = probe_sound(&bytes, &Limits::default()).unwrap();
        assert_eq!(header.rate as usize, number(&entry, "rate"), "{file}");
        assert_eq!(header.channels, number(&entry, "channels"), "{file}");
        let seconds = header.seconds.unwrap_or_else(|| panic!("{file} has a length"));
        assert!((seconds - entry["seconds"].as_f64().unwrap()).abs() < 0.1, "{file}: {seconds}");
        let sniffed = sniff(&bytes).unwrap();
        assert_eq!((sniffed.modality, sniffed.media_type), (Modality::Audio, header.format.media_type()));
    }
}

#[test]
fn resampling_is_scipys_with_the_same_filter_and_soxrs_within_a_ten_thousandth() {
    for case in index()["resampled"].as_array().unwrap() {
        let rate = number(case, "rate") as u32;
        let (mut resampler, mut out) = (Resampler::new(rate, RATE), Vec::new());
        resampler.push(&wave(rate, 0.04), &mut out);
        resampler.finish(&mut out);
        for (reference, allowed) in [("scipy", 2e-6), ("soxr", 2e-4)] {
            let expected = floats(&case[reference]);
            assert_eq!(out.len(), expected.len(), "{rate}");
            let apart = largest_difference(&out, &expected);
            assert!(apart < allowed, "{rate} Hz against {reference}: {apart}");
        }
    }
}

fn floats(list: &Value) -> Vec<f32> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect()
}

fn largest_difference(left: &[f32], right: &[f32]) -> f32 {
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f32::max)
}

fn mel(n_fft: usize, hop: usize, bands: usize) -> MelSpec {
    MelSpec {
        n_fft,
        window: None,
        hop,
        bands,
        fmin: 0.0,
        fmax: None,
        scale: MelScale::Slaney,
        norm: MelNorm::Slaney,
        power: 2,
        edges: Edges::Reflect,
        log: LogSpec::None,
        mean: 0.0,
        std: 1.0,
    }
}

fn front_end(name: &str) -> MelSpec {
    match name {
        "whisper" => MelSpec { log: LogSpec::Whisper, ..mel(400, 160, 80) },
        "htk" => MelSpec {
            window: Some(400),
            fmin: 125.0,
            fmax: Some(7_500.0),
            scale: MelScale::Htk,
            norm: MelNorm::None,
            power: 1,
            edges: Edges::None,
            log: LogSpec::Natural { floor: 1e-10, offset: 0.001 },
            ..mel(512, 160, 20)
        },
        "decibel" => MelSpec {
            edges: Edges::Zero,
            log: LogSpec::Decibel { floor: 1e-10, range: Some(60.0) },
            ..mel(1_024, 320, 16)
        },
        "slaney" => mel(512, 128, 24),
        other => panic!("no front end {other}"),
    }
}

#[test]
fn frames_are_librosas_and_whispers() {
    let sound = wave(RATE, 0.1);
    for case in index()["mel"].as_array().unwrap() {
        let spec = front_end(text(case, "name"));
        let (found, expected) = (MelFrontEnd::new(&spec, RATE).frames(&sound), floats(&case["frames"]));
        assert_eq!(found.len(), expected.len(), "{}", text(case, "name"));
        assert_eq!(found.len(), spec.frames(sound.len()) * spec.bands);
        let scale = expected.iter().map(|value| value.abs()).fold(0.0, f32::max);
        let apart = largest_difference(&found, &expected);
        assert!(apart < 5e-4 * scale.max(1.0), "{}: {apart}", text(case, "name"));
    }
}

#[test]
fn windows_of_samples_become_frames_by_themselves() {
    let windows = WindowSpec { of: WindowOf::Samples, length: 800, hop: 800, tail: Tail::Pad };
    let spec = AudioSpec {
        rate: RATE,
        scale: 2.0,
        shortest: 0,
        silence: Silence::Around,
        layout: FrameLayout::Frames,
        mel: Some(front_end("whisper")),
        stage: None,
        windows: Some(windows),
    };
    let sound = wave(RATE, 0.12);
    let rows = SoundEncoder::new(&spec).encode(Sound { rate: RATE, samples: sound.clone() });
    let mut padded: Vec<f32> = sound.iter().map(|sample| sample * 2.0).collect();
    padded.resize(2_400, 0.0);
    let front_end = MelFrontEnd::new(&front_end("whisper"), RATE);
    let expected: Vec<f32> = padded.chunks(800).flat_map(|window| front_end.frames(window)).collect();
    assert_eq!((rows.width, rows.values), (80, expected));
    assert_eq!(spec.row_windows().map(|windows| (windows.length, windows.hop)), Some((5, 5)));
}

#[test]
fn short_sounds_get_silence_around_or_behind_them() {
    for (silence, before) in [(Silence::Around, 3), (Silence::Behind, 0)] {
        let spec = AudioSpec {
            rate: RATE,
            scale: 1.0,
            shortest: 17,
            silence,
            layout: FrameLayout::Frames,
            mel: None,
            stage: None,
            windows: None,
        };
        let rows = SoundEncoder::new(&spec).encode(Sound { rate: RATE, samples: vec![0.5; 10] });
        let found: Vec<usize> = (0..17).filter(|at| rows.values[*at] > 0.0).collect();
        assert_eq!((rows.values.len(), found), (17, (before..before + 10).collect()));
    }
}

#[test]
fn a_sound_longer_than_allowed_is_refused_by_header_and_while_it_is_decoded() {
    let limits = Limits { max_seconds: 1, ..Limits::default() };
    let too_long =
        |result: Result<(), MediaError>| matches!(result, Err(MediaError::SoundTooLong { max: 1 }));
    // Eight-bit silence of two seconds.
    let mut wav = named("pcm-u8.wav");
    let data = wav.windows(4).position(|four| four == b"data").unwrap();
    wav.resize(data + 8 + 16_000, 0x80);
    wav[data + 4..data + 8].copy_from_slice(&16_000_u32.to_le_bytes());
    let riff = (wav.len() as u32 - 8).to_le_bytes();
    wav[4..8].copy_from_slice(&riff);
    assert!(too_long(probe_sound(&wav, &limits).map(drop)));
    // An MP3 whose first frame, which tells the length, is gone: the same frames over and over.
    let mp3 = named("mono-16000.mp3");
    let frame = mp3.windows(2).rposition(|two| two[0] == 0xFF && two[1] & 0xE0 == 0xE0).unwrap();
    let long = mp3[frame..].repeat(60);
    assert_eq!(probe_sound(&long, &limits).unwrap().seconds, None);
    assert!(too_long(decode_sound(&long, RATE, &limits).map(drop)));
    assert!(decode_sound(&long, RATE, &Limits { max_seconds: 10, ..limits }).is_ok());
}

#[test]
fn a_sound_cut_anywhere_is_refused_or_whole() {
    for (entry, bytes) in files() {
        let file = text(&entry, "file");
        let whole = decode_sound(&bytes, RATE, &Limits::default()).unwrap();
        for length in (0..bytes.len()).step_by(bytes.len() / 97 + 1) {
            if let Ok(sound) = decode_sound(&bytes[..length], RATE, &Limits::default()) {
                assert_eq!(sound, whole, "{file} cut to {length} of {} bytes", bytes.len());
            }
        }
    }
}

#[test]
fn damaged_sounds_never_panic_and_take_no_time() {
    let mut chance = Chance::new();
    let limits = Limits { max_seconds: 2, ..Limits::default() };
    for (_, bytes) in files() {
        for _ in 0..40 {
            let damaged = chance.damage(&bytes);
            let _ = decode_sound(&damaged, RATE, &limits);
        }
    }
    for magic in
        [&b"RIFF\0\0\0\0WAVEfmt "[..], b"fLaC", b"OggS", b"ID3", b"\xFF\xFB\x90\0", b"\0\0\0\x18ftypM4A "]
    {
        for _ in 0..40 {
            let mut bytes = magic.to_vec();
            bytes.extend((0..500).map(|_| chance.below(256) as u8));
            assert!(decode_sound(&bytes, RATE, &limits).is_err(), "{magic:?} with noise");
        }
    }
}

#[test]
fn what_is_no_sound_is_refused_by_name() {
    for (bytes, name) in [
        (&b"\x89PNG\r\n\x1a\n"[..], "no known format"),
        (b"FORM\0\0\0\0AIFF", "AIFF"),
        (b"\x1A\x45\xDF\xA3", "WebM"),
    ] {
        let refused = decode_sound(bytes, RATE, &Limits::default()).unwrap_err();
        assert!(
            matches!(&refused, MediaError::Unsupported { found, .. } if found.contains(name)),
            "{refused}"
        );
    }
    assert!(matches!(decode_sound(b"", RATE, &Limits::default()), Err(MediaError::Empty { kind: "sound" })));
    assert_eq!(SoundFormat::recognise(&named("stereo.m4a")), Some(SoundFormat::M4a));
}

#[test]
fn samples_that_are_not_numbers_are_refused_and_those_beyond_one_are_clipped() {
    let mut wav = named("float.wav");
    let data = wav.windows(4).position(|four| four == b"data").unwrap() + 8;
    wav[data + 400..data + 404].copy_from_slice(&f32::NAN.to_le_bytes());
    assert!(matches!(decode_sound(&wav, 22_050, &Limits::default()), Err(MediaError::Undecodable { .. })));
    wav[data + 400..data + 404].copy_from_slice(&1e30_f32.to_le_bytes());
    let sound = decode_sound(&wav, 22_050, &Limits::default()).unwrap();
    assert!((sound.samples[100] - 1.0).abs() < 1e-6);
}
