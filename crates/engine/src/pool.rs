//! Token vectors to one vector an item, read in place from the runtime's output.

use headstart_types::manifest::Pooling;

/// Pools one item's token vectors.
///
/// `tokens` is `[padded, dimension]` in row order, of which the first `length` rows are real; the result has
/// `dimension` values and is not normalised. A length of zero gives zeros. Source: Reimers & Gurevych 2019, §3.
pub(crate) fn pool(tokens: &[f32], dimension: usize, length: usize, pooling: Pooling) -> Vec<f32> {
    let mut rows = tokens.chunks_exact(dimension).take(length);
    match pooling {
        Pooling::Cls | Pooling::None => rows.next().map_or_else(|| vec![0.0; dimension], <[f32]>::to_vec),
        Pooling::Last => rows.next_back().map_or_else(|| vec![0.0; dimension], <[f32]>::to_vec),
        Pooling::Mean => {
            let mut sum = vec![0.0f32; dimension];
            for row in rows {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            let scale = 1.0 / length.max(1) as f32;
            sum.iter_mut().for_each(|value| *value *= scale);
            sum
        }
        Pooling::Max => {
            let Some(first) = rows.next() else { return vec![0.0; dimension] };
            let mut largest = first.to_vec();
            for row in rows {
                largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(*value));
            }
            largest
        }
    }
}

/// Pools one item's map `[dimension, places]`, channels first: the mean of each channel, or its largest value.
pub(crate) fn pool_planes(map: &[f32], places: usize, pooling: Pooling) -> Vec<f32> {
    let planes = map.chunks_exact(places);
    match pooling {
        Pooling::Max => planes.map(|plane| plane.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect(),
        Pooling::Mean | Pooling::Cls | Pooling::Last | Pooling::None => {
            let scale = 1.0 / places.max(1) as f32;
            planes.map(|plane| plane.iter().sum::<f32>() * scale).collect()
        }
    }
}

/// Scales a vector to unit length; a zero vector stays zero.
pub(crate) fn normalise(vector: &mut [f32]) {
    let norm = vector.iter().map(|value| f64::from(*value) * f64::from(*value)).sum::<f64>().sqrt();
    if norm > 0.0 {
        let scale = (1.0 / norm) as f32;
        vector.iter_mut().for_each(|value| *value *= scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: [f32; 8] = [1.0, -2.0, 3.0, 4.0, 5.0, 0.0, 100.0, 100.0];

    #[test]
    fn each_pooling_reads_the_real_tokens_only() {
        assert_eq!(pool(&TOKENS, 2, 3, Pooling::Cls), [1.0, -2.0]);
        assert_eq!(pool(&TOKENS, 2, 3, Pooling::Last), [5.0, 0.0]);
        assert_eq!(pool(&TOKENS, 2, 3, Pooling::Max), [5.0, 4.0]);
        let mean = pool(&TOKENS, 2, 3, Pooling::Mean);
        assert!((mean[0] - 3.0).abs() < 1e-6 && (mean[1] - 2.0 / 3.0).abs() < 1e-6, "{mean:?}");
    }

    #[test]
    fn an_item_without_tokens_pools_to_zeros() {
        for pooling in [Pooling::Cls, Pooling::Last, Pooling::Max, Pooling::Mean] {
            assert_eq!(pool(&TOKENS, 2, 0, pooling), [0.0, 0.0]);
        }
    }

    #[test]
    fn a_map_pools_channel_by_channel() {
        let map = [1.0, 2.0, 3.0, 6.0, -1.0, -2.0, -3.0, -6.0];
        assert_eq!(pool_planes(&map, 4, Pooling::Mean), [3.0, -3.0]);
        assert_eq!(pool_planes(&map, 4, Pooling::Max), [6.0, -1.0]);
    }

    #[test]
    fn a_normalised_vector_has_length_one_and_zero_stays_zero() {
        let mut vector = [3.0, 4.0];
        normalise(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
        let mut zero = [0.0, 0.0];
        normalise(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
