//! `headstart models`: every backbone, loaded to see whether it works.

use std::io::Write as _;

use headstart_tasks::Entry;

use crate::app::App;
use crate::config::Config;

/// Prints one line a backbone; fails when one is broken.
///
/// # Errors
/// When ONNX Runtime is missing, the models folder is unusable, or a backbone is broken.
pub fn run(config: Config) -> anyhow::Result<()> {
    let app = App::new(config)?;
    let engine = app.start_engine()?;
    app.load_backbones(&engine)?;
    let mut out = std::io::stdout().lock();
    let mut broken = 0;
    for (id, entry) in app.tasks.catalog.list() {
        match entry {
            Entry::Served(served) => {
                let manifest = served.backbone.manifest();
                writeln!(
                    out,
                    "{id:<28} {:<6} {:>5} values  {:<5} {}",
                    manifest.backbone.modality.as_str(),
                    manifest.output.features.dimension,
                    served.backbone.provider().as_str(),
                    manifest.backbone.licence,
                )?;
            }
            Entry::Broken(reason) => {
                broken += 1;
                writeln!(out, "{id:<28} broken: {reason}")?;
            }
        }
    }
    app.tasks.catalog.clear();
    anyhow::ensure!(broken == 0, "{broken} broken");
    Ok(())
}
