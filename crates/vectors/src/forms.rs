//! A word to its row, as it stands and in the forms that a manifest allows.

use headstart_types::manifest::WordForm;

use crate::index::Index;

/// The row of a word as it stands, else of its first form that the table has.
pub(crate) fn row(index: &Index, forms: &[WordForm], word: &str) -> Option<u32> {
    // Nothing longer than this is in the table in any form: letters change length by a few bytes at most.
    const SLACK: usize = 3;
    index.row(word).or_else(|| {
        if word.len() > SLACK * index.longest {
            return None;
        }
        forms.iter().find_map(|form| written(*form, word).and_then(|written| index.row(&written)))
    })
}

/// A word in another form; nothing where that changes nothing.
fn written(form: WordForm, word: &str) -> Option<String> {
    let written = match form {
        WordForm::Lower => word.to_lowercase(),
        WordForm::Upper => word.to_uppercase(),
        WordForm::Title => {
            let mut characters = word.chars();
            let first = characters.next()?;
            first.to_uppercase().chain(characters.as_str().to_lowercase().chars()).collect()
        }
        WordForm::Hashes => {
            if word.bytes().filter(u8::is_ascii_digit).count() < 2 {
                return None;
            }
            word.replace(|character: char| character.is_ascii_digit(), "#")
        }
    };
    (written != word).then_some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_change_letters_and_long_numbers() {
        assert_eq!(written(WordForm::Lower, "ÉTÉ").as_deref(), Some("été"));
        assert_eq!(written(WordForm::Title, "iPHONE").as_deref(), Some("Iphone"));
        assert_eq!(written(WordForm::Upper, "aids").as_deref(), Some("AIDS"));
        assert_eq!(written(WordForm::Hashes, "12.5").as_deref(), Some("##.#"));
        assert_eq!(written(WordForm::Hashes, "7"), None);
        assert_eq!(written(WordForm::Lower, "small"), None);
    }
}
