//! Archives: what their folders mean, and what is refused of them.

use headstart_datasets::{Code, Limits, Split};

use crate::files::{
    data, examples, gzipped, inspected, limits, problems, source, tar_entry, tarred, told, warnings, zipped,
};

fn path(path: &str, code: Code) -> (String, Code) {
    (path.into(), code)
}

/// Texts in class folders, which are cheaper than pictures.
fn good<'a>() -> Vec<(&'a str, &'a [u8])> {
    vec![("a/1.txt", b"first of all"), ("b/2.txt", b"second to none")]
}

fn with<'a>(more: &[(&'a str, &'a [u8])]) -> Vec<(&'a str, &'a [u8])> {
    good().into_iter().chain(more.iter().copied()).collect()
}

#[test]
fn splits_groups_and_a_wrapping_folder_are_read_from_paths() {
    /// A label, a group, a split.
    type Seat = (&'static str, Option<&'static str>, Option<Split>);
    let cases: [(&[&str], &[Seat]); 5] = [
        (&["a/1.txt", "b/2.txt"], &[("a", None, None), ("b", None, None)]),
        (&["top/a/1.txt", "top/b/2.txt"], &[("a", None, None), ("b", None, None)]),
        (
            &["train/a/1.txt", "train/b/2.txt", "valid/b/3.txt"],
            &[
                ("a", None, Some(Split::Train)),
                ("b", None, Some(Split::Train)),
                ("b", None, Some(Split::Val)),
            ],
        ),
        (
            &["top/x/Train/a/1.txt", "top/y/train/b/2.txt", "top/z/test/b/3.txt"],
            &[
                ("a", Some("x"), Some(Split::Train)),
                ("b", Some("y"), Some(Split::Train)),
                ("b", Some("z"), Some(Split::Test)),
            ],
        ),
        (&["./x/a/1.txt", "./y/b/2.txt"], &[("a", Some("x"), None), ("b", Some("y"), None)]),
    ];
    for (paths, want) in cases {
        let contents = ["first of all", "second to none", "third time lucky"];
        let files: Vec<(&str, &[u8])> =
            paths.iter().zip(contents).map(|(path, content)| (*path, content.as_bytes())).collect();
        for (name, bytes) in
            [("a.zip", zipped(&files)), ("a.tar", tarred(&files)), ("a.tgz", gzipped(&tarred(&files)))]
        {
            let found = examples(name, bytes);
            let found: Vec<_> = found
                .iter()
                .map(|example| (example.labels[0].as_str(), example.group.as_deref(), example.split))
                .collect();
            assert_eq!(found, want, "{name} {paths:?}");
        }
    }
}

