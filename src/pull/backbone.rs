//! One backbone from the hub to its place.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use headstart_engine::MANIFEST;
use headstart_tasks::Entry as Known;
use indicatif::{DecimalBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::answers::Remote;
use super::cache::Cache;
use super::entry::{Entry, Reading, Verified};
use super::hub::Hub;
use super::lock::{Lock, Locked, LockedFile};
use super::place::{Kept, Staging, Standing, copy_in, standing};
use super::refusal::patiently;
use super::transfer::{Fetched, Wanted, fetch, measure};
use crate::app::App;
use crate::config::Config;
use crate::{explain, folders};

/// A backbone that is asked for.
pub(super) struct Asked {
    /// The entry's name.
    pub(super) name: String,
    /// The backbone's name.
    pub(super) id: String,
    pub(super) entry: Entry,
    /// In place of the entry's.
    pub(super) revision: Option<String>,
}

/// Who pulls.
pub(super) struct Pull<'a> {
    pub(super) config: &'a Config,
    pub(super) models: &'a Path,
    /// `None` where no hub is to be asked.
    pub(super) hub: Option<Hub>,
    pub(super) cache: Cache,
    pub(super) lock: Lock,
    /// Whether the lock file is to be written anew rather than held to.
    pub(super) update: bool,
    pub(super) attempts: u32,
}

/// What is to be fetched.
struct Plan {
    revision: String,
    commit: String,
    files: BTreeMap<String, Remote>,
}

/// What is being fetched, and where to.
struct Work<'a> {
    asked: &'a Asked,
    plan: &'a Plan,
    staging: &'a Staging,
    bar: &'a ProgressBar,
}

/// Where a file came from.
#[derive(Clone, Copy)]
enum Origin {
    Place,
    Cache,
    Hub,
}

impl Origin {
    fn as_str(self) -> &'static str {
        match self {
            Self::Place => "as it was",
            Self::Cache => "from the cache",
            Self::Hub => "from the hub",
        }
    }
}

