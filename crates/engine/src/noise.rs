//! Made-up numbers to try graphs with.

/// Noise between −1 and 1, the same each time (a linear congruential generator with the constants of Numerical Recipes).
pub(crate) fn noise(count: usize) -> impl Iterator<Item = f32> {
    let mut state = 1_u32;
    (0..count).map(move |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    })
}
