//! Kernels against the plain sums that they stand for, in 64-bit floats.

use super::convolution::Convolution;
use super::machine::{FORCED, Kind, kind};
use super::operand::Matrix;
use super::product::{Product, Threads};
use super::windows::Sliding;
use super::{curves, rows};

/// Threads of our own, as the session's are not there.
struct Own(usize);

impl Threads for Own {
    fn count(&self) -> usize {
        self.0
    }

    fn run(&self, parts: usize, part: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for first in 0..self.0 {
                scope.spawn(move || (first..parts).step_by(self.0).for_each(part));
            }
        });
    }
}

/// Numbers from -1 to 1 that look random.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// How far a result is from the exact one, in relative L2.
#[track_caller]
fn assert_near(found: &[f32], exact: &[f64], what: &str) {
    assert_eq!(found.len(), exact.len(), "{what}");
    let off: f64 = found.iter().zip(exact).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
    let size: f64 = exact.iter().map(|value| value * value).sum();
    assert!(off.sqrt() <= 1e-6 * size.sqrt().max(1e-30), "{what}: {} of {}", off.sqrt(), size.sqrt());
}

/// Has a test done with each way of multiplying that this machine has.
fn each_kind(test: fn()) {
    let kinds = match kind() {
        Kind::Tiles => &[Kind::Tiles, Kind::Vectors][..],
        Kind::Vectors => &[Kind::Vectors],
        Kind::Neither => &[],
    };
    for kind in kinds {
        FORCED.set(Some(*kind));
        test();
    }
    FORCED.set(None);
}

#[test]
fn products_are_those_of_their_definition() {
    each_kind(products);
}

fn products() {
    let turns = [(false, false), (true, false), (false, true), (true, true)];
    let sizes = [(1, 1, 1), (13, 45, 31), (50, 70, 33), (64, 96, 800), (500, 33, 65), (3, 40, 0)];
    for ((m, n, k), (turn_a, turn_b)) in sizes.into_iter().flat_map(|size| turns.map(|turn| (size, turn))) {
        let (a, b, bias, start) = (noise(m * k, 1), noise(k * n, 2), noise(n, 3), noise(m * n, 4));
        let left = Matrix::new(&a, if turn_a { m } else { k }, turn_a);
        let right = Matrix::new(&b, if turn_b { k } else { n }, !turn_b);
        let product = Product {
            left: &left,
            right: &right,
            stack: 1,
            rows: m,
            columns: n,
            depth: k,
            by_row: None,
            by_column: Some(&bias),
            add: true,
            bounds: None,
        };
        let mut c = start.clone();
        product.run(&mut c, &Own(2));
        let exact = |at: usize| {
            let (i, j) = (at / n, at % n);
            let a = |q: usize| f64::from(if turn_a { a[q * m + i] } else { a[i * k + q] });
            let b = |q: usize| f64::from(if turn_b { b[j * k + q] } else { b[q * n + j] });
            f64::from(start[at]) + f64::from(bias[j]) + (0..k).map(|q| a(q) * b(q)).sum::<f64>()
        };
        let exact: Vec<f64> = (0..m * n).map(exact).collect();
        assert_near(&c, &exact, &format!("{m} × {n} × {k}, turned {turn_a} {turn_b}"));
        let mut again = start;
        product.run(&mut again, &Own(5));
        assert_eq!(c, again, "threads change no bit");
    }
}

