//! Folders as exporters write them, and what is understood.

use serde_json::{Value, json};

use super::*;
use crate::manifest::{Filter, Fit, PaddingSpec, Pooling, ZeroShotSpec};

const TOKENS: [Option<usize>; 3] = [None, None, Some(384)];

/// An output's name and dimensions.
type Output<'a> = (&'a str, &'a [Option<usize>]);

fn folder(files: &[(&'static str, Value)], graphs: &[(&str, &[Output<'_>])]) -> Contents {
    let graph = |(file, outputs): &(&str, &[Output<'_>])| Graph {
        file: (*file).into(),
        sha256: "0".repeat(64),
        external: BTreeMap::new(),
        outputs: outputs.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec())).collect(),
    };
    Contents {
        name: "mine".into(),
        files: files.iter().map(|(file, content)| (*file, content.to_string())).collect(),
        graphs: graphs.iter().map(graph).collect(),
    }
}

fn problem(contents: &Contents) -> String {
    understand(contents).unwrap_err().to_string()
}

#[test]
fn a_sentence_encoder_is_pooled_cut_and_prompted_as_its_files_say() {
    let mut contents = folder(
        &[
            (CONFIG, json!({"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512})),
            (
                "1_Pooling/config.json",
                json!({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}),
            ),
            (
                "modules.json",
                json!([{"type": "sentence_transformers.models.Transformer"},
                                    {"type": "sentence_transformers.models.Normalize"}]),
            ),
            ("sentence_bert_config.json", json!({"max_seq_length": 256, "do_lower_case": false})),
            ("config_sentence_transformers.json", json!({"prompts": {"query": "query: ", "passage": ""}})),
            ("tokenizer_config.json", json!({"model_max_length": 1e30})),
        ],
        &[("onnx/model.onnx", &[("last_hidden_state", &TOKENS)])],
    );
    contents.files.insert("README.md", "---\nlicense: mit\ntags: []\n---\n# A model".into());
    let Understood { manifest, assumed } = understand(&contents).unwrap();
    let (text, features) = (manifest.text.unwrap(), manifest.output.features.unwrap());
    assert_eq!((text.max_tokens, text.pairs), (256, false));
    assert_eq!(text.prompts, [("query".to_owned(), "query: ".to_owned())].into());
    assert_eq!((features.pooling, features.normalise, features.dimension), (Pooling::Cls, true, 384));
    assert_eq!((manifest.backbone.licence.as_str(), manifest.backbone.id.as_str()), ("mit", "mine"));
    assert!(assumed.is_empty(), "{assumed:?}");
}

#[test]
fn a_module_that_changes_vectors_is_refused_unless_it_is_in_the_graph() {
    let files = |config: Value| {
        let modules = ["Transformer", "Pooling", "Dense", "Normalize"];
        let modules = modules.map(|name| json!({"type": format!("sentence_transformers.models.{name}")}));
        [
            (CONFIG, config),
            ("modules.json", json!(modules)),
            ("1_Pooling/config.json", json!({"pooling_mode": "mean"})),
        ]
    };
    let config = json!({"model_type": "mpnet", "max_position_embeddings": 514});
    let outside = folder(&files(config.clone()), &[("model.onnx", &[("last_hidden_state", &TOKENS)])]);
    assert!(
        problem(&outside).starts_with("modules.json: `sentence_transformers.models.Dense`"),
        "{}",
        problem(&outside)
    );
    let inside = folder(&files(config), &[("model.onnx", &[("sentence_embedding", &[None, Some(384)])])]);
    let manifest = understand(&inside).unwrap().manifest;
    assert_eq!(manifest.output.features.unwrap().pooling, Pooling::None);
    assert_eq!(manifest.text.unwrap().max_tokens, 512);
}

#[test]
fn what_files_leave_open_is_assumed_and_said() {
    let config = json!({"model_type": "roberta", "max_position_embeddings": 514});
    let graph: &[Output<'_>] = &[("last_hidden_state", &TOKENS)];
    let bare = folder(&[(CONFIG, config)], &[("model.onnx", graph)]);
    let Understood { manifest, assumed } = understand(&bare).unwrap();
    assert_eq!(manifest.text.unwrap().max_tokens, 512, "two positions are not for tokens");
    assert_eq!(manifest.output.features.unwrap().pooling, Pooling::Mean);
    assert_eq!(assumed.len(), 2, "{assumed:?}");
}

#[test]
fn one_class_is_a_reranker_and_entailment_makes_zero_shot() {
    let config = |classes: Value| {
        json!({"model_type": "bert", "architectures": ["BertForSequenceClassification"],
               "max_position_embeddings": 512, "id2label": classes})
    };
    let cross = |classes: Value| {
        let count = classes.as_object().unwrap().len();
        let shape = [None, Some(count)];
        let graph: &[Output<'_>] = &[("logits", &shape)];
        folder(&[(CONFIG, config(classes))], &[("model.onnx", graph)])
    };
    let reranker = understand(&cross(json!({"0": "LABEL_0"}))).unwrap().manifest;
    assert!(reranker.reads_pairs() && reranker.zero_shot.is_none());
    let order = json!({"0": "contradiction", "10": "x", "2": "neutral", "1": "ENTAILMENT"});
    let nli = understand(&cross(order)).unwrap().manifest;
    assert_eq!(nli.output.logits.unwrap().classes, ["contradiction", "ENTAILMENT", "neutral", "x"]);
    let Some(ZeroShotSpec::Entailment(spec)) = nli.zero_shot else { panic!("no entailment") };
    assert_eq!((spec.entailment.as_str(), spec.templates[0].as_str()), ("ENTAILMENT", "This example is {}."));
    let moods = problem(&cross(json!({"0": "NEGATIVE", "1": "POSITIVE"})));
    assert!(moods.contains("NEGATIVE, POSITIVE"), "{moods}");
}

#[test]
fn a_classifier_of_pictures_is_cropped_or_stretched_as_its_processor_does() {
    let config = json!({"model_type": "resnet", "id2label": {"0": "cat", "1": "dog"}, "hidden_size": 8});
    let graph: &[Output<'_>] = &[("logits", &[None, Some(2)])];
    let read = |processor: Value| {
        let contents =
            folder(&[(CONFIG, config.clone()), (PREPROCESSOR, processor)], &[("model.onnx", graph)]);
        understand(&contents).unwrap()
    };
    let cropped = read(json!({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3,
                               "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}));
    let image = cropped.manifest.image.as_ref().unwrap();
    assert_eq!((image.size, image.resize, image.fit, image.filter), (224, 256, Fit::Crop, Filter::Bicubic));
    assert_eq!(cropped.manifest.dimension(), 2);
    assert_eq!(cropped.assumed.len(), 1, "logits for features are an assumption");
    let square = json!({"size": {"height": 224, "width": 224}, "resample": 2, "do_normalize": false});
    let image = read(square).manifest.image.unwrap();
    assert_eq!((image.size, image.resize, image.fit), (224, 224, Fit::Stretch));
    assert_eq!((image.mean, image.std), ([0.0; 3], [1.0; 3]));
}

#[test]
fn encoders_of_pictures_give_a_pooled_vector_or_that_of_their_first_patch() {
    let config = json!({"model_type": "vit", "hidden_size": 8});
    let processor = json!({"size": 224});
    let of = |outputs: &[Output<'_>]| {
        let files = [(CONFIG, config.clone()), (PREPROCESSOR, processor.clone())];
        let understood = understand(&folder(&files, &[("model.onnx", outputs)])).unwrap();
        let features = understood.manifest.output.features.unwrap();
        (features.tensor, features.pooling, features.dimension)
    };
    let patches = [None, Some(197), Some(8)];
    let map = [None, Some(2048), Some(1), Some(1)];
    assert_eq!(of(&[("last_hidden_state", &patches)]), ("last_hidden_state".into(), Pooling::Cls, 8));
    let pooled = of(&[("last_hidden_state", &patches), ("pooler_output", &map)]);
    assert_eq!(pooled, ("pooler_output".into(), Pooling::None, 2048));
}

fn towers(config: Value, outputs: [&str; 2]) -> Contents {
    let shape: &[Option<usize>] = &[None, Some(16)];
    let processor = json!({"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32},
                           "do_center_crop": true, "resample": 3, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]});
    folder(
        &[(CONFIG, config), (PREPROCESSOR, processor)],
        &[
            ("onnx/text_model.onnx", &[(outputs[0], shape)]),
            ("onnx/vision_model.onnx", &[(outputs[1], shape)]),
        ],
    )
}

#[test]
fn clip_and_siglip_are_two_graphs_with_a_scale() {
    let clip = json!({"model_type": "clip", "projection_dim": 16, "text_config": {}, "vision_config": {}});
    let Understood { manifest, assumed } =
        understand(&towers(clip, ["text_embeds", "image_embeds"])).unwrap();
    assert_eq!(manifest.modalities(), [Modality::Image, Modality::Text]);
    let half = manifest.text_half().unwrap();
    assert_eq!((half.backbone.file.as_str(), half.text.unwrap().max_tokens), ("onnx/text_model.onnx", 77));
    let Some(ZeroShotSpec::Towers(spec)) = manifest.zero_shot else { panic!("no towers") };
    assert_eq!((spec.logit_scale, spec.logit_bias, assumed.len()), (100.0, None, 1));

    let text = json!({"max_position_embeddings": 12, "pad_token_id": 3});
    let siglip = json!({"model_type": "siglip", "text_config": text, "vision_config": {},
                        "logit_scale": 10.0, "logit_bias": -10.0});
    let Understood { manifest, assumed } =
        understand(&towers(siglip, ["pooler_output", "pooler_output"])).unwrap();
    assert_eq!(manifest.text.unwrap().padding, Some(PaddingSpec { length: 12, token: 3 }));
    let Some(ZeroShotSpec::Towers(spec)) = manifest.zero_shot else { panic!("no towers") };
    assert_eq!((spec.logit_scale, spec.logit_bias), (10.0, Some(-10.0)));
    assert!(assumed.is_empty(), "{assumed:?}");
}

#[test]
fn one_graph_with_both_towers_is_to_be_parted_first() {
    let clip = json!({"model_type": "clip", "projection_dim": 16, "text_config": {}, "vision_config": {}});
    let shape: &[Option<usize>] = &[None, Some(16)];
    let of = |config: &Value, outputs: &[Output<'_>]| {
        folder(&[(CONFIG, config.clone()), (PREPROCESSOR, json!({}))], &[("model.onnx", outputs)])
    };
    let joint = of(&clip, &[("text_embeds", shape), ("image_embeds", shape)]);
    assert_eq!(both_towers(&joint).map(|graph| graph.file.as_str()), Some("model.onnx"));
    assert!(problem(&joint).contains("`headstart import`"), "{}", problem(&joint));
    let half = of(&clip, &[("image_embeds", shape)]);
    assert!(both_towers(&half).is_none());
    assert_eq!(problem(&half), "onnx/vision_model.onnx is missing");
    let apart = towers(clip, ["text_embeds", "image_embeds"]);
    let with_both = Contents { graphs: [joint.graphs.clone(), apart.graphs.clone()].concat(), ..apart };
    assert!(both_towers(&with_both).is_none() && understand(&with_both).is_ok());
    let other = json!({"model_type": "vit"});
    assert!(both_towers(&of(&other, &[("text_embeds", shape), ("image_embeds", shape)])).is_none());
}

#[test]
fn what_is_missing_or_unreadable_is_named() {
    assert_eq!(problem(&folder(&[], &[])), "config.json is missing");
    let bert = (CONFIG, json!({"model_type": "bert"}));
    assert_eq!(problem(&folder(std::slice::from_ref(&bert), &[])), "onnx/model.onnx is missing");
    let mut broken = folder(&[bert], &[]);
    broken.files.insert(CONFIG, "{".into());
    assert!(problem(&broken).starts_with("config.json: "));
}
