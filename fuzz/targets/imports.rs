//! Sources of `headstart import`: the first byte chooses what the file is called, or which kind it is said to be.
#![no_main]

use std::cell::RefCell;
use std::fs;

use clap::Parser;
use headstart::config::Config;
use headstart::import::{self, ImportArguments};
use headstart::options_file;
use libfuzzer_sys::fuzz_target;

/// As the command line has it.
#[derive(Parser)]
struct Import {
    #[command(flatten)]
    arguments: ImportArguments,
}

thread_local! {
    static FOLDER: RefCell<Option<tempfile::TempDir>> = const { RefCell::new(None) };
}

const KINDS: [Option<&str>; 6] =
    [None, Some("glove"), Some("word2vec-text"), Some("word2vec-binary"), Some("json"), Some("npy")];

fuzz_target!(init: headstart_fuzz::watch_panics(), |data: &[u8]| {
    let Some((first, file)) = data.split_first() else { return };
    FOLDER.with_borrow_mut(|folder| {
        let folder = folder.get_or_insert_with(headstart_fuzz::folder).path();
        let (source, models) = (folder.join("source"), folder.join("models"));
        fs::write(&source, file).expect("a source is written");
        fs::write(folder.join("source.txt"), "the\ncat\nsat\non\n").expect("words are written");
        let options = options_file::parse(&format!("models = [{models:?}]")).expect("good options");
        let config = Config::resolve(options).expect("good options");
        let mut line = vec!["import".into(), source.display().to_string(), "--id".into(), "words".into()];
        line.extend(KINDS[usize::from(*first) % KINDS.len()].map(|kind| format!("--kind={kind}")));
        if first & 128 != 0 {
            line.push(format!("--words={}", folder.join("source.txt").display()));
        }
        let import = Import::try_parse_from(line).expect("good arguments");
        let done = import::run(&config, &import.arguments);
        assert_eq!(done.is_ok(), models.join("words").is_dir(), "{done:?}");
        let _ = fs::remove_dir_all(models);
    });
});
