//! Base64 in any of its spellings, and `data:` URLs that carry it.

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::{Limits, MediaError};

/// A `data:` URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataUrl {
    /// The media type in lower case without parameters; `text/plain` when the URL names none.
    pub media_type: String,
    /// The bytes carried.
    pub bytes: Vec<u8>,
}

/// Takes a `data:[<media type>][;parameters];base64,<data>` URL apart.
///
/// # Errors
/// [`MediaError::Url`] for one that would have to be fetched; [`MediaError::Base64`] for anything else (percent
/// encoding, bad base64);
/// [`MediaError::TooManyBytes`] before decoding. Source: RFC 2397.
pub fn parse_data_url(url: &str, limits: &Limits) -> Result<DataUrl, MediaError> {
    let refuse = |reason: &str| MediaError::Base64(reason.into());
    let url = url.trim_ascii();
    let rest = match url.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("data:") => &url[5..],
        Some(_) | None if url.contains("://") => return Err(MediaError::Url),
        Some(_) | None => return Err(refuse("it does not start with `data:`")),
    };
    let (head, data) = rest.split_once(',').ok_or_else(|| refuse("the data URL has no comma"))?;
    let mut parts = head.split(';').map(str::trim_ascii);
    let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
    if !parts.next_back().is_some_and(|last| last.eq_ignore_ascii_case("base64")) {
        return Err(refuse("the data URL is not marked `;base64`"));
    }
    let media_type = if media_type.is_empty() { "text/plain".into() } else { media_type };
    Ok(DataUrl { media_type, bytes: content(data, limits)? })
}

/// Decodes base64, bare or as a whole `data:` URL: the standard or the URL-safe alphabet, padded or not, white space
/// anywhere.
///
/// # Errors
/// [`MediaError::TooManyBytes`] from the text's length, before decoding; [`MediaError::Base64`] naming the first
/// wrong place, and for any other URL. Source: RFC 4648, §4 and §5.
pub fn decode_base64(text: &str, limits: &Limits) -> Result<Vec<u8>, MediaError> {
    // No alphabet has a colon.
    if text.get(..64.min(text.len())).is_some_and(|start| start.contains(':')) {
        return parse_data_url(text, limits).map(|url| url.bytes);
    }
    content(text, limits)
}

fn content(text: &str, limits: &Limits) -> Result<Vec<u8>, MediaError> {
    let text = text.trim_ascii();
    let spaces = text.bytes().filter(u8::is_ascii_whitespace).count();
    let padding = text.bytes().rev().take_while(|&b| b == b'=').count();
    let digits = text.len() - spaces - padding;
    let bytes = digits / 4 * 3 + digits % 4 * 3 / 4;
    if bytes > limits.max_bytes {
        return Err(MediaError::TooManyBytes { what: "the base64 content", bytes, max: limits.max_bytes });
    }
    let url_safe = text.bytes().any(|b| matches!(b, b'-' | b'_'));
    let engine = engine(if url_safe { &URL_SAFE } else { &STANDARD });
    let decoded = if spaces == 0 {
        engine.decode(text)
    } else {
        let dense: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        engine.decode(dense)
    };
    decoded.map_err(|error| MediaError::Base64(error.to_string().to_ascii_lowercase()))
}

fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(alphabet, config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_most(max_bytes: usize) -> Limits {
        Limits { max_bytes, ..Limits::default() }
    }

    #[test]
    fn both_alphabets_decode_with_and_without_padding() {
        let bytes: Vec<u8> = (0..=255).collect();
        for length in 0..bytes.len() {
            let want = &bytes[bytes.len() - length..];
            let standard = base64::engine::general_purpose::STANDARD.encode(want);
            let url_safe = base64::engine::general_purpose::URL_SAFE.encode(want);
            for text in [&standard, &url_safe, standard.trim_end_matches('='), url_safe.trim_end_matches('=')]
            {
                assert_eq!(decode_base64(text, &at_most(length)).unwrap(), want, "{text}");
            }
        }
    }

    #[test]
    fn white_space_is_tolerated_anywhere() {
        assert_eq!(decode_base64(" aGVs\r\n bG8\t= \n", &at_most(1000)).unwrap(), b"hello");
    }

    #[test]
    fn the_size_is_refused_before_decoding() {
        // Not base64 at all: only a check of the length can give this error.
        let text = "!".repeat(4000);
        let refused = decode_base64(&text, &at_most(2999)).unwrap_err();
        assert!(matches!(refused, MediaError::TooManyBytes { bytes: 3000, max: 2999, .. }), "{refused}");
        assert_eq!(decode_base64("aGVsbG8=", &at_most(5)).unwrap(), b"hello");
        assert!(matches!(
            decode_base64("aGVsbG8=", &at_most(4)),
            Err(MediaError::TooManyBytes { bytes: 5, .. })
        ));
    }

    #[test]
    fn what_is_not_base64_is_refused() {
        for text in ["a", "a===", "ab*d", "ab-d+fgh", "aGVs=bG8", "ü"] {
            assert!(matches!(decode_base64(text, &at_most(1000)), Err(MediaError::Base64(_))), "{text}");
        }
    }

    #[test]
    fn a_data_url_comes_apart() {
        let url = parse_data_url("data:image/PNG;name=a.png;base64,aGVsbG8", &at_most(1000)).unwrap();
        assert_eq!(url, DataUrl { media_type: "image/png".into(), bytes: b"hello".into() });
        let url = parse_data_url(" DATA:;BASE64,\naGVs", &at_most(1000)).unwrap();
        assert_eq!(url, DataUrl { media_type: "text/plain".into(), bytes: b"hel".into() });
        assert_eq!(parse_data_url("data:;base64,", &at_most(1000)).unwrap().bytes, b"");
        assert_eq!(decode_base64("data:image/png;base64,aGVsbG8", &at_most(1000)).unwrap(), b"hello");
    }

    #[test]
    fn a_url_that_would_have_to_be_fetched_is_called_one() {
        for url in ["https://example.org/cat.png", "file:///etc/passwd", "HTTP://a.example"] {
            assert!(matches!(decode_base64(url, &at_most(1000)), Err(MediaError::Url)), "{url}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        for url in
            ["data:image/png,plain", "data:image/png;base64", "data:base64,aGVs", "data:", "", "dat\u{e4}:"]
        {
            assert!(matches!(parse_data_url(url, &at_most(1000)), Err(MediaError::Base64(_))), "{url}");
            if url.contains(':') {
                assert!(matches!(decode_base64(url, &at_most(1000)), Err(MediaError::Base64(_))), "{url}");
            }
        }
    }
}
