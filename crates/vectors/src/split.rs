//! Texts to words, by white space, by marks, and by what the table has.
//!
//! The rule, for a piece between white space:
//! 1. A piece that the table has is a word: `u.s.`, `part-time`, `1,000`, `...`. One exception: a full stop at the end of
//!    the whole text is a word of its own unless another stands before it in the piece, so that `no.` there is not
//!    taken for the abbreviation.
//! 2. Marks in front are cut off until the table has what is left, then marks behind. The same mark several times in
//!    a row is one word where the table has it so.
//! 3. Penn alone: an ending such as `n't` or `'s` is cut off.
//! 4. What is left is cut at its marks, from the front, until the table has the rest.
//!
//! A mark is a character that is neither a letter, a digit nor a combining accent. A typographic apostrophe between two
//! letters counts as `'`.

use std::borrow::Cow;

use headstart_types::manifest::Split;

/// Endings that are words in the Penn Treebank.
const ENDINGS: [&str; 7] = ["n't", "'s", "'m", "'d", "'re", "'ve", "'ll"];

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'t> {
    /// A word, with its row where the table has it.
    Word(&'t str, Option<u32>),
    /// Marks that are no words: no phrase goes over them.
    Gap,
}

/// Cuts a text; `row` looks a word up.
pub(crate) fn split<'t>(
    text: &'t str,
    rule: Split,
    row: impl Fn(&str) -> Option<u32>,
    emit: impl FnMut(Piece<'t>),
) {
    let mut cutter = Cutter { rule, row, emit };
    let mut pieces = text.split_whitespace().peekable();
    while let Some(piece) = pieces.next() {
        cutter.piece(piece, pieces.peek().is_none());
    }
}

/// The text with typographic apostrophes inside words as `'`.
pub(crate) fn plain_apostrophes(text: &str) -> Cow<'_, str> {
    const APOSTROPHE: char = '\u{2019}';
    if !text.contains(APOSTROPHE) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        let inside = before.is_alphanumeric() && characters.peek().is_some_and(|next| next.is_alphanumeric());
        plain.push(if character == APOSTROPHE && inside { '\'' } else { character });
        before = character;
    }
    Cow::Owned(plain)
}

fn is_mark(character: char) -> bool {
    !character.is_alphanumeric() && !('\u{300}'..='\u{36f}').contains(&character)
}

/// Length in bytes of the same mark several times at the start; 0 where none stands.
fn leading_run(text: &str) -> usize {
    let Some(first) = text.chars().next().filter(|first| is_mark(*first)) else { return 0 };
    text.len() - text.trim_start_matches(first).len()
}

struct Cutter<R, E> {
    rule: Split,
    row: R,
    emit: E,
}

impl<'t, R: Fn(&str) -> Option<u32>, E: FnMut(Piece<'t>)> Cutter<R, E> {
    fn piece(&mut self, piece: &'t str, last: bool) {
        let before_stop = piece.strip_suffix('.').unwrap_or_default();
        let stop = last && !before_stop.is_empty() && !before_stop.contains('.');
        if self.rule == Split::Space {
            self.word(piece);
        } else if stop || !self.known(piece) {
            self.marks_around(piece);
        }
    }

    /// Emits a word that the table has.
    fn known(&mut self, word: &'t str) -> bool {
        let row = (self.row)(word);
        if row.is_some() {
            (self.emit)(Piece::Word(word, row));
        }
        row.is_some()
    }

    fn word(&mut self, word: &'t str) {
        let row = (self.row)(word);
        (self.emit)(Piece::Word(word, row));
    }

    fn marks_around(&mut self, piece: &'t str) {
        let mut rest = piece;
        loop {
            let run = leading_run(rest);
            if run == 0 {
                break;
            }
            self.run(&rest[..run]);
            rest = &rest[run..];
            if rest.is_empty() || self.known(rest) {
                return;
            }
        }
        let mut body = rest;
        let mut known = false;
        while let Some(mark) = body.chars().next_back().filter(|last| is_mark(*last)) {
            body = &body[..body.len() - mark.len_utf8()];
            known = self.known(body);
            if known {
                break;
            }
        }
        if !known {
            self.body(body);
        }
        self.marks(&rest[body.len()..]);
    }

    /// A piece that neither begins nor ends with a mark, and that the table does not have.
    fn body(&mut self, body: &'t str) {
        if self.rule == Split::Penn
            && let Some((stem, ending)) = stem_and_ending(body)
        {
            if !self.known(stem) {
                self.at_marks(stem);
            }
            self.word(ending);
            return;
        }
        self.at_marks(body);
    }

