//! What a hub answers, and the lock file of what was pulled. Their readers are nobody's business but `headstart pull`'s, so
//! their files are compiled in here.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ureq::http::Uri;

#[path = "../../src/pull/answers.rs"]
mod answers;
#[path = "../../src/pull/lock.rs"]
#[expect(dead_code, reason = "texts are read here, and no folders")]
mod lock;
#[path = "../../src/pull/paths.rs"]
mod paths;

use answers::{Listing, content_range, digest, follow, is_commit};
use lock::Lock;

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    if let Ok(listing) = Listing::read(data) {
        assert!(is_commit(&listing.commit));
        let digests = listing.files.values().filter_map(|file| file.sha256.as_deref());
        digests.for_each(|sha256| assert_eq!(digest(sha256).as_deref(), Some(sha256)));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(lock) = Lock::parse(text) {
        lock.backbones.values().flat_map(|locked| locked.files.keys()).for_each(|path| leads_inside(path));
        let written = lock.text().expect("what a file held is written");
        assert_eq!(Lock::parse(&written).expect("a written lock file is read"), lock);
    }
    for line in text.lines() {
        headers(line);
    }
});

/// Headers of answers: what they say of a file, and where they send.
fn headers(line: &str) {
    let _ = content_range(line);
    if let Some(sha256) = digest(line) {
        assert_eq!(digest(&sha256).as_deref(), Some(sha256.as_str()));
    }
    for from in ["https://hub.example/o/n/resolve/main/a", "http://127.0.0.1:80/o/n"] {
        let from: Uri = from.parse().expect("an address");
        if let Some(to) = follow(&from, line) {
            assert!(to.authority().is_some());
            assert!(to.scheme_str() == Some("https") || from.scheme_str() == Some("http"), "{to}");
        }
    }
}

/// A path that a lock file names leaves no folder it is joined to.
fn leads_inside(path: &str) {
    use std::path::{Component, Path};

    assert!(Path::new(path).components().all(|part| matches!(part, Component::Normal(_))), "{path}");
}
