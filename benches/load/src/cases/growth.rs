//! Memory over many mixed requests, then one giant request.
//!
//! The mix: of five requests two are lists for the first text backbone, two for the second, and one is a single photo
//! (text : image = 4 : 1). A list has 1 to 32 texts, uniformly; texts are drawn from all of the corpus, so lengths are as
//! they come, cut at the backbone's limit. Vectors are not cached, and eight clients send at once.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use futures_util::TryStreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;

use crate::bench::{Bench, IMAGE_BACKBONE, TEXT_BACKBONES};
use crate::connection::Connection;
use crate::request::Request;
use crate::sample::Chance;
use crate::server::Server;
use crate::table::Table;

const CLIENTS: usize = 8;

const LONGEST_LIST: usize = 32;

/// Of the mix.
const SEED: u64 = 100_003;

/// The giant request's time limit; the server's own is for requests of usual size.
const TIMEOUT_MS: &str = "1800000";

/// # Errors
/// When the server cannot be started or answers anything but 200.
pub(crate) fn run(bench: &Bench) -> anyhow::Result<String> {
    let server = bench.start_server(&["--request-timeout-ms", TIMEOUT_MS])?;
    let mut table = Table::new(&["after", "RSS MB", "peak MB", "minutes"]);
    let started = Instant::now();
    let mut note = |server: &Server, what: String| -> anyhow::Result<f64> {
        let process = server.process();
        let resident = process.resident_mb()?;
        eprintln!("{what}: {resident:.0} MB");
        let minutes = started.elapsed().as_secs_f64() / 60.0;
        table.row(vec![
            what,
            format!("{resident:.0}"),
            format!("{:.0}", process.peak_mb()?),
            format!("{minutes:.1}"),
        ]);
        Ok(resident)
    };
    note(&server, "ready".into())?;
    let marks = RefCell::new(Vec::new());
    bench.client.block_on(send_mix(bench, &server, |done| {
        marks.borrow_mut().push(note(&server, format!("{done} requests"))?);
        Ok(())
    }))?;
    for id in TEXT_BACKBONES {
        if bench.options.wants(id) {
            let giant = giant(bench, id);
            bench.client.block_on(async {
                Connection::open(server.address).await?.exchange(&giant.bytes).await?.expect_ok().map(drop)
            })?;
            note(&server, format!("{} of the longest texts at once, {id}", bench.scale.giant_texts))?;
            std::thread::sleep(Duration::from_secs(10));
            note(&server, "10 s later".into())?;
        }
    }
    let mut section = table.to_string();
    let marks = marks.into_inner();
    if let (Some(first), Some(last)) = (marks.first(), marks.last()) {
        let growth = 100.0 * (last / first - 1.0);
        writeln!(section, "\n- Growth from the first mark to the last: {growth:+.1} %.")?;
    }
    Ok(section)
}

/// Sends the mix; `mark` is called at a fortieth and at each tenth of it, with requests answered so far.
async fn send_mix(
    bench: &Bench,
    server: &Server,
    mut mark: impl FnMut(usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let total = bench.scale.growth_requests;
    let (issued, done) = (Cell::new(0), Cell::new(0));
    let mark = RefCell::new(&mut mark);
    let connections = try_join_all((0..CLIENTS).map(|_| Connection::open(server.address))).await?;
    let client = async |mut connection: Connection| {
        while issued.get() < total {
            issued.set(issued.get() + 1);
            let request = mixed(bench, issued.get());
            connection.exchange(&request.bytes).await?.expect_ok()?;
            done.set(done.get() + 1);
            if done.get() == total / 40 || done.get().is_multiple_of(total / 10) {
                (*mark.borrow_mut())(done.get())?;
            }
        }
        anyhow::Ok(())
    };
    connections.into_iter().map(client).collect::<FuturesUnordered<_>>().try_collect().await
}

/// The request of a number, always the same one.
fn mixed(bench: &Bench, number: usize) -> Request {
    let mut chance = Chance::new(SEED.wrapping_mul(number as u64));
    let model = match chance.below(5) {
        0 | 1 => TEXT_BACKBONES[0],
        2 | 3 => TEXT_BACKBONES[1],
        _ => {
            let photos = bench.corpus.all_photos();
            return Request::photo(IMAGE_BACKBONE, &photos[chance.below(photos.len())]);
        }
    };
    let texts = bench.corpus.all_texts();
    let count = 1 + chance.below(LONGEST_LIST);
    let list: Vec<&str> = (0..count).map(|_| texts[chance.below(texts.len())].as_str()).collect();
    Request::texts(model, &list)
}

/// The longest texts of the corpus by bytes, in one request.
fn giant(bench: &Bench, model: &str) -> Request {
    let mut texts: Vec<&str> = bench.corpus.all_texts().iter().map(String::as_str).collect();
    texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
    let longest: Vec<&str> = texts.iter().copied().cycle().take(bench.scale.giant_texts).collect();
    Request::texts(model, &longest)
}
