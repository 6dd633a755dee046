//! `headstart backup` and `headstart restore`: the whole data folder, copied while it serves and brought back.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use clap::Args;
use headstart_store::{BackedUp, Store};

use crate::config::Config;

/// Arguments of `headstart backup`.
#[derive(Debug, Args)]
pub struct BackupArguments {
    /// The folder to write; new or empty
    #[arg(value_name = "FOLDER")]
    to: PathBuf,
}

/// Arguments of `headstart restore`.
#[derive(Debug, Args)]
pub struct RestoreArguments {
    /// The backup
    #[arg(value_name = "FOLDER")]
    from: PathBuf,
}

/// Copies the data folder, also while servers and workers have it open, and says what was written.
///
/// # Errors
/// When there is no data folder, the target is not empty, or a file cannot be read or written.
pub fn back_up(config: &Config, arguments: &BackupArguments) -> anyhow::Result<()> {
    let (data, to) = (&config.data, &arguments.to);
    // Opening would make one.
    ensure!(Store::is_in(data), "`data`: there is no store in {}", data.display());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let store = Store::open(data).await.with_context(|| format!("`data`: {}", data.display()))?;
        store.backup(to).await.with_context(|| format!("no backup in {}", to.display()))
    })?;
    say("backed up", &done, to)
}

/// Brings a backup back as the data folder, which must not exist or be empty, and says what was written.
///
/// # Errors
/// When there is no backup or it is damaged or of a newer build, or the data folder is not empty.
pub fn restore(config: &Config, arguments: &RestoreArguments) -> anyhow::Result<()> {
    let (from, data) = (&arguments.from, &config.data);
    let done = headstart_store::restore(from, data)
        .with_context(|| format!("{} was not restored to {}", from.display(), data.display()))?;
    say("restored", &done, data)
}

fn say(what: &str, done: &BackedUp, to: &Path) -> anyhow::Result<()> {
    let BackedUp { blobs, bytes, database, files, jobs, versions } = done;
    writeln!(
        std::io::stdout(),
        "{what} {files} files, {jobs} jobs and {versions} classifier versions to {}: {blobs} blobs of {bytes} bytes, a \
         database of {database} bytes",
        to.display()
    )?;
    Ok(())
}
