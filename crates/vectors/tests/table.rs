//! Tables made, opened and asked, beside gensim's, scikit-learn's and numpy's numbers (`tools/golden/words.py`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use headstart_types::manifest::{Case, SifSpec, Split, WordForm, WordsSpec};
use headstart_types::{Manifest, Truncate};
use headstart_vectors::{Added, Builder, Index, InputError, Precision, Table, TableError, Words, sif};
use serde::Deserialize;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/words");

#[derive(Deserialize)]
struct Golden {
    smoothing: f64,
    fitted_on: Vec<String>,
    cases: Vec<GoldenCase>,
}

#[derive(Deserialize)]
struct GoldenCase {
    text: String,
    words: Vec<String>,
    unknown: usize,
    mean: Vec<f64>,
    sif_of_texts: Vec<f64>,
    sif_expected: Vec<f64>,
}

fn golden() -> Golden {
    serde_json::from_slice(&fs::read(Path::new(GOLDEN).join("cases.json")).unwrap()).unwrap()
}

fn spec() -> WordsSpec {
    WordsSpec {
        vectors: "words.vectors".into(),
        split: Split::Penn,
        case: Case::Lower,
        phrase_words: 1,
        otherwise: Vec::new(),
        unknown: None,
        max_words: 100,
        sif: None,
    }
}

/// The golden table's words in their order, and a folder with its vectors.
struct Folder {
    root: tempfile::TempDir,
    words: Vec<String>,
}

impl Folder {
    fn vectors(&self) -> PathBuf {
        self.root.path().join("words.vectors")
    }

    fn table(&self, index: Index, spec: WordsSpec) -> Table {
        Table::of(index, &self.vectors(), spec, false).unwrap()
    }
}

fn golden_table(precision: Precision) -> (Folder, Index) {
    let root = tempfile::tempdir().unwrap();
    let mut builder = None;
    let mut words = Vec::new();
    for line in fs::read_to_string(Path::new(GOLDEN).join("table.txt")).unwrap().lines() {
        let (word, values) = line.split_once(' ').unwrap();
        let values: Vec<f32> = values.split(' ').map(|value| value.parse().unwrap()).collect();
        let builder = builder.get_or_insert_with(|| {
            Builder::create(&root.path().join("words.vectors"), values.len(), precision).unwrap()
        });
        assert_eq!(builder.push(word, &values).unwrap(), Added::Row(words.len() as u32));
        words.push(word.to_owned());
    }
    let index = builder.unwrap().finish().unwrap();
    (Folder { root, words }, index)
}

/// A table of words alone, each with the vector [row].
fn table_of(words: &[&str], spec: WordsSpec) -> (tempfile::TempDir, Table) {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("words.vectors");
    let mut builder = Builder::create(&path, 1, Precision::F32).unwrap();
    for (row, word) in words.iter().enumerate() {
        builder.push(word, &[row as f32]).unwrap();
    }
    let table = Table::of(builder.finish().unwrap(), &path, spec, false).unwrap();
    (root, table)
}

fn rows(table: &Table, text: &str) -> Vec<u32> {
    table.read(text, Truncate::End).unwrap().rows
}

#[track_caller]
fn assert_near(found: &[f32], expected: &[f64], within: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((f64::from(*found) - expected).abs() < within, "{found} is not {expected}");
    }
}

#[test]
fn words_and_means_are_the_references() {
    let (folder, index) = golden_table(Precision::F32);
    let table = folder.table(index, spec());
    for case in golden().cases {
        let words = table.read(&case.text, Truncate::None).unwrap();
        let known = case.words.iter().filter_map(|word| folder.words.iter().position(|known| known == word));
        let known: Vec<u32> = known.map(|row| row as u32).collect();
        assert_eq!(words.rows, known, "{}", case.text);
        assert_eq!((words.count, words.unknown), (case.words.len(), case.unknown), "{}", case.text);
        assert_near(&table.embed(&words.rows).unwrap(), &case.mean, 1e-6);
    }
}

#[test]
fn sif_is_the_references_with_either_component() {
    let Golden { smoothing, fitted_on, cases } = golden();
    let weighted = WordsSpec { sif: Some(SifSpec { smoothing }), ..spec() };
    let component = |fit: &dyn Fn(&Table) -> Option<Vec<f32>>| {
        let (folder, index) = golden_table(Precision::F32);
        let probabilities = sif::zipf(index.rows());
        let table =
            folder.table(index.with_sif(probabilities.clone(), Vec::new()).unwrap(), weighted.clone());
        let component = fit(&table).unwrap();
        let index = table.into_index().with_sif(probabilities, component).unwrap();
        (folder.table(index, weighted.clone()), folder)
    };
    let texts = |table: &Table| sif::component_of(table, fitted_on.iter().map(String::as_str)).unwrap();
    let (of_texts, _folder) = component(&texts);
    let (expected, _folder) = component(&|table| sif::expected_component(table, smoothing).unwrap());
    for case in cases {
        let words = of_texts.read(&case.text, Truncate::None).unwrap();
        assert_near(&of_texts.embed(&words.rows).unwrap(), &case.sif_of_texts, 2e-6);
        assert_near(&expected.embed(&words.rows).unwrap(), &case.sif_expected, 2e-6);
    }
}

