//! Samples → the rows that a backbone's graph, or the graph before it, reads windows of.

use headstart_types::manifest::{AudioSpec, Silence, Tail, WindowOf};

use super::{MelFrontEnd, Sound};

/// Rows of a sound: samples, or frames.
#[derive(Debug, Clone, PartialEq)]
pub struct SoundRows {
    /// `[rows, width]` in row order; at least one row.
    pub values: Vec<f32>,
    /// Values of a row.
    pub width: usize,
}

/// What a manifest's `[audio]` says, ready for use.
pub struct SoundEncoder {
    spec: AudioSpec,
    mel: Option<MelFrontEnd>,
}

impl SoundEncoder {
    /// The encoder of a manifest that passed its check.
    #[must_use]
    pub fn new(spec: &AudioSpec) -> Self {
        Self { spec: spec.clone(), mel: spec.mel.as_ref().map(|mel| MelFrontEnd::new(mel, spec.rate)) }
    }

    /// Samples a second that the model reads.
    #[must_use]
    pub fn rate(&self) -> u32 {
        self.spec.rate
    }

    /// The rows of a sound at [`Self::rate`]. A graph of its own that makes frames gets samples: rows of one value.
    #[must_use]
    pub fn encode(&self, sound: Sound) -> SoundRows {
        let mut samples = sound.samples;
        samples.iter_mut().for_each(|sample| *sample *= self.spec.scale);
        let missing = self.spec.shortest.saturating_sub(samples.len());
        if missing > 0 {
            let before = if self.spec.silence == Silence::Around { missing / 2 } else { 0 };
            samples.splice(..0, std::iter::repeat_n(0.0, before));
            samples.resize(self.spec.shortest, 0.0);
        }
        let Some(mel) = &self.mel else { return SoundRows { values: samples, width: 1 } };
        let values = match &self.spec.windows {
            Some(windows) if windows.of == WindowOf::Samples => {
                let count = windows.count(samples.len());
                let least = (count - 1) * windows.hop + windows.length;
                if windows.tail == Tail::Pad || samples.len() < least {
                    samples.resize(least, 0.0);
                }
                let starts = (0..count).map(|index| index * windows.hop);
                starts.flat_map(|start| mel.frames(&samples[start..start + windows.length])).collect()
            }
            _ => mel.frames(&samples),
        };
        SoundRows { values, width: self.spec.width() }
    }
}
