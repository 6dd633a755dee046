//! Ways in which published image networks want pixels, and which family is known to want which.

use headstart_types::manifest::{ChannelOrder, Filter};

use super::anatomy::Anatomy;

/// How pixels become numbers: `(pixel · scale − mean) / std`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scaling {
    /// What it is called in a sentence.
    pub(super) name: &'static str,
    pub(super) scale: f32,
    pub(super) mean: [f32; 3],
    pub(super) std: [f32; 3],
    pub(super) order: ChannelOrder,
}

/// torchvision's and timm's usual one.
const IMAGENET: Scaling = Scaling {
    name: "ImageNet's mean and deviation",
    scale: 1.0 / 255.0,
    mean: [0.485, 0.456, 0.406],
    std: [0.229, 0.224, 0.225],
    order: ChannelOrder::Rgb,
};

/// TensorFlow's usual one.
const HALF: Scaling = Scaling {
    name: "values of −1…1",
    scale: 1.0 / 127.5,
    mean: [1.0; 3],
    std: [1.0; 3],
    order: ChannelOrder::Rgb,
};

/// Caffe's, and that of Keras's first networks: blue first, the mean of ImageNet taken off.
const CAFFE: Scaling = Scaling {
    name: "Caffe's, blue first, less its means",
    scale: 1.0,
    mean: [103.939, 116.779, 123.68],
    std: [1.0; 3],
    order: ChannelOrder::Bgr,
};

/// EfficientNet-Lite's.
const LITE: Scaling = Scaling {
    name: "EfficientNet-Lite's, less 127, by 128",
    scale: 1.0,
    mean: [127.0; 3],
    std: [128.0; 3],
    order: ChannelOrder::Rgb,
};

/// CLIP's.
const CLIP: Scaling = Scaling {
    name: "CLIP's mean and deviation",
    scale: 1.0 / 255.0,
    mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
    std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
    order: ChannelOrder::Rgb,
};

const UNIT: Scaling = Scaling {
    name: "values of 0…1",
    scale: 1.0 / 255.0,
    mean: [0.0; 3],
    std: [1.0; 3],
    order: ChannelOrder::Rgb,
};

/// Pixels as they are.
pub(super) const PIXELS: Scaling = Scaling {
    name: "pixels as they are",
    scale: 1.0,
    mean: [0.0; 3],
    std: [1.0; 3],
    order: ChannelOrder::Rgb,
};

/// All of them, to be compared on a picture.
pub(super) const SCALINGS: [Scaling; 6] = [IMAGENET, HALF, CAFFE, LITE, UNIT, PIXELS];

/// A family by the beginning of its name.
struct Family {
    begins: &'static str,
    size: u32,
    filter: Filter,
    scaling: Scaling,
    /// As Keras's applications want it, where that differs.
    keras: Option<Scaling>,
}

const fn family(begins: &'static str, size: u32, filter: Filter, scaling: Scaling) -> Family {
    Family { begins, size, filter, scaling, keras: None }
}

const fn of_keras(begins: &'static str, size: u32, scaling: Scaling) -> Family {
    Family { begins, size, filter: Filter::Bilinear, scaling: IMAGENET, keras: Some(scaling) }
}