/// Convolutions of each kind: kernels, strides, dilations, lopsided padding, images that windows do not fill.
fn convolutions() -> Vec<Convolution> {
    let mut all = Vec::new();
    for (kernel, strides, dilations, pads, image) in [
        ([1, 1], [1, 1], [1, 1], [0, 0, 0, 0], [5, 7]),
        ([1, 1], [2, 2], [1, 1], [0, 0, 0, 0], [7, 8]),
        ([3, 3], [1, 1], [1, 1], [1, 1, 1, 1], [7, 20]),
        ([3, 3], [2, 2], [1, 1], [0, 0, 1, 1], [8, 38]),
        ([3, 3], [2, 2], [1, 1], [1, 1, 1, 1], [9, 9]),
        ([5, 3], [1, 2], [1, 1], [2, 0, 1, 2], [11, 6]),
        ([3, 2], [1, 1], [2, 3], [2, 3, 0, 1], [6, 19]),
        ([7, 7], [2, 2], [1, 1], [3, 3, 3, 3], [20, 33]),
        ([3, 3], [3, 3], [1, 1], [0, 0, 0, 0], [11, 12]),
        ([5, 5], [1, 1], [1, 1], [2, 2, 2, 2], [2, 3]),
    ] {
        let windows = [0, 1].map(|axis| {
            let extent = (kernel[axis] - 1) * dilations[axis] + 1;
            (image[axis] + pads[axis] + pads[axis + 2] - extent) / strides[axis] + 1
        });
        let sliding = Sliding { kernel, strides, dilations, before: [pads[0], pads[1]], image, windows };
        all.push(Convolution { batch: 3, inner: 5, outer: 34, alone: false, sliding });
        all.push(Convolution { batch: 2, inner: 6, outer: 6, alone: true, sliding });
    }
    all
}

/// Calls `each` with the places in image, weight and windows of every product of a convolution.
fn terms(convolution: &Convolution, mut each: impl FnMut(usize, usize, usize)) {
    let Convolution { batch, inner, outer, alone, sliding } = *convolution;
    let channels = if alone { 1 } else { inner };
    for (n, k, c) in
        (0..batch).flat_map(|n| (0..outer).flat_map(move |k| (0..channels).map(move |c| (n, k, c))))
    {
        for (tap, window) in (0..sliding.taps()).flat_map(|tap| (0..sliding.count()).map(move |o| (tap, o))) {
            let along = |axis: usize, tap: usize, window: usize| {
                let place = window * sliding.strides[axis] + tap * sliding.dilations[axis];
                place.checked_sub(sliding.before[axis]).filter(|place| *place < sliding.image[axis])
            };
            let y = along(0, tap / sliding.kernel[1], window / sliding.windows[1]);
            let x = along(1, tap % sliding.kernel[1], window % sliding.windows[1]);
            let (Some(y), Some(x)) = (y, x) else { continue };
            let channel = if alone { k } else { c };
            let image = (n * inner + channel) * sliding.pixels() + y * sliding.image[1] + x;
            each(
                image,
                (k * channels + c) * sliding.taps() + tap,
                (n * outer + k) * sliding.count() + window,
            );
        }
    }
}

#[test]
fn convolutions_and_their_gradients_are_those_of_their_definition() {
    each_kind(convolve);
}

/// Where the windows are cut off.
const BOUNDS: [f32; 2] = [-0.5, 1.5];

