//! Telling what bytes are from their beginning.

use headstart_types::Modality;

use crate::MODALITIES;

/// One kind of data that [`sniff`] tells apart.
pub struct MediaKind {
    /// The modality it feeds.
    pub modality: Modality,
    /// The media types it is sent under, the usual spelling of each first.
    pub media_types: &'static [&'static str],
    /// The media type of bytes of this kind, or nothing for any others. Looks at the beginning only.
    pub recognise: fn(&[u8]) -> Option<&'static str>,
}

/// What [`sniff`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sniffed {
    /// The modality.
    pub modality: Modality,
    /// The media type, such as `image/png`.
    pub media_type: &'static str,
}

/// What the bytes are, by their content alone; `None` when no kind knows them.
#[must_use]
pub fn sniff(bytes: &[u8]) -> Option<Sniffed> {
    MODALITIES.iter().find_map(|kind| {
        (kind.recognise)(bytes).map(|media_type| Sniffed { modality: kind.modality, media_type })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_names_media_types_and_no_type_is_claimed_twice() {
        let mut seen = std::collections::HashSet::new();
        for kind in MODALITIES {
            assert!(!kind.media_types.is_empty());
            for media_type in kind.media_types {
                assert!(seen.insert(media_type), "{media_type} is claimed twice");
            }
        }
    }

    #[test]
    fn bytes_are_told_by_content() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
        assert_eq!(sniff(png).unwrap().media_type, "image/png");
        assert_eq!(sniff("grüße".as_bytes()).unwrap().modality, Modality::Text);
        assert_eq!(sniff(b"\0\x01\x02\x03"), None);
        assert_eq!(sniff(b""), None);
    }
}
