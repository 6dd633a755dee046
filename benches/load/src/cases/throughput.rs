//! Throughput in a closed loop: which cases there are, and the table of their figures.

use std::fmt::Write as _;

use crate::backbone::Backbone;
use crate::bench::{Bench, SHORT_TOKENS, SOUND_BACKBONE};
use crate::cases::closed_rounds::{Case, Sample, Subject};
use crate::corpus;
use crate::direct::lanes::Sessions;
use crate::direct::plan::{self, Role};
use crate::direct::{Embedder, ImageEmbedder, SoundEmbedder, TextEmbedder};
use crate::figures::{Spread, quantile, sorted};
use crate::request::Request;
use crate::table::Table;

const HEADER: [&str; 12] = [
    "case",
    "items/s",
    "p50 ms",
    "p99 ms",
    "direct, fair",
    "ratio",
    "direct, singles",
    "direct, all sorted",
    "server RSS MB",
    "server CPU ms/item",
    "direct CPU ms/item",
    "client CPU ms/request",
];

/// Connections, texts a request, and which sample.
const TEXT_CASES: [(usize, usize, usize); 6] =
    [(1, 1, 0), (32, 1, 0), (4, 32, 0), (32, 32, 0), (32, 1, 1), (4, 32, 1)];

const PHOTO_CONNECTIONS: [usize; 3] = [1, 16, 32];

/// Connections, and which sample: digits or sentences.
const SOUND_CASES: [(usize, usize); 4] = [(1, 0), (16, 0), (32, 0), (32, 1)];

/// Texts, on every text backbone.
///
/// # Errors
/// When something cannot be started, or the server's vectors are not the direct ones.
pub(crate) fn texts(bench: &Bench) -> anyhow::Result<String> {
    let mut section = String::new();
    for backbone in bench.text_backbones()? {
        let samples = bench.text_samples(&backbone)?;
        let cases = TEXT_CASES.map(|(connections, list, sample)| {
            let kind = if sample == 0 { "" } else { ", short" };
            let lists = samples[sample].chunks(list).map(|texts| Request::texts(backbone.id(), texts));
            Case::new(format!("{connections} × {list}{kind}"), sample, connections, lists.collect())
        });
        let mut notes = String::new();
        let mut with_plans = Vec::new();
        for (name, texts) in ["All lengths", "Short"].iter().zip(&samples) {
            let items: anyhow::Result<Vec<Vec<u32>>> =
                texts.iter().map(|text| backbone.tokenise(text)).collect();
            let items = items?;
            let lengths: Vec<usize> = items.iter().map(Vec::len).collect();
            writeln!(notes, "- {name}: {}.", describe_lengths(&lengths, &backbone))?;
            with_plans.push(Sample::new(items, plan::for_lengths(&lengths)));
        }
        let sessions = Sessions::open(&bench.environment, &backbone, bench.cores, TextEmbedder::open)?;
        let mut subject =
            Subject { sessions, samples: with_plans, cases: cases.into(), lowest_cosine: f64::NAN };
        subject.measure(bench, backbone.id())?;
        section += &write_section(bench, &backbone, &subject, "short", &notes)?;
    }
    Ok(section)
}

/// Photos, on the image backbone.
///
/// # Errors
/// When something cannot be started, or the server's vectors are not the direct ones.
pub(crate) fn images(bench: &Bench) -> anyhow::Result<String> {
    let Some(backbone) = bench.image_backbone()? else { return Ok(String::new()) };
    let photos = bench.corpus.photos(bench.scale.photos);
    let cases = PHOTO_CONNECTIONS.map(|connections| {
        let requests = photos.iter().map(|photo| Request::photo(backbone.id(), photo));
        Case::new(format!("{connections} × 1 photo"), 0, connections, requests.collect())
    });
    let sessions = Sessions::open(&bench.environment, &backbone, bench.cores, ImageEmbedder::open)?;
    let items: Vec<Vec<u8>> = photos.iter().map(|photo| photo.bytes.clone()).collect();
    let kilobytes = sorted(items.iter().map(|photo| photo.len() as f64 / 1e3).collect());
    let notes = format!(
        "- Photos: median {:.0} kB, largest {:.0} kB, sent as raw bodies.\n",
        quantile(&kilobytes, 0.5),
        quantile(&kilobytes, 1.0)
    );
    let plans = plan::one_by_one(items.len());
    let samples = vec![Sample::new(items, plans)];
    let mut subject = Subject { sessions, samples, cases: cases.into(), lowest_cosine: f64::NAN };
    subject.measure(bench, backbone.id())?;
    write_section(bench, &backbone, &subject, "", &notes)
}