#[test]
fn litter_is_passed_over_and_what_lies_beside_is_a_warning() {
    let files = with(&[
        ("__MACOSX/a/._1.txt", b"x"),
        (".DS_Store", b"x"),
        ("a/.hidden", b"x"),
        ("a/Thumbs.db", b"x"),
        ("manifest.csv", b"path,class"),
        ("README.txt", b"read me"),
        ("more.zip", b"PK"),
        ("a/inner.tar.gz", b"x"),
    ]);
    for (name, bytes) in [("a.zip", zipped(&files)), ("a.tar", tarred(&files))] {
        let inspection = told(name, bytes);
        assert_eq!(problems(&inspection), [], "{name}");
        let want = [
            path("manifest.csv", Code::IgnoredFile),
            path("README.txt", Code::IgnoredFile),
            path("more.zip", Code::NestedArchive),
            path("a/inner.tar.gz", Code::NestedArchive),
        ];
        assert_eq!(warnings(&inspection), want, "{name}");
        assert_eq!(inspection.summary.examples, 2, "{name}");
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    let bad = [
        "../a/3.txt",
        "a/../../3.txt",
        "/etc/a/3.txt",
        "C:/a/3.txt",
        "c:3.txt",
        "a\\3.txt",
        "..\\a\\3.txt",
        "a/3\n.txt",
        "a/..",
    ];
    let files = with(&bad.map(|name| (name, b"third time lucky".as_slice())));
    let want: Vec<_> = bad.iter().map(|name| path(name, Code::UnsafePath)).collect();
    for (name, bytes) in
        [("a.tar", tarred(&files)), ("a.tar.gz", gzipped(&tarred(&files))), ("a.zip", zipped(&files))]
    {
        let inspection = told(name, bytes);
        assert_eq!(problems(&inspection), want, "{name}");
        assert_eq!(inspection.summary.examples, 2, "{name}");
    }
}

#[test]
fn a_path_that_goes_up_and_stays_inside_is_refused_and_not_said_to_lead_out() {
    let inspection = told("a.zip", zipped(&with(&[("a/../b/3.txt", b"third time lucky")])));
    assert_eq!(problems(&inspection), [path("a/../b/3.txt", Code::UnsafePath)]);
    assert_eq!(inspection.problems[0].message, "the path has `..` in it, which is refused wherever it leads");
}

#[test]
fn links_and_special_files_are_refused() {
    use tar::EntryType;
    let mut bytes = Vec::new();
    for (name, content) in good() {
        bytes.extend(tar_entry(name, EntryType::Regular, content));
    }
    let kinds = [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::GNUSparse,
    ];
    for (name, kind) in ["a/s", "a/l", "a/c", "a/b", "a/f", "a/g"].into_iter().zip(kinds) {
        bytes.extend(tar_entry(name, kind, b""));
    }
    bytes.extend(tar_entry("a/empty", EntryType::Directory, b""));
    bytes.extend([0; 1024]);
    let want = ["a/s", "a/l", "a/c", "a/b", "a/f", "a/g"].map(|name| path(name, Code::LinkEntry));
    assert_eq!(problems(&told("a.tar", bytes)), want);

    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in good() {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut writer, content).unwrap();
    }
    writer.add_symlink("a/s.txt", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    assert_eq!(problems(&told("a.zip", bytes)), [path("a/s.txt", Code::LinkEntry)]);
}

#[test]
fn files_at_other_depths_and_without_a_class_are_told() {
    let picture = data("0.png");
    let files = [
        ("a/1.png", picture.as_slice()),
        ("b/2.png", &data("1.jpg")),
        ("a/deep/3.png", &picture),
        ("4.png", &picture),
        ("train/5.png", &picture),
        ("b/sound.wav", b"RIFF\0\0\0\0WAVE"),
        ("b/broken.jpg", b"no picture at all"),
        ("b/cut.png", &picture[..500]),
        ("a/latin.txt", b"caf\xE9 au lait"),
        ("a/empty.txt", b"  "),
    ];
    let inspection = told("a.zip", zipped(&files));
    let want = [
        path("a/deep/3.png", Code::MixedDepth),
        path("4.png", Code::NoLabel),
        path("train/5.png", Code::NoLabel),
        path("a/latin.txt", Code::WrongEncoding),
        path("a/empty.txt", Code::EmptyText),
        path("b/sound.wav", Code::UndecodableMedia),
        path("b/broken.jpg", Code::UnsupportedMedia),
        path("b/cut.png", Code::UndecodableMedia),
    ];
    assert_eq!(problems(&inspection), want);
    assert_eq!(inspection.summary.examples, 2);
}

#[test]
fn pictures_are_judged_by_their_headers_before_they_are_decoded() {
    let media = headstart_media::Limits { max_pixels: 40 * 47, ..headstart_media::Limits::default() };
    let inspection = inspected(&source("pictures.zip", data("pictures.zip")), &Limits { media, ..limits() });
    let counts: Vec<_> = inspection.problem_counts.into_iter().collect();
    assert_eq!(counts, [(Code::MediaTooLarge, 12)]);
}

#[test]
fn encrypted_entries_and_other_compressions_are_refused() {
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, content) in with(&[("a/locked.txt", b"behind a lock"), ("a/packed.txt", b"packed otherwise")])
    {
        writer.start_file(name, options).unwrap();
        std::io::Write::write_all(&mut writer, content).unwrap();
    }
    let mut bytes = writer.finish().unwrap().into_inner();
    // The flag and the method stand in the local header and again in the directory.
    for (name, local, central, value) in [("a/locked.txt", 6, 8, 1), ("a/packed.txt", 8, 10, 12)] {
        for (mark, at, name_at) in [(b"PK\x03\x04", local, 30), (b"PK\x01\x02", central, 46)] {
            let headers: Vec<usize> =
                bytes.windows(4).enumerate().filter(|(_, w)| *w == mark).map(|(at, _)| at).collect();
            for header in headers {
                if bytes[header + name_at..].starts_with(name.as_bytes()) {
                    bytes[header + at] = value;
                }
            }
        }
    }
    let want =
        [path("a/locked.txt", Code::EncryptedEntry), path("a/packed.txt", Code::UnsupportedCompression)];
    assert_eq!(problems(&told("a.zip", bytes)), want);
}

#[test]
fn an_office_document_is_not_taken_for_an_archive_of_classes() {
    let files: [(&str, &[u8]); 2] = [("[Content_Types].xml", b"<x/>"), ("xl/workbook.xml", b"<x/>")];
    assert_eq!(problems(&told("a.xlsx", zipped(&files))), [path("", Code::UnknownFormat)]);
}
