//! Token ids against the Python reference, and the one rule of truncation.

use std::time::Instant;

use headstart_media::{MediaError, Shorter, TextEncoder, Truncate};
use headstart_types::manifest::{PaddingSpec, TextSpec};
use serde_json::Value;

use crate::fixtures::{number, read, text};

const TOKENIZER: &str = "models/all-minilm-l6-v2/tokenizer.json";
const CLS: u32 = 101;
const SEP: u32 = 102;

fn encoder(max_tokens: usize) -> TextEncoder {
    let spec = TextSpec { tokenizer: "tokenizer.json".into(), max_tokens, ..TextSpec::default() };
    TextEncoder::load(&read(TOKENIZER), &spec).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

#[test]
fn ids_equal_the_reference_cut_at_either_end() {
    let golden: Value = serde_json::from_slice(&read("tests/golden/text/all-minilm-l6-v2.json")).unwrap();
    let max = number(&golden, "max_tokens");
    let encoder = encoder(max);
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() > 40);
    for case in cases {
        let whole = text(case, "text").repeat(number(case, "repeat"));
        let truncate = if text(case, "truncate") == "end" { Truncate::End } else { Truncate::Start };
        let encoded = encoder.encode(&whole, None, truncate).unwrap();
        let tokens = number(case, "tokens");
        assert_eq!(encoded.ids, ids(&case["ids"]), "{:?}…", whole.chars().take(60).collect::<String>());
        assert_eq!(encoded.truncated_tokens, tokens.saturating_sub(max));
        assert_eq!(encoded.type_ids, None);
        let strict = encoder.encode(&whole, None, Truncate::None);
        if tokens > max {
            let refused = strict.unwrap_err();
            assert!(matches!(refused, MediaError::TooLong { tokens: t, max: m } if (t, m) == (tokens, max)));
        } else {
            assert_eq!(strict.unwrap(), encoded);
        }
    }
}

#[test]
fn a_text_without_tokens_gives_the_special_tokens_alone() {
    for nothing in ["", "   ", "\n", "\u{0}\u{200B}"] {
        assert_eq!(
            encoder(2 + 1).encode(nothing, None, Truncate::None).unwrap().ids,
            [CLS, SEP],
            "{nothing:?}"
        );
    }
}

#[test]
fn a_prompt_stands_before_the_text_and_is_never_cut() {
    let encoder = encoder(8);
    let whole = |text: &str| encoder.encode(text, None, Truncate::None).unwrap().ids;
    let together = whole("query: cats and dogs");
    assert_eq!(encoder.encode("cats and dogs", Some("query: "), Truncate::End).unwrap().ids, together);
    let long = "cats and dogs and birds";
    let cut = |truncate| encoder.encode(long, Some("query: "), truncate).unwrap();
    assert_eq!(cut(Truncate::Start).ids, whole("query: and dogs and birds"));
    assert_eq!(cut(Truncate::End).ids, whole("query: cats and dogs and"));
    assert_eq!((cut(Truncate::Start).truncated_tokens, cut(Truncate::End).truncated_tokens), (1, 1));
    let refused = encoder.encode(long, Some("query: "), Truncate::None).unwrap_err();
    assert!(matches!(refused, MediaError::TooLong { tokens: 9, max: 8 }), "{refused}");
}

#[test]
fn a_template_keeps_its_words_on_both_sides_of_what_is_cut() {
    let encoder = encoder(8);
    let whole = |text: &str| encoder.encode(text, None, Truncate::None).unwrap().ids;
    let cut = |around, truncate| encoder.encode_within(around, "cats and dogs and birds", truncate);
    let end = cut(("very ", " in general"), Truncate::End).unwrap();
    assert_eq!((end.ids, end.truncated_tokens), (whole("very cats and dogs in general"), 2));
    let start = cut(("very ", " in general"), Truncate::Start).unwrap();
    assert_eq!((start.ids, start.truncated_tokens), (whole("very dogs and birds in general"), 2));
    // A word that the template and the text make together counts as text.
    let merged =
        encoder.encode_within(("foot", ""), "ball and cats and dogs and birds", Truncate::End).unwrap();
    assert_eq!(merged.ids, whole("football and cats and dogs and"));
    let full = cut(("a b c ", " d e f"), Truncate::End).unwrap_err();
    assert!(matches!(full, MediaError::NoRoom { tokens: 8, max: 8 }), "{full}");
}

