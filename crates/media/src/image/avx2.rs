//! The resampling passes for processors with AVX2: three to four times as fast, to the same bytes.
//!
//! The crate's only `unsafe` code is the two calls below, which leave the baseline instruction set.
#![expect(
    unsafe_code,
    reason = "calling code compiled for AVX2 is unsafe unless the whole build assumes AVX2"
)]

use std::arch::x86_64::{
    __m256i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_packs_epi32, _mm_packus_epi16, _mm_set_epi64x,
    _mm_set1_epi32, _mm_srai_epi32, _mm256_add_epi32, _mm256_broadcastsi128_si256, _mm256_castsi256_si128,
    _mm256_extracti128_si256, _mm256_mullo_epi32, _mm256_setr_epi8, _mm256_setr_epi32, _mm256_setzero_si256,
    _mm256_shuffle_epi8,
};

use super::resample::{Ring, columns};
use super::taps::{HALF, PRECISION_BITS, Taps};

/// Pixels whose products one step sums.
const GROUP: usize = 4;
/// Bytes one step reads: four pixels, and the rest of a register.
const READ: usize = 16;

/// Weights in the order the registers hold them: of each group of four, the first and third pixel's in the lower
/// half, the second and fourth's in the upper, once for every colour and once for the unused lane.
pub(super) struct WideTaps {
    /// First input position and number of groups, a wanted position each.
    windows: Vec<(usize, usize)>,
    groups: Vec<[[i32; 8]; 2]>,
    reach: usize,
}

impl WideTaps {
    pub(super) fn new(taps: &Taps) -> Self {
        let mut wide = Self { windows: Vec::with_capacity(taps.len()), groups: Vec::new(), reach: 0 };
        for (start, weights) in taps.iter() {
            let groups = weights.chunks(GROUP).map(|group| {
                let w = |index: usize| group.get(index).copied().unwrap_or(0);
                [[0, 1], [2, 3]]
                    .map(|[low, high]| std::array::from_fn(|lane| w(if lane < 4 { low } else { high })))
            });
            wide.groups.extend(groups);
            let count = weights.len().div_ceil(GROUP);
            wide.windows.push((start, count));
            wide.reach = wide.reach.max((start + count * GROUP) * 3 + READ - GROUP * 3);
        }
        wide
    }

    /// Bytes that must follow a row's beginning: the last step reads past the pixels it weighs.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }
}

/// Proof that the processor has AVX2.
pub(super) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    /// The pass along a row; at least [`WideTaps::reach`] bytes of `pixels`.
    pub(super) fn row(&self, pixels: &[u8], taps: &WideTaps, out: &mut [u8]) {
        // SAFETY: `self` exists only where AVX2 was detected, and the function asks for nothing else.
        unsafe { row(pixels, taps, out) }
    }

    /// The pass along all columns for one output row.
    pub(super) fn columns(
        &self,
        ring: &Ring,
        start: usize,
        weights: &[i32],
        sums: &mut [i32],
        out: &mut [u8],
    ) {
        // SAFETY: `self` exists only where AVX2 was detected, and the function asks for nothing else.
        unsafe { columns_wide(ring, start, weights, sums, out) }
    }
}

#[target_feature(enable = "avx2")]
fn row(pixels: &[u8], taps: &WideTaps, out: &mut [u8]) {
    // Spread two pixels of four over eight lanes of 32 bits: R, G, B, nothing, R, G, B, nothing.
    const N: i8 = -1;
    let first = _mm256_setr_epi8(
        0, N, N, N, 1, N, N, N, 2, N, N, N, N, N, N, N, 3, N, N, N, 4, N, N, N, 5, N, N, N, N, N, N, N,
    );
    let second = _mm256_setr_epi8(
        6, N, N, N, 7, N, N, N, 8, N, N, N, N, N, N, N, 9, N, N, N, 10, N, N, N, 11, N, N, N, N, N, N, N,
    );
    let mut groups = &taps.groups[..];
    for (rgb, &(start, count)) in out.as_chunks_mut::<3>().0.iter_mut().zip(&taps.windows) {
        let (window, rest) = groups.split_at(count);
        groups = rest;
        let source = &pixels[start * 3..][..count * GROUP * 3 + READ - GROUP * 3];
        let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (index, weights) in window.iter().enumerate() {
            let Some(bytes) = source[index * GROUP * 3..].first_chunk::<READ>() else { break };
            let bytes = twice(bytes);
            let low = _mm256_mullo_epi32(_mm256_shuffle_epi8(bytes, first), lanes(&weights[0]));
            let high = _mm256_mullo_epi32(_mm256_shuffle_epi8(bytes, second), lanes(&weights[1]));
            even = _mm256_add_epi32(even, low);
            odd = _mm256_add_epi32(odd, high);
        }
        let sum = _mm256_add_epi32(even, odd);
        let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let sum = _mm_srai_epi32::<{ PRECISION_BITS as i32 }>(_mm_add_epi32(sum, _mm_set1_epi32(HALF)));
        // Both packings saturate, which is the clamp to 0…255.
        let words = _mm_packs_epi32(sum, sum);
        let [r, g, b, _] = _mm_cvtsi128_si32(_mm_packus_epi16(words, words)).to_le_bytes();
        *rgb = [r, g, b];
    }
}

#[target_feature(enable = "avx2")]
fn columns_wide(ring: &Ring, start: usize, weights: &[i32], sums: &mut [i32], out: &mut [u8]) {
    columns(ring, start, weights, sums, out);
}

/// The sixteen bytes in both halves of a register; compiles to one load.
#[target_feature(enable = "avx2")]
fn twice(bytes: &[u8; READ]) -> __m256i {
    let bits = u128::from_le_bytes(*bytes);
    _mm256_broadcastsi128_si256(_mm_set_epi64x((bits >> 64) as i64, bits as i64))
}

#[target_feature(enable = "avx2")]
fn lanes(weights: &[i32; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = *weights;
    _mm256_setr_epi32(a, b, c, d, e, f, g, h)
}

#[cfg(test)]
mod tests {
    use headstart_types::manifest::Filter;

    use super::super::resample;
    use super::super::taps::Span;
    use super::*;

    #[test]
    fn wide_and_plain_passes_give_the_same_bytes() {
        let Some(avx2) = Avx2::detect() else { return };
        let mut chance = 1_u32;
        let mut noise = |count: usize| -> Vec<u8> {
            let next = |_| {
                chance = chance.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                // Extremes and their neighbours, where overshoot and saturation show.
                [0, 255, (chance >> 24) as u8, 1][chance as usize >> 10 & 3]
            };
            (0..count).map(next).collect()
        };
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (input, output) in [(40, 40), (41, 17), (300, 9), (7, 50), (1, 5), (997, 31)] {
                let span = Span { input, output, first: 1, count: output as usize - 2 };
                let taps = Taps::new(filter, &span);
                let wide = WideTaps::new(&taps);
                let pixels = noise((input as usize * 3).max(wide.reach()));
                let (mut left, mut right) = (vec![0; taps.len() * 3], vec![0; taps.len() * 3]);
                resample::row(&pixels, &taps, &mut left);
                avx2.row(&pixels, &wide, &mut right);
                assert!(left == right, "{filter:?} {input} {output}");
            }
        }
    }
}