/// Spoken digits of half a second and sentences of some seconds, on a backbone whose frames another graph makes.
///
/// # Errors
/// When something cannot be started, or the server's vectors are not the direct ones.
pub(crate) fn sounds(bench: &Bench) -> anyhow::Result<String> {
    let backbone = bench.backbone(SOUND_BACKBONE)?;
    let test_data = bench.options.test_data.as_deref();
    let digits = corpus::recordings(test_data, "fsdd_sample.zip", bench.scale.digits)?;
    let sentences = corpus::recordings(test_data, "speech_sentences.zip", bench.scale.sentences)?;
    let samples = [digits, sentences];
    let cases = SOUND_CASES.map(|(connections, sample)| {
        let requests = samples[sample].iter().map(|file| Request::sound(backbone.id(), file));
        let what = ["digit", "sentence"][sample];
        Case::new(format!("{connections} × 1 {what}"), sample, connections, requests.collect())
    });
    let sessions = Sessions::open(&bench.environment, &backbone, bench.cores, SoundEmbedder::open)?;
    let mut notes = String::new();
    for (name, files) in ["Digits", "Sentences"].iter().zip(&samples) {
        let kilobytes = sorted(files.iter().map(|file| file.len() as f64 / 1e3).collect());
        let (median, most) = (quantile(&kilobytes, 0.5), quantile(&kilobytes, 1.0));
        writeln!(notes, "- {name}: WAV, median {median:.0} kB, largest {most:.0} kB, sent as raw bodies.")?;
    }
    let samples = samples.map(|files| {
        let plans = plan::for_sounds(files.len());
        Sample::new(files, plans)
    });
    let mut subject =
        Subject { sessions, samples: samples.into(), cases: cases.into(), lowest_cosine: f64::NAN };
    subject.measure(bench, backbone.id())?;
    write_section(bench, &backbone, &subject, "sentences", &notes)
}

fn describe_lengths(lengths: &[usize], backbone: &Backbone) -> String {
    let most = backbone.manifest.text.as_ref().map_or(usize::MAX, |text| text.max_tokens);
    let values = sorted(lengths.iter().map(|&length| length as f64).collect());
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let full = lengths.iter().filter(|&&length| length >= most).count();
    format!(
        "tokens p10 {:.0}, p50 {:.0}, p90 {:.0}, p99 {:.0}, mean {mean:.1}; {full} of {} reach {most} and are cut there \
         (short: at most {SHORT_TOKENS})",
        quantile(&values, 0.1),
        quantile(&values, 0.5),
        quantile(&values, 0.9),
        quantile(&values, 0.99),
        lengths.len()
    )
}

/// A table of a backbone's cases; `second` names the sample that is not the first.
pub(super) fn write_section<E: Embedder>(
    bench: &Bench,
    backbone: &Backbone,
    subject: &Subject<E>,
    second: &str,
    notes: &str,
) -> anyhow::Result<String> {
    let mut table = Table::new(&HEADER);
    for case in &subject.cases {
        let sample = &subject.samples[case.sample];
        let rounds = &case.rounds;
        let show = |values: &[f64], decimals| Spread::of(values).show(decimals);
        table.row(vec![
            case.name.clone(),
            show(&rounds.served, 0),
            show(&rounds.p50_ms, 2),
            show(&rounds.p99_ms, 2),
            show(&rounds.direct, 0),
            show(&rounds.ratio, 2),
            sample.best(Role::Singles).map_or("–".into(), |best| show(&best.rates, 0)),
            sample.best(Role::Sorted).map_or("–".into(), |best| show(&best.rates, 0)),
            show(&rounds.resident_mb, 0),
            show(&rounds.server_cpu_ms, 2),
            show(&rounds.direct_cpu_ms, 2),
            show(&rounds.client_cpu_ms, 3),
        ]);
    }
    let mut section = format!("### {}\n\n{table}\n{notes}", backbone.id());
    for (index, sample) in subject.samples.iter().enumerate() {
        let kind = if index == 0 { String::new() } else { format!(" ({second})") };
        for (role, what) in [(Role::Fair, "Fair direct"), (Role::Sorted, "All sorted")] {
            if let Some(best) = sample.best(role) {
                writeln!(section, "- {what}{kind}: {}.", best.plan.name(bench.cores))?;
            }
        }
    }
    writeln!(section, "- Served against direct vectors: lowest cosine {:.6}.\n", subject.lowest_cosine)?;
    Ok(section)
}