    fn at_marks(&mut self, body: &'t str) {
        let mut rest = body;
        while let Some(at) = rest.find(is_mark) {
            self.word(&rest[..at]);
            rest = &rest[at..];
            let run = leading_run(rest);
            self.run(&rest[..run]);
            rest = &rest[run..];
            // Another mark may follow at once: `a-(b)`.
            while leading_run(rest) > 0 {
                let run = leading_run(rest);
                self.run(&rest[..run]);
                rest = &rest[run..];
            }
            if rest.is_empty() || self.known(rest) {
                return;
            }
        }
        self.word(rest);
    }

    fn marks(&mut self, marks: &'t str) {
        let mut rest = marks;
        while !rest.is_empty() {
            let run = leading_run(rest).max(1);
            self.run(&rest[..run]);
            rest = &rest[run..];
        }
    }

    /// The same mark, once or several times.
    fn run(&mut self, run: &'t str) {
        if self.rule == Split::Bare {
            (self.emit)(Piece::Gap);
        } else if !self.known(run) {
            let Some(mark) = run.chars().next() else { return };
            let length = mark.len_utf8();
            if run.len() == length {
                (self.emit)(Piece::Word(run, None));
                return;
            }
            for start in (0..run.len()).step_by(length) {
                self.word(&run[start..start + length]);
            }
        }
    }
}

fn stem_and_ending(word: &str) -> Option<(&str, &str)> {
    ENDINGS.into_iter().find_map(|ending| {
        let at = word.len().checked_sub(ending.len()).filter(|at| *at > 0 && word.is_char_boundary(*at))?;
        let (stem, found) = word.split_at(at);
        let stem_ends = stem.chars().next_back().is_some_and(|last| !is_mark(last));
        (stem_ends && found.eq_ignore_ascii_case(ending)).then_some((stem, found))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn words(text: &str, rule: Split, known: &[&str]) -> Vec<String> {
        let known: BTreeSet<&str> = known.iter().copied().collect();
        let mut words = Vec::new();
        let row = |word: &str| known.contains(word).then_some(0);
        split(text, rule, row, |piece| {
            words.push(match piece {
                Piece::Word(word, Some(_)) => word.to_owned(),
                Piece::Word(word, None) => format!("?{word}"),
                Piece::Gap => "|".to_owned(),
            });
        });
        words
    }

    #[test]
    fn a_piece_that_the_table_has_stays_whole() {
        let known = ["u.s.", "part-time", "...", "(", ")", ",", "work"];
        assert_eq!(
            words("(u.s.), part-time... work", Split::Penn, &known),
            ["(", "u.s.", ")", ",", "part-time", "...", "work"]
        );
    }

    #[test]
    fn the_full_stop_at_the_end_is_a_word_unless_another_stands_before_it() {
        let known = ["no.", "no", ".", "u.s.", "the"];
        assert_eq!(words("no. the no.", Split::Penn, &known), ["no.", "the", "no", "."]);
        assert_eq!(words("the u.s.", Split::Penn, &known), ["the", "u.s."]);
        assert_eq!(words(".", Split::Penn, &known), ["."]);
    }

    #[test]
    fn endings_are_words_in_penn_alone() {
        let known = ["do", "n't", "it", "'s", "'", "s", "don", "t"];
        assert_eq!(words("don't it's", Split::Penn, &known), ["do", "n't", "it", "'s"]);
        assert_eq!(words("don't it's", Split::Marks, &known), ["don", "'", "t", "it", "'", "s"]);
        assert_eq!(words("don't it's", Split::Bare, &known), ["don", "|", "t", "it", "|", "s"]);
        assert_eq!(words("don't it's", Split::Space, &known), ["?don't", "?it's"]);
    }

    #[test]
    fn a_run_of_a_mark_is_one_word_where_the_table_has_it() {
        assert_eq!(words("a!!!", Split::Marks, &["a", "!"]), ["a", "!", "!", "!"]);
        assert_eq!(words("a...b", Split::Marks, &["a", "b", "..."]), ["a", "...", "b"]);
        assert_eq!(words("««a—(b", Split::Marks, &["a", "b"]), ["?«", "?«", "a", "?—", "?(", "b"]);
    }

    #[test]
    fn a_typographic_apostrophe_inside_a_word_is_plain() {
        assert_eq!(plain_apostrophes("don’t say ‘no’ — it’s"), "don't say ‘no’ — it's");
        assert!(matches!(plain_apostrophes("don't"), Cow::Borrowed(_)));
    }

    #[test]
    fn cutting_long_pieces_takes_time_in_proportion() {
        for text in ["-a".repeat(200_000), "!".repeat(200_000), "a".repeat(200_000), "'s".repeat(100_000)] {
            let mut count = 0;
            split(&text, Split::Penn, |word| (word.len() == 1).then_some(0), |_| count += 1);
            assert!(count > 0);
        }
    }
}
