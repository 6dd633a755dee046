//! Resized pixels against Pillow's, byte for byte, and the tensor made of them.

use headstart_media::{RgbImage8, preprocess};
use headstart_types::manifest::{ChannelOrder, Filter, Fit, ImageSpec, Layout};

use crate::fixtures::{Golden, bytes_spec, number, text};

#[test]
fn resizing_and_cropping_equal_pillow_and_torchvision_byte_for_byte() {
    let golden = Golden::load();
    let cases = golden.list("resizes");
    assert!(cases.len() >= 39);
    for case in cases {
        let source = golden.source(text(case, "source"));
        let (width, height) = (number(source, "width"), number(source, "height"));
        let pixels = golden.pixels(number(source, "offset"), width, height).to_vec();
        let image = RgbImage8::new(width as u32, height as u32, pixels).unwrap();
        let filter = match text(case, "filter") {
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            _ => Filter::Lanczos,
        };
        let size = number(case, "size");
        let spec = bytes_spec(size as u32, number(case, "resize") as u32, filter);
        let bytes: Vec<u8> = preprocess(&image, &spec).iter().map(|&value| value as u8).collect();
        assert!(bytes == golden.pixels(number(case, "offset"), size, size), "{case}");
    }
}

#[test]
fn channel_order_layout_and_normalisation_follow_the_manifest() {
    let image = RgbImage8::new(2, 2, vec![10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120]).unwrap();
    let spec = ImageSpec {
        scale: 0.5,
        mean: [1.0, 2.0, 3.0],
        std: [2.0, 4.0, 8.0],
        channel_order: ChannelOrder::Bgr,
        layout: Layout::Nchw,
        ..bytes_spec(2, 2, Filter::Bicubic)
    };
    let normalised = |byte: f32, channel: usize| (byte * 0.5 - spec.mean[channel]) / spec.std[channel];
    let planes: Vec<f32> = [[30.0, 60.0, 90.0, 120.0], [20.0, 50.0, 80.0, 110.0], [10.0, 40.0, 70.0, 100.0]]
        .iter()
        .enumerate()
        .flat_map(|(channel, plane)| plane.map(|byte| normalised(byte, channel)))
        .collect();
    assert_eq!(preprocess(&image, &spec), planes);
    let interleaved: Vec<f32> =
        (0..4).flat_map(|pixel| [0, 1, 2].map(|channel| planes[channel * 4 + pixel])).collect();
    assert_eq!(preprocess(&image, &ImageSpec { layout: Layout::Nhwc, ..spec }), interleaved);
}

#[test]
fn what_lies_outside_of_a_small_picture_is_black_before_normalising() {
    let image = RgbImage8::new(1, 1, vec![255; 3]).unwrap();
    let spec = ImageSpec { mean: [10.0; 3], ..bytes_spec(4, 2, Filter::Bilinear) };
    let tensor = preprocess(&image, &spec);
    for (index, value) in tensor.iter().enumerate() {
        let (row, column) = (index / 3 / 4, index / 3 % 4);
        let inside = (1..3).contains(&row) && (1..3).contains(&column);
        assert_eq!(*value, if inside { 245.0 } else { -10.0 }, "{row}, {column}");
    }
}

#[test]
fn a_strip_of_extreme_ratio_costs_no_more_than_its_crop() {
    // Enlarged whole, this would have 224 × 224,000,000 pixels.
    for (width, height) in [(1_000_000, 1), (1, 1_000_000)] {
        let image = RgbImage8::new(width, height, vec![7; 3_000_000]).unwrap();
        let tensor = preprocess(&image, &bytes_spec(224, 224, Filter::Lanczos));
        assert!(tensor.iter().all(|&value| value == 7.0));
        let stretched = ImageSpec { fit: Fit::Stretch, ..bytes_spec(224, 224, Filter::Lanczos) };
        assert!(preprocess(&image, &stretched).iter().all(|&value| value == 7.0));
    }
}
