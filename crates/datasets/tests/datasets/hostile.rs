//! Files made to deceive, and files damaged at random: never a panic, never more than bounded work.

use std::time::{Duration, Instant};

use headstart_datasets::{Code, Limits, read};

use crate::files::{data, gzipped, inspected, limits, problems, source, tarred, told, zipped};

/// Numbers by a fixed rule. Source: Marsaglia 2003, xorshift64.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

const FILES: [&str; 17] = [
    "texts.csv",
    "windows.csv",
    "texts.tsv",
    "texts.jsonl",
    "texts.csv.gz",
    "texts.jsonl.gz",
    "texts.none.parquet",
    "texts.snappy.parquet",
    "texts.gzip.parquet",
    "texts.zstd.parquet",
    "lists.jsonl",
    "lists.csv",
    "lists.parquet",
    "names.parquet",
    "pictures.zip",
    "pictures.tar",
    "gnu.tar.gz",
];

/// One to four changes: a byte set, a bit flipped, a part cut out, doubled, blanked, or the end cut off.
fn mutated(mut bytes: Vec<u8>, numbers: &mut Numbers) -> Vec<u8> {
    for _ in 0..=numbers.next(4) {
        if bytes.is_empty() {
            return bytes;
        }
        let at = numbers.next(bytes.len());
        let end = at + numbers.next((bytes.len() - at).min(64)) + 1;
        match numbers.next(6) {
            0 => bytes[at] = numbers.next(256) as u8,
            1 => bytes[at] ^= 1 << numbers.next(8),
            2 => drop(bytes.drain(at..end)),
            3 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            4 => bytes[at..end].fill([0, 0xFF][numbers.next(2)]),
            _ => bytes.truncate(at),
        }
    }
    bytes
}

/// Whether the examples handed out are those that were counted, in number and in what is said of them.
fn reads_what_was_counted(name: &str, bytes: Vec<u8>) {
    let limits = Limits { threads: 1, ..limits() };
    let source = source(name, bytes);
    let inspection = inspected(&source, &limits);
    assert_eq!(inspection, inspected(&source, &limits), "{name}: two inspections differ");
    let listed: u64 = inspection.problem_counts.values().sum();
    assert_eq!(listed == 0, inspection.is_usable());
    if !inspection.is_usable() {
        assert!(!inspection.problems.is_empty());
        return;
    }
    let examples: Vec<_> = read(&source, &inspection, &limits).unwrap().collect::<Result<_, _>>().unwrap();
    assert_eq!(examples.len() as u64, inspection.summary.examples, "{name}");
    for class in &inspection.summary.classes {
        let of_class = examples.iter().filter(|example| example.labels.contains(&class.label));
        assert_eq!(of_class.count() as u64, class.examples, "{name} {}", class.label);
    }
    let tests = examples.iter().filter(|example| example.split == Some(headstart_datasets::Split::Test));
    assert_eq!(tests.count() as u64, inspection.summary.splits.test, "{name}");
}

#[test]
fn damaged_files_of_every_format_are_told_in_bounded_time() {
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    for name in FILES {
        let bytes = data(name);
        reads_what_was_counted(name, bytes.clone());
        let rounds = if bytes.len() > 10_000 { 60 } else { 250 };
        for _ in 0..rounds {
            let start = Instant::now();
            reads_what_was_counted(name, mutated(bytes.clone(), &mut numbers));
            assert!(start.elapsed() < Duration::from_secs(10), "{name}");
        }
    }
}

#[test]
fn files_cut_anywhere_are_told() {
    for name in FILES {
        let bytes = data(name);
        for length in (0..bytes.len()).step_by(bytes.len() / 40 + 1) {
            reads_what_was_counted(name, bytes[..length].to_vec());
        }
    }
}

