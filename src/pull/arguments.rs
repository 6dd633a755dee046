//! What `headstart pull` is asked, and where the hub's own clients would look for what was not said.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use clap::Args;

/// The hub where no other is named.
const HUB: &str = "https://huggingface.co";

/// Longest token in bytes.
const LONGEST_TOKEN: u64 = 4096;

/// Arguments of `headstart pull`. The variables are those of the hub's own clients.
#[derive(Debug, Args)]
pub struct PullArguments {
    /// Backbones of the catalogue, or files `….toml` with entries of one's own
    #[arg(value_name = "NAME")]
    pub(super) names: Vec<String>,
    /// List the catalogue and end
    #[arg(long)]
    pub(super) list: bool,
    /// Print the catalogue as a table in Markdown and end
    #[arg(long)]
    pub(super) markdown: bool,
    /// Print an entry of the catalogue, to begin one's own with, and end
    #[arg(long, value_name = "NAME")]
    pub(super) show: Option<String>,
    /// Another name for the backbone [default: the entry's]
    #[arg(long, value_name = "NAME")]
    pub(super) id: Option<String>,
    /// Another branch, tag or commit than the entry's
    #[arg(long, value_name = "REVISION")]
    pub(super) revision: Option<String>,
    /// Take what the hub has now, also where the lock file has something else
    #[arg(long)]
    pub(super) update: bool,
    /// Ask no hub: take files from its clients' cache on this machine
    #[arg(long, env = "HF_HUB_OFFLINE", value_parser = clap::builder::FalseyValueParser::new())]
    pub(super) offline: bool,
    /// The hub; huggingface.co where none is given
    #[arg(long, env = "HF_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// A token for what not everybody may read; better given by the variable than by the flag
    #[arg(long, env = "HF_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The file with the token [default: `token` in the hub's folder]
    #[arg(long, env = "HF_TOKEN_PATH", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// The hub's folder on this machine [default: ~/.cache/huggingface]
    #[arg(long, env = "HF_HOME", value_name = "DIR")]
    hub_home: Option<PathBuf>,
    /// The cache of the hub's clients, which is only read [default: `hub` in the hub's folder]
    #[arg(long, env = "HF_HUB_CACHE", value_name = "DIR")]
    hub_cache: Option<PathBuf>,
    /// Attempts in a row that may bring nothing
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) attempts: u32,
}

impl PullArguments {
    /// The hub's address.
    pub(super) fn endpoint(&self) -> &str {
        self.endpoint.as_deref().map(str::trim).filter(|url| !url.is_empty()).unwrap_or(HUB)
    }

    /// The token, if there is one.
    ///
    /// # Errors
    /// When it could not stand in a header, or its file is named and cannot be read.
    pub(super) fn token(&self) -> anyhow::Result<Option<String>> {
        let given = self.token.clone().filter(|token| !token.trim().is_empty());
        let token = match given {
            Some(token) => Some(token),
            None => self.token_of_file()?,
        };
        let Some(token) = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty()) else {
            return Ok(None);
        };
        ensure!(
            token.bytes().all(|byte| byte.is_ascii_graphic()),
            "the token (`HF_TOKEN`) has characters that none has"
        );
        Ok(Some(token))
    }

    fn token_of_file(&self) -> anyhow::Result<Option<String>> {
        use std::io::Read as _;

        let named = named(self.token_file.as_ref());
        let Some(path) = named.cloned().or_else(|| Some(self.home().ok()?.join("token"))) else {
            return Ok(None);
        };
        let read = || -> std::io::Result<String> {
            let mut text = String::new();
            std::fs::File::open(&path)?.take(LONGEST_TOKEN).read_to_string(&mut text)?;
            Ok(text)
        };
        match read() {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => Ok(None),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Where the hub's clients keep what they fetched.
    ///
    /// # Errors
    /// When nothing says where.
    pub(super) fn cache(&self) -> anyhow::Result<PathBuf> {
        named(self.hub_cache.as_ref()).cloned().map_or_else(|| Ok(self.home()?.join("hub")), Ok)
    }

    fn home(&self) -> anyhow::Result<PathBuf> {
        if let Some(home) = named(self.hub_home.as_ref()) {
            return Ok(home.clone());
        }
        let home = std::env::home_dir().context("there is no home folder: name the hub's with `HF_HOME`")?;
        Ok(home.join(".cache").join("huggingface"))
    }
}

/// A path that is not an empty variable.
fn named(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}
