//! Which part may use which: the data flows one way.

use std::path::Path;

use anyhow::Context as _;

use crate::files::sources;

/// Each crate and the crates of ours it may depend on.
const CRATES: [(&str, &[&str]); 13] = [
    ("types", &[]),
    ("telemetry", &[]),
    ("media", &["types"]),
    ("engine", &["types", "telemetry", "onnx"]),
    ("methods", &["types", "onnx", "onnx-grad"]),
    ("datasets", &["types", "media"]),
    ("store", &["types"]),
    ("onnx", &[]),
    ("onnx-grad", &["onnx"]),
    ("vectors", &["types"]),
    ("export", &["types", "methods", "onnx"]),
    ("convert", &["onnx"]),
    ("tasks", &["types", "telemetry", "media", "engine", "methods", "vectors"]),
];

/// Words that only some files may hold: what is banned, where it may stand, why.
const PLACES: [(&str, &[&str], &str); 5] = [
    (
        concat!("ort", "::"),
        &[
            "crates/engine/src/",
            "crates/onnx-grad/tests/",
            "crates/onnx-grad/examples/",
            "benches/load/src/direct/",
        ],
        "only the engine knows ONNX Runtime",
    ),
    (
        concat!("Status", "Code"),
        &["src/http/", "src/monitored.rs", "tests/", "fuzz/"],
        "only the REST edge knows status codes",
    ),
    (
        concat!("env::", "var"),
        &["src/config.rs", "tests/", "crates/datasets/tests/", "crates/methods/tests/", "tools/", "benches/"],
        "only the configuration reads the environment",
    ),
    (concat!("Int", "Counter::"), &["crates/telemetry/"], "every metric is declared in one file"),
    (concat!("ax", "um::"), &["src/", "tests/", "fuzz/"], "tasks and engine know nothing of HTTP"),
];

pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    for (name, allowed) in CRATES {
        let file = root.join("crates").join(name).join("Cargo.toml");
        let text = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let manifest: toml::Table = text.parse()?;
        let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
        for dependency in dependencies.into_iter().flat_map(toml::Table::keys) {
            let ours = dependency.strip_prefix("headstart-");
            if ours.is_some_and(|ours| !allowed.contains(&ours)) {
                problems.push(format!("crates/{name} may not depend on {dependency}"));
            }
        }
    }
    for path in sources(root, "rs")? {
        let name = path.strip_prefix(root).unwrap_or(&path).display().to_string().replace('\\', "/");
        let name = name.trim_start_matches("./").to_owned();
        let text = std::fs::read_to_string(&path)?;
        for (word, places, reason) in PLACES {
            let here = places.iter().any(|place| name.starts_with(place));
            if !here && holds_word(&text, word) {
                problems.push(format!("{name}: `{word}` does not belong here: {reason}"));
            }
        }
    }
    Ok(problems)
}

/// Whether a word occurs that is not the end of a longer one.
fn holds_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        !before.is_some_and(|character| character.is_alphanumeric() || character == '_')
    })
}
