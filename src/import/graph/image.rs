//! Pictures: size and order of axes from the input, scaling from the graph's beginning or its name, held against a photo.

use anyhow::{Context as _, bail};
use headstart_media::{Limits, RgbImage8, decode, preprocess};
use headstart_types::Manifest;
use headstart_types::manifest::{Fit, ImageSpec, Layout};
use headstart_types::tensor::DataType;

use super::super::facts::Facts;
use super::super::trial::{CAT, filled};
use super::anatomy::{Anatomy, Given};
use super::known::{PIXELS, SCALINGS, Scaling, Suggestion, suggest};
use super::outputs::{IMAGENET, Of, decide};
use super::{Output, Probe};

/// Cats among the classes of ImageNet-1k: tabby, tiger cat, Persian, Siamese, Egyptian.
const CATS: std::ops::Range<usize> = 281..286;

/// A graph that takes the cat for one with this probability is not wrongly scaled by much; one that does so with a third of
/// what another scaling gives is. Between scalings that differ little one photo does not decide: networks see cats in
/// pictures of wrong colours too.
const SURE: f32 = 0.5;
const WORSE: f32 = 1.0 / 3.0;

pub(super) fn fill(
    manifest: &mut Manifest,
    anatomy: &Anatomy,
    labels: Option<&[String]>,
    probe: &Probe<'_>,
    facts: &mut Facts,
) -> anyhow::Result<()> {
    let [input] = anatomy.inputs.as_slice() else {
        bail!("`backbone.modality` is image, and the graph takes {} inputs", anatomy.inputs.len());
    };
    let run = |spec: &ImageSpec, picture: &RgbImage8| {
        probe.run(vec![tensor(input, spec, &preprocess(picture, spec))?])
    };
    let cat = decode(CAT, &Limits::default())?;
    let mut spec = frame(anatomy, input, facts)?;
    let taken = || format!("a picture with `image.size` {} and its `image.layout`", spec.size);
    let outputs = run(&spec, &cat).with_context(taken)?;
    scale(&mut spec, anatomy, input, facts, |spec| Ok(cats(&run(spec, &cat)?)))?;
    manifest.output = decide(&outputs, Of::Places(spec.layout), labels, facts)?;
    manifest.image = Some(spec);
    Ok(())
}

/// What is known before anything is scaled: axes, size and how a picture becomes a square.
fn frame(anatomy: &Anatomy, input: &Given, facts: &mut Facts) -> anyhow::Result<ImageSpec> {
    let shown = format!("its input is {}", input.shown());
    let size_at = |place: usize| input.dims.get(place).copied().flatten();
    let last = size_at(3) == Some(3) && size_at(1) != Some(3);
    let layout = if last { Layout::Nhwc } else { Layout::Nchw };
    let layout = facts.decide("image.layout", layout, &shown)?;
    let (height, width) = match layout {
        Layout::Nchw => (size_at(2), size_at(3)),
        Layout::Nhwc => (size_at(1), size_at(2)),
    };
    let Suggestion { size: usual, filter, family, .. } = suggest(anatomy, layout == Layout::Nhwc);
    let (size, because) = match (height, width) {
        (Some(height), Some(width)) if height != width => bail!(
            "`image.size`: the graph takes pictures of {height} × {width}, and a manifest says squares: import it for raw \
             tensors with `--set backbone.modality=tensor`"
        ),
        (Some(side), _) | (None, Some(side)) => (u32::try_from(side)?, shown),
        (None, None) => (usual, "the graph takes any size, and most were trained on this one".to_owned()),
    };
    let size = facts.decide("image.size", size, because)?;
    let stretches = matches!(family, Some("siglip" | "vit"));
    let fit = if stretches { Fit::Stretch } else { Fit::Crop };
    let named = family.unwrap_or("most image networks");
    let fit = facts.decide("image.fit", fit, format!("it is usual for {named}"))?;
    let (resize, because) = match fit {
        Fit::Stretch => (size, "nothing is cropped"),
        Fit::Crop => ((size * 8 + 3) / 7, "the centre is seven eighths of it, as torchvision crops"),
    };
    let resize = facts.decide("image.resize", resize, because)?;
    let filter = facts.decide("image.filter", filter, format!("it is usual for {named}"))?;
    let Scaling { scale, mean, std, order, .. } = PIXELS;
    Ok(ImageSpec { size, resize, fit, filter, scale, mean, std, channel_order: order, layout })
}

