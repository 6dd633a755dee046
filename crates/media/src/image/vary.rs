//! Pictures varied at random for training: a part of them, mirrored or not.

use super::RgbImage8;

/// The least share of a picture's area that is kept, and the widest and narrowest form of it. What training from scratch
/// takes, less wide: a pretrained network has seen the rest.
const AREA_LEAST: f64 = 0.5;
const FORMS: (f64, f64) = (0.8, 1.25);

/// A part of a picture, at least half of it and of nearly its form, mirrored in one case of two (Szegedy et al., "Going
/// deeper with convolutions", CVPR 2015, with a narrower range). `chance` gives numbers from 0 to below 1.
#[must_use]
pub fn vary(image: &RgbImage8, chance: &mut dyn FnMut() -> f64) -> RgbImage8 {
    let (width, height) = (f64::from(image.width()), f64::from(image.height()));
    let area = AREA_LEAST + (1.0 - AREA_LEAST) * chance();
    let form = (FORMS.0.ln() + (FORMS.1 / FORMS.0).ln() * chance()).exp().sqrt();
    let side = |length: f64, form: f64| ((length * area.sqrt() * form).round()).clamp(1.0, length);
    let (kept_width, kept_height) = (side(width, form), side(height, 1.0 / form));
    let left = ((width - kept_width) * chance()).round() as usize;
    let top = ((height - kept_height) * chance()).round() as usize;
    let mirrored = chance() < 0.5;
    part(image, (left, top), (kept_width as usize, kept_height as usize), mirrored)
        .unwrap_or_else(|| image.clone())
}

fn part(
    image: &RgbImage8,
    (left, top): (usize, usize),
    (width, height): (usize, usize),
    mirrored: bool,
) -> Option<RgbImage8> {
    let pixels = image.pixels();
    let row = image.width() as usize * 3;
    let mut kept = Vec::with_capacity(width * height * 3);
    for y in top..top + height {
        let line = pixels.get(y * row + left * 3..)?.get(..width * 3)?;
        if mirrored {
            line.as_chunks::<3>().0.iter().rev().for_each(|pixel| kept.extend_from_slice(pixel));
        } else {
            kept.extend_from_slice(line);
        }
    }
    RgbImage8::new(u32::try_from(width).ok()?, u32::try_from(height).ok()?, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture whose pixels say where they are.
    fn picture(width: u8, height: u8) -> RgbImage8 {
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [x, y, 7])).collect();
        RgbImage8::new(u32::from(width), u32::from(height), pixels).unwrap()
    }

    #[test]
    fn a_part_is_what_stands_there_and_mirrored_when_asked() {
        let image = picture(5, 4);
        let plain = part(&image, (1, 2), (3, 2), false).unwrap();
        assert_eq!(plain.pixels()[..6], [1, 2, 7, 2, 2, 7]);
        let mirrored = part(&image, (1, 2), (3, 2), true).unwrap();
        assert_eq!(mirrored.pixels()[..6], [3, 2, 7, 2, 2, 7]);
    }

    #[test]
    fn at_least_half_of_a_picture_is_kept_whatever_chance_says() {
        let image = picture(64, 40);
        for low in [0.0, 0.5, 0.999] {
            for high in [0.0, 0.3, 0.999] {
                let mut turn = 0;
                let varied = vary(&image, &mut || {
                    turn += 1;
                    if turn % 2 == 0 { low } else { high }
                });
                let area = f64::from(varied.width() * varied.height()) / (64.0 * 40.0);
                assert!((0.45..=1.0).contains(&area), "{low} {high}: {area}");
            }
        }
    }

    #[test]
    fn a_picture_of_one_pixel_stays_one() {
        let one = picture(1, 1);
        assert_eq!(vary(&one, &mut || 0.0).pixels()[..], one.pixels()[..]);
    }
}
