//! What a hub's answers say: a listing, the digests and ranges of headers, where a redirect leads. Nothing is asked here.

use std::collections::BTreeMap;

use serde::Deserialize;
use ureq::http::Uri;

/// What a repository holds at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub(super) commit: String,
    /// Files by their paths.
    pub(super) files: BTreeMap<String, Remote>,
}

/// What the hub says of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Remote {
    /// Bytes.
    pub(super) size: Option<u64>,
    /// SHA-256, of large files; of small ones only git's own digest is known.
    pub(super) sha256: Option<String>,
}

/// A listing as the hub writes it.
#[derive(Deserialize)]
struct Info {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Listing {
    /// Reads a listing.
    ///
    /// # Errors
    /// What is not understood.
    pub(super) fn read(text: &[u8]) -> Result<Self, String> {
        let info: Info = serde_json::from_slice(text).map_err(|source| source.to_string())?;
        if !is_commit(&info.sha) {
            return Err("`sha` is no commit".into());
        }
        let remote = |file: Sibling| {
            let lfs = file.lfs.as_ref();
            let size = lfs.and_then(|lfs| lfs.size).or(file.size);
            let sha256 = lfs.and_then(|lfs| lfs.sha256.as_deref()).and_then(digest);
            (file.rfilename, Remote { size, sha256 })
        };
        Ok(Self { commit: info.sha, files: info.siblings.into_iter().map(remote).collect() })
    }
}

/// Where a redirect leads; nowhere that could be listened to on the way, if one could not before.
pub(super) fn follow(from: &Uri, location: &str) -> Option<Uri> {
    let to: Uri = if location.starts_with('/') && !location.starts_with("//") {
        format!("{}://{}{location}", from.scheme_str()?, from.authority()?).parse().ok()?
    } else {
        location.parse().ok()?
    };
    let safe = to.scheme_str() == Some("https")
        || (to.scheme_str() == Some("http") && from.scheme_str() == Some("http"));
    (safe && to.authority().is_some()).then_some(to)
}

/// Whether a text is a commit of git.
pub(super) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A SHA-256 as entity tags have it; nothing where it is another digest.
pub(super) fn digest(tag: &str) -> Option<String> {
    let bare = tag.trim_start_matches("W/").trim_matches('"').to_ascii_lowercase();
    (bare.len() == 64 && bare.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(bare)
}

/// First byte and size of `bytes 5-9/10`.
pub(super) fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, size.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_never_leaves_tls() {
        let from: Uri = "https://hub.example/a/resolve/b".parse().unwrap();
        let to = |location| follow(&from, location).map(|uri| uri.to_string());
        assert_eq!(to("/api/c?d=1").as_deref(), Some("https://hub.example/api/c?d=1"));
        assert_eq!(to("https://cdn.example/e").as_deref(), Some("https://cdn.example/e"));
        for elsewhere in ["http://cdn.example/e", "//cdn.example/e", "e", "file:///etc/passwd", ""] {
            assert_eq!(to(elsewhere), None, "{elsewhere}");
        }
        let plain: Uri = "http://127.0.0.1:1/a".parse().unwrap();
        assert!(follow(&plain, "http://127.0.0.1:2/b").is_some());
    }

    #[test]
    fn only_a_sha_256_is_taken_for_one() {
        let sha256 = "A".repeat(64);
        assert_eq!(digest(&format!("\"{sha256}\"")), Some("a".repeat(64)));
        assert_eq!(digest(&format!("W/\"{sha256}\"")), Some("a".repeat(64)));
        assert_eq!(digest(&format!("\"{}\"", "a".repeat(40))), None);
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("5-9/10"), None);
    }
}
