//! Where an answer's time went: the same stages in `Server-Timing` and in the request's trace.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use headstart_tasks::Timings;

/// Times a request while it is being answered.
#[derive(Clone, Copy)]
pub(crate) struct Watch {
    started: Instant,
    decoded: Instant,
}

impl Watch {
    /// The body is about to be read.
    pub(crate) fn start() -> Self {
        let now = Instant::now();
        Self { started: now, decoded: now }
    }

    /// The fields are there.
    pub(crate) fn decoded(&mut self) {
        self.decoded = Instant::now();
    }
}

/// The stages of an answer, in their order. Preprocessing, waiting and computing are placed behind each other; where a
/// request's items did them side by side each counts by its longest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stages {
    /// When the first began.
    pub(crate) started: Instant,
    durations: [Duration; 5],
}

const NAMES: [&str; 5] = ["decode", "preprocess", "queue", "inference", "post"];

impl Stages {
    pub(crate) fn new(watch: Watch, timings: Timings, ended: Instant) -> Self {
        let Timings { preprocess, queue, inference } = timings;
        let decode = watch.decoded.duration_since(watch.started);
        let rest = ended.duration_since(watch.decoded).saturating_sub(preprocess + queue + inference);
        Self { started: watch.started, durations: [decode, preprocess, queue, inference, rest] }
    }

    /// Name, start after the first stage's, and length of each stage.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&'static str, Duration, Duration)> {
        NAMES.into_iter().zip(self.durations).scan(Duration::ZERO, |at, (name, length)| {
            let start = *at;
            *at += length;
            Some((name, start, length))
        })
    }

    /// The value of `Server-Timing`.
    pub(crate) fn header(&self) -> String {
        self.each().fold(String::new(), |mut text, (name, _, length)| {
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}{name};dur={:.3}", length.as_secs_f64() * 1e3);
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_stand_behind_each_other_and_make_up_the_whole() {
        let started = Instant::now();
        let ms = Duration::from_millis;
        let watch = Watch { started, decoded: started + ms(2) };
        let timings = Timings { preprocess: ms(3), queue: ms(5), inference: ms(7) };
        let stages = Stages::new(watch, timings, started + ms(28));
        let each: Vec<_> =
            stages.each().map(|(name, at, long)| (name, at.as_millis(), long.as_millis())).collect();
        let wanted =
            [("decode", 0, 2), ("preprocess", 2, 3), ("queue", 5, 5), ("inference", 10, 7), ("post", 17, 11)];
        assert_eq!(each, wanted);
        assert!(
            stages.header().starts_with("decode;dur=2.000, preprocess;dur=3.000, "),
            "{}",
            stages.header()
        );
    }
}
