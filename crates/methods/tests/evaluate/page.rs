//! The HTML page: whole, harmless, and in need of nothing else.

use headstart_methods::data::Targets;
use headstart_methods::evaluate::page::render;
use headstart_methods::evaluate::transfer::Names;
use headstart_methods::evaluate::{Frozen, OutOfSample, ZeroShot};
use headstart_types::report::{
    DuplicatePair, Duplicates, Metrics, Mixture, Pass, Report, Row, Stage, Tuning, Twin,
};
use ndarray::Array2;

use crate::evidence::Case;
use crate::report::{level_curve, two_classes};

const HOSTILE: &str = r#"<script>alert("1")</script>&"#;

/// A report with every part, all its words hostile.
fn full() -> Report {
    let mut case = two_classes(200);
    case.classes = vec![HOSTILE.to_owned(), format!("a label that is far too long for a chart {HOSTILE}")];
    let curve = level_curve(&case, 1000);
    let groups: Vec<Option<String>> = (0..200)
        .map(|row| Some(if row % 5 == 0 { HOSTILE.to_owned() } else { "plain".to_owned() }))
        .collect();
    let targets = Targets::Single((0..40).map(|row| u32::from(row % 2 == 0 || row == 3)).collect());
    let probabilities =
        Array2::from_shape_fn((40, 2), |(row, class)| if row % 2 == class { 0.1 } else { 0.9 });
    let place =
        |line| Row { split: Some("train".to_owned()), line: Some(line), path: Some(HOSTILE.to_owned()) };
    let rows: Vec<Row> = (0..40).map(place).collect();
    let twins = DuplicatePair { first: place(1), second: place(2), twin: Twin::Exact };
    let (zero_shot, rows_of_it) = (Array2::from_elem((100, 2), 0.5), (0..100).collect::<Vec<_>>());
    case.report(|evidence| {
        evidence.temperature = Some(1.5);
        evidence.held_out.groups = Some(&groups);
        evidence.held_out.zero_shot = Some(ZeroShot { rows: &rows_of_it, scores: zero_shot.view() });
        evidence.out_of_sample =
            Some(OutOfSample { probabilities: probabilities.view(), targets: &targets, rows: &rows });
        evidence.curve = Some((&curve, Names { learner: HOSTILE, baseline: "words" }));
        evidence.duplicates =
            Some(Duplicates { exact: 1, near: 0, across_splits: 1, conflicting: 0, pairs: vec![twins] });
        evidence.stages =
            vec![Stage { name: "features".to_owned(), seconds: 1.5, items: 64, peak_bytes: Some(1 << 30) }];
    })
}

/// Every element opened is closed, in order. Quotes and angle brackets of the data are escaped, so tags are all there is
/// between angle brackets.
fn balanced(html: &str) -> bool {
    // Those of drawings are not among the elements that HTML closes by itself.
    const EMPTY: [&str; 2] = ["meta", "!DOCTYPE"];
    let mut open = Vec::new();
    for tag in html.split('<').skip(1) {
        let name: String = tag.chars().take_while(|c| !matches!(c, ' ' | '>')).collect();
        let drawn = EMPTY.contains(&name.as_str());
        match name.strip_prefix('/') {
            Some(closed) if open.pop().as_deref() != Some(closed) => return false,
            Some(_) => {}
            None if drawn => {}
            None => open.push(name),
        }
    }
    open.is_empty()
}

#[test]
fn every_part_is_there_and_what_came_with_the_data_is_escaped() {
    let html = render(&full());
    for part in [
        "quality",
        "transfer",
        "confusion",
        "calibration",
        "coverage",
        "curves",
        "groups",
        "suspicious",
        "duplicates",
        "run",
        "stages",
        "warnings",
    ] {
        assert!(html.contains(&format!("<section id=\"{part}\">")), "{part} is missing");
    }
    assert!(!html.contains("<script"), "unescaped");
    assert!(html.contains("&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;"));
    assert_eq!(html.matches("<svg").count(), 7, "one drawing a chart");
    assert!(balanced(&html));
    assert!(html.contains("0, zero-shot") && html.contains("zero-shot 50.0 %"), "the zeroth point");
    for number in ["NaN", "inf"] {
        assert!(!html.contains(number), "{number}");
    }
}

#[test]
fn a_temperature_that_is_nearly_nothing_is_told_as_what_it_is() {
    let html = render(&two_classes(200).report(|evidence| evidence.temperature = Some(1.75e-5)));
    assert!(html.contains("At temperature 0.0000175, as served"), "{html}");
    assert!(render(&full()).contains("At temperature 1.50, as served"));
}

