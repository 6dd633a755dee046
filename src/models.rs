//! `headstart models`: every backbone, loaded to see whether it works.

use std::io::Write as _;

use headstart_tasks::Entry;

use crate::app::App;
use crate::config::Config;
use crate::explain;

/// Prints one line a backbone; fails when one is broken or left out.
///
/// # Errors
/// When ONNX Runtime is missing, the models folder is unusable, or a backbone is broken or left out.
pub fn run(config: Config) -> anyhow::Result<()> {
    let app = App::new(config)?;
    let engine = app.start_engine()?;
    let folders = app.backbone_folders()?;
    app.load_folders(&engine, &folders.kept)?;
    let mut out = std::io::stdout().lock();
    let mut broken = 0;
    for (id, known) in app.tasks.catalog.list() {
        match known.entry {
            Entry::Served(served) => {
                let manifest = served.manifest();
                writeln!(
                    out,
                    "{id:<28} {:<6} {:>5} values  {:<5} {}",
                    manifest.backbone.modality.as_str(),
                    manifest.dimension(),
                    served.provider(),
                    manifest.backbone.licence,
                )?;
            }
            // Nothing is let go before the engine serves.
            Entry::Resting | Entry::Unloaded => {}
            Entry::Broken(reason) => {
                broken += 1;
                // A manifest's reason shows the place in lines of its own.
                let reason = explain::in_one_line(&anyhow::Error::new(reason));
                writeln!(out, "{id:<28} broken: {}", reason.trim_end().replace('\n', "\n    "))?;
            }
        }
    }
    app.tasks.catalog.clear();
    let left_out = folders.left_out.len();
    for (folder, kept) in folders.left_out {
        let id = folder.file_name().unwrap_or_default().to_string_lossy();
        writeln!(out, "{id:<28} left out: {} has the name of {}", folder.display(), kept.display())?;
    }
    anyhow::ensure!(broken + left_out == 0, "{broken} broken, {left_out} left out");
    Ok(())
}