/// Decides how pixels become numbers. `cats` says how probable a cat is on the built-in photo, where the graph tells.
fn scale(
    spec: &mut ImageSpec,
    anatomy: &Anatomy,
    input: &Given,
    facts: &mut Facts,
    mut cats: impl FnMut(&ImageSpec) -> anyhow::Result<Option<f32>>,
) -> anyhow::Result<()> {
    let Suggestion { scaling, because, .. } = suggest(anatomy, spec.layout == Layout::Nhwc);
    let (mut chosen, mut because) = (scaling, because);
    if input.datatype == Some(DataType::Uint8) {
        (chosen, because) = (PIXELS, "its input takes whole numbers of 8 bits".to_owned());
    } else if let Some(seen) = cats(&with(spec, scaling))? {
        let mut best = (seen, scaling);
        for other in SCALINGS {
            let seen = cats(&with(spec, other))?.unwrap_or_default();
            best = if seen > best.0 { (seen, other) } else { best };
        }
        if best.0 >= SURE && seen < best.0 * WORSE {
            chosen = best.1;
            because = format!(
                "with {} the graph takes a photo of a cat for one with {:.2}, with {} with {seen:.2}",
                chosen.name, best.0, scaling.name
            );
        } else {
            because = format!("{because}, and so the graph takes a photo of a cat for one with {seen:.2}");
        }
    } else {
        facts.remark(
            "nothing shows whether pixels are scaled as in training: compare `image` with the model's card",
        );
    }
    spec.scale = facts.decide("image.scale", chosen.scale, &because)?;
    spec.mean = facts.decide("image.mean", chosen.mean, &because)?;
    spec.std = facts.decide("image.std", chosen.std, &because)?;
    spec.channel_order = facts.decide("image.channel_order", chosen.order, &because)?;
    Ok(())
}

fn with(spec: &ImageSpec, scaling: Scaling) -> ImageSpec {
    let Scaling { scale, mean, std, order, .. } = scaling;
    ImageSpec { scale, mean, std, channel_order: order, ..spec.clone() }
}

/// The probability of a cat, of a graph that tells classes of ImageNet-1k apart.
fn cats(outputs: &[Output]) -> Option<f32> {
    let output = outputs.iter().find(
        |output| matches!(output.dims.as_slice(), [1, size] | [1, size, 1, 1] if IMAGENET.contains(size)),
    )?;
    let values = &output.values;
    let sum: f32 = values.iter().sum();
    let shares = if values.iter().all(|value| *value >= 0.0) && (sum - 1.0).abs() < 1e-2 {
        values.clone()
    } else {
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f32> = values.iter().map(|value| (value - largest).exp()).collect();
        let sum: f32 = powers.iter().sum();
        powers.iter().map(|power| power / sum).collect()
    };
    let shift = values.len() - IMAGENET[0];
    let cats: f32 = shares.get(CATS.start + shift..CATS.end + shift)?.iter().sum();
    Some(cats).filter(|cats| cats.is_finite())
}

/// A picture's tensor as the graph takes it; copies fill a batch that the exporter fixed.
fn tensor(
    input: &Given,
    spec: &ImageSpec,
    pixels: &[f32],
) -> anyhow::Result<headstart_tasks::tensors::TensorForm> {
    let side = spec.size as usize;
    let batch = input.dims.first().copied().flatten().unwrap_or(1);
    let shape = match spec.layout {
        Layout::Nchw => vec![batch, 3, side, side],
        Layout::Nhwc => vec![batch, side, side, 3],
    };
    let datatype = input.datatype.context("the graph takes numbers of another type than pictures become")?;
    let one: Vec<u8> = if datatype == DataType::Fp16 {
        pixels.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect()
    } else if datatype == DataType::Uint8 {
        pixels.iter().map(|value| value.round() as u8).collect()
    } else {
        pixels.iter().flat_map(|value| value.to_le_bytes()).collect()
    };
    Ok(filled(&input.name, datatype, shape, one.repeat(batch)))
}

