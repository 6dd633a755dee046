//! Decoded pixels against Pillow's.

use headstart_media::{Format, Limits, decode, probe};

use crate::fixtures::Golden;

/// Largest and mean difference in levels.
fn difference(left: &[u8], right: &[u8]) -> (u8, f64) {
    assert_eq!(left.len(), right.len());
    let each = || left.iter().zip(right).map(|(a, b)| a.abs_diff(*b));
    (each().max().unwrap(), each().map(f64::from).sum::<f64>() / left.len() as f64)
}

#[test]
fn every_format_depth_and_orientation_decodes_as_pillow_decodes_it() {
    let pictures = Golden::load().pictures();
    assert!(pictures.len() > 90);
    let mut wrong = Vec::new();
    for picture in pictures {
        let image = match decode(&picture.bytes, &Limits::default()) {
            Ok(image) => image,
            Err(error) => {
                wrong.push(format!("{}: {error}", picture.file));
                continue;
            }
        };
        if (image.width(), image.height()) != (picture.width, picture.height) {
            wrong.push(format!("{}: {}×{}", picture.file, image.width(), image.height()));
            continue;
        }
        let (max, mean) = difference(&image.pixels(), &picture.rgb);
        if max > picture.difference_max || mean > picture.difference_mean {
            wrong.push(format!("{}: differs by up to {max} levels, {mean:.3} on average", picture.file));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_header_tells_format_and_stored_size_without_decoding() {
    for picture in Golden::load().pictures() {
        let header = probe(&picture.bytes, &Limits::default()).unwrap();
        let extension = picture.file.rsplit('.').next().unwrap();
        let format = match extension {
            "jpg" => Format::Jpeg,
            "png" => Format::Png,
            "webp" => Format::WebP,
            "gif" => Format::Gif,
            "bmp" => Format::Bmp,
            _ => Format::Tiff,
        };
        assert_eq!(header.format, format, "{}", picture.file);
        let turned =
            ["orientation-5", "orientation-6", "orientation-7", "orientation-8", "prefixed-7", "late-8"]
                .iter()
                .any(|turn| picture.file.contains(turn));
        let upright = (picture.width, picture.height);
        let stored = if turned { (upright.1, upright.0) } else { upright };
        assert_eq!((header.width, header.height), stored, "{}", picture.file);
    }
}