fn convolve() {
    for convolution in convolutions() {
        let Convolution { batch, inner, outer, alone, sliding } = convolution;
        let channels = if alone { 1 } else { inner };
        let x = noise(batch * inner * sliding.pixels(), 1);
        let w = noise(outer * channels * sliding.taps(), 2);
        let (bias, dy) = (noise(outer, 3), noise(batch * outer * sliding.count(), 4));
        let of = |values: &[f32], at: usize| f64::from(values[at]);
        let by_channel = |at: usize| at / sliding.count() % outer;
        let mut y: Vec<f64> = (0..dy.len()).map(|at| of(&bias, by_channel(at))).collect();
        let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
        terms(&convolution, |image, weight, window| {
            y[window] += of(&x, image) * of(&w, weight);
            dx[image] += of(&dy, window) * of(&w, weight);
            dw[weight] += of(&dy, window) * of(&x, image);
        });
        y.iter_mut().for_each(|y| *y = y.clamp(f64::from(BOUNDS[0]), f64::from(BOUNDS[1])));
        let mut db = vec![0.0; outer];
        (0..dy.len()).for_each(|at| db[by_channel(at)] += of(&dy, at));
        let run = |threads: usize| {
            let threads = &Own(threads);
            let [mut y2, mut dx2, mut dw2, mut db2] =
                [y.len(), dx.len(), dw.len(), db.len()].map(|size| vec![f32::NAN; size]);
            convolution.forward(&x, (&w, Some(&bias)), Some(BOUNDS), &mut y2, threads);
            convolution.image_gradient(&dy, &w, &mut dx2, &mut Vec::new(), threads);
            convolution.weight_gradient(&dy, &x, &mut dw2, Some(&mut db2), threads);
            [y2, dx2, dw2, db2]
        };
        let found = run(2);
        for ((found, exact), what) in found.iter().zip([&y, &dx, &dw, &db]).zip(["y", "dx", "dW", "db"]) {
            assert_near(found, exact, &format!("{what} of {convolution:?}"));
        }
        assert_eq!(found, run(1), "threads change no bit of {convolution:?}");
    }
}

#[test]
fn gradients_of_rows_are_those_of_their_definition() {
    for width in [1, 7, 16, 45] {
        let count = 5 * width;
        let (dy, x, scale) = (noise(count, 1), noise(count, 2), noise(width, 3));
        let (means, inverses) = (noise(5, 4), noise(5, 5));
        let mut dx = dy.clone();
        rows::softmax(&mut dx, &x, width);
        let dot = |row: usize| {
            (0..width).map(|at| f64::from(dy[row * width + at]) * f64::from(x[row * width + at])).sum::<f64>()
        };
        let exact: Vec<f64> =
            (0..count).map(|at| f64::from(x[at]) * (f64::from(dy[at]) - dot(at / width))).collect();
        assert_near(&dx, &exact, "softmax");
        let mut dx = dy.clone();
        let (mut scales, mut biases) = (vec![0.0; width], vec![0.0; width]);
        let norm = rows::Norm { scale: &scale, means: &means, inverses: &inverses };
        rows::layer_norm(&mut dx, &x, norm, (&mut scales, &mut biases));
        let of = |at: usize| (at / width, at % width);
        let inverse = |at: usize| f64::from(inverses[of(at).0]);
        let normal = |at: usize| (f64::from(x[at]) - f64::from(means[of(at).0])) * inverse(at);
        let scaled = |at: usize| f64::from(dy[at]) * f64::from(scale[of(at).1]);
        let mean = |row: usize, value: &dyn Fn(usize) -> f64| {
            (row * width..(row + 1) * width).map(value).sum::<f64>() / width as f64
        };
        let exact = |at: usize| {
            let row = of(at).0;
            let along = mean(row, &|at| scaled(at) * normal(at));
            (scaled(at) - mean(row, &scaled) - normal(at) * along) * inverse(at)
        };
        // A row of one number has the gradient 0, of which rounding is left.
        if width > 1 {
            assert_near(&dx, &(0..count).map(exact).collect::<Vec<_>>(), "layer norm");
        }
        let column = |value: &dyn Fn(usize) -> f64| -> Vec<f64> {
            (0..width).map(|at| (0..5).map(|row| value(row * width + at)).sum()).collect()
        };
        assert_near(&scales, &column(&|at| f64::from(dy[at]) * normal(at)), "scale");
        assert_near(&biases, &column(&|at| f64::from(dy[at])), "bias");
    }
}

#[test]
fn what_lies_between_bounds_passes_and_nothing_else() {
    let mut dx = vec![1.0, 2.0, 3.0, 4.0, 5.0];
    curves::within(&mut dx, &[-1.0, 0.0, 0.5, 6.0, 5.9], [0.0, 6.0]);
    assert_eq!(dx, [0.0, 0.0, 3.0, 0.0, 5.0]);
}
