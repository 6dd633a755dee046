//! What a classifier may be called, whoever names it: a request, a job or somebody at the terminal.

use headstart_tasks::Catalog;

/// Longest name in characters.
pub(crate) const LONGEST: usize = 64;

/// The name that a text gives: small letters, digits, `-` and `_`; other characters become `-`.
///
/// # Errors
/// What is wrong with the text, to be put behind the name of its field.
pub(crate) fn of(text: &str, backbones: &Catalog) -> Result<String, String> {
    if text.chars().count() > LONGEST {
        return Err(format!("has more than {LONGEST} characters"));
    }
    let name = sanitised(text);
    if name.is_empty() {
        return Err("has no letter or digit from a to z and 0 to 9".to_owned());
    }
    if backbones.entry(&name).is_some() {
        return Err("is the name of a backbone".to_owned());
    }
    Ok(name)
}

/// Small letters, digits, `-` and `_`; whatever else stands between them becomes one `-`.
pub(crate) fn sanitised(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars().map(|character| character.to_ascii_lowercase()) {
        if character.is_ascii_alphanumeric() || character == '_' {
            name.push(character);
        } else if !name.ends_with('-') {
            name.push('-');
        }
    }
    name.trim_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_what_a_url_can_hold() {
        assert_eq!(sanitised("Support  Café / Tickets_2!"), "support-caf-tickets_2");
        assert_eq!(sanitised("é"), "");
        let of = |text: &str| of(text, &Catalog::default());
        assert_eq!(of("my_clf").unwrap(), "my_clf");
        assert!(of("é").is_err() && of(&"a".repeat(65)).is_err());
    }
}
