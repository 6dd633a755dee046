//! Texts: strings → the token ids a backbone takes, cut to its length by one rule.
//!
//! `Truncate::End` keeps the first tokens, `Truncate::Start` the last, and the special tokens that frame a text stay in
//! both; `Truncate::None` refuses. A cut is always exact: ids are those of the whole text, cut afterwards, and the
//! tokens left out are counted.

mod encode;
mod pair;
mod pieces;

use headstart_types::Modality;
pub use headstart_types::Truncate;

pub use encode::{Encoded, TextEncoder};
pub use pair::Shorter;

use crate::modality::MediaKind;

/// Texts, in the table of modalities.
pub(crate) const KIND: MediaKind = MediaKind {
    modality: Modality::Text,
    media_types: &["text/plain"],
    recognise: |bytes| is_text(bytes).then_some("text/plain"),
};

/// How much of a file is looked at.
const SNIFFED_BYTES: usize = 4096;

/// UTF-8 without the control characters that texts do not have.
fn is_text(bytes: &[u8]) -> bool {
    let start = bytes.get(..SNIFFED_BYTES).unwrap_or(bytes);
    let text = match std::str::from_utf8(start) {
        Ok(text) => text,
        // A character cut in two at the end of what is looked at.
        Err(error) if error.error_len().is_none() && bytes.len() > SNIFFED_BYTES => {
            std::str::from_utf8(&start[..error.valid_up_to()]).unwrap_or_default()
        }
        Err(_) => return false,
    };
    !text.is_empty() && text.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\x0C'))
}
