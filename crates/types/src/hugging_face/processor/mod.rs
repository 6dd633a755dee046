//! `preprocessor_config.json`: what the image processors of transformers do, by the type that the file names.
//!
//! A type or a field that changes numbers and is not known here is refused: its vectors would be wrong without a word.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::image::Sides;
use super::{Contents, FolderProblem, PREPROCESSOR, missing};
use crate::manifest::{ChannelOrder, Filter, Fit, ImageSpec, Layout};

/// Mean and deviation where a file states none and names no type.
const HALF: [f32; 3] = [0.5; 3];

const IMAGENET: [[f32; 3]; 2] = [[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]];
const CLIP: [[f32; 3]; 2] =
    [[0.481_454_66, 0.457_827_5, 0.408_210_73], [0.268_629_54, 0.261_302_6, 0.275_777_1]];

/// From this side on ConvNeXt's pictures are stretched instead of cropped.
const STRETCHED_FROM: u32 = 384;

/// Types of transformers.js that do what the fields say and nothing of their own.
const BY_FIELDS: [&str; 3] = ["Image", "MobileNetV3", "MobileNetV4"];

/// Fields that change no numbers here: names, what only labels and callers see, and colours, which pictures always get.
const HARMLESS: [&str; 20] = [
    "_auto_class",
    "_image_processor_type",
    "_name_or_path",
    "_processor_class",
    "_valid_processor_keys",
    "data_format",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "do_reduce_labels",
    "input_data_format",
    "model_input_names",
    "name_or_path",
    // How far is padded; whether, `do_pad` says.
    "pad_size",
    "processor_class",
    "reduce_labels",
    "return_tensors",
    "task",
    "tokenizer_class",
    "transformers_version",
];

/// How a type comes to its square.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// Resized to `size`, then cropped where that is asked for.
    Plain,
    /// LeViT's: the shorter side is eight sevenths of `size`.
    EightSevenths,
    /// `PoolFormer`'s: the shorter side is `size / crop_pct`.
    Share,
    /// `ConvNeXT`'s: `size` is cropped from `size / crop_pct`, or stretched from [`STRETCHED_FROM`] on.
    ShareOrStretched,
    /// As [`Self::Plain`], with numbers of its own: `rescale_offset` and `include_top`.
    EfficientNet,
    /// As [`Self::Plain`], blue first, and never normalised.
    MobileVit,
}

/// A type, and what it does where the file is silent.
#[derive(Debug, Clone, Copy)]
struct Processor {
    rule: Rule,
    /// Whether a bare number is a square's side rather than the shorter side.
    square: bool,
    crops: bool,
    /// The side cropped to; `size` where there is none.
    crop: Option<u32>,
    filter: u8,
    /// Mean and deviation.
    statistics: [[f32; 3]; 2],
}

/// What most types have in common.
const PLAIN: Processor = Processor {
    rule: Rule::Plain,
    square: true,
    crops: false,
    crop: None,
    filter: 3,
    statistics: [HALF, HALF],
};

/// What CLIP's kind has in common: the shorter side, then the centre.
const CENTRE: Processor = Processor { square: false, crops: true, crop: Some(224), ..PLAIN };

impl Processor {
    /// A type by its name without what all names end with.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "ViT" => Self { filter: 2, ..PLAIN },
            "DeiT" => Self { crops: true, crop: Some(224), ..PLAIN },
            "Beit" => Self { crop: Some(224), ..PLAIN },
            "Siglip" => Self { square: false, ..PLAIN },
            "Blip" => Self { statistics: CLIP, ..PLAIN },
            "Pvt" => Self { statistics: IMAGENET, ..PLAIN },
            "Segformer" | "DINOv3ViT" => Self { filter: 2, statistics: IMAGENET, ..PLAIN },
            "CLIP" | "ChineseCLIP" | "Bit" => Self { statistics: CLIP, ..CENTRE },
            "MobileNetV1" | "MobileNetV2" => Self { filter: 2, ..CENTRE },
            "Levit" => Self { rule: Rule::EightSevenths, statistics: IMAGENET, ..CENTRE },
            "PoolFormer" => Self { rule: Rule::Share, statistics: IMAGENET, ..CENTRE },
            "ConvNext" => Self { rule: Rule::ShareOrStretched, square: false, ..PLAIN },
            "EfficientNet" => Self { rule: Rule::EfficientNet, crop: Some(289), ..PLAIN },
            "MobileViT" => Self { rule: Rule::MobileVit, crop: Some(256), filter: 2, ..CENTRE },
            _ => return None,
        })
    }
}