#[test]
fn a_text_in_pieces_has_the_ids_of_the_whole() {
    // One encoder cuts texts of this size into pieces; its ids are compared with those of parts joined by hand at a
    // line break, where BERT's words end whatever stands around it.
    let encoder = encoder(1 << 20);
    let mut chance = 88_172_645_463_325_252_u64;
    let alphabet = [
        "a",
        "Z",
        "9",
        " ",
        "  ",
        "\n",
        ".",
        ",",
        "[",
        "]",
        "[SEP]",
        "[MASK]",
        "漢",
        "字",
        "の",
        "é",
        "e\u{301}",
        "\u{301}",
        "😀",
        "ß",
        "-",
        "'",
        "\u{0}",
        "\u{C}",
        "\u{AD}",
        "\u{3000}",
        "unbelievable",
        "#",
        "İ",
        "!?",
        "한",
    ];
    for _ in 0..20 {
        let mut lines = Vec::new();
        for _ in 0..12 {
            let mut line = String::new();
            while line.len() < 4000 {
                chance ^= chance << 13;
                chance ^= chance >> 7;
                chance ^= chance << 17;
                let run = if chance >> 40 & 63 == 0 { 300 } else { 1 };
                line.push_str(&alphabet[(chance % alphabet.len() as u64) as usize].repeat(run));
            }
            lines.push(line);
        }
        let content = |text: &str| {
            let ids = encoder.encode(text, None, Truncate::None).unwrap().ids;
            ids[1..ids.len() - 1].to_vec()
        };
        let by_hand: Vec<u32> = lines.iter().flat_map(|line| content(line)).collect();
        assert!(content(&lines.join("\n")) == by_hand);
    }
}

#[test]
fn an_added_token_made_of_punctuation_is_never_cut_in_two() {
    let mut json: Value = serde_json::from_slice(&read(TOKENIZER)).unwrap();
    let token = serde_json::json!({
        "id": 30_522, "content": "<||>", "special": true,
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
    });
    json["added_tokens"].as_array_mut().unwrap().push(token);
    let spec = TextSpec { tokenizer: "tokenizer.json".into(), max_tokens: 1 << 20, ..TextSpec::default() };
    let encoder = TextEncoder::load(&serde_json::to_vec(&json).unwrap(), &spec).unwrap();
    for before in ["", ".", "..", "..."] {
        let text = format!("{before}{}", "<||>".repeat(20_000));
        let ids = encoder.encode(&text, None, Truncate::None).unwrap().ids;
        assert_eq!(ids.iter().filter(|&&id| id == 30_522).count(), 20_000);
        assert_eq!(ids.len(), 20_000 + before.len() + 2);
    }
}

#[test]
fn ids_from_a_client_are_checked_and_cut_as_given() {
    let encoder = encoder(4);
    let encoded = encoder.from_ids(&[7, 8, 9], Truncate::None).unwrap();
    assert_eq!((encoded.ids, encoded.truncated_tokens), (vec![7, 8, 9], 0));
    let encoded = encoder.from_ids(&[1, 2, 3, 4, 5, 6], Truncate::End).unwrap();
    assert_eq!((encoded.ids, encoded.truncated_tokens), (vec![1, 2, 3, 4], 2));
    let encoded = encoder.from_ids(&[1, 2, 3, 4, 5, 6], Truncate::Start).unwrap();
    assert_eq!((encoded.ids, encoded.truncated_tokens), (vec![3, 4, 5, 6], 2));
    let refused = encoder.from_ids(&[1, 2, 3, 4, 5], Truncate::None).unwrap_err();
    assert!(matches!(refused, MediaError::TooLong { tokens: 5, max: 4 }), "{refused}");
    let refused = encoder.from_ids(&[0, 30_521, 30_522, i64::from(u32::MAX)], Truncate::End).unwrap_err();
    assert!(matches!(refused, MediaError::TokenId { index: 2, id: 30_522, vocabulary: 30_522 }), "{refused}");
    for outside in [-1, 1 << 32, 99_999_999_999_999] {
        let refused = encoder.from_ids(&[7, outside], Truncate::End).unwrap_err();
        assert!(matches!(refused, MediaError::TokenId { index: 1, id, .. } if id == outside), "{refused}");
    }
    assert!(matches!(encoder.from_ids(&[], Truncate::End), Err(MediaError::NoTokens)));
}

#[test]
fn a_text_beyond_the_limit_is_refused_before_tokenising() {
    let encoder = encoder(256);
    let text = "a".repeat(10_000_000);
    // The least of several tries: the tests beside this one take their share of the processor.
    let refuse = |_| {
        let started = Instant::now();
        let refused = encoder.encode(&text, None, Truncate::End).unwrap_err();
        let took = started.elapsed();
        assert!(
            matches!(refused, MediaError::TooManyBytes { bytes: 10_000_000, max: 1_048_576, .. }),
            "{refused}"
        );
        took
    };
    let least = (0..5).map(refuse).min().unwrap();
    assert!(least.as_millis() < 10, "{least:?}");
}

#[test]
fn a_tokenizer_that_does_not_fit_its_backbone_is_refused_at_load() {
    let spec =
        |max_tokens| TextSpec { tokenizer: "tokenizer.json".into(), max_tokens, ..TextSpec::default() };
    let json = read(TOKENIZER);
    assert!(matches!(TextEncoder::load(&json, &spec(2)), Err(MediaError::Tokenizer(_))));
    assert!(matches!(TextEncoder::load(b"{}", &spec(256)), Err(MediaError::Tokenizer(_))));
    assert_eq!(TextEncoder::load(&json, &spec(256)).unwrap().vocabulary(), 30_522);
}

