//! `headstart pull`: well-known backbones of the catalogue, fetched from the hub, compared with the lock file, made into
//! folders that load.
//!
//! `catalogue` and `entry` say what there is, `hub` asks for it, `answers` understands what it says, `transfer` fetches one
//! file whole, `place` makes the folder, `lock` remembers what it was made of, `backbone` does one of them from beginning to
//! end.

mod answers;
mod arguments;
mod backbone;
mod cache;
mod catalogue;
mod entry;
mod hub;
mod lock;
mod paths;
mod place;
mod refusal;
mod transfer;

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

use crate::config::Config;

pub use arguments::PullArguments;
use backbone::{Asked, Pull};
use cache::Cache;
use entry::Entry;
use hub::Hub;
use lock::{Lock, Turn};

/// Lists the catalogue, shows an entry, or pulls backbones into the first models folder, one after the other.
///
/// # Errors
/// Naming the backbone and what is wrong. What was fetched of it stays, and the next pull goes on with it.
pub fn run(config: &Config, arguments: &PullArguments) -> anyhow::Result<()> {
    let models = config.models.first().context("`models` names no folder")?;
    if arguments.markdown {
        return print(&catalogue::markdown()?);
    }
    if arguments.list {
        return print(&listed(models)?);
    }
    if let Some(name) = &arguments.show {
        return print(catalogue::text(name)?);
    }
    ensure!(!arguments.names.is_empty(), "name a backbone, or `--list` them");
    ensure!(arguments.id.is_none() || arguments.names.len() == 1, "`--id` goes with one name only");
    ensure!(
        arguments.revision.is_none() || arguments.names.len() == 1,
        "`--revision` goes with one name only"
    );
    ensure!(!(arguments.offline && arguments.update), "`--update` asks the hub, which `--offline` forbids");
    let asked =
        arguments.names.iter().map(|name| asked(name, arguments)).collect::<anyhow::Result<Vec<_>>>()?;
    let _turn = Turn::take(models)?;
    let hub =
        if arguments.offline { None } else { Some(Hub::new(arguments.endpoint(), arguments.token()?)?) };
    let mut pull = Pull {
        config,
        models,
        hub,
        cache: Cache::new(arguments.cache()?),
        lock: Lock::read(models)?,
        update: arguments.update,
        attempts: arguments.attempts,
    };
    for asked in &asked {
        pull.one(asked).with_context(|| format!("`{}`", asked.id))?;
    }
    Ok(())
}

/// What a name stands for: an entry of the catalogue, or a file with one.
fn asked(name: &str, arguments: &PullArguments) -> anyhow::Result<Asked> {
    let file = Path::new(name);
    let own = file.extension().is_some_and(|ending| ending == "toml");
    let entry = if own { Entry::open(file)? } else { Entry::parse(catalogue::text(name)?)? };
    let stem =
        if own { file.file_stem().unwrap_or_default().to_string_lossy().into_owned() } else { name.into() };
    let id = arguments.id.clone().unwrap_or_else(|| stem.clone());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    ensure!(
        !id.is_empty() && id.len() <= 64 && !id.starts_with('.') && id.chars().all(plain),
        "a backbone cannot be called `{id}`: letters, digits, '-', '_' and '.', not '.' first; choose another `--id`"
    );
    if let Some(revision) = &arguments.revision {
        ensure!(
            entry::is_revision(revision),
            "`--revision` is `{revision}`, which is no branch, tag or commit"
        );
    }
    Ok(Asked { name: stem, id, entry, revision: arguments.revision.clone() })
}

/// The catalogue for a terminal.
fn listed(models: &Path) -> anyhow::Result<String> {
    let lock = Lock::read(models)?;
    let mut lines = String::new();
    for (name, entry) in catalogue::all()? {
        let mine =
            lock.backbones.iter().find(|(id, locked)| locked.entry == name && models.join(id).is_dir());
        let mine = mine.map_or_else(String::new, |(id, _)| format!("  pulled as `{id}`"));
        let verified = entry.verified.as_str();
        lines += &format!(
            "{name:<30} {:<12} {:<12} {verified:<14} {}{mine}\n",
            entry.reads, entry.licence, entry.title
        );
    }
    Ok(lines)
}

fn print(text: &str) -> anyhow::Result<()> {
    Ok(std::io::stdout().write_all(text.as_bytes())?)
}
