//! The file of options: read, and what is wrong with it said by line and option, without showing the line.

use std::path::{Path, PathBuf};

use crate::config::Options;

/// What the parser calls a number, as Rust types.
const NUMBERS: [&str; 4] = ["usize", "u64", "u32", "i32"];

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// It is no TOML, or holds an unknown key or a bad value; the problem names it.
    #[error("{path}: {problem}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Line, option and what is wrong there.
        problem: String,
    },
}

/// Reads a file of options.
///
/// # Errors
/// [`FileError`] naming file, line and option.
pub fn read(path: &Path) -> Result<Options, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| FileError::Read { path: path.to_path_buf(), source })?;
    parse(&text).map_err(|problem| FileError::Parse { path: path.to_path_buf(), problem })
}

/// Reads the text of a file of options.
///
/// # Errors
/// Line, option and what is wrong there. The parser's own message shows the line, which may hold a secret.
pub fn parse(text: &str) -> Result<Options, String> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let option = line
            .split_once('=')
            .map(|(key, _)| key.trim())
            .filter(|key| crate::config::is_option(key))
            .map_or_else(String::new, |key| format!("`{key}`: "));
        let number = before.matches('\n').count() + 1;
        let said = if SECRET.iter().any(|secret| option.contains(secret)) {
            "expected a text in quotes".to_owned()
        } else {
            in_plain_words(error.message())
        };
        format!("line {number}: {option}{said}")
    })
}

/// Options of whose values nothing is shown; a parser's message shows numbers.
const SECRET: [&str; 2] = ["`api_keys`", "`webhook_secret`"];

fn in_plain_words(message: &str) -> String {
    let (said, expected) = message.split_once("expected ").unwrap_or((message, ""));
    if NUMBERS.contains(&expected) {
        return format!(
            "{said}expected a whole number{}",
            if expected == "i32" { "" } else { " of 0 or more" }
        );
    }
    message.replace("expected a sequence", "expected a list").replace("expected f64", "expected a number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_and_option_are_named_in_words_of_the_file() {
        let refusal = |text: &str| parse(text).unwrap_err();
        assert!(refusal("access_log = \"all\"").ends_with("expected a number"));
        assert_eq!(
            refusal("# first\nmax_items = \"many\""),
            "line 2: `max_items`: invalid type: string \"many\", expected a whole number of 0 or more"
        );
        assert_eq!(
            refusal("max_items = -1"),
            "line 1: `max_items`: invalid value: integer `-1`, expected a whole number of 0 or more"
        );
        assert!(refusal("models = 1").ends_with("expected a list"), "{}", refusal("models = 1"));
        assert!(refusal("\nlistn = \"127.0.0.1:1\"").starts_with("line 2: unknown field `listn`"));
    }

    #[test]
    fn the_fuzz_targets_start_the_service_with_options_that_there_are() {
        let options = include_str!("../fuzz/service.toml");
        crate::config::Config::resolve(parse(options).unwrap()).unwrap();
    }

    #[test]
    fn a_broken_line_is_not_repeated() {
        for text in ["api_keys = \"a:infer:very-secret", "api_keys = [\"a:infer:very-secret\"]"] {
            let refusal = parse(text).unwrap_err();
            assert!(
                refusal.starts_with("line 1: `api_keys`: ") && !refusal.contains("very-secret"),
                "{refusal}"
            );
        }
        let number = parse("webhook_secret = 12345678901").unwrap_err();
        assert_eq!(number, "line 1: `webhook_secret`: expected a text in quotes");
    }
}