/// Merges whose whole is longer than any word of the vocabulary: the library indexes past a buffer of that length.
const MERGED_BEYOND: &str =
    r#"{"version": "1.0", "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}}"#;

/// An added token that takes the white space behind it, and one of white space that takes what stands before it: between
/// them the library cuts a text backwards.
const CUT_BACKWARDS: &str = r#"{"version": "1.0", "added_tokens": [
    {"id": 0, "content": "a", "special": false, "single_word": false, "lstrip": false, "rstrip": true, "normalized": false},
    {"id": 1, "content": " ", "special": false, "single_word": false, "lstrip": true, "rstrip": false, "normalized": false}
], "model": {"type": "WordLevel", "vocab": {"a": 0, " ": 1, "b": 2}, "unk_token": "b"}}"#;

#[test]
fn a_file_or_text_that_the_tokeniser_library_panics_over_is_an_error() {
    let spec = TextSpec { tokenizer: "tokenizer.json".into(), max_tokens: 8, ..TextSpec::default() };
    let refused = TextEncoder::load(MERGED_BEYOND.as_bytes(), &spec).err().unwrap();
    assert!(matches!(refused, MediaError::Tokenizer(_)), "{refused}");

    let encoder = TextEncoder::load(CUT_BACKWARDS.as_bytes(), &spec).unwrap();
    assert_eq!(encoder.encode("a", None, Truncate::End).unwrap().ids, [0]);
    for refused in [encoder.encode("a  b", None, Truncate::End).err(), encoder.content("a  b").err()] {
        let refused = refused.unwrap();
        assert!(matches!(refused, MediaError::Tokenizer(_)), "{refused}");
    }
    // What happened to one text is nothing to the next.
    assert_eq!(encoder.encode("b", None, Truncate::End).unwrap().ids, [2]);
}

#[test]
fn a_pair_stands_between_special_tokens_with_segments_and_each_side_is_cut_as_asked() {
    let spec =
        TextSpec { tokenizer: "tokenizer.json".into(), max_tokens: 11, pairs: true, ..TextSpec::default() };
    let encoder = TextEncoder::load(&read(TOKENIZER), &spec).unwrap();
    let (short, long) = (encoder.content("a b").unwrap(), encoder.content("c d e f g h i j").unwrap());
    let pair =
        |first: &[u32], second: &[u32], shorter, truncate| encoder.pair(first, second, shorter, truncate);

    let whole = pair(&short, &short, Shorter::Longest, Truncate::None).unwrap();
    assert_eq!(whole.ids, [&[CLS], &short[..], &[SEP], &short, &[SEP]].concat());
    assert_eq!(whole.type_ids.unwrap(), [0, 0, 0, 0, 1, 1, 1]);

    let cut = pair(&short, &long, Shorter::Longest, Truncate::End).unwrap();
    assert_eq!(cut.ids, [&[CLS], &short[..], &[SEP], &long[..6], &[SEP]].concat());
    assert_eq!(cut.truncated_tokens, 2);
    let ends = pair(&short, &long, Shorter::Longest, Truncate::Start).unwrap();
    assert_eq!(ends.ids, [&[CLS], &short[..], &[SEP], &long[2..], &[SEP]].concat());
    let first = pair(&long, &short, Shorter::First, Truncate::End).unwrap();
    assert_eq!(first.ids, [&[CLS], &long[..6], &[SEP], &short, &[SEP]].concat());

    let refused = pair(&short, &long, Shorter::Longest, Truncate::None).unwrap_err();
    assert!(matches!(refused, MediaError::TooLong { tokens: 13, max: 11 }));
    let no_room = pair(&short, &long, Shorter::First, Truncate::End).unwrap_err();
    assert!(matches!(no_room, MediaError::NoRoom { tokens: 11, max: 11 }));
}

#[test]
fn texts_of_one_length_are_filled_up_behind_and_the_filling_is_told_apart() {
    let padding = Some(PaddingSpec { length: 6, token: 0 });
    let spec = TextSpec { tokenizer: "tokenizer.json".into(), max_tokens: 6, padding, ..TextSpec::default() };
    let encoder = TextEncoder::load(&read(TOKENIZER), &spec).unwrap();
    let encoded = encoder.encode("a", None, Truncate::End).unwrap();
    assert_eq!((encoded.ids.len(), encoded.padding), (6, 3));
    assert_eq!((encoded.ids[0], encoded.ids[2], encoded.ids[3..].to_vec()), (CLS, SEP, vec![0; 3]));
    assert_eq!(encoder.encode("a b c d e f", None, Truncate::End).unwrap().padding, 0);
}
