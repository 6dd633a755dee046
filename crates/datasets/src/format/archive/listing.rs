//! Every entry of an archive, read or not: which lie in a group's folders, and what goes along with files that go. Paths
//! are taken as loosely as they can be meant: what is refused as unsafe may name a person too.

use std::collections::HashSet;

use super::layout::{Entry, Folders};
use crate::Split;

/// What file managers leave in a folder: names, places and small pictures of what lies there.
const OF_FOLDERS: [&str; 4] = [".ds_store", "thumbs.db", "ehthumbs.db", "desktop.ini"];

/// Where macOS packs what it knows of files beside their content.
const TWINS: &str = "__MACOSX";
const TWIN: &str = "._";

/// All entries of an archive.
pub(crate) struct Listing {
    /// Paths as the archive has them, and whether each is a folder's.
    entries: Vec<(String, bool)>,
    folders: Folders,
}

impl Listing {
    pub(super) fn new(entries: Vec<Entry>, folders: Folders) -> Self {
        Self { entries: entries.into_iter().map(|entry| (entry.path, entry.is_folder)).collect(), folders }
    }

    pub(super) fn path(&self, index: usize) -> &str {
        self.entries.get(index).map_or("", |(path, _)| path)
    }

    /// Whether a path is a folder of this group, or lies in one.
    pub(crate) fn is_of_group(&self, path: &str, group: &str) -> bool {
        let group = parts(group);
        if group.is_empty() || group.len() != self.folders.groups {
            return false;
        }
        let path = meant(path);
        let wrapper = self.folders.wrapper.as_deref();
        let mut path = path.strip_prefix(wrapper.as_slice()).unwrap_or(&path).to_vec();
        if let Some(split) = path.iter().position(|part| Split::parse(part).is_some()) {
            path.remove(split);
        }
        path.starts_with(&group)
    }

    /// The paths of what has to go with the files `taken`, and is no row: all that is left in a group's folders, what file
    /// managers keep of what goes, and folders with nothing left in them.
    pub(crate) fn beside(&self, taken: &HashSet<&str>, group: Option<&str>) -> Vec<&str> {
        let of_group = |path: &str| group.is_some_and(|group| self.is_of_group(path, group));
        let mut gone: HashSet<&str> = taken.clone();
        gone.extend(self.paths().filter(|(path, _)| of_group(path)).map(|(path, _)| path));
        let files: HashSet<Vec<&str>> = gone.iter().map(|path| meant(path)).collect();
        let above: HashSet<Vec<&str>> = files.iter().flat_map(|path| folders(path)).collect();
        let is_known_of = |path: &str| {
            let path = meant(path);
            let is_of_folder = path.split_last().is_some_and(|(name, folders)| {
                OF_FOLDERS.contains(&name.to_ascii_lowercase().as_str()) && above.contains(folders)
            });
            is_of_folder || files.contains(&path)
        };
        let known: Vec<&str> = self
            .paths()
            .filter(|(path, is_folder)| !is_folder && is_known_of(path))
            .map(|(path, _)| path)
            .collect();
        gone.extend(known);
        let emptied = self.emptied(&gone);
        gone.extend(emptied);
        self.paths()
            .map(|(path, _)| path)
            .filter(|path| gone.contains(path) && !taken.contains(path))
            .collect()
    }

    /// Folders that lie above what is gone, and above nothing else.
    fn emptied(&self, gone: &HashSet<&str>) -> Vec<&str> {
        let above: HashSet<Vec<&str>> = gone.iter().flat_map(|path| folders_of(path)).collect();
        let is_above = |path: &str| above.contains(&parts(path));
        let stays = |(path, is_folder): &(&str, bool)| !(gone.contains(path) || *is_folder && is_above(path));
        let kept: HashSet<Vec<&str>> =
            self.paths().filter(stays).flat_map(|(path, _)| folders_of(path)).collect();
        let is_emptied =
            |(path, is_folder): &(&str, bool)| *is_folder && is_above(path) && !kept.contains(&parts(path));
        self.paths().filter(is_emptied).map(|(path, _)| path).collect()
    }