#[test]
fn nothing_is_fetched_from_elsewhere() {
    let html = render(&full());
    for reference in ["http:", "https:", "src=", "href=", "url(", "@import", "style=\""] {
        assert!(!html.contains(reference), "{reference}");
    }
}

#[test]
fn several_labels_have_a_page_too() {
    let logits = Array2::from_shape_fn((30, 3), |(row, label)| if row % 3 == label { 2.0 } else { -2.0 });
    let case = Case::new(logits, Targets::Multi((0..30).map(|row| vec![row % 3]).collect()));
    let report = case.report(|_| {});
    assert!(matches!(report.metrics, Metrics::MultiLabel(_)));
    let html = render(&report);
    assert!(html.contains("micro F1 100.0 %") && balanced(&html));
    for part in ["calibration", "coverage", "thresholds"] {
        assert!(html.contains(&format!("<section id=\"{part}\">")), "{part} is missing");
    }
}

#[test]
fn what_was_run_is_named_by_classifier_and_job_and_with_what_was_chosen() {
    let html = render(&two_classes(200).report(|_| {}));
    assert!(html.contains("<h1>Report: support, linear_probe on a-backbone</h1>"));
    assert!(html.contains("Job ftjob-1") && html.contains("1.31.1"));
    assert!(html.contains("{&quot;class 0&quot;:0.3}"), "hyperparameters as a job takes them");
    for fact in ["<th scope=\"row\">c</th><td class=\"code\">null</td>", "<th scope=\"row\">c, chosen</th>"] {
        assert!(html.contains(fact), "{fact}");
    }
}

#[test]
fn a_trained_backbone_has_its_passes_its_mixtures_and_what_it_gained() {
    let case = two_classes(200);
    // The linear probe says one class of every row.
    let frozen = Array2::from_shape_fn((200, 2), |(_, class)| if class == 0 { 1.0 } else { -1.0 });
    let pass = |loss, right| Pass { loss, held_out_accuracy: Some(right), held_out_loss: Some(loss + 0.25) };
    let mixture = |share, right| Mixture { share, held_out_accuracy: right, held_out_loss: 1.0 - right };
    let shares = [(0.0, 0.5), (0.25, 0.625), (0.5, 0.75), (0.75, 0.875), (1.0, 0.8125)];
    let tuning = Tuning {
        weights: 10_620_000,
        stored_bytes: 21_300_000,
        learned_from: 640,
        stopped_by: 80,
        epochs: vec![pass(0.75, 0.6875), pass(0.5, 0.8125), pass(0.25, 0.75)],
        kept_epoch: 2,
        mixtures: shares.map(|(share, right)| mixture(share, right)).to_vec(),
        share: 0.75,
        frozen: None,
        gain: None,
        from_random: None,
    };
    let frozen = Frozen { probabilities: frozen.view(), thresholds: None };
    let report = case.report(|evidence| evidence.tuning = Some((tuning, frozen)));
    let html = render(&report);
    let section = html.split("<section id=\"tuning\">").nth(1).unwrap().split("</section>").next().unwrap();
    let gain = report.tuning.as_ref().unwrap().gain.as_ref().unwrap();
    assert!(section.contains(&gain.sentence), "{section}");
    assert!(section.contains("10620000 weights trained on 640 items, stopped by 80 others"), "{section}");
    let rows: Vec<Vec<&str>> = section
        .split("<tr>")
        .map(|row| row.split(['<', '>']).skip(2).step_by(4).filter(|cell| !cell.is_empty()).collect())
        .collect();
    let has = |expected: &[&str]| assert!(rows.iter().any(|row| row == expected), "{expected:?} in {rows:?}");
    has(&["1", "0.750", "68.8 %", "1.000"]);
    has(&["2, kept", "0.500", "81.2 %", "0.750"]);
    has(&["0.0 %", "50.0 %", "0.500"]);
    has(&["75.0 %, served", "87.5 %", "0.125"]);
    has(&["100.0 %", "81.2 %", "0.188"]);
    assert_eq!(section.matches(", served").count(), 1, "{section}");
    assert!(balanced(&html));
}

#[test]
fn names_on_the_axis_of_a_learning_curve_do_not_overlap() {
    // All rows are hardly more than those at 32 a class.
    let mut report = full();
    let transfer = report.transfer.as_mut().unwrap();
    let mut close = transfer.points.last().unwrap().clone();
    (close.all, close.examples_a_class, close.items) = (false, 32.0, close.items - 1);
    transfer.points.insert(transfer.points.len() - 1, close);
    let html = render(&report);
    let curve = html.split("<title>Learning curve</title>").nth(1).unwrap().split("</svg>").next().unwrap();
    assert!(curve.contains(">all</text>") && !curve.contains(">32</text>"), "{curve}");
}
