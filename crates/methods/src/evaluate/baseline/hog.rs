//! Histograms of oriented gradients (Dalal and Triggs 2005), with the choices of scikit-image's `hog`.

use ndarray::{Array2, Array3, ArrayView2, s};

/// Directions of a histogram, over 180°.
const DIRECTIONS: usize = 9;

/// Pixels along a cell's side.
const CELL: usize = 16;

/// Cells along a block's side.
const BLOCK: usize = 2;

/// Clip of the L2-Hys norm, and what keeps it from dividing by zero.
const CLIP: f64 = 0.2;
const EPSILON: f64 = 1e-5;

/// The descriptor of a grey picture `[height, width]`: for each block, row by row, the histograms of its cells, each of
/// nine directions, as one L2-Hys-normalised run. Pixels beyond the last whole cell do not count.
pub fn hog(grey: ArrayView2<'_, f64>) -> Vec<f64> {
    let cells = cells(grey);
    let (down, across, _) = cells.dim();
    let mut descriptor = Vec::new();
    for row in 0..(down + 1).saturating_sub(BLOCK) {
        for column in 0..(across + 1).saturating_sub(BLOCK) {
            let block = cells.slice(s![row..row + BLOCK, column..column + BLOCK, ..]);
            let mut block: Vec<f64> = block.iter().copied().collect();
            normalise(&mut block);
            block.iter_mut().for_each(|value| *value = value.min(CLIP));
            normalise(&mut block);
            descriptor.append(&mut block);
        }
    }
    descriptor
}

/// Mean gradient by cell and direction: `[cells down, cells across, directions]`.
fn cells(grey: ArrayView2<'_, f64>) -> Array3<f64> {
    let (down, across) = gradients(grey);
    let (height, width) = (grey.nrows() / CELL, grey.ncols() / CELL);
    let mut cells = Array3::zeros((height, width, DIRECTIONS));
    for row in 0..height * CELL {
        for column in 0..width * CELL {
            let (down, across) = (down[[row, column]], across[[row, column]]);
            let degrees = down.atan2(across).to_degrees().rem_euclid(180.0);
            let direction = (degrees * DIRECTIONS as f64 / 180.0) as usize % DIRECTIONS;
            cells[[row / CELL, column / CELL, direction]] += down.hypot(across) / (CELL * CELL) as f64;
        }
    }
    cells
}

/// Differences of the neighbours on both sides, down and across; zero at the border.
fn gradients(grey: ArrayView2<'_, f64>) -> (Array2<f64>, Array2<f64>) {
    let mut down = Array2::zeros(grey.dim());
    let mut across = Array2::zeros(grey.dim());
    let (height, width) = grey.dim();
    if height > 2 {
        down.slice_mut(s![1..height - 1, ..])
            .assign(&(&grey.slice(s![2.., ..]) - &grey.slice(s![..height - 2, ..])));
    }
    if width > 2 {
        across
            .slice_mut(s![.., 1..width - 1])
            .assign(&(&grey.slice(s![.., 2..]) - &grey.slice(s![.., ..width - 2])));
    }
    (down, across)
}

fn normalise(block: &mut [f64]) {
    let length = (block.iter().map(|value| value * value).sum::<f64>() + EPSILON * EPSILON).sqrt();
    block.iter_mut().for_each(|value| *value /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_one_colour_has_no_gradients_and_a_small_one_no_blocks() {
        assert!(hog(Array2::from_elem((64, 48), 0.7).view()).iter().all(|value| *value == 0.0));
        assert_eq!(hog(Array2::from_elem((64, 48), 0.7).view()).len(), 3 * 2 * 4 * 9);
        assert!(hog(Array2::from_elem((1, 20), 0.7).view()).is_empty());
    }
}
