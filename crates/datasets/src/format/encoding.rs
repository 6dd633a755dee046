//! Saying where text stops being UTF-8, and what it seems to be instead.

use crate::Code;
use crate::draft::Fault;

/// The encoding that a file's first bytes give away, where it is not UTF-8: a byte order mark, or every other byte
/// zero as in ASCII text of two or four bytes a character.
pub(crate) fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [0xFF, 0xFE, 0, 0, ..] | [0, 0, 0xFE, 0xFF, ..] => return Some("UTF-32"),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => return Some("UTF-16"),
        _ => {}
    }
    let pairs = head.get(..64).unwrap_or(head).as_chunks::<2>().0;
    if pairs.len() < 2 {
        return None;
    }
    let ascii = |byte: u8| byte == b'\t' || byte == b'\n' || byte == b'\r' || (b' '..0x7F).contains(&byte);
    let little = pairs.iter().all(|&[low, high]| high == 0 && ascii(low));
    let big = pairs.iter().all(|&[high, low]| high == 0 && ascii(low));
    (little || big).then_some("UTF-16")
}

/// The fault of bytes that are not UTF-8, `None` where they are; `offset` is where they begin in the file, in bytes.
pub(crate) fn fault(bytes: &[u8], offset: u64) -> Option<Fault> {
    let at = std::str::from_utf8(bytes).err()?.valid_up_to();
    let rest = bytes.get(at..).unwrap_or_default();
    let byte = rest.first().copied().unwrap_or_default();
    let message =
        format!("the byte 0x{byte:02X} at offset {} is not UTF-8{}", offset + at as u64, guess(bytes, rest));
    Some(Fault::new(Code::WrongEncoding, message))
}

fn guess(bytes: &[u8], rest: &[u8]) -> &'static str {
    let continues = |byte: u8| (0x80..0xC0).contains(&byte);
    if bytes.contains(&0) {
        return "; the file seems to be UTF-16 or binary";
    }
    if let [0xC2..=0xF4, second, ..] = rest
        && continues(*second)
    {
        return "; a character is cut short";
    }
    match rest.first() {
        Some(0xC2..=0xF4) if rest.len() == 1 => "; a character is cut short or the file is Latin-1",
        Some(0x80..=0x9F) => "; the file seems to be Windows-1252",
        Some(0xA0..) => "; the file seems to be Latin-1 or Windows-1252",
        Some(_) | None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_place_and_the_likely_encoding_are_named() {
        let cases: [(&[u8], &str); 4] = [
            (
                b"caf\xE9 au lait",
                "the byte 0xE9 at offset 103 is not UTF-8; the file seems to be Latin-1 or Windows-1252",
            ),
            (
                b"a \x93quote\x94",
                "the byte 0x93 at offset 102 is not UTF-8; the file seems to be Windows-1252",
            ),
            (b"\xE2\x82", "the byte 0xE2 at offset 100 is not UTF-8; a character is cut short"),
            (b"a\0\xFF", "the byte 0xFF at offset 102 is not UTF-8; the file seems to be UTF-16 or binary"),
        ];
        for (bytes, message) in cases {
            assert_eq!(fault(bytes, 100).unwrap().message, message);
        }
        assert_eq!(fault("grüße".as_bytes(), 0), None);
    }

    #[test]
    fn sixteen_bits_a_character_are_recognised_with_and_without_a_mark() {
        let wide = |text: &str, little: bool| -> Vec<u8> {
            text.encode_utf16()
                .flat_map(|unit| if little { unit.to_le_bytes() } else { unit.to_be_bytes() })
                .collect()
        };
        assert_eq!(foreign(&wide("\u{feff}text,label", true)), Some("UTF-16"));
        assert_eq!(foreign(&wide("\u{feff}text,label", false)), Some("UTF-16"));
        assert_eq!(foreign(&wide("text,label\n", true)), Some("UTF-16"));
        assert_eq!(foreign(&wide("text,label\n", false)), Some("UTF-16"));
        assert_eq!(foreign(b"text,label\n"), None);
        assert_eq!(foreign(b""), None);
    }
}
