//! `[audio]`: how sounds become tensors.

use serde::{Deserialize, Serialize};

use super::{ManifestError, refuse};

/// How sounds become tensors: mono samples at `rate`, times `scale`, then a mel front end or a graph of their own where
/// one is named, cut in windows where any are; each window is one input of the backbone's graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AudioSpec {
    /// Samples a second that the model reads.
    pub rate: u32,
    /// Factor on samples of −1…1; 32768 for models that read 16-bit numbers.
    #[serde(default = "one")]
    pub scale: f32,
    /// Sounds of fewer samples at `rate` get silence up to here.
    #[serde(default)]
    pub shortest: usize,
    /// Where that silence lies.
    #[serde(default)]
    pub silence: Silence,
    /// Order of the axes that frames have.
    #[serde(default)]
    pub layout: FrameLayout,
    /// Frames made of samples here.
    pub mel: Option<MelSpec>,
    /// Frames made of samples by a graph.
    pub stage: Option<StageSpec>,
    /// How a sound is cut; absent where the graph reads one of any length.
    pub windows: Option<WindowSpec>,
}

/// Where the silence lies that fills a short sound up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Silence {
    /// Half of it before and half of it behind the sound: windows that slide meet the sound as they do in a longer one.
    #[default]
    Around,
    /// All of it behind the sound.
    Behind,
}

/// Order of a window's axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FrameLayout {
    /// `[frames, bands]`.
    #[default]
    Frames,
    /// `[bands, frames]`.
    Bands,
}

/// A graph between the samples and the backbone's: `[1, samples]` in, frames out, of which the last axis is the bands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageSpec {
    /// The ONNX file, relative to the folder.
    pub file: String,
    /// SHA-256 of that file, lower-case hex.
    pub sha256: String,
    /// Name of the graph's output.
    pub tensor: String,
    /// Values of a frame.
    pub bands: usize,
    /// Factor on the output.
    #[serde(default = "one")]
    pub scale: f32,
    /// What is added after `scale`.
    #[serde(default)]
    pub offset: f32,
}

/// How a sound is cut in windows of one length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    /// What is counted and cut.
    pub of: WindowOf,
    /// Length of a window.
    pub length: usize,
    /// Distance of two windows' beginnings.
    pub hop: usize,
    /// What becomes of an end that fills no window.
    #[serde(default)]
    pub tail: Tail,
}

/// What is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WindowOf {
    /// Samples, before any front end.
    Samples,
    /// Frames of the front end.
    Frames,
}

/// What becomes of an end that fills no window. A sound shorter than one window is filled up with zeros either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tail {
    /// It is left out.
    #[default]
    Drop,
    /// It is filled up with zeros.
    Pad,
}

/// Mel bands of a short-time spectrum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MelSpec {
    /// Samples of one transform.
    pub n_fft: usize,
    /// Samples under the window (a periodic Hann window), in the middle of the transform; `n_fft` when absent.
    pub window: Option<usize>,
    /// Samples between two frames.
    pub hop: usize,
    /// Number of bands.
    pub bands: usize,
    /// Lowest frequency in Hz.
    #[serde(default)]
    pub fmin: f32,
    /// Highest frequency in Hz; half the rate when absent.
    pub fmax: Option<f32>,
    /// How frequencies are spread.
    #[serde(default)]
    pub scale: MelScale,
    /// How bands are weighed.
    #[serde(default)]
    pub norm: MelNorm,
    /// Exponent of the spectrum's magnitude: 1 or 2.
    #[serde(default = "two")]
    pub power: u8,
    /// What stands before the first and behind the last sample.
    #[serde(default)]
    pub edges: Edges,
    /// How energies become values.
    #[serde(default)]
    pub log: LogSpec,
    /// Taken off each value, after `log`.
    #[serde(default)]
    pub mean: f32,
    /// What each value is divided by, after `mean`.
    #[serde(default = "one")]
    pub std: f32,
}

