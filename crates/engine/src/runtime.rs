//! Finding and loading the ONNX Runtime library, once a process.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;

use crate::memory;

/// The file name the library has beside the executable and under `vendor/`.
const LIBRARY: &str =
    if cfg!(target_os = "macos") { "libonnxruntime.1.dylib" } else { "libonnxruntime.so.1" };

/// Why ONNX Runtime could not be loaded.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// The library is in none of the usual places.
    #[error("{LIBRARY} was not found; looked at {}; run `make setup` or name it with `--onnxruntime FILE`", .0.join(", "))]
    NotFound(Vec<String>),
    /// The library is there but cannot be used.
    #[error("{path} cannot be used: {message}")]
    Unusable {
        /// The library.
        path: PathBuf,
        /// The loader's message.
        message: String,
    },
}

/// ONNX Runtime, loaded.
#[derive(Clone)]
pub struct Runtime {
    environment: Environment,
    path: PathBuf,
}

/// The library allows one environment a process; engines started later share it.
static LOADED: Mutex<Option<Runtime>> = Mutex::new(None);

impl Runtime {
    /// Loads the library from `path`, else from beside the executable, else from `vendor/` of the working directory.
    ///
    /// # Errors
    /// [`RuntimeError`] saying where it was looked for, or why the library was refused (too old, wrong machine).
    pub fn load(path: Option<&Path>) -> Result<Self, RuntimeError> {
        let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(runtime) = loaded.as_ref() {
            return Ok(runtime.clone());
        }
        let path = match path {
            Some(path) => path.to_path_buf(),
            None => find()?,
        };
        memory::keep_large_blocks_apart();
        let unusable = |message: String| RuntimeError::Unusable { path: path.clone(), message };
        let environment = ort::init_from(&path)
            .map_err(|error| unusable(error.to_string()))?
            .with_name("headstart")
            .with_telemetry(false)
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        // Its informational lines are about graph optimisations; only what an operator can act on is of use.
        environment.set_log_level(ort::logging::LogLevel::Error);
        let runtime = Self { environment, path };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The library's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn find() -> Result<PathBuf, RuntimeError> {
    let mut looked_at = Vec::new();
    let executable = std::env::current_exe().ok();
    let beside = executable.as_deref().and_then(Path::parent);
    let mut candidates: Vec<PathBuf> =
        beside.iter().flat_map(|folder| [folder.join(LIBRARY), folder.join("lib").join(LIBRARY)]).collect();
    candidates.extend(vendored(Path::new("vendor/onnxruntime")));
    for candidate in candidates {
        if candidate.is_file() {
            return Ok(candidate);
        }
        looked_at.push(candidate.display().to_string());
    }
    looked_at.push("vendor/onnxruntime".into());
    Err(RuntimeError::NotFound(looked_at))
}

/// `vendor/onnxruntime/<version>/<target>/`, newest version first.
fn vendored(root: &Path) -> Vec<PathBuf> {
    let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    let mut versions: Vec<PathBuf> =
        std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    versions.sort();
    versions.into_iter().rev().map(|version| version.join(&target).join(LIBRARY)).collect()
}
