//! What makes two texts the same, or nearly so.

/// The signature of nearness: eight parts, compared part by part.
pub(crate) type Signature = [u32; 8];

/// Letters of a run.
const RUN: usize = 5;
/// Smallest values kept: four for each part of the signature.
const BINS: usize = 32;
/// Texts with fewer runs than this are never near: one letter more would be a quarter of them.
const FEWEST_RUNS: usize = 12;

/// A text in lower case, each run of white space and punctuation one space; of a text that is punctuation alone, the
/// text itself. Symbols that carry meaning stay: `+`, `#`, currency, emoji.
pub(crate) fn normalised(text: &str) -> String {
    let mut normal = String::with_capacity(text.len());
    let mut gap = false;
    for character in text.chars() {
        if character.is_whitespace() || is_punctuation(character) {
            gap = true;
            continue;
        }
        if gap && !normal.is_empty() {
            normal.push(' ');
        }
        gap = false;
        normal.extend(character.to_lowercase());
    }
    if normal.is_empty() { text.trim().to_owned() } else { normal }
}

fn is_punctuation(character: char) -> bool {
    match character {
        '+' | '#' | '$' | '%' | '&' | '@' | '=' | '<' | '>' => false,
        '\u{A1}' | '\u{A7}' | '\u{AB}' | '\u{AD}' | '\u{B6}' | '\u{B7}' | '\u{BB}' | '\u{BF}' => true,
        '\u{2010}'..='\u{2027}'
        | '\u{2030}'..='\u{205E}'
        | '\u{200B}'..='\u{200F}'
        | '\u{3001}'..='\u{3003}' => true,
        '\u{3008}'..='\u{3011}'
        | '\u{FF01}'
        | '\u{FF0C}'
        | '\u{FF0E}'
        | '\u{FF1A}'
        | '\u{FF1B}'
        | '\u{FF1F}' => true,
        other => other.is_ascii_punctuation() || other.is_control(),
    }
}

/// The signature of a normalised text: the smallest hashes of its runs of five letters. The share of equal parts grows
/// with the share of runs that two texts have in common, Jaccard's J: a part is equal with probability of about J⁴.
/// `None` for short texts. Source: one-permutation MinHash with rotation, Li, Owen & Zhang 2012; Shrivastava & Li 2014.
pub(crate) fn signature(normal: &str) -> Option<Signature> {
    let letters: Vec<u32> = normal.chars().map(u32::from).collect();
    if letters.len() < FEWEST_RUNS + RUN - 1 {
        return None;
    }
    let mut bins = [u32::MAX; BINS];
    for run in letters.windows(RUN) {
        let hash = mixed(run.iter().fold(0, |hash: u64, &letter| mixed(hash ^ u64::from(letter))));
        // The bin and the value are different bits.
        let bin = (hash >> 59) as usize;
        if let Some(smallest) = bins.get_mut(bin) {
            *smallest = (*smallest).min((hash as u32) >> 1);
        }
    }
    let filled = filled(&bins);
    let mut signature = Signature::default();
    for (part, values) in signature.iter_mut().zip(filled.chunks_exact(BINS / 8)) {
        *part = mixed(values.iter().fold(0, |hash: u64, &value| mixed(hash ^ u64::from(value)))) as u32;
    }
    Some(signature)
}

/// Empty bins take the next full one's value, moved by the distance, so that two texts agree there only by agreeing
/// on both.
fn filled(bins: &[u32; BINS]) -> [u32; BINS] {
    let mut filled = *bins;
    for (at, slot) in filled.iter_mut().enumerate() {
        for distance in 0..BINS {
            let value = bins.get((at + distance) % BINS).copied().unwrap_or(u32::MAX);
            if value != u32::MAX {
                *slot = value.wrapping_add((distance as u32).wrapping_mul(0x9E37_79B9));
                break;
            }
        }
    }
    filled
}

/// A 64-bit finaliser: every input bit moves every output bit. Source: Steele et al. 2014, SplitMix64.
fn mixed(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_spaces_and_punctuation_do_not_tell_texts_apart_but_signs_do() {
        assert_eq!(normalised("  What's a  \"TEST\" ?\n"), "what s a test");
        assert_eq!(normalised("ÄRGER…"), "ärger");
        assert_ne!(normalised("C"), normalised("C++"));
        assert_ne!(normalised("good 😀"), normalised("good 😡"));
        assert_ne!(normalised(":)"), normalised(":("));
    }

    /// Two texts of words drawn by a fixed rule; one word in `every` differs.
    fn pair(seed: u64, every: u64) -> (String, String) {
        let word = |n: u64| format!("w{:x}", mixed(n) % 0xFFFF);
        let one: Vec<String> = (0..40).map(|n| word(seed * 1000 + n)).collect();
        let other: Vec<String> = (0..40)
            .map(|n| if n % every == 1 { word(seed * 1000 + n + 500) } else { word(seed * 1000 + n) })
            .collect();
        (one.join(" "), other.join(" "))
    }

    fn share(one: &str, other: &str) -> f64 {
        let runs = |text: &str| -> std::collections::BTreeSet<String> {
            let letters: Vec<char> = text.chars().collect();
            letters.windows(RUN).map(|run| run.iter().collect()).collect()
        };
        let (one, other) = (runs(one), runs(other));
        one.intersection(&other).count() as f64 / one.union(&other).count() as f64
    }

    fn equal_parts(one: &str, other: &str) -> usize {
        let (one, other) = (signature(one).unwrap(), signature(other).unwrap());
        one.iter().zip(&other).filter(|(a, b)| a == b).count()
    }

    #[test]
    fn parts_agree_as_often_as_the_share_of_common_runs_says() {
        for every in [40, 20, 10, 5, 3] {
            let (mut found, mut expected) = (0.0, 0.0);
            for seed in 0..200 {
                let (one, other) = pair(seed, every);
                found += equal_parts(&one, &other) as f64 / 8.0 / 200.0;
                expected += share(&one, &other).powi(4) / 200.0;
            }
            assert!((found - expected).abs() < 0.06, "one in {every}: {found} against {expected}");
        }
    }

    #[test]
    fn short_texts_have_no_signature() {
        assert_eq!(signature("yes"), None);
        assert!(signature("where is my new card please").is_some());
    }
}
