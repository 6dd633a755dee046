//! Finding and loading the ONNX Runtime library, once a process.
#![expect(unsafe_code, reason = "ort does not tell the version of the library that it loaded")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ort::environment::Environment;

use crate::{kernels, memory, told};

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
    version: Option<String>,
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
            .with_logger(told::logger())
            .build()
            .map_err(|error| unusable(error.to_string()))?;
        // Its informational lines are about graph optimisations; only what an operator can act on is of use.
        environment.set_log_level(ort::logging::LogLevel::Error);
        kernels::register(&environment).map_err(|error| unusable(error.to_string()))?;
        let version = version(&path);
        let runtime = Self { environment, path, version };
        *loaded = Some(runtime.clone());
        Ok(runtime)
    }

    pub(crate) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What [`Runtime::load`] loaded in this process, if it did.
    #[must_use]
    pub fn loaded() -> Option<Self> {
        LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// The library's version, such as 1.31.1, as it states it itself.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The library's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Asks the library once more: ort compares the version and keeps it to itself.
fn version(path: &Path) -> Option<String> {
    // SAFETY: the library is loaded already, so that no initialiser runs; ort keeps it for as long as the process.
    let library = unsafe { libloading::Library::new(path) }.ok()?;
    // SAFETY: this is the type of the symbol in onnxruntime_c_api.h.
    let base: libloading::Symbol<'_, unsafe extern "C" fn() -> *const ort::sys::OrtApiBase> =
        unsafe { library.get(b"OrtGetApiBase") }.ok()?;
    // SAFETY: it takes nothing, and gives a static table or null.
    let base = unsafe { base().as_ref() }?;
    // SAFETY: it gives a static string that ends with 0.
    let version = unsafe { std::ffi::CStr::from_ptr((base.GetVersionString)()) };
    version.to_str().ok().map(str::to_owned)
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
