//! Weights rounded to signed bytes on which no kernel saturates, number for number as `tools/backbones/int8_rounding.py`
//! rounds them.
//!
//! CPUs without VNNI multiply bytes by PMADDUBSW, which adds the products of two neighbouring inputs in 16 bits and
//! saturates: an activation of up to 255 against two weights of one sign has to stay within ±32,767. So the sum of such two
//! is held to 128, while a lone large weight keeps its eight bits.

use multiversion::multiversion;

const LARGEST: f64 = 127.0;
const LARGEST_PAIR: f64 = 128.0;

/// What zeros are taken for, so that their step is above zero.
const LEAST: f64 = 1e-12;

/// Steps tried for each column, as shares of largest weight / 127: so many, evenly from the first to the last. At 2 a column
/// keeps the seven bits that never need a cut.
const SHARES: (f64, f64, u32) = (0.8, 2.0, 25);

/// A matrix in signed bytes, in row order, and the step of each of its columns or rows.
#[derive(Debug, PartialEq)]
pub(super) struct Rounded {
    pub(super) bytes: Vec<i8>,
    pub(super) steps: Vec<f32>,
}

/// What meets a kernel: `[inputs, outputs]` in row order, a step a column, that of the least squared error. Rows 2k and
/// 2k + 1 are neighbours.
pub(super) fn by_column(values: &[f32], outputs: usize) -> Rounded {
    let outputs = outputs.max(1);
    let mut widest = vec![LEAST; outputs];
    for row in values.chunks_exact(outputs) {
        widest.iter_mut().zip(row).for_each(|(widest, value)| *widest = widest.max(f64::from(value.abs())));
    }
    // Beside the last of an odd number of rows stands nothing.
    let nothing = vec![0.0; outputs];
    let nothing = nothing.as_slice();
    let pairs = || {
        values.chunks(2 * outputs).map(move |rows| match rows.split_at(outputs.min(rows.len())) {
            (alone, []) => (alone, nothing),
            both => both,
        })
    };
    let (mut steps, mut least) = (vec![0.0; outputs], vec![f64::INFINITY; outputs]);
    for share in shares() {
        let tried: Vec<f64> =
            widest.iter().map(|widest| f64::from((widest / LARGEST * share) as f32)).collect();
        let mut errors = vec![0.0; outputs];
        for (first, second) in pairs() {
            add_errors(first, second, &tried, &mut errors);
        }
        for (((step, least), tried), error) in steps.iter_mut().zip(&mut least).zip(tried).zip(errors) {
            if error < *least {
                (*step, *least) = (tried, error);
            }
        }
    }
    let mut bytes = vec![0; values.len().next_multiple_of(2 * outputs)];
    for ((first, second), into) in pairs().zip(bytes.chunks_exact_mut(2 * outputs)) {
        let (upper, lower) = into.split_at_mut(outputs);
        for ((((first, second), step), upper), lower) in
            first.iter().zip(second).zip(&steps).zip(upper).zip(lower)
        {
            let (first, second) = within_pair(f64::from(*first) / step, f64::from(*second) / step);
            (*upper, *lower) = (first as i8, second as i8);
        }
    }
    bytes.truncate(values.len());
    Rounded { bytes, steps: steps.into_iter().map(|step| step as f32).collect() }
}

/// What meets no kernel: a table, a step a row.
pub(super) fn by_row(values: &[f32], columns: usize) -> Rounded {
    let mut rounded = Rounded { bytes: Vec::with_capacity(values.len()), steps: Vec::new() };
    for row in values.chunks_exact(columns.max(1)) {
        let widest = row.iter().fold(LEAST as f32, |widest, value| widest.max(value.abs()));
        let step = widest / LARGEST as f32;
        rounded.steps.push(step);
        rounded.bytes.extend(row.iter().map(|value| (value / step).round_ties_even() as i8));
    }
    rounded
}

fn shares() -> impl Iterator<Item = f64> {
    let (first, last, count) = SHARES;
    let step = (last - first) / f64::from(count - 1);
    (0..count - 1).map(move |at| f64::from(at) * step + first).chain([last])
}