impl Pull<'_> {
    /// Pulls a backbone, or sees that it is there as it was pulled.
    pub(super) fn one(&mut self, asked: &Asked) -> anyhow::Result<()> {
        let place = self.models.join(&asked.id);
        let locked = self.lock.backbones.get(&asked.id).cloned();
        if let Some(locked) = &locked {
            let (is, was) = (&asked.entry.repository, &locked.repository);
            ensure!(is == was, "was pulled from {was}, and not from {is}: choose another `--id`");
        }
        let found = standing(&place);
        let changed = match (found.is_some(), &locked) {
            (true, None) => {
                bail!("{} is there and was not pulled: remove it, or choose another `--id`", place.display())
            }
            (true, Some(locked)) => Some(changes(&place, locked)?),
            (false, _) => None,
        };
        let held_to = locked.as_ref().filter(|_| !self.update);
        if let (Some(changed), Some(locked)) = (&changed, held_to) {
            return unchanged(asked, locked, changed);
        }
        let plan = match held_to {
            Some(locked) => self.as_locked(asked, locked)?,
            None => self.anew(asked)?,
        };
        say(&asked.id, format!("{} at {} ({})", asked.entry.repository, plan.commit, plan.revision))?;
        let newest = locked.as_ref().is_some_and(|locked| locked.commit == plan.commit);
        if newest && changed.as_ref().is_some_and(Vec::is_empty) {
            return say(&asked.id, "is there, and the hub has nothing newer");
        }
        self.fetch(asked, &plan, locked.as_ref(), found)
    }

    /// What the lock file says, which decides.
    fn as_locked(&self, asked: &Asked, locked: &Locked) -> anyhow::Result<Plan> {
        if let Some(revision) = asked.revision.as_ref().filter(|asked| **asked != locked.revision) {
            bail!(
                "the lock file has the revision `{}`, not `{revision}`: `--update` takes another",
                locked.revision
            );
        }
        let lacking = asked.entry.files.iter().find(|file| !locked.files.contains_key(*file));
        if let Some(file) = lacking {
            bail!("the lock file lacks `{file}`, which is wanted now: `--update` fetches it");
        }
        let remote = |file: &LockedFile| Remote { size: Some(file.size), sha256: Some(file.sha256.clone()) };
        Ok(Plan {
            revision: locked.revision.clone(),
            commit: locked.commit.clone(),
            files: locked.files.iter().map(|(path, file)| (path.clone(), remote(file))).collect(),
        })
    }

    /// What the hub has now, or what its clients last had from it.
    fn anew(&self, asked: &Asked) -> anyhow::Result<Plan> {
        let entry = &asked.entry;
        let repository = &entry.repository;
        let revision = asked.revision.as_ref().unwrap_or(&entry.revision).clone();
        let Some(hub) = &self.hub else {
            let cache = self.cache.folder().display();
            let commit = self.cache.commit(repository, &revision).with_context(|| {
                format!(
                    "`--offline`, and neither {} nor the cache {cache} has {repository}",
                    self.models.display()
                )
            })?;
            let there = |file: &String| self.cache.file(repository, &commit, file).is_some();
            if let Some(file) = entry.files.iter().find(|file| !there(file)) {
                bail!("`--offline`, and the cache {cache} has {repository} without `{file}`");
            }
            let files = entry.files.iter().chain(entry.optional.iter().filter(|file| there(file)));
            let files = files.map(|file| (file.clone(), Remote::default())).collect();
            return Ok(Plan { revision, commit, files });
        };
        let mut listing = patiently(self.attempts, || hub.listing(repository, &revision))?;
        let mut files = BTreeMap::new();
        for file in &entry.files {
            let remote = listing.files.remove(file);
            files.insert(file.clone(), remote.with_context(|| format!("{repository} has no `{file}`"))?);
        }
        let optional =
            entry.optional.iter().filter_map(|file| Some((file.clone(), listing.files.remove(file)?)));
        files.extend(optional);
        Ok(Plan { revision, commit: listing.commit, files })
    }

    /// Fetches all files, makes the folder, and brings it to its place, in which `found` was.
    fn fetch(
        &mut self,
        asked: &Asked,
        plan: &Plan,
        locked: Option<&Locked>,
        found: Option<Standing>,
    ) -> anyhow::Result<()> {
        let most = asked.entry.most_megabytes.saturating_mul(1_000_000);
        let known: u64 = plan.files.values().filter_map(|file| file.size).fold(0, u64::saturating_add);
        ensure!(known <= most, "has {}, at most {} are taken", DecimalBytes(known), DecimalBytes(most));
        let staging = Staging::open(self.models, &asked.id, found)?;
        self.ensure_room(&staging, plan)?;
        let bar = bar(known);
        let work = Work { asked, plan, staging: &staging, bar: &bar };
        let mut fetched = BTreeMap::new();
        let mut left = most;
        for (file, of) in &plan.files {
            bar.set_message(file.clone());
            let (found, origin) = self.file(&work, file, of, left)?;
            left = left.saturating_sub(found.size);
            bar.suspend(|| {
                say(&asked.id, format!("{file}: {}, {}", DecimalBytes(found.size), origin.as_str()))
            })?;
            fetched.insert(file.clone(), LockedFile { size: found.size, sha256: found.sha256 });
        }
        bar.finish_and_clear();
        let parts =
            plan.files.iter().map(|(file, of)| (file.as_str(), staging.part(file, of.sha256.as_deref())));
        staging.assemble(parts)?;
        let (manifest, notes) = self.made(asked, &staging)?;
        let older = staging.made_of().or_else(|| locked.cloned());
        let kept = match &older {
            Some(older) => self.keep(asked, older, &staging)?,
            None => Vec::new(),
        };
        staging.sync(plan.files.keys().map(String::as_str))?;
        let now = Locked {
            entry: asked.name.clone(),
            repository: asked.entry.repository.clone(),
            revision: plan.revision.clone(),
            commit: plan.commit.clone(),
            manifest,
            files: fetched,
        };
        // Before the lock file has it: who came meanwhile is told so the next time too.
        staging.ensure_as_found()?;
        if let Some(older) = &older {
            staging.remember(older)?;
        }
        // First the lock file: a pull that is cut off here goes on, and one of a folder without it would not.
        self.lock.backbones.insert(asked.id.clone(), now);
        self.lock.write(self.models)?;
        let place = staging.publish(plan.files.keys().map(String::as_str))?;
        for note in notes.into_iter().chain(kept.iter().map(told_of)) {
            say(&asked.id, note)?;
        }
        say(&asked.id, format!("is in {}", place.display()))
    }

    /// Enough room on the disk for what is still to come.
    fn ensure_room(&self, staging: &Staging, plan: &Plan) -> anyhow::Result<()> {
        let here = |path: PathBuf| std::fs::metadata(path).map_or(0, |file| file.len());
        let lacking = plan.files.iter().map(|(file, of)| {
            of.size.unwrap_or(0).saturating_sub(here(staging.part(file, of.sha256.as_deref())))
        });
        let needed = lacking.fold(0, u64::saturating_add);
        let found = rustix::fs::statvfs(self.models)?;
        let free = found.f_bavail.saturating_mul(found.f_frsize);
        ensure!(
            needed <= free,
            "needs {} more, and {} has {} left",
            DecimalBytes(needed),
            self.models.display(),
            DecimalBytes(free)
        );
        Ok(())
    }

    /// One file: as it lies in its place, in the cache, or at the hub.
    fn file(&self, work: &Work<'_>, file: &str, of: &Remote, most: u64) -> anyhow::Result<(Fetched, Origin)> {
        let Work { asked, plan, staging, bar } = work;
        let repository = &asked.entry.repository;
        let sha256 = of.sha256.as_deref();
        let part = staging.part(file, sha256);
        let mine = Some(self.models.join(&asked.id).join(file)).filter(|_| sha256.is_some());
        let cached = self.cache.file(repository, &plan.commit, file);
        // Of a small file only the lock knows a digest: without one the cache is believed where nobody else can be asked.
        let cached = cached.filter(|_| sha256.is_some() || self.hub.is_none());
        let fits = |path: &Path| {
            std::fs::metadata(path)
                .is_ok_and(|file| file.is_file() && of.size.is_none_or(|size| size == file.len()))
        };
        for (path, origin) in [(mine, Origin::Place), (cached, Origin::Cache)] {
            let Some(path) = path.filter(|path| fits(path)) else { continue };
            if let Some(found) = copy_in(&path, &part, sha256)? {
                ensure!(found.size <= most, "`{file}` has {}, too much", DecimalBytes(found.size));
                bar.inc(found.size);
                return Ok((found, origin));
            }
        }
        let Some(hub) = &self.hub else {
            bail!(
                "`--offline`, and the cache {} has no `{file}` as it is wanted",
                self.cache.folder().display()
            );
        };
        let wanted = Wanted { repository, commit: &plan.commit, file, of, most };
        Ok((fetch(hub, &wanted, &part, self.attempts, bar)?, Origin::Hub))
    }

    /// Writes the manifest and loads the backbone as a server would; the manifest's digest, and what there is to tell.
    fn made(&self, asked: &Asked, staging: &Staging) -> anyhow::Result<(String, Vec<String>)> {
        let (folder, entry) = (staging.folder(), &asked.entry);
        let (manifest, mut notes) = match entry.reading {
            Reading::Folder => {
                let understood = folders::read(&folder)?;
                (entry.over(&understood.manifest, &asked.id)?, understood.assumed)
            }
            Reading::Entry => {
                (entry.filled(&asked.id, |file| Ok(folders::graph(&folder, file)?))?, Vec::new())
            }
        };
        let digest = staging.write_manifest(&manifest)?;
        self.load(staging.root(), &folder).with_context(|| {
            format!(
                "the files came, and do not load; they stay in {}. `headstart pull --show {}` prints the entry: a \
                 corrected one in a file of one's own goes on from there",
                staging.root().display(),
                asked.name
            )
        })?;
        match entry.verified {
            Verified::Hub => {}
            Verified::StandIn => {
                notes.push(
                    "it loads; the entry was tried with files of its form, not with the hub's own".into(),
                );
            }
            Verified::Never => notes
                .push("it loads, and nobody has compared this entry's answers with a reference yet".into()),
        }
        notes.extend(entry.note.clone());
        Ok((digest, notes))
    }

    /// Loads one folder of a models folder, and lets it go.
    fn load(&self, root: &Path, folder: &Path) -> anyhow::Result<()> {
        let app = App::at_terminal(Config { models: vec![root.to_owned()], ..self.config.clone() })?;
        let engine = app.start_engine()?;
        app.load_folders(&engine, &[folder.to_owned()])?;
        for (_, known) in app.tasks.catalog.list() {
            match known.entry {
                Known::Served(_) | Known::Resting | Known::Unloaded => {}
                Known::Broken(reason) => bail!("{}", explain::in_one_line(&anyhow::Error::new(reason))),
            }
        }
        app.tasks.catalog.clear();
        Ok(())
    }

    /// Takes over what is not of the older pull: other files, and a manifest that was corrected by hand.
    fn keep(&self, asked: &Asked, locked: &Locked, staging: &Staging) -> anyhow::Result<Vec<Kept>> {
        let manifest = self.models.join(&asked.id).join(MANIFEST);
        let corrected = manifest.is_file() && measure(&manifest)?.sha256 != locked.manifest;
        staging.keep(|file| {
            let named = |file: &str| locked.files.contains_key(file) || (file == MANIFEST && !corrected);
            file.to_str().is_some_and(named)
        })
    }
}

