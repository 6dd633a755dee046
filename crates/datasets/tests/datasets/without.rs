//! Files written again without some rows: nothing of those is left, and everything else is as it was.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};

use headstart_datasets::{Content, DatasetError, Example, Found, Limits, Place, Wanted, find, write_without};

use crate::files::{data, examples, gzipped, inspected, limits, source, tar_entry, tarred, text, zipped};
use crate::hostile::with_a_large_page;

/// Looks for rows and writes the file again: what was found, what it shows, the new bytes.
fn without(name: &str, bytes: &[u8], wanted: &Wanted) -> (Found, Vec<Content>, Vec<u8>) {
    let (source, mut seen, mut out) = (source(name, bytes), Vec::new(), Vec::new());
    let found = find(&source, wanted, &limits(), &mut |content| seen.push(content)).unwrap();
    write_without(&source, &found, &limits(), &mut out).unwrap();
    (found, seen, out)
}

fn lines(numbers: &[u64]) -> Wanted {
    Wanted::Places(numbers.iter().map(|line| Place::Line(*line)).collect())
}

fn holds(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// The same but for the number in the file.
fn same(one: &Example, other: &Example) -> bool {
    Example { row: 0, ..one.clone() } == Example { row: 0, ..other.clone() }
}

#[test]
fn in_every_format_that_another_program_wrote_each_row_goes_alone() {
    for name in [
        "texts.jsonl",
        "texts.jsonl.gz",
        "texts.csv",
        "texts.csv.gz",
        "texts.tsv",
        "windows.csv",
        "lists.jsonl",
        "lists.csv",
        "pictures.jsonl",
        "pictures.csv",
        "pictures.zip",
        "pictures.tar",
        "wrapped.zip",
        "gnu.tar.gz",
        "pax.tar.gz",
    ] {
        let bytes = data(name);
        let source_of = source(name, bytes.clone());
        let inspection = inspected(&source_of, &limits());
        if !inspection.is_usable() {
            continue;
        }
        let all = examples(name, bytes.clone());
        for gone in &all {
            let wanted = Wanted::Places(HashSet::from([gone.place.clone()]));
            let (found, seen, out) = without(name, &bytes, &wanted);
            assert_eq!((found.places, found.unreadable), (vec![gone.place.clone()], 0), "{name}");
            assert_eq!(seen, std::slice::from_ref(&gone.content), "{name}");
            let left: Vec<&Example> = all.iter().filter(|row| row.place != gone.place).collect();
            let new = source(name, out);
            let inspection = inspected(&new, &limits());
            let read: Vec<Example> = headstart_datasets::read(&new, &inspection, &limits())
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            assert_eq!(read.len(), left.len(), "{name} {}", gone.place);
            assert!(read.iter().zip(left).all(|(new, old)| same(new, old)), "{name} {}", gone.place);
        }
    }
}

#[test]
fn of_parquet_all_columns_are_kept_whatever_packs_them() {
    for name in [
        "texts.none.parquet",
        "texts.snappy.parquet",
        "texts.gzip.parquet",
        "texts.zstd.parquet",
        "lists.parquet",
        "names.parquet",
        "pictures.parquet",
    ] {
        let all = examples(name, data(name));
        for gone in [1, all.len() as u64] {
            let (found, seen, out) = without(name, &data(name), &lines(&[gone]));
            assert_eq!((found.places, seen.len()), (vec![Place::Line(gone)], 1), "{name}");
            let left: Vec<&Example> = all.iter().filter(|row| row.place != Place::Line(gone)).collect();
            let read = examples(name, out);
            assert_eq!(read.len(), left.len(), "{name}");
            let alike = |(new, old): (&Example, &&Example)| {
                (&new.content, &new.labels, &new.group, new.split)
                    == (&old.content, &old.labels, &old.group, old.split)
            };
            assert!(read.iter().zip(&left).all(alike), "{name} without {gone}");
        }
    }
}

#[test]
fn other_lines_keep_their_bytes_and_their_numbers() {
    let jsonl = "\u{feff}{\"text\":\"a\",\"label\":\"x\"}\r\n\n{\"text\":\"b\", \"label\":\"y\"}\r\n{\"text\":\"c\",\"label\":\"x\"}";
    let (_, _, out) = without("a.jsonl", jsonl.as_bytes(), &lines(&[1, 4]));
    assert_eq!(String::from_utf8(out).unwrap(), "\u{feff}\n\n{\"text\":\"b\", \"label\":\"y\"}\r\n");
    for end in ["\n", "\r\n"] {
        let csv = ["text,label", "\"one,", " two\",x", "b,y", "", "c,x"].join(end);
        let (found, seen, out) = without("a.csv", csv.as_bytes(), &lines(&[2]));
        assert_eq!(
            (found.places, seen),
            (vec![Place::Line(2)], vec![Content::Text(format!("one,{end} two"))])
        );
        let out = String::from_utf8(out).unwrap();
        assert_eq!(out.matches('\n').count(), csv.matches('\n').count(), "{out:?}");
        assert!(!out.contains("one") && !out.contains("two"), "{out:?}");
        let left: Vec<(Place, String)> =
            examples("a.csv", out).iter().map(|row| (row.place.clone(), text(row).to_owned())).collect();
        assert_eq!(left, [(Place::Line(4), "b".to_owned()), (Place::Line(6), "c".to_owned())], "{end:?}");
        // The last row, and once more the same.
        let (_, _, once) = without("a.csv", csv.as_bytes(), &lines(&[6]));
        let (again, _, twice) = without("a.csv", &once, &lines(&[6]));
        assert_eq!((again.places.len(), twice), (0, once), "{end:?}");
    }
}

#[test]
fn a_group_and_a_text_name_all_their_rows() {
    let csv = "text,label,group\nhello,x, anna \nhello,y,bert\nbye,x,anna\n\"say \"\"hi\"\"\",y,bert\n";
    let (found, _, out) = without("a.csv", csv.as_bytes(), &Wanted::Group("anna".into()));
    assert_eq!(found.places, [Place::Line(2), Place::Line(4)]);
    assert!(!holds(&out, "anna") && holds(&out, "bert"));
    let (found, _, out) = without("a.csv", csv.as_bytes(), &Wanted::Text("hello".into()));
    assert_eq!(found.places, [Place::Line(2), Place::Line(3)]);
    assert!(!holds(&out, "hello"));
    let (found, ..) = without("a.csv", csv.as_bytes(), &Wanted::Text("say \"hi\"".into()));
    assert_eq!(found.places, [Place::Line(5)]);
    let (found, ..) = without("a.csv", csv.as_bytes(), &Wanted::Text("hell".into()));
    assert_eq!(found.places, []);
    let files: [(&str, &[u8]); 3] =
        [("anna/x/1.txt", b"one"), ("bert/x/2.txt", b"two"), ("bert/y/3.txt", b"one")];
    for (name, bytes) in
        [("a.zip", zipped(&files)), ("a.tar", tarred(&files)), ("a.tar.gz", gzipped(&tarred(&files)))]
    {
        let (found, _, out) = without(name, &bytes, &Wanted::Group("anna".into()));
        assert_eq!(found.places, [Place::Path("anna/x/1.txt".into())], "{name}");
        assert!(!holds(&out, "anna"), "{name}");
        let (found, ..) = without(name, &bytes, &Wanted::Text("one".into()));
        assert_eq!(found.places.len(), 2, "{name}");
    }
}

/// A zip and tars of these entries, folders and all.
fn archives(entries: &[(&str, &[u8])]) -> [(&'static str, Vec<u8>); 3] {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mut tar = Vec::new();
    for (name, content) in entries {
        let options = zip::write::SimpleFileOptions::default();
        let kind = if name.ends_with('/') {
            writer.add_directory(*name, options).unwrap();
            tar::EntryType::Directory
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(content).unwrap();
            tar::EntryType::Regular
        };
        tar.extend(tar_entry(name, kind, content));
    }
    tar.extend([0; 1024]);
    let zip = writer.finish().unwrap().into_inner();
    [("a.zip", zip), ("a.tar.gz", gzipped(&tar)), ("a.tar", tar)]
}

/// What an archive holds, in its order.
fn entries_of(name: &str, bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let content = |from: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        bytes
    };
    if name == "a.zip" {
        let mut zip = zip::ZipArchive::new(std::io::Cursor::new(bytes)).unwrap();
        let len = zip.len();
        let entry = |index| {
            let mut file = zip.by_index(index).unwrap();
            (file.name().unwrap().into_owned(), content(&mut file))
        };
        return (0..len).map(entry).collect();
    }
    let plain =
        if name == "a.tar" { bytes.to_vec() } else { content(&mut flate2::read::GzDecoder::new(bytes)) };
    let mut tar = tar::Archive::new(&plain[..]);
    let entry = |entry: std::io::Result<tar::Entry<'_, &[u8]>>| {
        let mut entry = entry.unwrap();
        (String::from_utf8(entry.path_bytes().into_owned()).unwrap(), content(&mut entry))
    };
    tar.entries().unwrap().map(entry).collect()
}

