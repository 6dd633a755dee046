//! A backbone's folder as the benchmark needs it: manifest, graph, tokenizer.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use headstart_types::Manifest;
use headstart_types::manifest::ImageSpec;
use tokenizers::{Tokenizer, TruncationParams};

pub(crate) struct Backbone {
    pub(crate) manifest: Manifest,
    pub(crate) graph: PathBuf,
    /// Of text backbones; cuts at the manifest's `max_tokens`.
    tokenizer: Option<Tokenizer>,
}

impl Backbone {
    /// # Errors
    /// When a file of the folder is missing or wrong.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("headstart.toml");
        let manifest =
            std::fs::read_to_string(&file).with_context(|| format!("{} cannot be read", file.display()))?;
        let manifest = Manifest::parse(&manifest).with_context(|| format!("{} is wrong", file.display()))?;
        let tokenizer = match &manifest.text {
            Some(text) => Some(load_tokenizer(&folder.join(&text.tokenizer), text.max_tokens)?),
            None => None,
        };
        Ok(Self { graph: folder.join(&manifest.backbone.file), manifest, tokenizer })
    }

    pub(crate) fn id(&self) -> &str {
        &self.manifest.backbone.id
    }

    /// How it reads pictures.
    ///
    /// # Errors
    /// When it reads none.
    pub(crate) fn image(&self) -> anyhow::Result<&ImageSpec> {
        self.manifest.image.as_ref().with_context(|| format!("`{}` reads no images", self.id()))
    }

    /// The output that features are read from.
    ///
    /// # Errors
    /// When it gives none.
    pub(crate) fn feature_tensor(&self) -> anyhow::Result<&str> {
        let features = self.manifest.output.features.as_ref();
        Ok(&features.with_context(|| format!("`{}` gives no features", self.id()))?.tensor)
    }

    /// Token ids, special tokens included.
    ///
    /// # Errors
    /// When the backbone reads no texts.
    pub(crate) fn tokenise(&self, text: &str) -> anyhow::Result<Vec<u32>> {
        let tokenizer = self.tokenizer.as_ref().with_context(|| format!("`{}` reads no texts", self.id()))?;
        let encoding = tokenizer.encode_fast(text, true).map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(encoding.get_ids().to_vec())
    }
}

fn load_tokenizer(path: &Path, max_tokens: usize) -> anyhow::Result<Tokenizer> {
    let wrong = |error: tokenizers::Error| anyhow::anyhow!("{} cannot be used: {error}", path.display());
    let mut tokenizer = Tokenizer::from_file(path).map_err(wrong)?;
    tokenizer.with_padding(None);
    let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(truncation)).map_err(wrong)?;
    Ok(tokenizer)
}
