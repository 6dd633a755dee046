//! Finding and loading the ONNX Runtime library.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use ort::environment::Environment;

const FOLDER: &str = "vendor/onnxruntime";

/// The newest library under `vendor/` for this machine.
///
/// # Errors
/// When there is none.
pub(crate) fn find() -> anyhow::Result<PathBuf> {
    let name = if cfg!(target_os = "macos") { "libonnxruntime.1.dylib" } else { "libonnxruntime.so.1" };
    let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let versions = std::fs::read_dir(FOLDER)
        .with_context(|| format!("{FOLDER} cannot be listed; `make setup` fills it"))?;
    let mut libraries: Vec<PathBuf> = versions
        .flatten()
        .map(|version| version.path().join(&target).join(name))
        .filter(|path| path.is_file())
        .collect();
    libraries.sort();
    libraries.pop().with_context(|| format!("{FOLDER} has no {name} for {target}; `make setup` fetches it"))
}

/// # Errors
/// The loader's message.
pub(crate) fn load(path: &Path) -> anyhow::Result<Environment> {
    let unusable = |error: ort::Error| anyhow::anyhow!("{} cannot be used: {error}", path.display());
    let environment = ort::init_from(path)
        .map_err(|error| anyhow::anyhow!("{} cannot be used: {error}", path.display()))?
        .with_name("headstart-load")
        .with_telemetry(false)
        .build()
        .map_err(unusable)?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    Ok(environment)
}