/// Adds to each column's squared error what is lost of two neighbouring rows.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn add_errors(first: &[f32], second: &[f32], steps: &[f64], errors: &mut [f64]) {
    for (((first, second), step), error) in first.iter().zip(second).zip(steps).zip(errors) {
        let (first, second) = (f64::from(*first), f64::from(*second));
        let (upper, lower) = within_pair(first / step, second / step);
        let (upper, lower) = (upper * step - first, lower * step - second);
        *error = *error + upper * upper + lower * lower;
    }
}

/// Rounds two neighbours, and takes what they have too much of one sign from both alike.
#[inline(always)]
fn within_pair(first: f64, second: f64) -> (f64, f64) {
    let first = first.round_ties_even().clamp(-LARGEST, LARGEST);
    let second = second.round_ties_even().clamp(-LARGEST, LARGEST);
    let over = (first.abs() + second.abs() - LARGEST_PAIR).max(0.0);
    let excess = if first * second > 0.0 { over } else { 0.0 };
    // Neither is above 127: a sum above 128 loses at most half its excess from the smaller one, which stays above zero.
    let from_first = (excess / 2.0).ceil();
    let from_second = excess - from_first;
    ((first.abs() - from_first).copysign(first), (second.abs() - from_second).copysign(second))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::rng::Rng;

    /// What `tools/golden/rounding.py` made of the same numbers.
    #[derive(Deserialize)]
    struct Case {
        seed: u64,
        rows: usize,
        columns: usize,
        by_column: Expected,
        by_row: Expected,
    }

    #[derive(Deserialize)]
    struct Expected {
        bytes: Vec<i8>,
        steps: Vec<f32>,
    }

    impl Expected {
        fn is(self, found: &Rounded) -> bool {
            let (bytes, steps) = (self.bytes, self.steps);
            Rounded { bytes, steps } == *found
        }
    }

    /// The numbers of `matrix` in the script: most small, some large, a column and a row of zeros.
    fn matrix(seed: u64, rows: usize, columns: usize) -> Vec<f32> {
        let mut chance = Rng::new(seed);
        let mut number = || {
            let drawn = chance.unit() * 2.0 - 1.0;
            (drawn * drawn * drawn) as f32
        };
        let zero = |at: usize| at / columns == 1 || at % columns == 1;
        (0..rows * columns)
            .map(|at| (number(), at))
            .map(|(value, at)| if zero(at) { 0.0 } else { value })
            .collect()
    }

    #[test]
    fn weights_are_rounded_to_the_bytes_and_steps_of_the_script_that_made_the_bundled_file() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../tests/golden/rounding.json")).unwrap();
        assert!(cases.len() > 2);
        for case in cases {
            let values = matrix(case.seed, case.rows, case.columns);
            assert!(case.by_column.is(&by_column(&values, case.columns)), "columns of {}", case.seed);
            assert!(case.by_row.is(&by_row(&values, case.columns)), "rows of {}", case.seed);
        }
    }

    #[test]
    fn no_two_neighbours_of_one_sign_saturate_sixteen_bits_also_where_all_weights_are_as_large() {
        for (rows, columns) in [(64, 9), (63, 8), (1, 3), (2, 1)] {
            for values in [matrix(5, rows, columns), vec![-0.7; rows * columns]] {
                let Rounded { bytes, steps } = by_column(&values, columns);
                assert_eq!((bytes.len(), steps.len()), (values.len(), columns));
                for pair in bytes.chunks(2 * columns) {
                    let (first, second) = pair.split_at(columns);
                    for (first, second) in first.iter().zip(second) {
                        let sum = i32::from(*first) + i32::from(*second);
                        assert!(*first != i8::MIN && *second != i8::MIN);
                        assert!(
                            i32::from(*first) * i32::from(*second) <= 0 || sum.abs() <= 128,
                            "{first} {second}"
                        );
                    }
                }
            }
        }
    }
}
