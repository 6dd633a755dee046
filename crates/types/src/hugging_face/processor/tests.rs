//! Files as processors of transformers write them, and what becomes of a picture.

use serde_json::json;

use super::*;

fn read(file: &Value) -> Result<(ImageSpec, Vec<String>), FolderProblem> {
    let contents = Contents { files: [(PREPROCESSOR, file.to_string())].into(), ..Contents::default() };
    let mut assumed = Vec::new();
    let spec = spec(&contents, None, &mut assumed)?;
    Ok((spec, assumed))
}

/// The square, the side before the crop, and the fit.
fn form(file: &Value) -> (u32, u32, Fit) {
    let (spec, _) = read(file).unwrap();
    (spec.size, spec.resize, spec.fit)
}

fn problem(file: &Value) -> String {
    read(file).unwrap_err().to_string()
}

/// `file` with other fields.
fn with(file: &Value, others: Value) -> Value {
    let mut file = file.clone();
    let Value::Object(others) = others else { panic!("no fields") };
    file.as_object_mut().unwrap().extend(others);
    file
}

fn convnext(side: u32) -> Value {
    json!({"feature_extractor_type": "ConvNextFeatureExtractor", "size": side, "crop_pct": 0.875, "resample": 3,
           "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]})
}

fn efficientnet() -> Value {
    json!({"image_processor_type": "EfficientNetImageProcessor", "size": {"height": 224, "width": 224}, "resample": 3,
           "crop_size": {"height": 289, "width": 289}, "do_center_crop": false, "rescale_factor": 0.00390625,
           "image_mean": [0.5, 0.25, 0.5], "image_std": [0.5, 0.25, 0.5]})
}

#[test]
fn mobilevit_reads_blue_first_and_nothing_is_normalised() {
    let mobilevit = json!({"crop_size": 256, "do_center_crop": true, "do_flip_channel_order": true, "do_resize": true,
                           "feature_extractor_type": "MobileViTFeatureExtractor", "resample": 2, "size": 288});
    let nameless = with(&mobilevit, json!({"feature_extractor_type": null}));
    let fast = with(
        &mobilevit,
        json!({"image_processor_type": "MobileViTImageProcessorFast", "do_normalize": null,
                                       "image_mean": [0.5, 0.5, 0.5], "do_flip_channel_order": null}),
    );
    for file in [&mobilevit, &nameless, &fast] {
        let (spec, assumed) = read(file).unwrap();
        assert_eq!((spec.size, spec.resize, spec.fit), (256, 288, Fit::Crop), "{file}");
        assert_eq!((spec.mean, spec.std, spec.scale), ([0.0; 3], [1.0; 3], 1.0 / 255.0), "{file}");
        assert_eq!((spec.channel_order, assumed.len()), (ChannelOrder::Bgr, 0), "{file}: {assumed:?}");
    }
    let red = with(&mobilevit, json!({"do_flip_channel_order": false}));
    assert_eq!(read(&red).unwrap().0.channel_order, ChannelOrder::Rgb);
    assert!(problem(&with(&mobilevit, json!({"do_normalize": true}))).contains("`do_normalize`"));
}

#[test]
fn convnext_crops_below_384_and_stretches_from_there_on() {
    assert_eq!(form(&convnext(224)), (224, 256, Fit::Crop));
    assert_eq!(form(&convnext(383)), (383, 437, Fit::Crop));
    assert_eq!(form(&convnext(384)), (384, 384, Fit::Stretch));
    let shortest = with(&convnext(0), json!({"size": {"shortest_edge": 512}, "crop_pct": null}));
    assert_eq!(form(&shortest), (512, 512, Fit::Stretch));
    let nameless = with(&convnext(384), json!({"feature_extractor_type": null}));
    assert_eq!(form(&nameless), (384, 384, Fit::Stretch));
    let unstated = with(&convnext(224), json!({"crop_pct": null}));
    assert_eq!(form(&unstated), (224, 256, Fit::Crop));
    assert!(problem(&with(&convnext(224), json!({"crop_pct": 0.0}))).contains("`crop_pct` is 0"));
}

#[test]
fn efficientnet_divides_twice_for_a_head_and_moves_by_one_where_it_is_told() {
    let (spec, _) = read(&efficientnet()).unwrap();
    assert_eq!((spec.size, spec.resize, spec.fit), (224, 224, Fit::Stretch));
    assert_eq!((spec.mean, spec.std), ([0.5, 0.25, 0.5], [0.25, 0.0625, 0.25]));
    let bare = read(&with(&efficientnet(), json!({"include_top": false}))).unwrap().0;
    assert_eq!((bare.mean, bare.std), ([0.5, 0.25, 0.5], [0.5, 0.25, 0.5]));
    let align = json!({"include_top": false, "do_normalize": false, "rescale_offset": true, "rescale_factor": 0.0078125});
    let align = read(&with(&efficientnet(), align)).unwrap().0;
    assert_eq!((align.scale, align.mean, align.std), (0.007_812_5, [1.0; 3], [1.0; 3]));
    let once = read(&with(&efficientnet(), json!({"do_normalize": false}))).unwrap().0;
    assert_eq!((once.mean, once.std), ([0.0; 3], [0.5, 0.25, 0.5]));
}

#[test]
fn poolformer_crops_from_a_share_and_levit_from_eight_sevenths() {
    let poolformer = json!({"feature_extractor_type": "PoolFormerFeatureExtractor", "size": 224, "crop_size": 224,
                            "crop_pct": 0.95, "resample": 3});
    assert_eq!(form(&poolformer), (224, 235, Fit::Crop));
    assert_eq!(form(&with(&poolformer, json!({"crop_pct": null}))), (224, 248, Fit::Crop));
    assert_eq!(form(&with(&poolformer, json!({"feature_extractor_type": null}))), (224, 235, Fit::Crop));
    let levit =
        json!({"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 224}, "resample": 3});
    assert_eq!(form(&levit), (224, 256, Fit::Crop));
}

#[test]
fn usual_types_and_their_fast_ones_are_read_as_they_read_pictures() {
    let centre = json!({"size": {"shortest_edge": 256}, "crop_size": {"height": 224, "width": 224},
                        "do_center_crop": true, "resample": 3});
    for name in [
        "BitImageProcessor",
        "BitImageProcessorFast",
        "MobileNetV1ImageProcessor",
        "MobileNetV2FeatureExtractor",
    ] {
        let file = with(&centre, json!({"image_processor_type": name}));
        assert_eq!(form(&file), (224, 256, Fit::Crop), "{name}");
    }
    let square = json!({"size": {"height": 224, "width": 224}, "resample": 2, "do_pad": null, "do_convert_rgb": true,
                        "data_format": "channels_first", "_valid_processor_keys": ["images"]});
    for name in
        ["ViTImageProcessorFast", "ViTImageProcessorPil", "BeitFeatureExtractor", "SiglipImageProcessor"]
    {
        let file = with(&square, json!({"image_processor_type": name}));
        assert_eq!(form(&file), (224, 224, Fit::Stretch), "{name}");
    }
    // A bare number is what the type takes it for.
    let of = |name: &str| form(&json!({"feature_extractor_type": name, "size": 224, "resample": 3}));
    assert_eq!(of("ViTFeatureExtractor"), (224, 224, Fit::Stretch));
    assert_eq!(of("CLIPFeatureExtractor"), (224, 224, Fit::Crop));
}

#[test]
fn what_a_file_leaves_to_its_type_is_that_types_own_and_said() {
    let clip = json!({"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}});
    let (spec, assumed) = read(&clip).unwrap();
    assert_eq!([spec.mean, spec.std], CLIP);
    assert_eq!((spec.filter, assumed.len()), (Filter::Bicubic, 3), "{assumed:?}");
    let deit = json!({"feature_extractor_type": "DeiTFeatureExtractor", "size": 256, "crop_size": 224, "resample": 3,
                      "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    let (spec, assumed) = read(&deit).unwrap();
    assert_eq!((spec.size, spec.resize, spec.fit), (224, 256, Fit::Crop));
    assert!(assumed.iter().any(|said| said.contains("keep their shape")), "{assumed:?}");
    let nameless = read(&json!({"size": 224, "do_normalize": true})).unwrap();
    assert_eq!((nameless.0.mean, nameless.0.filter, nameless.1.len()), (HALF, Filter::Bilinear, 3));
}

#[test]
fn a_type_or_a_field_that_may_change_numbers_is_refused_by_name() {
    let vit = json!({"image_processor_type": "ViTImageProcessor", "size": 224});
    let unknown = problem(&with(&vit, json!({"image_processor_type": "DPTImageProcessor"})));
    assert!(unknown.contains("`image_processor_type` is `DPTImageProcessor`"), "{unknown}");
    let old = problem(&json!({"feature_extractor_type": "ImageGPTFeatureExtractor", "size": 32}));
    assert!(old.contains("`feature_extractor_type` is `ImageGPTFeatureExtractor`"), "{old}");
    let fields = [
        ("do_pad", json!(true)),
        ("keep_aspect_ratio", json!(true)),
        ("patch_size", json!(16)),
        ("crop_pct", json!(0.9)),
        ("include_top", json!(true)),
        ("rescale_offset", json!(true)),
        ("do_flip_channel_order", json!(true)),
    ];
    for (field, value) in fields {
        let file = with(&vit, json!({field: value}));
        assert!(problem(&file).contains(&format!("`{field}`")), "{file}: {}", problem(&file));
        let off = with(&vit, json!({field: null}));
        assert!(read(&off).is_ok(), "{off}");
    }
    let bounded = with(&vit, json!({"size": {"shortest_edge": 224, "longest_edge": 512}}));
    assert!(problem(&bounded).contains("`longest_edge`"));
}
