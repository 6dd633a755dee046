//! Giving freed memory back to the system.
#![expect(unsafe_code, reason = "glibc's malloc_trim has no safe wrapper")]

/// Hands free heap pages back to the system.
///
/// ONNX Runtime allocates through libc; after a large call or an unload glibc keeps the pages. Other libcs return
/// memory by themselves, so this does nothing there.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: malloc_trim takes no pointer and may be called from any thread at any time (malloc_trim(3)).
    unsafe {
        libc::malloc_trim(0);
    }
}