/// The file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Preprocessor {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    size: Option<Sides>,
    default_to_square: Option<bool>,
    crop_size: Option<Sides>,
    crop_pct: Option<f64>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    do_flip_channel_order: Option<bool>,
    resample: Option<u8>,
    rescale_factor: Option<f32>,
    rescale_offset: Option<bool>,
    include_top: Option<bool>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// How pictures become tensors. `own` is the side that the model's configuration states.
pub(super) fn spec(
    contents: &Contents,
    own: Option<Sides>,
    assumed: &mut Vec<String>,
) -> Result<ImageSpec, FolderProblem> {
    let file: Preprocessor = contents.json(PREPROCESSOR)?.ok_or_else(|| missing(PREPROCESSOR))?;
    let processor = file.processor()?;
    file.refuse_what_is_not_done(processor.rule)?;
    let asked = file.size.or(own).ok_or_else(|| unusable("states no `size`"))?;
    let (size, resize, fit) = file.square(processor, asked, assumed)?;
    let rescales = file.do_rescale != Some(false);
    let scale = if rescales { file.rescale_factor.unwrap_or(1.0 / 255.0) } else { 1.0 };
    let [mean, std] = file.statistics(processor, rescales, assumed);
    let flips = file.do_flip_channel_order.unwrap_or(processor.rule == Rule::MobileVit);
    Ok(ImageSpec {
        size,
        resize,
        fit,
        filter: file.filter(processor, assumed)?,
        scale,
        mean,
        std,
        channel_order: if flips { ChannelOrder::Bgr } else { ChannelOrder::Rgb },
        layout: Layout::Nchw,
    })
}

impl Preprocessor {
    /// The type that is named, else the one whose fields these are.
    fn processor(&self) -> Result<Processor, FolderProblem> {
        let types = [
            ("image_processor_type", &self.image_processor_type),
            ("feature_extractor_type", &self.feature_extractor_type),
        ];
        if let Some((field, name)) =
            types.into_iter().find_map(|(field, name)| Some((field, name.as_deref()?)))
        {
            // A fast one and one of Pillow do what the plain one does.
            let plain = name.strip_suffix("Fast").or_else(|| name.strip_suffix("Pil")).unwrap_or(name);
            let plain =
                plain.strip_suffix("ImageProcessor").or_else(|| plain.strip_suffix("FeatureExtractor"));
            if !plain.is_some_and(|plain| BY_FIELDS.contains(&plain)) {
                return plain.and_then(Processor::named).ok_or_else(|| {
                    unusable(&format!(
                        "`{field}` is `{name}`, and what that does to pictures is not known here: write a manifest"
                    ))
                });
            }
        }
        let whose = match (self.crop_pct, self.crop_size) {
            _ if self.do_flip_channel_order == Some(true) => Processor::named("MobileViT"),
            _ if self.include_top.or(self.rescale_offset).is_some() => Processor::named("EfficientNet"),
            (Some(_), Some(_)) => Processor::named("PoolFormer"),
            (Some(_), None) => Processor::named("ConvNext"),
            (None, _) => None,
        };
        let crops = self.crop_size.is_some();
        // Of files that name no type, those that crop state the shorter side as a bare number, others a square.
        let square = !self.do_center_crop.unwrap_or(crops);
        Ok(whose.unwrap_or(Processor { square, crops, filter: 2, ..PLAIN }))
    }

    /// Refuses what would change numbers and is not done.
    fn refuse_what_is_not_done(&self, rule: Rule) -> Result<(), FolderProblem> {
        if self.do_resize == Some(false) {
            return Err(unusable("`do_resize` is false, and pictures come in all sizes"));
        }
        let shares = matches!(rule, Rule::Share | Rule::ShareOrStretched);
        let (efficient, mobile) = (rule == Rule::EfficientNet, rule == Rule::MobileVit);
        let foreign = [
            ("crop_pct", self.crop_pct.is_some() && !shares),
            ("include_top", self.include_top == Some(true) && !efficient),
            ("rescale_offset", self.rescale_offset == Some(true) && !efficient),
            ("do_flip_channel_order", self.do_flip_channel_order == Some(true) && !mobile),
            ("do_normalize", self.do_normalize == Some(true) && mobile),
        ];
        let foreign = foreign.into_iter().find_map(|(field, is)| is.then_some(field));
        // What is off, or not stated, changes nothing.
        let off = |value: &Value| matches!(value, Value::Null | Value::Bool(false));
        let mut others = self.others.iter();
        let other = others.find(|(field, value)| !off(value) && !HARMLESS.contains(&field.as_str()));
        match foreign.or(other.map(|(field, _)| field.as_str())) {
            Some(field) => Err(unusable(&format!(
                "`{field}` may change what the graph is to get, and this processor is not known to do it: write a manifest"
            ))),
            None => Ok(()),
        }
    }