#[test]
fn with_a_group_goes_all_that_its_folders_hold_in_an_archive() {
    let of_anna: [(&str, &[u8]); 12] = [
        ("people/anna/", b""),
        ("people/anna/cat/", b""),
        ("people/anna/cat/1.txt", b"one"),
        ("people/anna/cat/Thumbs.db", b"small pictures"),
        ("people/anna/cat/.hidden", b"hidden"),
        ("people/anna/notes.json", b"{}"),
        ("people/anna/more.zip", b"PK"),
        ("people/anna/a/b/deep.txt", b"deep"),
        ("__MACOSX/people/", b""),
        ("__MACOSX/people/._anna", b"known of anna"),
        ("__MACOSX/people/anna/cat/._1.txt", b"known of one"),
        ("people/.DS_Store", b"names of folders: anna"),
    ];
    let others: [(&str, &[u8]); 7] = [
        ("people/", b""),
        ("people/annabel/", b""),
        ("people/annabel/cat/2.txt", b"two"),
        ("people/annabel/cat/Thumbs.db", b"small pictures"),
        ("people/bert/dog/", b""),
        ("people/bert/dog/3.txt", b"three"),
        ("people/bert/dog/4.txt", b"four"),
    ];
    let all: Vec<(&str, &[u8])> = of_anna.into_iter().chain(others).collect();
    for ((name, bytes), (_, left)) in archives(&all).into_iter().zip(archives(&others)) {
        let (found, seen, out) = without(name, &bytes, &Wanted::Group("anna".into()));
        let rows = [
            "people/anna/cat/1.txt",
            "people/anna/notes.json",
            "people/anna/more.zip",
            "people/anna/a/b/deep.txt",
        ];
        assert_eq!(found.places, rows.map(|path| Place::Path(path.into())), "{name}");
        assert_eq!((seen, found.unreadable), (vec![Content::Text("one".into())], 0), "{name}");
        assert_eq!(entries_of(name, &out), entries_of(name, &left), "{name}: all else stays");
        // What an earlier version left of a group goes without a row of it.
        let (found, ..) = without(name, &out, &Wanted::Group("anna".into()));
        assert!(found.is_empty(), "{name}");
    }
    let left_behind: Vec<(&str, &[u8])> = [("people/anna/", &b""[..])].into_iter().chain(others).collect();
    for ((name, bytes), (_, left)) in archives(&left_behind).into_iter().zip(archives(&others)) {
        let (found, _, out) = without(name, &bytes, &Wanted::Group("anna".into()));
        assert_eq!((found.places.len(), found.is_empty()), (0, false), "{name}");
        assert_eq!(entries_of(name, &out), entries_of(name, &left), "{name}");
    }
}

