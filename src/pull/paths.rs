//! Paths that somebody else wrote: an entry, a listing of the hub, a lock file.

/// Longest path in bytes.
const LONGEST: usize = 240;

/// Whether a path with `/` between its parts is a plain one, leads nowhere but into the folder it is joined to, and
/// hides nothing.
pub(super) fn is_inside(path: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=' | ' ' | ',');
    let part = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
    path.len() <= LONGEST && path.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_paths_downwards_are_inside() {
        for path in
            ["config.json", "onnx/model.onnx", "1_Pooling/config.json", "model.onnx_data", "a b/c+d=1.bin"]
        {
            assert!(is_inside(path), "{path}");
        }
        let long = "a".repeat(241);
        for path in [
            "",
            "/etc/passwd",
            "../a",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            ".hidden",
            "a/.git/config",
            "a\\..\\b",
            "C:\\a",
            "C:a",
            "a\0b",
            "a\nb",
            "ä",
            &long,
        ] {
            assert!(!is_inside(path), "{path:?}");
        }
    }
}
