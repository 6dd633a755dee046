//! What describes a backbone: a `headstart.toml`, or the files of an exporter's folder, a zero byte between them.
#![no_main]

use headstart_types::Manifest;
use headstart_types::hugging_face::{Contents, FILES, GRAPHS, Graph, understand};
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if !text.starts_with('{') {
        if let Ok(manifest) = Manifest::parse(text) {
            use_all(&manifest);
        }
        return;
    }
    let files = FILES.into_iter().zip(text.split('\0')).filter(|(_, text)| !text.is_empty());
    let graphs = GRAPHS.iter().enumerate().filter(|(number, _)| text.len() >> number & 1 == 1);
    let contents = Contents {
        name: "folder".to_owned(),
        files: files.map(|(file, text)| (file, text.to_owned())).collect(),
        graphs: graphs.map(|(_, file)| graph(file)).collect(),
    };
    if let Ok(understood) = understand(&contents) {
        use_all(&understood.manifest);
    }
});

/// A manifest that was found good answers every question, comes back from its text, and its text half is as good.
fn use_all(manifest: &Manifest) {
    let _ = (manifest.files(), manifest.modalities(), manifest.dimension(), manifest.reads_pairs());
    let _ = manifest.without_text_tower();
    for manifest in [Some(manifest.clone()), manifest.text_half()].into_iter().flatten() {
        let text = toml::to_string(&manifest).expect("a manifest is written");
        Manifest::parse(&text).expect("a good manifest is good when it is read again");
    }
}

fn graph(file: &str) -> Graph {
    let dimensions = [
        ("last_hidden_state", vec![None, None, Some(8)]),
        ("pooler_output", vec![None, Some(8)]),
        ("logits", vec![None, Some(3)]),
        ("text_embeds", vec![None, Some(8)]),
        ("image_embeds", vec![None, Some(8)]),
    ];
    Graph {
        file: file.to_owned(),
        sha256: "0".repeat(64),
        external: std::collections::BTreeMap::new(),
        outputs: dimensions.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect(),
    }
}
