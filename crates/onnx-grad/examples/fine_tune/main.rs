//! Fine-tunes an ONNX file with this crate and ONNX Runtime alone: the last layers behind a new head learn to tell low waves
//! from high ones, and what comes of it is written as ONNX.
//!
//! `cargo run --release -p headstart-onnx-grad --example fine_tune -- LIBRARY [MODEL.onnx [TUNED.onnx]]`
//!
//! `LIBRARY` is ONNX Runtime's, such as `libonnxruntime.so.1`. Without a model it is `tones.onnx` beside this file, which was
//! trained to tell six pitches apart. A model's first input is to be of floats and state all sizes but the first.

mod runtime;
mod tuning;

use std::io::Write as _;
use std::path::PathBuf;

use tuning::{Failure, Items, Tuning};

/// A small network of sounds: two convolutions and a matrix.
const TONES: &[u8] = include_bytes!("tones.onnx");

/// Low and high.
const CLASSES: usize = 2;

/// Layers that are trained beside the head.
const LAYERS: usize = 2;

const STEPS: usize = 100;

fn main() -> Result<(), Failure> {
    let mut told = std::env::args().skip(1);
    let library = told.next().ok_or("name the library of ONNX Runtime")?;
    let file = told.next().map_or_else(|| Ok(TONES.to_vec()), std::fs::read)?;
    let written = told.next().map_or_else(|| std::env::temp_dir().join("tuned.onnx"), PathBuf::from);
    let environment = ort::init_from(library)?.with_telemetry(false).build()?;

    let mut tuning = Tuning::new(&environment, file, CLASSES, LAYERS)?;
    let held_out = Items::new(64, tuning.item(), CLASSES, 2);
    let mut out = std::io::stdout().lock();
    writeln!(out, "trains {}", tuning.trained().join(", "))?;
    let before = held_out.right(&tuning.logits(&environment, &held_out)?);
    tuning.train(&environment, STEPS, |step, loss| {
        if step % 20 == 0 {
            writeln!(out, "step {step:3}: loss {loss:.4}")?;
        }
        Ok(())
    })?;
    let trained = tuning.logits(&environment, &held_out)?;
    let after = held_out.right(&trained);
    writeln!(out, "held out: {before} of 64 right before, {after} after")?;

    std::fs::write(&written, tuning.file())?;
    let again = tuning.logits_of(&environment, std::fs::read(&written)?, &held_out)?;
    let far = trained.iter().zip(&again).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    writeln!(out, "wrote {}: its logits are {far:.0e} from the trained ones", written.display())?;
    Ok(())
}
