//! The name of a backbone's weights, precision and preprocessing: what was computed under one holds for no other.

use headstart_types::Manifest;
use headstart_types::manifest::EngineSpec;

use crate::cache::Key;

/// Every field that changes numbers is in the manifest, whose text form names them all. `[engine]` says how fast they come, and
/// changes none.
pub(crate) fn of(manifest: &Manifest) -> Key {
    let manifest = Manifest { engine: EngineSpec::default(), ..manifest.clone() };
    Key::of(&[manifest.backbone.sha256.as_bytes(), format!("{manifest:?}").as_bytes()])
}

#[cfg(test)]
mod tests {
    use headstart_types::hex;

    use super::*;

    const TEXT: &str = include_str!("../../../models/all-minilm-l6-v2/headstart.toml");

    fn key(text: &str) -> String {
        hex(of(&Manifest::parse(text).unwrap()).as_bytes())
    }

    #[test]
    fn how_fast_a_backbone_is_computed_is_no_part_of_its_name_and_what_it_computes_is() {
        let engine =
            "\n[engine]\nthreads = 2\nlanes = 3\nsessions = 2\nmax_batch_items = 4\nmax_batch_tokens = 512\n";
        assert_eq!(key(&format!("{TEXT}{engine}")), key(TEXT));
        for (old, new) in [
            ("max_tokens = 256", "max_tokens = 128"),
            ("pooling = \"mean\"", "pooling = \"cls\""),
            ("sha256 = \"25", "sha256 = \"26"),
        ] {
            assert!(TEXT.contains(old), "{old}");
            assert_ne!(key(&TEXT.replace(old, new)), key(TEXT), "{new}");
        }
    }
}