/// Longer beginnings ahead of shorter ones. Sources: the preprocessing of Keras's applications, of torchvision's weights,
/// and of Hugging Face's image processors.
const FAMILIES: [Family; 20] = [
    family("efficientnet-lite", 224, Filter::Bicubic, LITE),
    of_keras("efficientnet", 224, PIXELS),
    family("siglip", 224, Filter::Bicubic, HALF),
    family("clip", 224, Filter::Bicubic, CLIP),
    family("dino", 224, Filter::Bicubic, IMAGENET),
    family("deit", 224, Filter::Bicubic, IMAGENET),
    family("swin", 224, Filter::Bicubic, IMAGENET),
    family("convnext", 224, Filter::Bicubic, IMAGENET),
    family("vit", 224, Filter::Bilinear, HALF),
    family("inception", 299, Filter::Bilinear, HALF),
    family("xception", 299, Filter::Bilinear, HALF),
    family("nasnet", 331, Filter::Bilinear, HALF),
    of_keras("mobilenet", 224, HALF),
    of_keras("densenet", 224, IMAGENET),
    of_keras("resnet50v2", 224, HALF),
    of_keras("resnet101v2", 224, HALF),
    of_keras("resnet152v2", 224, HALF),
    of_keras("resnet", 224, CAFFE),
    of_keras("vgg", 224, CAFFE),
    family("googlenet", 224, Filter::Bilinear, CAFFE),
];

/// What a graph's names and its maker suggest.
#[derive(Debug)]
pub(super) struct Suggestion {
    pub(super) scaling: Scaling,
    pub(super) because: String,
    pub(super) size: u32,
    pub(super) filter: Filter,
    /// The family, where one is known.
    pub(super) family: Option<&'static str>,
}

pub(super) fn suggest(anatomy: &Anatomy, channels_last: bool) -> Suggestion {
    let family = FAMILIES.iter().find(|family| anatomy.is_called(family.begins));
    let keras = anatomy.is_of_keras() || channels_last;
    let (scaling, because) = match family {
        _ if anatomy.normalises => {
            (PIXELS, "the graph begins with arithmetic of its own on pixels".to_owned())
        }
        _ if anatomy.producer.contains("caffe") || anatomy.is_called("caffe") => {
            (CAFFE, "it comes from Caffe".to_owned())
        }
        Some(Family { begins, keras: Some(scaling), .. }) if keras => {
            (*scaling, format!("Keras's {begins} wants {}", scaling.name))
        }
        Some(Family { begins, scaling, .. }) => {
            (*scaling, format!("{begins} usually wants {}", scaling.name))
        }
        None if keras => (HALF, format!("most graphs with channels last want {}", HALF.name)),
        None => (IMAGENET, format!("most graphs want {}", IMAGENET.name)),
    };
    Suggestion {
        scaling,
        because,
        size: family.map_or(224, |family| family.size),
        filter: family.map_or(Filter::Bilinear, |family| family.filter),
        family: family.map(|family| family.begins),
    }
}

#[cfg(test)]
mod tests {
    use super::super::anatomy::tests::{called, with};
    use super::*;
    use headstart_types::tensor::DataType;

    fn of(name: &str, producer: &str, last: bool) -> &'static str {
        let anatomy = called(with("x", DataType::Fp32, &[None; 4]), name, producer);
        suggest(&anatomy, last).scaling.name
    }

    #[test]
    fn families_are_scaled_as_their_makers_do() {
        assert_eq!(of("resnet50", "pytorch", false), IMAGENET.name);
        assert_eq!(of("resnet50", "tf2onnx", true), CAFFE.name);
        assert_eq!(of("resnet50v2", "tf2onnx", true), HALF.name);
        assert_eq!(of("vgg16", "", true), CAFFE.name);
        assert_eq!(of("bvlc-alexnet", "onnx-caffe2", false), CAFFE.name);
        assert_eq!(of("mobilenet-v2", "tf2onnx", true), HALF.name);
        assert_eq!(of("mobilenetv2-7", "pytorch", false), IMAGENET.name);
        assert_eq!(of("efficientnet-lite4", "tf2onnx", true), LITE.name);
        assert_eq!(of("efficientnetb0", "tf2onnx", true), PIXELS.name);
        assert_eq!(of("siglip-base", "pytorch", false), HALF.name);
        assert_eq!(of("my-clip", "pytorch", false), CLIP.name);
        assert_eq!(of("something", "tf2onnx", false), HALF.name);
        assert_eq!(of("something", "pytorch", false), IMAGENET.name);
    }
}
