//! Real data, where HEADSTART_TEST_DATA names its folder.

use std::io::Read as _;
use std::path::{Path, PathBuf};

/// The folder, or a line that says why the test is skipped.
pub(crate) fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("HEADSTART_TEST_DATA");
    if folder.is_none() {
        println!("skipped: HEADSTART_TEST_DATA is not set");
    }
    folder.map(|folder| PathBuf::from(folder).join("datasets"))
}

/// A split of a text set: texts and labels.
pub(crate) fn texts(folder: &Path, name: &str) -> (Vec<String>, Vec<String>) {
    let mut reader = csv::Reader::from_path(folder.join("text").join(name)).unwrap();
    reader.records().map(|row| row.unwrap()).map(|row| (row[0].to_owned(), row[1].to_owned())).unzip()
}

/// Class names in order, and the index of each label.
pub(crate) fn indexed(train: &[String], test: &[String]) -> (Vec<String>, Vec<u32>, Vec<u32>) {
    let mut classes = train.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let index = |labels: &[String]| labels.iter().map(|l| classes.binary_search(l).unwrap() as u32).collect();
    let (train, test) = (index(train), index(test));
    (classes, train, test)
}

/// The pictures of one split of ants and bees: file bytes and class.
pub(crate) fn insects(folder: &Path, split: &str) -> Vec<(Vec<u8>, u32)> {
    let file = std::fs::File::open(folder.join("images/hymenoptera.zip")).unwrap();
    let mut archive = zip::ZipArchive::new(file).unwrap();
    let mut pictures = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        let name = entry.name().unwrap().into_owned();
        if name.contains(&format!("/{split}/")) {
            entry.read_to_end(&mut bytes).unwrap();
            pictures.push((bytes, u32::from(name.contains("/bees/"))));
        }
    }
    pictures
}
