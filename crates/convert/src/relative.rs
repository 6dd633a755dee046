//! MPNet's bias of attention by distance. Source: T5's buckets (Raffel et al. 2020, section 2.1), both directions apart.

/// Distance from which all count as one.
const FARTHEST: f32 = 128.0;

/// The bucket of a distance, key's place less query's. Computed in single precision, as the models were trained.
pub(crate) fn bucket(distance: i64, buckets: usize) -> usize {
    let half = buckets / 2;
    let begin = if distance > 0 { half } else { 0 };
    let far = distance.unsigned_abs() as usize;
    let exact = half / 2;
    if far < exact {
        return begin + far;
    }
    let share = (far as f32 / exact as f32).ln() / (FARTHEST / exact as f32).ln();
    let beyond = (share * (half - exact) as f32) as usize;
    begin + (exact + beyond).min(half - 1)
}

/// The bias of each distance from `−(places − 1)` to `places − 1` and each head: `[2 · places − 1, heads]`, from the table
/// `[buckets, heads]`.
pub(crate) fn by_distance(table: &[f32], buckets: usize, heads: usize, places: usize) -> Vec<f32> {
    let farthest = places as i64 - 1;
    let rows = (-farthest..=farthest).map(|distance| bucket(distance, buckets) * heads);
    rows.flat_map(|start| table.get(start..start + heads).unwrap_or_default().iter().copied()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_fall_into_the_buckets_of_the_paper() {
        // transformers' MPNetEncoder.relative_position_bucket, 32 buckets, 128 the farthest.
        let cases = [
            (0, 0),
            (-1, 1),
            (-7, 7),
            (-8, 8),
            (-11, 8),
            (-12, 9),
            (-16, 10),
            (-32, 12),
            (-64, 14),
            (-127, 15),
            (-128, 15),
            (-500, 15),
            (1, 17),
            (7, 23),
            (8, 24),
            (16, 26),
            (64, 30),
            (200, 31),
        ];
        for (distance, expected) in cases {
            assert_eq!(bucket(distance, 32), expected, "{distance}");
        }
        let table: Vec<f32> = (0..64).map(|value| value as f32).collect();
        assert_eq!(by_distance(&table, 32, 2, 2), [2.0, 3.0, 0.0, 1.0, 34.0, 35.0]);
    }
}