/// How frequencies are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MelScale {
    /// Linear below 1 kHz, logarithmic above (Slaney's Auditory Toolbox).
    #[default]
    Slaney,
    /// Logarithmic (HTK).
    Htk,
}

/// How bands are weighed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MelNorm {
    /// By their width, so that all have the same area.
    #[default]
    Slaney,
    /// Not at all: each peaks at 1.
    None,
}

/// What stands before the first and behind the last sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Edges {
    /// Nothing: the first frame begins with the first sample.
    None,
    /// The sound mirrored: the first frame's middle is the first sample.
    #[default]
    Reflect,
    /// Silence: the first frame's middle is the first sample.
    Zero,
}

/// How energies become values.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum LogSpec {
    /// As they are.
    None,
    /// Natural logarithm of what is at least `floor`, plus `offset`.
    Natural {
        /// Least energy.
        #[serde(default = "least")]
        floor: f32,
        /// Added to the energy.
        #[serde(default)]
        offset: f32,
    },
    /// Decibels of what is at least `floor`; at most `range` below the loudest where that is given.
    Decibel {
        /// Least energy.
        #[serde(default = "least")]
        floor: f32,
        /// Decibels below the loudest value.
        range: Option<f32>,
    },
    /// Whisper's: log10 of what is at least 1e-10, at most 8 below the loudest, `(x + 4) / 4`; the last frame is left out.
    Whisper,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self::Natural { floor: least(), offset: 0.0 }
    }
}

fn one() -> f32 {
    1.0
}

fn two() -> u8 {
    2
}

fn least() -> f32 {
    1e-10
}

/// Most samples of a window, of a transform, and of the silence that fills a sound up.
const MOST_SAMPLES: usize = 1 << 22;

impl AudioSpec {
    pub(super) fn check(&self) -> Result<(), ManifestError> {
        if !(1_000..=192_000).contains(&self.rate) {
            return refuse("audio.rate", "must be between 1000 and 192000");
        }
        if self.scale == 0.0 || !self.scale.is_finite() {
            return refuse("audio.scale", "must be finite and not zero");
        }
        if self.shortest > MOST_SAMPLES {
            return refuse("audio.shortest", "must be at most 4194304");
        }
        if let Some(windows) = &self.windows {
            windows.check()?;
        }
        if let Some(mel) = &self.mel {
            mel.check(self.rate)?;
        }
        if let Some(stage) = &self.stage {
            stage.check()?;
        }
        let frames = self.mel.is_some() || self.stage.is_some();
        match (&self.windows, &self.mel, &self.stage) {
            (_, Some(_), Some(_)) => refuse("audio.stage", "and `audio.mel` exclude each other"),
            (Some(WindowSpec { of: WindowOf::Samples, .. }), None, Some(_)) => {
                refuse("audio.windows.of", "must be `frames` for frames that a graph makes")
            }
            (Some(WindowSpec { of: WindowOf::Frames, .. }), ..) if !frames => {
                refuse("audio.windows.of", "must be `samples` where nothing makes frames")
            }
            (Some(WindowSpec { of: WindowOf::Samples, length, .. }), Some(mel), None)
                if mel.frames(*length) == 0 =>
            {
                refuse("audio.windows.length", "is too short for one frame")
            }
            _ if self.layout == FrameLayout::Bands && !frames => {
                refuse("audio.layout", "is `bands` where nothing makes frames")
            }
            _ => Ok(()),
        }
    }

    /// Values of one row of what the graph reads windows of: a sample, or a frame's bands.
    #[must_use]
    pub fn width(&self) -> usize {
        let stage = self.stage.as_ref().map(|stage| stage.bands);
        stage.or(self.mel.as_ref().map(|mel| mel.bands)).unwrap_or(1)
    }

    /// The windows in rows as the graph reads them; `None` where it reads a sound of any length.
    #[must_use]
    pub fn row_windows(&self) -> Option<WindowSpec> {
        let windows = self.windows.clone()?;
        match (&self.mel, windows.of) {
            // Each window of samples becomes frames by itself.
            (Some(mel), WindowOf::Samples) => {
                let frames = mel.frames(windows.length);
                Some(WindowSpec { of: WindowOf::Frames, length: frames, hop: frames, tail: Tail::Drop })
            }
            _ => Some(windows),
        }
    }
}

