//! How texts are to be split for a table, guessed from its words.

use headstart_types::manifest::{Case, Split, WordForm, WordsSpec};

/// Of a hundred words, so many with `_` between letters make phrases.
const PHRASES_PER_HUNDRED: usize = 1;

/// Longest phrase that is looked up.
const LONGEST_PHRASE: usize = 4;

/// What the words of a table look like.
#[derive(Debug, Default)]
pub(super) struct Traits {
    /// The first words, in order.
    pub(super) first: Vec<String>,
    words: usize,
    small: usize,
    capital: usize,
    phrases: usize,
    longest_phrase: usize,
    marks: usize,
    endings: usize,
    hashes: bool,
}

impl Traits {
    /// Looks at the next word; the first `kept` are remembered.
    pub(super) fn see(&mut self, word: &str, kept: usize) {
        if self.first.len() < kept {
            self.first.push(word.to_owned());
        }
        self.words += 1;
        self.small += usize::from(word.chars().any(char::is_lowercase));
        self.capital += usize::from(word.chars().any(char::is_uppercase));
        let parts = word.split('_').filter(|part| part.chars().any(char::is_alphanumeric)).count();
        if parts > 1 {
            self.phrases += 1;
            self.longest_phrase = self.longest_phrase.max(parts);
        }
        self.marks += usize::from(matches!(word, "." | "," | "?"));
        self.endings += usize::from(matches!(word, "n't" | "'s" | "'re"));
        self.hashes |= word == "##";
    }

    /// How texts are to be split; `tell` gets a sentence for each guess.
    pub(super) fn spec(&self, vectors: &str, mut tell: impl FnMut(&str)) -> WordsSpec {
        let (case, mut otherwise) = match (self.small, self.capital) {
            (0, 1..) => (Case::Upper, Vec::new()),
            (1.., 0) => (Case::Lower, Vec::new()),
            _ => (Case::Keep, vec![WordForm::Lower, WordForm::Title]),
        };
        tell(match case {
            Case::Upper => "its words are all capitals, so texts are read as capitals",
            Case::Lower => "its words are all small letters, so texts are read as small letters",
            Case::Keep => {
                "its words have small letters and capitals; unknown ones are tried as small, then as titles"
            }
        });
        let split = match (self.endings, self.marks) {
            (2.., 2..) => Split::Penn,
            (_, 2..) => Split::Marks,
            _ => Split::Bare,
        };
        tell(match split {
            Split::Penn => "it has marks, `n't` and `'s`, so texts are split as in the Penn Treebank",
            Split::Marks => "it has marks, so marks of texts are words",
            Split::Bare | Split::Space => "it has no marks, so marks of texts are left out",
        });
        if self.hashes {
            otherwise.push(WordForm::Hashes);
            tell("it has `##`, so digits of long numbers are looked up as `#`");
        }
        let phrases = 100 * self.phrases >= PHRASES_PER_HUNDRED * self.words && self.words > 0;
        let phrase_words = if phrases { self.longest_phrase.clamp(1, LONGEST_PHRASE) } else { 1 };
        if phrase_words > 1 {
            tell("it has phrases joined by `_`, which are looked up before their words");
        }
        WordsSpec {
            vectors: vectors.to_owned(),
            split,
            case,
            phrase_words,
            otherwise,
            unknown: None,
            max_words: WordsSpec::MAX_WORDS,
            sif: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guessed(words: &[&str]) -> WordsSpec {
        let mut traits = Traits::default();
        words.iter().for_each(|word| traits.see(word, 2));
        traits.spec("v", |_| ())
    }

    #[test]
    fn the_rule_follows_from_the_words() {
        let glove = guessed(&["the", ",", ".", "'s", "n't", "e_mail", "part-time"]);
        assert_eq!((glove.split, glove.case, glove.otherwise.len()), (Split::Penn, Case::Lower, 0));
        let google = guessed(&["in", "New_York_City", "##", "The"]);
        assert_eq!((google.split, google.case, google.phrase_words), (Split::Bare, Case::Keep, 3));
        assert_eq!(google.otherwise, [WordForm::Lower, WordForm::Title, WordForm::Hashes]);
        let fast_text = guessed(&["the", ",", ".", "The"]);
        assert_eq!((fast_text.split, fast_text.phrase_words), (Split::Marks, 1));
        assert_eq!(guessed(&["THE", "OF"]).case, Case::Upper);
    }
}
