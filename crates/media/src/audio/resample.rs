//! Band-limited resampling of a stream: output sample k lies exactly at input position k · from / to.

use std::sync::Arc;

use super::sinc::Filter;

/// Resamples mono samples that come in pieces. Before the first and behind the last sample there is silence.
pub struct Resampler {
    /// Output samples of `down` input samples, both without a common factor.
    up: u64,
    down: u64,
    filter: Option<Arc<Filter>>,
    /// Input that outputs to come still need.
    pending: Vec<f32>,
    /// Outputs made.
    made: u64,
    /// Where in `pending` the inputs of the next output begin; the output lies `part / up` of a sample behind them.
    next: usize,
    part: u64,
    /// Inputs taken.
    taken: u64,
}

impl Resampler {
    /// A resampler from and to so many samples a second; both at least 1.
    #[must_use]
    pub fn new(from: u32, to: u32) -> Self {
        let (from, to) = (u64::from(from.max(1)), u64::from(to.max(1)));
        let common = greatest_common_divisor(from, to);
        let (up, down) = (to / common, from / common);
        let filter = (up != down).then(|| Filter::of(up, down));
        let pending = vec![0.0; filter.as_ref().map_or(0, |filter| filter.half - 1)];
        Self { up, down, filter, pending, made: 0, next: 0, part: 0, taken: 0 }
    }

    /// Takes samples in, and puts out what can be told by now.
    pub fn push(&mut self, samples: &[f32], out: &mut Vec<f32>) {
        self.taken += samples.len() as u64;
        if self.filter.is_none() {
            out.extend_from_slice(samples);
            return;
        }
        self.pending.extend_from_slice(samples);
        self.make(u64::MAX, out);
    }

    /// Puts out the rest: in all, as many samples as fit into the time of those taken, rounded up.
    pub fn finish(mut self, out: &mut Vec<f32>) {
        let Some(filter) = &self.filter else { return };
        let silence = filter.half;
        self.pending.resize(self.pending.len() + silence, 0.0);
        let count = u128::from(self.taken) * u128::from(self.up);
        let count = u64::try_from(count.div_ceil(u128::from(self.down))).unwrap_or(u64::MAX);
        self.make(count, out);
    }

    /// Makes outputs before the `end`th whose inputs are there, and forgets inputs that no other needs.
    fn make(&mut self, end: u64, out: &mut Vec<f32>) {
        let Some(filter) = &self.filter else { return };
        while self.made < end {
            // The silence before the first sample makes up for those before a position.
            let Some(samples) = self.pending.get(self.next..self.next + 2 * filter.half) else { break };
            out.push(filter.at(samples, self.part, self.up));
            self.made += 1;
            self.part += self.down;
            self.next += (self.part / self.up) as usize;
            self.part %= self.up;
        }
        let unused = self.next.min(self.pending.len());
        self.pending.drain(..unused);
        self.next -= unused;
    }
}

fn greatest_common_divisor(mut left: u64, mut right: u64) -> u64 {
    while right > 0 {
        (left, right) = (right, left % right);
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resample(samples: &[f32], from: u32, to: u32, piece: usize) -> Vec<f32> {
        let (mut resampler, mut out) = (Resampler::new(from, to), Vec::new());
        samples.chunks(piece).for_each(|piece| resampler.push(piece, &mut out));
        resampler.finish(&mut out);
        out
    }

    fn tone(hertz: f64, rate: u32, count: usize) -> Vec<f32> {
        (0..count)
            .map(|i| (std::f64::consts::TAU * hertz * i as f64 / f64::from(rate)).sin() as f32)
            .collect()
    }

    /// Largest difference away from the edges, where there is silence beside the sound.
    fn error(left: &[f32], right: &[f32]) -> f32 {
        let inner = 400..left.len().min(right.len()) - 400;
        inner.map(|i| (left[i] - right[i]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_tone_stays_that_tone_at_any_ratio() {
        for (from, to) in [
            (8_000, 16_000),
            (44_100, 16_000),
            (48_000, 16_000),
            (11_025, 16_000),
            (16_000, 44_100),
            (44_099, 16_001),
        ] {
            let out = resample(&tone(997.0, from, from as usize), from, to, 1_000);
            assert_eq!(out.len(), to as usize);
            let error = error(&out, &tone(997.0, to, to as usize));
            assert!(error < 2e-4, "{from} to {to}: {error}");
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_hold_is_gone() {
        for (from, to, hertz) in
            [(48_000, 16_000, 9_000.0), (44_100, 16_000, 12_345.0), (96_000, 8_000, 5_000.0)]
        {
            let out = resample(&tone(hertz, from, from as usize), from, to, 4_096);
            let error = error(&out, &vec![0.0; to as usize]);
            assert!(error < 1e-4, "{hertz} Hz from {from} to {to}: {error}");
        }
    }

    #[test]
    fn pieces_of_any_length_give_the_same_samples() {
        let samples = tone(440.0, 44_100, 5_000);
        let whole = resample(&samples, 44_100, 16_000, 5_000);
        for piece in [1, 7, 333, 4_999] {
            assert_eq!(resample(&samples, 44_100, 16_000, piece), whole, "{piece}");
        }
        assert_eq!(whole.len(), 1_815);
    }

    #[test]
    fn equal_rates_change_nothing_and_nothing_stays_nothing() {
        let samples = tone(440.0, 16_000, 100);
        assert_eq!(resample(&samples, 16_000, 16_000, 30), samples);
        assert!(resample(&[], 8_000, 16_000, 1).is_empty());
    }
}