impl WindowSpec {
    fn check(&self) -> Result<(), ManifestError> {
        if self.length == 0 || self.length > MOST_SAMPLES {
            return refuse("audio.windows.length", "must be between 1 and 4194304");
        }
        // Less would make more than a hundred rows of each.
        if self.hop == 0 || self.hop > self.length || self.length / self.hop > 100 {
            return refuse("audio.windows.hop", "must be between a hundredth of `length` and `length`");
        }
        Ok(())
    }

    /// Windows of so many rows; one at least.
    #[must_use]
    pub fn count(&self, rows: usize) -> usize {
        let beyond = rows.saturating_sub(self.length);
        1 + match self.tail {
            Tail::Drop => beyond / self.hop,
            Tail::Pad => beyond.div_ceil(self.hop),
        }
    }
}

impl StageSpec {
    fn check(&self) -> Result<(), ManifestError> {
        if self.sha256.len() != 64 || !self.sha256.chars().all(|c| c.is_ascii_hexdigit()) {
            return refuse("audio.stage.sha256", "must be 64 hexadecimal digits");
        }
        if self.bands == 0 || self.bands > 4096 {
            return refuse("audio.stage.bands", "must be between 1 and 4096");
        }
        if !self.scale.is_finite() || !self.offset.is_finite() {
            return refuse("audio.stage.scale", "must be finite, and so must `offset`");
        }
        Ok(())
    }
}

impl MelSpec {
    fn check(&self, rate: u32) -> Result<(), ManifestError> {
        let half = rate as f32 / 2.0;
        let fmax = self.fmax.unwrap_or(half);
        if !(16..=65_536).contains(&self.n_fft) || !self.n_fft.is_multiple_of(2) {
            return refuse("audio.mel.n_fft", "must be even and between 16 and 65536");
        }
        if self.window.is_some_and(|window| window == 0 || window > self.n_fft) {
            return refuse("audio.mel.window", "must be between 1 and `n_fft`");
        }
        if self.hop == 0 || self.hop > self.n_fft || self.n_fft / self.hop > 100 {
            return refuse("audio.mel.hop", "must be between a hundredth of `n_fft` and `n_fft`");
        }
        if self.bands == 0 || self.bands > 1024 {
            return refuse("audio.mel.bands", "must be between 1 and 1024");
        }
        if !(0.0 <= self.fmin && self.fmin < fmax && fmax <= half) {
            return refuse("audio.mel.fmax", "must be above `fmin` and at most half of `audio.rate`");
        }
        if !matches!(self.power, 1 | 2) {
            return refuse("audio.mel.power", "must be 1 or 2");
        }
        if !self.mean.is_finite() || !self.std.is_finite() || self.std == 0.0 {
            return refuse("audio.mel.std", "must be finite and not zero, and `mean` finite");
        }
        match self.log {
            LogSpec::Natural { floor, offset } if !(floor > 0.0 && offset >= 0.0) => {
                refuse("audio.mel.log.floor", "must be above 0, and `offset` not below")
            }
            LogSpec::Decibel { floor, range } if !(floor > 0.0 && range.is_none_or(|range| range > 0.0)) => {
                refuse("audio.mel.log.floor", "must be above 0, and so must `range`")
            }
            LogSpec::Natural { .. } | LogSpec::Decibel { .. } | LogSpec::Whisper | LogSpec::None => Ok(()),
        }
    }

    /// Frames of so many samples.
    #[must_use]
    pub fn frames(&self, samples: usize) -> usize {
        let all = match self.edges {
            Edges::None => samples.checked_sub(self.n_fft).map_or(0, |beyond| 1 + beyond / self.hop),
            Edges::Reflect | Edges::Zero => 1 + samples / self.hop,
        };
        if self.log == LogSpec::Whisper { all.saturating_sub(1) } else { all }
    }
}
