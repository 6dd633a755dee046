//! Messages of parsers in the words of JSON: who wrote a body need not know what its reader is written in.

/// Names of Rust, and what JSON has for them.
const NAMES: [(&str, &str); 12] = [
    ("expected usize", "expected a whole number of at least 0"),
    ("expected u64", "expected a whole number of at least 0"),
    ("expected u32", "expected a whole number of at least 0"),
    ("expected u16", "expected a whole number of at least 0"),
    ("expected i64", "expected a whole number"),
    ("expected i32", "expected a whole number"),
    ("expected f32", "expected a number"),
    ("expected f64", "expected a number"),
    ("expected a sequence", "expected a list"),
    ("expected a map", "expected an object"),
    ("invalid type: map", "invalid type: object"),
    ("invalid type: sequence", "invalid type: list"),
];

/// A parser's message with the names of JSON in place of Rust's.
#[must_use]
pub fn in_json(message: &str) -> String {
    NAMES.iter().fold(message.to_owned(), |text, (rust, json)| text.replace(rust, json))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_wrote_a_number_wrong_is_told_what_belongs_there() {
        let said = |error: serde_json::Error| in_json(&error.to_string());
        let whole = "expected a whole number of at least 0";
        assert!(said(serde_json::from_str::<usize>("-1").unwrap_err()).contains(whole));
        assert!(said(serde_json::from_str::<u32>("\"x\"").unwrap_err()).contains(whole));
        assert!(said(serde_json::from_str::<i64>("1.5").unwrap_err()).contains("expected a whole number at"));
        let found = said(serde_json::from_str::<Vec<f64>>("{}").unwrap_err());
        assert!(found.starts_with("invalid type: object, expected a list"), "{found}");
    }
}
