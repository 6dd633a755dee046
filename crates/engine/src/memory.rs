//! Giving freed memory back to the system.
#![expect(unsafe_code, reason = "glibc's mallopt and malloc_trim have no safe wrappers")]

/// Blocks from this size on, in bytes, are mapped one by one and go back to the system when freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_FROM: i32 = 1 << 20;

/// Keeps large blocks out of glibc's heaps, for the whole process.
///
/// glibc raises its own bound to the size of every mapped block that is freed, up to 32 MiB. Bodies, pictures and tensors
/// then come from the heaps, and small blocks between them keep the freed ones from ever going back.
pub(crate) fn keep_large_blocks_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: mallopt takes two numbers and may be called at any time (mallopt(3)).
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
    }
}

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