#[test]
fn files_of_an_archive_that_are_not_read_are_counted_where_they_stay() {
    let entries: [(&str, &[u8]); 3] =
        [("anna/cat/1.txt", b"one"), ("bert/cat/2.txt", b"two"), ("people.csv", b"anna,bert")];
    for (name, bytes) in archives(&entries) {
        for wanted in [Wanted::Group("anna".into()), Wanted::Text("one".into())] {
            let (found, _, out) = without(name, &bytes, &wanted);
            assert_eq!((found.places.len(), found.unreadable), (1, 1), "{name}");
            assert!(name.ends_with("gz") || holds(&out, "people.csv"), "{name}");
        }
        let beside = Wanted::Places(HashSet::from([Place::Path("people.csv".into())]));
        let (found, _, out) = without(name, &bytes, &beside);
        assert_eq!((found.places.len(), found.unreadable), (1, 0), "{name}");
        assert!(!holds(&out, "people.csv"), "{name}");
    }
}

#[test]
fn rows_that_cannot_be_read_go_where_they_hold_the_text_and_are_counted_where_not() {
    let jsonl = concat!(
        "{\"text\":\"sécret\",\"label\":\"x\"}\n",
        "{\"text\":\"s\\u00e9cret\"}\n",
        "{\"text\":\"my sécret\",\n",
        "{\"text\":\"other\"}\n",
        "{\"text\":\"b\",\"label\":\"y\"}\n",
    );
    let (found, seen, out) = without("a.jsonl", jsonl.as_bytes(), &Wanted::Text("sécret".into()));
    assert_eq!((found.places, found.unreadable), ([1, 2, 3].map(Place::Line).to_vec(), 1));
    assert_eq!(seen, [Content::Text("sécret".into())]);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "\n\n\n{\"text\":\"other\"}\n{\"text\":\"b\",\"label\":\"y\"}\n"
    );
    let csv = "text,label\na secret, with a comma,x\nb,y\n";
    let (found, _, out) = without("a.csv", csv.as_bytes(), &Wanted::Text("a secret, with a comma".into()));
    assert_eq!(found.places, [Place::Line(2)]);
    assert!(!holds(&out, "secret"));
    // By its line a row goes whether it can be read or not.
    let (found, ..) = without("a.jsonl", jsonl.as_bytes(), &lines(&[3, 4, 9]));
    assert_eq!((found.places, found.unreadable), ([3, 4].map(Place::Line).to_vec(), 0));
}