/// What there is to say of a file that was taken over.
fn told_of(Kept { was, is }: &Kept) -> String {
    let (was, is) = (was.display(), is.display());
    if was.to_string() == MANIFEST {
        format!("the manifest was not as it was pulled; yours is kept as {is}")
    } else if was.to_string() == is.to_string() {
        format!("{was} was not pulled, and is kept")
    } else {
        format!("{was} was not pulled, and is kept as {is}")
    }
}

/// Files of a pulled backbone that are not as they were pulled, each with what is the matter.
fn changes(place: &Path, locked: &Locked) -> anyhow::Result<Vec<String>> {
    let mut changed = Vec::new();
    for (file, was) in &locked.files {
        let path = place.join(file);
        if !path.is_file() {
            changed.push(format!("{file} is missing"));
        } else if measure(&path)? != (Fetched { size: was.size, sha256: was.sha256.clone() }) {
            changed.push(format!("{file} is another file"));
        }
    }
    if !place.join(MANIFEST).is_file() {
        changed.push("headstart.toml is missing".into());
    }
    Ok(changed)
}

/// What there is to say of a backbone that is in its place.
fn unchanged(asked: &Asked, locked: &Locked, changed: &[String]) -> anyhow::Result<()> {
    if let Some(revision) = asked.revision.as_ref().filter(|asked| **asked != locked.revision) {
        bail!("is there of the revision `{}`, not `{revision}`: `--update` takes another", locked.revision);
    }
    ensure!(
        changed.is_empty(),
        "is not as it was pulled: {}; `--update` fetches it again",
        changed.join(", ")
    );
    say(&asked.id, format!("is there, as it was pulled: {} at {}", locked.repository, locked.commit))
}

/// A bar of all bytes, where there is a terminal.
fn bar(bytes: u64) -> ProgressBar {
    let terminal = std::io::stderr().is_terminal();
    let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(bytes), target);
    let form = "{bar:40} {decimal_bytes}/{decimal_total_bytes}  {decimal_bytes_per_sec}  {eta} left  {msg}";
    if let Ok(style) = ProgressStyle::with_template(form) {
        bar.set_style(style);
    }
    bar
}

fn say(id: &str, what: impl std::fmt::Display) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr(), "{id}: {what}")?)
}