#[cfg(test)]
mod tests {
    use super::super::anatomy::tests::{called, with as anatomy};
    use super::*;
    use headstart_types::manifest::ChannelOrder;

    const SIDE: Option<usize> = Some(224);

    fn framed(dims: &[Option<usize>], settings: &[&str]) -> anyhow::Result<ImageSpec> {
        let anatomy = anatomy("x", DataType::Fp32, dims);
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        frame(&anatomy, &anatomy.inputs[0], &mut Facts::given(&settings)?)
    }

    #[test]
    fn axes_and_size_are_the_inputs() {
        let first = framed(&[None, Some(3), SIDE, SIDE], &[]).unwrap();
        assert_eq!((first.layout, first.size, first.resize), (Layout::Nchw, 224, 256));
        let last = framed(&[Some(1), Some(96), Some(96), Some(3)], &[]).unwrap();
        assert_eq!((last.layout, last.size), (Layout::Nhwc, 96));
        assert_eq!(framed(&[None, Some(3), None, None], &[]).unwrap().size, 224);
        assert_eq!(framed(&[None, Some(3), None, None], &["image.size=112"]).unwrap().resize, 128);
        let narrow = framed(&[None, Some(3), SIDE, Some(112)], &[]).unwrap_err().to_string();
        assert!(narrow.contains("`image.size`") && narrow.contains("224 × 112"), "{narrow}");
    }

    fn scaled(
        name: &str,
        cats: impl FnMut(&ImageSpec) -> anyhow::Result<Option<f32>>,
    ) -> (ImageSpec, String) {
        let dims = [None, Some(3), SIDE, SIDE];
        let anatomy = called(anatomy("x", DataType::Fp32, &dims), name, "pytorch");
        let mut facts = Facts::default();
        let mut spec = frame(&anatomy, &anatomy.inputs[0], &mut facts).unwrap();
        scale(&mut spec, &anatomy, &anatomy.inputs[0], &mut facts, cats).unwrap();
        (spec, facts.take_told().join("\n"))
    }

    #[test]
    fn a_photo_rules_out_what_is_far_off_and_the_name_decides_the_rest() {
        let (spec, told) = scaled("resnet50", |_| Ok(None));
        assert_eq!(spec.mean, [0.485, 0.456, 0.406]);
        assert!(told.contains("resnet usually wants"), "{told}");
        let blue_first = |share: f32| {
            move |spec: &ImageSpec| {
                Ok(Some(if spec.channel_order == ChannelOrder::Bgr { 0.9 } else { share }))
            }
        };
        let (spec, told) = scaled("resnet50", blue_first(0.1));
        assert_eq!(spec.mean, [103.939, 116.779, 123.68]);
        assert!(told.contains("0.90") && told.contains("0.10"), "{told}");
        let (spec, told) = scaled("resnet50", blue_first(0.8));
        assert_eq!(spec.mean, [0.485, 0.456, 0.406]);
        assert!(told.contains("0.80"), "{told}");
    }

    #[test]
    fn a_cat_is_found_among_logits_and_probabilities_with_and_without_a_class_of_none() {
        let output = |size: usize, cat: usize, low: f32, high: f32| {
            let mut values = vec![low; size];
            values[cat] = high;
            vec![Output { name: "y".into(), dims: vec![1, size], values }]
        };
        assert!(cats(&output(1000, 282, 0.0, 20.0)).unwrap() > 0.99);
        assert!(cats(&output(1001, 283, 0.0, 1.0)).unwrap() > 0.99);
        assert!(cats(&output(1000, 7, 0.0, 20.0)).unwrap() < 0.01);
        assert_eq!(cats(&output(999, 282, 0.0, 20.0)), None);
    }
}
