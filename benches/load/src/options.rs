//! The command line, and how much work each measurement does.

use std::path::{Path, PathBuf};

use clap::{Parser, ValueEnum};

/// Measures the release server against ONNX Runtime called directly, in turns on the same machine.
#[derive(Debug, Clone, Parser)]
#[command(name = "headstart-load")]
pub(crate) struct Options {
    /// What to measure; `all` is everything but `sound-throughput`, whose backbone is not bundled, and `classifiers`, `variants`,
    /// `training` and `growth`, which are long
    #[arg(value_enum, default_value = "all")]
    pub(crate) suite: Suite,
    /// Rounds of server and direct in turns [default: 3; with --quick 1]
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Least time of one throughput measurement; whole passes over the sample are made [default: 4; with --quick 0.3]
    #[arg(long, value_name = "S")]
    seconds: Option<f64>,
    /// A smoke test of about a minute: small samples, one round
    #[arg(long)]
    pub(crate) quick: bool,
    /// Requests of `growth` [default: 100000; with --quick 400]
    #[arg(long, value_name = "N")]
    requests: Option<usize>,
    /// Only these backbones; repeatable
    #[arg(long, value_name = "ID")]
    backbone: Vec<String>,
    /// Of `training` only the cases whose name holds this
    #[arg(long, value_name = "WORDS")]
    pub(crate) only: Option<String>,
    /// The release binary
    #[arg(long, value_name = "FILE", default_value = "target/release/headstart")]
    pub(crate) server: PathBuf,
    /// Folder of the backbones [default: models; for `sound-throughput` the one that `benches/sound/run.py` makes]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// The ONNX Runtime library, for both sides; by default the newest under vendor/
    #[arg(long, value_name = "FILE")]
    pub(crate) onnxruntime: Option<PathBuf>,
    /// Folder with `datasets/text` and `datasets/images`; without it the few files in examples/ are used
    #[arg(long, env = "HEADSTART_TEST_DATA", value_name = "DIR")]
    pub(crate) test_data: Option<PathBuf>,
    /// A further argument for `headstart serve`, such as --serve=--lanes=1; repeatable
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) serve: Vec<String>,
}

/// A group of measurements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// Everything but sounds, classifiers, variants, training and growth
    All,
    /// Throughput of texts
    Text,
    /// Throughput of photos
    Images,
    /// Throughput of sounds; `benches/sound/run.py sound-throughput` fetches the backbone first
    SoundThroughput,
    /// Throughput of raw tensors
    Tensors,
    /// Two backbones at a time
    Mixed,
    /// The first request of a backbone that had to go
    Eviction,
    /// Added latency at one connection
    Latency,
    /// Twice the capacity
    Overload,
    /// Start-up time and idle memory
    Startup,
    /// A thousand classifiers against one
    Classifiers,
    /// Memory and throughput of versions that have a tuned backbone
    Variants,
    /// Latency while a job trains
    Training,
    /// Memory over many mixed requests
    Growth,
}

impl Suite {
    pub(crate) fn expand(self) -> Vec<Self> {
        match self {
            Self::All => {
                vec![
                    Self::Startup,
                    Self::Text,
                    Self::Images,
                    Self::Tensors,
                    Self::Mixed,
                    Self::Eviction,
                    Self::Latency,
                    Self::Overload,
                ]
            }
            Self::Text
            | Self::Images
            | Self::SoundThroughput
            | Self::Tensors
            | Self::Mixed
            | Self::Eviction
            | Self::Latency
            | Self::Overload
            | Self::Startup
            | Self::Classifiers
            | Self::Variants
            | Self::Training
            | Self::Growth => vec![self],
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::All => "All",
            Self::Text => "Texts, closed loop",
            Self::Images => "Photos, closed loop",
            Self::SoundThroughput => "Sounds, closed loop",
            Self::Tensors => "Raw tensors, closed loop",
            Self::Mixed => "Two backbones at a time",
            Self::Eviction => "The first request of a backbone that had to go",
            Self::Latency => "One connection: latency added to a direct call",
            Self::Overload => "Twice the capacity, open loop",
            Self::Startup => "Start-up and idle memory",
            Self::Classifiers => "A thousand classifiers on one backbone",
            Self::Variants => "Versions with a backbone of their own",
            Self::Training => "Latency while a job trains, open loop",
            Self::Growth => "Memory over mixed requests",
        }
    }
}

/// How much work each measurement does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) rounds: usize,
    /// Least seconds of one server measurement, and of the direct one beside it.
    pub(crate) seconds: f64,
    /// Least seconds of each direct plan when all are compared.
    pub(crate) survey_seconds: f64,
    /// Texts in the sample; a multiple of the direct plan's window.
    pub(crate) texts: usize,
    pub(crate) photos: usize,
    /// Recordings of a digit, and of a sentence.
    pub(crate) digits: usize,
    pub(crate) sentences: usize,
    /// Turns of `eviction`.
    pub(crate) evictions: usize,
    /// Calls of one latency measurement.
    pub(crate) latency_calls: usize,
    pub(crate) overload_seconds: f64,
    /// Seconds without a job, before and after each.
    pub(crate) idle_seconds: f64,
    /// Rows that jobs learn from, at most.
    pub(crate) training_rows: usize,
    pub(crate) starts: usize,
    /// Seconds between ready and the second reading of idle memory, and after overload and the giant request.
    pub(crate) rest_seconds: f64,
    pub(crate) growth_requests: usize,
    /// Texts in growth's giant request.
    pub(crate) giant_texts: usize,
}

impl Options {
    pub(crate) fn scale(&self) -> Scale {
        let full = Scale {
            rounds: 3,
            seconds: 4.0,
            survey_seconds: 2.0,
            texts: 1024,
            photos: 384,
            digits: 384,
            sentences: 64,
            evictions: 20,
            latency_calls: 200,
            overload_seconds: 15.0,
            idle_seconds: 20.0,
            training_rows: usize::MAX,
            starts: 5,
            rest_seconds: 5.0,
            growth_requests: 100_000,
            giant_texts: 2048,
        };
        let quick = Scale {
            rounds: 1,
            seconds: 0.3,
            survey_seconds: 0.1,
            texts: 64,
            photos: 24,
            digits: 24,
            sentences: 10,
            evictions: 3,
            latency_calls: 30,
            overload_seconds: 3.0,
            idle_seconds: 2.0,
            training_rows: 300,
            starts: 3,
            rest_seconds: 1.0,
            growth_requests: 400,
            giant_texts: 64,
        };
        let base = if self.quick { quick } else { full };
        let seconds = self.seconds.unwrap_or(base.seconds);
        Scale {
            rounds: self.rounds.unwrap_or(base.rounds).max(1),
            seconds,
            survey_seconds: self.seconds.map_or(base.survey_seconds, |seconds| seconds / 2.0),
            growth_requests: self.requests.unwrap_or(base.growth_requests).max(40),
            ..base
        }
    }

    /// Where the backbones are.
    pub(crate) fn models(&self) -> &Path {
        let made = if self.suite == Suite::SoundThroughput { "target/openwakeword/models" } else { "models" };
        self.models.as_deref().unwrap_or(Path::new(made))
    }

    /// Whether a backbone is to be measured.
    pub(crate) fn wants(&self, id: &str) -> bool {
        self.backbone.is_empty() || self.backbone.iter().any(|wanted| wanted == id)
    }
}