#[test]
fn what_cannot_be_written_again_says_so_and_a_full_disk_is_no_fault_of_the_file() {
    let broken = data("texts.brotli.parquet");
    let source_of = source("texts.brotli.parquet", broken);
    let found = find(&source_of, &lines(&[1]), &limits(), &mut |_| {}).unwrap();
    let refused = write_without(&source_of, &found, &limits(), std::io::sink());
    assert!(matches!(refused, Err(DatasetError::CannotRewrite(_))), "{refused:?}");
    for name in ["texts.jsonl", "texts.csv.gz", "pictures.zip", "pictures.tar", "texts.snappy.parquet"] {
        let source_of = source(name, data(name));
        let found = find(&source_of, &lines(&[2]), &limits(), &mut |_| {}).unwrap();
        let refused = write_without(&source_of, &found, &limits(), Full);
        let Err(DatasetError::Io(error)) = refused else { panic!("{name}: {refused:?}") };
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{name}");
    }
}

#[test]
fn a_parquet_file_is_not_written_again_where_a_column_would_take_too_much_memory() {
    let name = "texts.snappy.parquet";
    let found = find(&source(name, data(name)), &lines(&[1]), &limits(), &mut |_| {}).unwrap();
    let written = |bytes, most| {
        let limits = Limits { max_page_bytes: most, ..limits() };
        write_without(&source(name, bytes), &found, &limits, std::io::sink())
    };
    written(data(name), 5000).unwrap();
    let refused = written(with_a_large_page(), 5000).unwrap_err();
    assert!(matches!(&refused, DatasetError::CannotRewrite(why) if why.contains("at a time")), "{refused}");
}

/// A disk without room.
struct Full;

impl std::io::Write for Full {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_packed_file_stays_packed() {
    let bytes = gzipped(b"{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":\"y\"}\n");
    let (_, _, out) = without("a.jsonl.gz", &bytes, &lines(&[1]));
    let mut plain = String::new();
    flate2::read::GzDecoder::new(&out[..]).read_to_string(&mut plain).unwrap();
    assert_eq!(plain, "\n{\"text\":\"b\",\"label\":\"y\"}\n");
}
