//! What every suite shares: options, texts and photos, the server's start, the direct side's library.

use anyhow::Context as _;
use tokio::runtime::Runtime;

use crate::backbone::Backbone;
use crate::corpus::Corpus;
use crate::direct::{Environment, library};
use crate::machine;
use crate::options::{Options, Scale, Suite};
use crate::server::{Launch, Server};

/// Text backbones that are measured.
pub(crate) const TEXT_BACKBONES: [&str; 2] = ["all-minilm-l6-v2", "all-minilm-l6-v2-int8"];

/// The image backbone that is measured.
pub(crate) const IMAGE_BACKBONE: &str = "efficientnet-lite0";

/// The backbone of sounds that is measured; `benches/sound/run.py` fetches it.
pub(crate) const SOUND_BACKBONE: &str = "speech-embedding";

/// The longest text, in tokens, of the short set.
pub(crate) const SHORT_TOKENS: usize = 32;

/// The backbones of the models folder that are measured.
fn bundled() -> impl Iterator<Item = &'static str> {
    TEXT_BACKBONES.into_iter().chain([IMAGE_BACKBONE])
}

pub(crate) struct Bench {
    pub(crate) options: Options,
    pub(crate) scale: Scale,
    pub(crate) corpus: Corpus,
    pub(crate) launch: Launch,
    pub(crate) environment: Environment,
    /// Runs the load generator: one thread, so that it takes as little as possible from the server beside it.
    pub(crate) client: Runtime,
    /// Cores of the machine: lanes of the direct plans.
    pub(crate) cores: usize,
}

impl Bench {
    /// # Errors
    /// When the data, the backbones or ONNX Runtime are not where they should be.
    pub(crate) fn new(options: Options) -> anyhow::Result<Self> {
        let library = match &options.onnxruntime {
            Some(path) => path.clone(),
            None => library::find()?,
        };
        let launch = Launch {
            binary: options.server.clone(),
            models: options.models().to_path_buf(),
            onnxruntime: library.clone(),
            backbones: match options.suite {
                Suite::SoundThroughput => vec![SOUND_BACKBONE],
                Suite::All
                | Suite::Text
                | Suite::Images
                | Suite::Tensors
                | Suite::Mixed
                | Suite::Eviction
                | Suite::Latency
                | Suite::Overload
                | Suite::Startup
                | Suite::Classifiers
                | Suite::Variants
                | Suite::Training
                | Suite::Growth => bundled().filter(|id| options.wants(id)).collect(),
            },
            further: options.serve.clone(),
        };
        Ok(Self {
            scale: options.scale(),
            corpus: Corpus::load(options.test_data.as_deref())?,
            launch,
            environment: library::load(&library)?,
            client: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
            cores: machine::cores(),
            options,
        })
    }

    /// A server that keeps no vectors, so that every item is computed.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(crate) fn start_server(&self, arguments: &[&str]) -> anyhow::Result<Server> {
        let arguments: Vec<&str> = ["--cache-bytes", "0"].iter().chain(arguments).copied().collect();
        Server::start(&self.launch, &arguments)
    }

    /// The text backbones asked for.
    ///
    /// # Errors
    /// As [`Backbone::open`].
    pub(crate) fn text_backbones(&self) -> anyhow::Result<Vec<Backbone>> {
        TEXT_BACKBONES.into_iter().filter(|id| self.options.wants(id)).map(|id| self.backbone(id)).collect()
    }

    /// The image backbone, where it is asked for.
    ///
    /// # Errors
    /// As [`Backbone::open`].
    pub(crate) fn image_backbone(&self) -> anyhow::Result<Option<Backbone>> {
        self.options.wants(IMAGE_BACKBONE).then(|| self.backbone(IMAGE_BACKBONE)).transpose()
    }

    /// A backbone of the models folder.
    ///
    /// # Errors
    /// As [`Backbone::open`].
    pub(crate) fn backbone(&self, id: &str) -> anyhow::Result<Backbone> {
        Backbone::open(&self.options.models().join(id)).with_context(|| format!("backbone `{id}`"))
    }

    /// The sample of texts as lengths come, and the one of short texts.
    ///
    /// # Errors
    /// When the backbone reads no texts, or no text is short.
    pub(crate) fn text_samples(&self, backbone: &Backbone) -> anyhow::Result<[Vec<&str>; 2]> {
        backbone.tokenise("")?;
        let count = self.scale.texts;
        let is_short = |text: &str| backbone.tokenise(text).is_ok_and(|ids| ids.len() <= SHORT_TOKENS);
        let samples = [self.corpus.texts(count, |_| true), self.corpus.texts(count, is_short)];
        anyhow::ensure!(
            samples.iter().all(|sample| sample.len() == count),
            "no text has {SHORT_TOKENS} tokens or fewer"
        );
        Ok(samples)
    }

    /// What is sent and how often, before any figure.
    pub(crate) fn preamble(&self) -> String {
        let Scale { rounds, seconds, texts, photos, .. } = self.scale;
        let mut text = format!(
            "Data: {}. Samples: {texts} texts, {photos} photos, seeded. {rounds} round(s) of server and direct in turns, \
             at least {seconds} s each; figures are medians over the rounds (smallest–largest).",
            self.corpus.origin()
        );
        if self.options.quick {
            text += " **Quick: a smoke test, its figures mean little.**";
        }
        text
    }
}