    /// The square's side, that of the picture before the crop, and how one becomes the other.
    fn square(
        &self,
        processor: Processor,
        asked: Sides,
        assumed: &mut Vec<String>,
    ) -> Result<(u32, u32, Fit), FolderProblem> {
        let side = asked.side()?;
        let crops = self.do_center_crop.unwrap_or(processor.crops);
        let crop = self.crop_size.map(Sides::side).transpose()?.or(processor.crop).unwrap_or(side);
        let square = asked.is_square().unwrap_or_else(|| self.default_to_square.unwrap_or(processor.square));
        let (stretched, resize) = match processor.rule {
            Rule::Plain | Rule::EfficientNet | Rule::MobileVit => (square, side),
            Rule::EightSevenths if square => (true, side),
            Rule::EightSevenths => (false, (256.0 / 224.0 * f64::from(side)) as u32),
            Rule::Share => (false, self.share_of(side, 0.9)?),
            Rule::ShareOrStretched if crops && crop != side => {
                return Err(unusable("`do_center_crop` is true, and this processor crops by `crop_pct`"));
            }
            Rule::ShareOrStretched if side >= STRETCHED_FROM => return Ok((side, side, Fit::Stretch)),
            Rule::ShareOrStretched => return Ok((side, self.share_of(side, 0.875)?, Fit::Crop)),
        };
        match (stretched, crops) {
            (true, false) => Ok((side, side, Fit::Stretch)),
            (true, true) if crop == side => Ok((side, side, Fit::Stretch)),
            (true, true) => {
                assumed.push(format!(
                    "{PREPROCESSOR} stretches pictures to {side} × {side} before their centre is cropped: they keep their shape"
                ));
                Ok((crop, side, Fit::Crop))
            }
            (false, true) => Ok((crop, resize, Fit::Crop)),
            (false, false) => {
                assumed.push(format!(
                    "{PREPROCESSOR} states the shorter side and no crop: the centre of {resize} × {resize} is read"
                ));
                Ok((resize, resize, Fit::Crop))
            }
        }
    }

    /// The side of which `side` is the share that is cropped.
    fn share_of(&self, side: u32, usual: f64) -> Result<u32, FolderProblem> {
        let share = self.crop_pct.unwrap_or(usual);
        if share > 0.0 && share <= 1.0 {
            Ok((f64::from(side) / share) as u32)
        } else {
            Err(unusable(&format!("`crop_pct` is {share}, which is no share of a picture")))
        }
    }

    /// Mean and deviation of `(pixel · scale − mean) / std`.
    fn statistics(&self, processor: Processor, rescales: bool, assumed: &mut Vec<String>) -> [[f32; 3]; 2] {
        let efficient = processor.rule == Rule::EfficientNet;
        let normalises = self.do_normalize != Some(false) && processor.rule != Rule::MobileVit;
        let again = efficient && self.include_top != Some(false);
        let [usual_mean, usual_std] = processor.statistics;
        let mut stated = |field: &str, stated: Option<[f32; 3]>, usual: [f32; 3]| {
            stated.unwrap_or_else(|| {
                assumed.push(format!("{PREPROCESSOR} states no {field}: {usual:?}"));
                usual
            })
        };
        let mut mean = if normalises { stated("image_mean", self.image_mean, usual_mean) } else { [0.0; 3] };
        let std = if normalises || again { stated("image_std", self.image_std, usual_std) } else { [1.0; 3] };
        if efficient && rescales && self.rescale_offset == Some(true) {
            mean = mean.map(|mean| mean + 1.0);
        }
        // EfficientNet's with a head divides twice.
        let twice = normalises && again;
        [mean, if twice { std.map(|std| std * std) } else { std }]
    }

    fn filter(&self, processor: Processor, assumed: &mut Vec<String>) -> Result<Filter, FolderProblem> {
        let (number, stated) = (self.resample.unwrap_or(processor.filter), self.resample.is_some());
        let (filter, name) = match number {
            1 => (Filter::Lanczos, "lanczos"),
            2 => (Filter::Bilinear, "bilinear"),
            3 => (Filter::Bicubic, "bicubic"),
            other => {
                return Err(unusable(&format!(
                    "`resample` is {other}, and that resampling filter is not known here"
                )));
            }
        };
        if !stated {
            assumed.push(format!("{PREPROCESSOR} states no resample: {name}"));
        }
        Ok(filter)
    }
}

fn unusable(problem: &str) -> FolderProblem {
    FolderProblem::Unusable(format!("{PREPROCESSOR}: {problem}"))
}

#[cfg(test)]
mod tests;