    fn paths(&self) -> impl Iterator<Item = (&str, bool)> {
        self.entries.iter().map(|(path, is_folder)| (path.as_str(), *is_folder))
    }
}

/// A path's parts, however it is written.
fn parts(path: &str) -> Vec<&str> {
    path.split(['/', '\\']).filter(|part| !["", ".", ".."].contains(part)).collect()
}

/// The parts of what a path is about: of a twin the file's.
fn meant(path: &str) -> Vec<&str> {
    let mut parts = parts(path);
    if parts.first() == Some(&TWINS) {
        parts.remove(0);
    }
    if let Some(name) = parts.last_mut() {
        *name = name.strip_prefix(TWIN).unwrap_or(name);
    }
    parts
}

/// The folders that a file of these parts lies in, the archive itself included.
fn folders<'a>(path: &[&'a str]) -> Vec<Vec<&'a str>> {
    (0..path.len()).filter_map(|length| path.get(..length).map(<[&str]>::to_vec)).collect()
}

fn folders_of(path: &str) -> Vec<Vec<&str>> {
    folders(&parts(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(paths: &[&str], wrapper: Option<&str>, groups: usize) -> Listing {
        let entry =
            |path: &&str| Entry { path: (*path).to_owned(), is_folder: path.ends_with('/'), refusal: None };
        let folders = Folders { wrapper: wrapper.map(str::to_owned), groups };
        Listing::new(paths.iter().map(entry).collect(), folders)
    }

    #[test]
    fn a_path_is_of_a_group_whatever_lies_around_it_and_whoever_wrote_it() {
        let plain = listing(&[], None, 1);
        for path in [
            "anna/",
            "anna/cat/1.jpg",
            "train/anna/cat/",
            "anna/val/cat/1.jpg",
            "./anna/cat",
            "anna\\cat\\1.jpg",
            "../anna/x",
            "__MACOSX/._anna",
            "__MACOSX/train/anna/cat/._1.jpg",
            "test/anna/notes.json",
        ] {
            assert!(plain.is_of_group(path, "anna"), "{path}");
        }
        for path in ["annabel/cat/1.jpg", "cat/anna/1.jpg", "anna.json", "bert/anna/1.jpg", "train/"] {
            assert!(!plain.is_of_group(path, "anna"), "{path}");
        }
        let wrapped = listing(&[], Some("data"), 2);
        assert!(wrapped.is_of_group("data/train/site/anna/cat/1.jpg", "site/anna"));
        assert!(!wrapped.is_of_group("data/site/anna", "anna") && !wrapped.is_of_group("data/site", "site"));
        // Without folders above the classes no folder is a group.
        assert!(!listing(&[], None, 0).is_of_group("cat/1.jpg", "cat"));
    }

    #[test]
    fn with_files_go_their_twins_small_pictures_and_folders_with_nothing_left() {
        let listing = listing(
            &[
                "a/",
                "a/b/",
                "a/b/1.jpg",
                "a/b/Thumbs.db",
                "a/b/._1.jpg",
                "a/c/",
                "a/c/2.jpg",
                "a/c/Thumbs.db",
                "d/",
                "e/",
                "e/f/",
                "e/f/3.jpg",
                "__MACOSX/",
                "__MACOSX/a/b/._1.jpg",
                ".DS_Store",
            ],
            None,
            0,
        );
        let beside = listing.beside(&HashSet::from(["a/b/1.jpg"]), None);
        let expected =
            ["a/b/", "a/b/Thumbs.db", "a/b/._1.jpg", "__MACOSX/", "__MACOSX/a/b/._1.jpg", ".DS_Store"];
        assert_eq!(beside, expected);
        let beside = listing.beside(&HashSet::from(["e/f/3.jpg"]), None);
        assert_eq!(beside, ["e/", "e/f/", ".DS_Store"]);
        assert!(listing.beside(&HashSet::new(), None).is_empty());
    }
}
