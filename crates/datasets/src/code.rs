//! Every kind of finding: its name, whether it makes a file unusable, and what it means.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a finding does to its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// The file cannot be trained on as it is.
    Problem,
    /// The file can be trained on; the reader should know.
    Warning,
}

macro_rules! codes {
    ($($name:ident, $text:literal, $severity:ident, $meaning:literal;)*) => {
        /// A kind of finding. The text form is stable: clients switch on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        // The same as the table's texts; the schema cannot read those through the macro.
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $(#[doc = $meaning] $name,)*
        }

        /// Every code, in the order of the table.
        pub static CODES: &[Code] = &[$(Code::$name,)*];

        impl Code {
            /// The name in answers.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Whether it makes the file unusable.
            #[must_use]
            pub fn severity(self) -> Severity {
                match self { $(Self::$name => Severity::$severity,)* }
            }

            /// Whether it is about what can be learned from all rows together: each row for itself is right.
            #[must_use]
            pub fn concerns_learning(self) -> bool {
                matches!(self, Self::NoTrainingRows | Self::OneClass | Self::FewExamples | Self::ClassNotInTrain)
            }

            /// Whether it is about a file of an archive that is no example, and stays unread.
            #[must_use]
            pub(crate) fn is_unread(self) -> bool {
                matches!(self, Self::IgnoredFile | Self::NestedArchive)
            }

            /// What it means, as a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

codes! {
    // The file as a whole.
    EmptyFile, "empty_file", Problem, "The file has no bytes, or no examples.";
    UnknownFormat, "unknown_format", Problem, "The file is in none of the formats that are read.";
    UnsupportedCompression, "unsupported_compression", Problem, "The file, an entry or a column is compressed by a method that is not read.";
    DamagedFile, "damaged_file", Problem, "The container is cut short or contradicts itself; what follows cannot be read.";
    MissingColumn, "missing_column", Problem, "A column that is needed is not there.";
    DuplicateColumn, "duplicate_column", Problem, "A column that is read exists twice.";
    TooManyExamples, "too_many_examples", Problem, "There are more examples than are taken.";
    TooManyClasses, "too_many_classes", Problem, "There are more classes than are taken.";
    TooLarge, "too_large", Problem, "Unpacked, the file has more bytes than are taken.";
    SuspiciousRatio, "suspicious_ratio", Problem, "The file or an entry unpacks to far more bytes than data do.";
    // One row.
    WrongEncoding, "wrong_encoding", Problem, "The text is not UTF-8.";
    NotJson, "not_json", Problem, "The line is not one JSON object.";
    ChatFormat, "chat_format", Problem, "The line is in the format of chat or completion models, which has no labels.";
    LineTooLong, "line_too_long", Problem, "The line or record has more bytes than are taken.";
    RowLength, "row_length", Problem, "The row has more or fewer cells than the header.";
    UnclosedQuote, "unclosed_quote", Problem, "A quote is opened and not closed: all that follows is one cell.";
    NoContent, "no_content", Problem, "The row has neither text, image nor sound.";
    BadContent, "bad_content", Problem, "The row's text, image or sound is of a wrong type, or it has two of them.";
    EmptyText, "empty_text", Problem, "The text is empty or white space.";
    TextTooLong, "text_too_long", Problem, "The text has more bytes than are taken.";
    UndecodableMedia, "undecodable_media", Problem, "The picture or sound is damaged, cut short or not base64.";
    UnsupportedMedia, "unsupported_media", Problem, "The bytes are no format of pictures or sounds that is decoded, nor a text file.";
    MediaTooLarge, "media_too_large", Problem, "The picture or sound has more pixels, seconds or bytes than are taken.";
    NoLabel, "no_label", Problem, "The row has no label.";
    EmptyLabel, "empty_label", Problem, "A label is empty or white space.";
    BadLabel, "bad_label", Problem, "A label is of a wrong type, too long, given twice, or one of too many.";
    BadField, "bad_field", Problem, "A group, split or id is of a wrong type or too long.";
    UnknownSplit, "unknown_split", Problem, "The split is none of train, val, test.";
    // One archive entry.
    UnsafePath, "unsafe_path", Problem, "The entry's path is absolute, has `..` in it, or is no portable path.";
    LinkEntry, "link_entry", Problem, "The entry is a link, a device or another special file.";
    EncryptedEntry, "encrypted_entry", Problem, "The entry is encrypted.";
    EntryTooLarge, "entry_too_large", Problem, "The entry has more bytes than are taken.";
    TooManyEntries, "too_many_entries", Problem, "The archive has more entries than are taken.";
    MixedDepth, "mixed_depth", Problem, "The file lies deeper or less deep in folders than the others.";
    DuplicatePath, "duplicate_path", Problem, "Two entries of the archive have the same path.";
    // The rows together.
    MixedModalities, "mixed_modalities", Problem, "The row is of another modality than most.";
    MixedLabels, "mixed_labels", Problem, "The row has one label where most have a list, or the other way round.";
    PartialSplit, "partial_split", Problem, "Some rows name a split and this one does not.";
    NoTrainingRows, "no_training_rows", Problem, "No row is left to train on.";
    OneClass, "one_class", Problem, "All rows have the same label.";
    FewExamples, "few_examples", Problem, "A class has too few examples to train on.";
    ClassNotInTrain, "class_not_in_train", Problem, "A class has validation or test rows only, so it cannot be learned.";
    // What should be known.
    DuplicateAcrossSplits, "duplicate_across_splits", Warning, "A validation or test row is also a training row.";
    NearDuplicateAcrossSplits, "near_duplicate_across_splits", Warning, "A validation or test row is nearly a training row.";
    DuplicateRow, "duplicate_row", Warning, "The same content was met before in the same split.";
    LabelConflict, "label_conflict", Warning, "The same content has different labels in two places.";
    ConflictingIds, "conflicting_ids", Warning, "An id was met before, with other content or labels.";
    GroupAcrossSplits, "group_across_splits", Warning, "A group has rows both in train and in validation or test.";
    ClassInOneGroup, "class_in_one_group", Warning, "All rows of a class to learn from are of one group, which is then never held out.";
    IgnoredColumn, "ignored_column", Warning, "A column is not read.";
    IgnoredFile, "ignored_file", Warning, "A file beside the class folders is not read.";
    NestedArchive, "nested_archive", Warning, "An archive inside the archive is not read.";
    FoldersAsGroups, "folders_as_groups", Warning, "Folders above the class folders are taken as groups.";
}

impl std::fmt::Display for Code {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_that_survives_json() {
        let mut names = std::collections::BTreeSet::new();
        for &code in CODES {
            assert!(names.insert(code.as_str()), "{code} is there twice");
            assert!(code.meaning().ends_with('.'), "{code}");
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<Code>(&json).unwrap(), code);
        }
    }

    #[test]
    fn what_official_data_sets_have_does_not_make_a_file_unusable() {
        for code in [Code::DuplicateAcrossSplits, Code::NearDuplicateAcrossSplits, Code::LabelConflict] {
            assert_eq!(code.severity(), Severity::Warning, "{code}");
        }
    }
}