#[test]
fn bombs_are_refused_before_they_cost() {
    let blank = vec![b' '; 20_000_000];
    let start = Instant::now();
    let packed = gzipped(&blank);
    assert!(packed.len() < 100_000);
    assert_eq!(problems(&told("a.csv.gz", packed)), [("1".to_owned(), Code::SuspiciousRatio)]);
    let tar = tarred(&[("a/1.txt", &blank), ("b/2.txt", b"two")]);
    assert_eq!(problems(&told("a.tar.gz", gzipped(&tar))), [(String::new(), Code::SuspiciousRatio)]);
    let zip = zipped(&[("a/1.txt", &blank), ("b/2.txt", b"second to none"), ("a/3.txt", b"third of all")]);
    assert_eq!(problems(&told("a.zip", zip.clone())), [(String::new(), Code::SuspiciousRatio)]);
    let loose = Limits { max_ratio: 5000, max_entry_bytes: 1_000_000, ..limits() };
    assert_eq!(
        problems(&inspected(&source("a.zip", zip), &loose)),
        [("a/1.txt".to_owned(), Code::EntryTooLarge)]
    );
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[test]
fn limits_on_entries_and_unpacked_bytes_hold() {
    let names: Vec<String> = (0..200).map(|n| format!("{}/{n}.txt", ["a", "b"][n % 2])).collect();
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), name.as_bytes())).collect();
    for (name, bytes) in
        [("a.zip", zipped(&files)), ("a.tar", tarred(&files)), ("a.tgz", gzipped(&tarred(&files)))]
    {
        let source = source(name, bytes);
        assert!(inspected(&source, &limits()).is_usable(), "{name}");
        let few = inspected(&source, &Limits { max_entries: 100, ..limits() });
        assert_eq!(problems(&few), [(String::new(), Code::TooManyEntries)], "{name}");
        let small = inspected(&source, &Limits { max_unpacked_bytes: 1000, ..limits() });
        assert_eq!(problems(&small), [(String::new(), Code::TooLarge)], "{name}");
    }
    for name in ["texts.csv.gz", "texts.zstd.parquet"] {
        let small = inspected(&source(name, data(name)), &Limits { max_unpacked_bytes: 100, ..limits() });
        assert_eq!(problems(&small), [(String::new(), Code::TooLarge)], "{name}");
    }
}

#[test]
fn an_entry_that_unpacks_to_more_than_it_declares_is_damaged() {
    let content = vec![b'x'; 50_000];
    let mut bytes = zipped(&[("a/1.txt", &content), ("b/2.txt", b"second to none")]);
    let (packed, declared) = (bytes.len(), 100_u32.to_le_bytes());
    for at in 0..packed - 4 {
        if bytes[at..at + 4] == 50_000_u32.to_le_bytes() {
            bytes[at..at + 4].copy_from_slice(&declared);
        }
    }
    assert_eq!(problems(&told("a.zip", bytes))[0], ("a/1.txt".to_owned(), Code::DamagedFile));
}

/// A file whose first page states 8191 bytes unpacked, which its footer does not.
pub(crate) fn with_a_large_page() -> Vec<u8> {
    let mut bytes = data("texts.snappy.parquet");
    // The first page's header: its kind, then its unpacked size, each behind the mark of a number. The most that two
    // bytes hold, zigzag, is 8191.
    assert_eq!((bytes[4], bytes[6], bytes[8] & 0x80, bytes[9]), (0x15, 0x15, 0, 0x15));
    bytes[7..9].copy_from_slice(&[0xFE, 0x7F]);
    bytes
}

#[test]
fn a_parquet_page_that_states_more_than_its_footer_is_refused_unread() {
    let limits = Limits { max_unpacked_bytes: 5000, ..limits() };
    assert!(inspected(&source("a.parquet", data("texts.snappy.parquet")), &limits).is_usable());
    let inspection = inspected(&source("a.parquet", with_a_large_page()), &limits);
    assert_eq!(problems(&inspection), [(String::new(), Code::TooLarge)], "{:?}", inspection.problems);
}

#[test]
fn parquet_pages_that_take_too_much_at_a_time_are_refused_unread_though_all_of_them_would_not() {
    let limits = Limits { max_page_bytes: 5000, ..limits() };
    assert!(inspected(&source("a.parquet", data("texts.snappy.parquet")), &limits).is_usable());
    let inspection = inspected(&source("a.parquet", with_a_large_page()), &limits);
    assert_eq!(problems(&inspection), [(String::new(), Code::TooLarge)], "{:?}", inspection.problems);
    assert!(inspection.problems[0].message.contains("at a time"), "{:?}", inspection.problems);
}

#[test]
fn a_directory_that_states_millions_of_entries_is_refused_unread() {
    let mut bytes = vec![0; 100];
    bytes[..4].copy_from_slice(b"PK\x03\x04");
    bytes.extend(b"PK\x06\x06");
    bytes.extend(44_u64.to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(50_000_000_u64.to_le_bytes());
    bytes.extend(50_000_000_u64.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(b"PK\x06\x07");
    bytes.extend([0; 16]);
    bytes.extend(b"PK\x05\x06\0\0\0\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0\0");
    assert_eq!(problems(&told("a.zip", bytes)), [(String::new(), Code::TooManyEntries)]);
}
