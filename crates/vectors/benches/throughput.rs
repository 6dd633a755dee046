//! Texts a second that a table gives vectors for, every core at work: `cargo bench -p headstart-vectors -- FOLDER TEXTS`,
//! a backbone's folder and a file with a text a line.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use headstart_types::{Manifest, Truncate};
use headstart_vectors::Table;

const SECONDS: u64 = 5;

/// Texts that a thread takes at a time.
const AT_ONCE: usize = 256;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Cargo adds `--bench`.
    let given: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut out = std::io::stdout().lock();
    let [folder, texts] = given.as_slice() else {
        writeln!(out, "give a backbone's folder and a file with a text a line")?;
        return Ok(());
    };
    let manifest = Manifest::parse(&std::fs::read_to_string(Path::new(folder).join("headstart.toml"))?)?;
    let opened = Instant::now();
    let table = Table::open(Path::new(folder), &manifest)?;
    let opened = opened.elapsed();
    let texts = std::fs::read_to_string(texts)?;
    let texts: Vec<&str> = texts.lines().collect();

    let (stop, done, words) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let threads = std::thread::available_parallelism()?.get();
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (table, texts, stop, done, words) = (&table, &texts, &stop, &done, &words);
            scope.spawn(move || {
                let mut sink = 0.0;
                for chunk in texts.chunks(AT_ONCE).cycle().skip(thread) {
                    for text in chunk {
                        let read = table.read(text, Truncate::End).unwrap_or_default();
                        words.fetch_add(read.count as u64, Ordering::Relaxed);
                        sink += table.embed(&read.rows).map_or(f32::NAN, |vector| vector[0]);
                    }
                    done.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                }
                std::hint::black_box(sink);
            });
        }
        std::thread::sleep(Duration::from_secs(SECONDS));
        stop.store(true, Ordering::Relaxed);
    });
    let (done, words) = (done.into_inner() as f64, words.into_inner() as f64);
    writeln!(
        out,
        "| `{}` in process, {threads} threads, {:.1} words a text, opened in {:.0} ms | {:.0} texts/s |",
        manifest.backbone.id,
        words / done,
        opened.as_secs_f64() * 1e3,
        done / started.elapsed().as_secs_f64(),
    )?;
    Ok(())
}