#[test]
fn half_precision_changes_means_by_its_rounding() {
    let (folder, index) = golden_table(Precision::F16);
    assert_eq!(fs::metadata(folder.vectors()).unwrap().len(), 192 * 12 * 2);
    let table = folder.table(index, spec());
    for case in golden().cases {
        let words = table.read(&case.text, Truncate::None).unwrap();
        assert_near(&table.embed(&words.rows).unwrap(), &case.mean, 4e-3);
    }
}

#[test]
fn probabilities_follow_counts_or_rank() {
    assert_eq!(sif::from_counts(&[3, 1, 0]), [0.75, 0.25, 0.0]);
    assert_eq!(sif::from_counts(&[0]), [0.0]);
    assert_near(&sif::zipf(3), &[6.0 / 11.0, 3.0 / 11.0, 2.0 / 11.0], 1e-7);
}

#[test]
fn a_text_without_known_words_is_zero_and_counted() {
    let (folder, index) = golden_table(Precision::F32);
    let table = Table::of(index, &folder.vectors(), spec(), true).unwrap();
    let words = table.read("zzz yyy", Truncate::End).unwrap();
    assert_eq!(words, Words { rows: Vec::new(), count: 2, unknown: 2, truncated: 0 });
    assert!(table.embed(&words.rows).unwrap().iter().all(|value| *value == 0.0));
    let known = table.embed(&table.read("the cats", Truncate::End).unwrap().rows).unwrap();
    assert!((known.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn a_word_can_stand_for_unknown_ones() {
    let unknown = |word: &str| WordsSpec { unknown: Some(word.into()), ..spec() };
    let (_root, table) = table_of(&["a", "unk"], unknown("unk"));
    let words = table.read("a b c", Truncate::End).unwrap();
    assert_eq!((words.rows.as_slice(), words.unknown), (&[0, 1, 1][..], 2));
    let (root, index) = golden_table(Precision::F32);
    let error = Table::of(index, &root.vectors(), unknown("<unk>"), false).err().unwrap();
    assert!(error.to_string().contains("words.unknown"), "{error}");
}

#[test]
fn word2vec_words_are_found_as_phrases_and_in_other_forms() {
    let bare = WordsSpec {
        split: Split::Bare,
        case: Case::Keep,
        phrase_words: 3,
        otherwise: vec![WordForm::Lower, WordForm::Title, WordForm::Hashes],
        ..spec()
    };
    let words = ["New_York", "New", "York", "in", "New_York_City", "####", "dog", "Paris", "City"];
    let (_root, table) = table_of(&words, bare);
    assert_eq!(rows(&table, "New York City in 1999"), [4, 3, 5]);
    assert_eq!(rows(&table, "New York, City"), [0, 8]);
    assert_eq!(rows(&table, "New (York) DOG paris"), [1, 2, 6, 7]);
}

#[test]
fn capitals_are_what_some_tables_have() {
    let (_root, table) = table_of(&["THE", "CAT"], WordsSpec { case: Case::Upper, ..spec() });
    assert_eq!(rows(&table, "the Cat"), [0, 1]);
}

#[test]
fn what_is_too_long_is_cut_where_the_caller_says() {
    let (_root, table) = table_of(&["a", "b", "c"], WordsSpec { max_words: 2, ..spec() });
    let read = |truncate| table.read("a zzz c", truncate);
    assert_eq!(read(Truncate::None), Err(InputError::TooLong { words: 3, max: 2 }));
    assert_eq!(read(Truncate::End), Ok(Words { rows: vec![0], count: 2, unknown: 1, truncated: 1 }));
    assert_eq!(read(Truncate::Start), Ok(Words { rows: vec![2], count: 2, unknown: 1, truncated: 1 }));
}

#[test]
fn rows_given_by_the_caller_are_checked() {
    let (_root, table) = table_of(&["a", "b", "c"], spec());
    assert_eq!(table.from_rows(&[2, 0], Truncate::End).unwrap().rows, [2, 0]);
    assert_eq!(table.from_rows(&[], Truncate::End), Err(InputError::Empty));
    for id in [3, -1, i64::MAX] {
        assert_eq!(table.from_rows(&[0, id], Truncate::End), Err(InputError::Row { index: 1, id, rows: 3 }));
    }
}

#[test]
fn a_repeated_word_keeps_its_first_vector_and_bad_vectors_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut builder = Builder::create(&root.path().join("v"), 1, Precision::F16).unwrap();
    assert_eq!(builder.push("a", &[1.0]).unwrap(), Added::Row(0));
    assert_eq!(builder.push("a", &[2.0]).unwrap(), Added::Repeated);
    for vector in [&[1.0, 2.0][..], &[], &[f32::NAN], &[1e6]] {
        let error = builder.push("b", vector).unwrap_err();
        assert!(matches!(error, TableError::Vector { ref word, .. } if word == "b"), "{error}");
    }
    assert_eq!(builder.finish().unwrap().rows(), 1);
    assert!(Builder::create(&root.path().join("v"), 1, Precision::F16).is_err(), "a file was overwritten");
}

/// A folder with the golden table and its manifest.
fn written() -> (Folder, Manifest) {
    let (folder, index) = golden_table(Precision::F32);
    let (bytes, sha256) = index.to_bytes();
    fs::write(folder.root.path().join("words.index"), bytes).unwrap();
    let manifest = format!(
        "version = 1\n[backbone]\nid = \"w\"\nmodality = \"text\"\nfile = \"words.index\"\nsha256 = \"{sha256}\"\n\
         licence = \"PDDL-1.0\"\nsource_task = \"words beside words\"\n[words]\nvectors = \"words.vectors\"\n\
         split = \"penn\"\ncase = \"lower\"\n[output.features]\npooling = \"mean\"\nnormalise = true\ndimension = 12\n"
    );
    (folder, Manifest::parse(&manifest).unwrap())
}

fn opened(folder: &Folder, manifest: &Manifest) -> Result<Table, TableError> {
    Table::open(folder.root.path(), manifest)
}

#[test]
fn an_index_comes_back_from_its_bytes() {
    let (folder, manifest) = written();
    let table = opened(&folder, &manifest).unwrap();
    assert_eq!((table.dimension(), table.index().rows()), (12, 192));
    assert_eq!(
        table.index().row("part-time"),
        folder.words.iter().position(|w| w == "part-time").map(|r| r as u32)
    );
    assert_eq!(table.index().row("nothing"), None);
    assert_eq!(table.index().to_bytes().1, manifest.backbone.sha256);
}

#[test]
fn a_changed_index_is_refused_by_its_checksum_and_a_contradicting_one_by_its_problem() {
    let (folder, mut manifest) = written();
    let path = folder.root.path().join("words.index");
    let whole = fs::read(&path).unwrap();
    for at in [0, 9, 40, 60, whole.len() - 1] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert!(matches!(opened(&folder, &manifest), Err(TableError::Checksum { .. })));
    }
    fs::write(&path, &whole).unwrap();
    manifest.output.features.as_mut().unwrap().dimension = 11;
    let error = opened(&folder, &manifest).err().unwrap().to_string();
    assert!(error.contains("output.features.dimension"), "{error}");
}

#[test]
fn vectors_of_another_length_are_refused_when_opened() {
    let (folder, manifest) = written();
    fs::set_permissions(folder.vectors(), Permissions::from_mode(0o644)).unwrap();
    let file = fs::OpenOptions::new().write(true).open(folder.vectors()).unwrap();
    file.set_len(100).unwrap();
    let error = opened(&folder, &manifest).err().unwrap().to_string();
    assert!(error.contains("has 100 bytes, 9216 were expected"), "{error}");
}

#[test]
fn a_damaged_block_is_refused_when_it_is_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("words.vectors");
    // Three blocks; rows of 48 bytes go over their edges.
    let mut builder = Builder::create(&path, 12, Precision::F32).unwrap();
    for row in 0..3000 {
        builder.push(&format!("w{row}"), &[row as f32; 12]).unwrap();
    }
    let index = builder.finish().unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[70_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let table = Table::of(index, &path, spec(), false).unwrap();
    let vector = |row: usize| table.embed(&table.read(&format!("w{row}"), Truncate::End).unwrap().rows);
    assert_eq!(vector(0).unwrap(), [0.0; 12]);
    assert_eq!(vector(2999).unwrap(), [2999.0; 12]);
    // Row 1365 begins in the first block and ends in the second.
    for row in [1365, 1366, 2000] {
        assert!(matches!(vector(row), Err(TableError::Damaged { block: 1 })), "row {row}");
    }
}

#[test]
fn finished_vectors_are_read_only() {
    let (folder, _) = golden_table(Precision::F32);
    assert!(fs::metadata(folder.vectors()).unwrap().permissions().readonly());
}
