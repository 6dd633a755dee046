//! Tests of inputs.

use super::*;

fn read(json: &str) -> Payload {
    serde_json::from_str(json).unwrap()
}

fn data(json: &str, modality: Modality, stated: Option<Modality>) -> Result<Vec<Datum>, String> {
    read(json).into_data_of("input", &[modality], stated).map_err(|error| error.to_string())
}

#[test]
fn the_four_forms_of_the_openai_api_are_understood() {
    let text = |text: &str| Datum::Text(text.into());
    assert_eq!(data("\"a\"", Modality::Text, None).unwrap(), [text("a")]);
    assert_eq!(data("[\"a\", \"b\"]", Modality::Text, None).unwrap(), [text("a"), text("b")]);
    assert_eq!(data("[1, 2]", Modality::Text, None).unwrap(), [Datum::Tokens(vec![1, 2])]);
    let two = [Datum::Tokens(vec![1, 2]), Datum::Tokens(vec![3])];
    assert_eq!(data("[[1, 2], [3]]", Modality::Text, None).unwrap(), two);
}

#[test]
fn images_come_as_data_url_as_object_or_as_base64_of_stated_modality() {
    let image = |text: &str| Datum::Image(Media::Base64(text.into()));
    assert_eq!(
        data("\"data:image/png;base64,AA\"", Modality::Image, None).unwrap(),
        [image("data:image/png;base64,AA")]
    );
    assert_eq!(data("{\"image\": \"AA\"}", Modality::Image, None).unwrap(), [image("AA")]);
    let url = r#"[{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]"#;
    assert_eq!(data(url, Modality::Image, None).unwrap(), [image("data:image/png;base64,AA")]);
    assert_eq!(
        data("[\"AA\", \"BB\"]", Modality::Image, Some(Modality::Image)).unwrap(),
        [image("AA"), image("BB")]
    );
}

#[test]
fn sounds_come_as_pictures_do_and_files_are_what_the_model_reads() {
    let audio = |text: &str| Datum::Audio(Media::Base64(text.into()));
    for json in [
        r#""data:audio/wav;base64,AA""#,
        r#"{"audio": "data:audio/wav;base64,AA"}"#,
        r#"[{"type": "input_audio", "input_audio": {"data": "data:audio/wav;base64,AA", "format": "wav"}}]"#,
    ] {
        assert_eq!(data(json, Modality::Audio, None).unwrap(), [audio("data:audio/wav;base64,AA")], "{json}");
    }
    assert_eq!(data("\"AA\"", Modality::Audio, Some(Modality::Audio)).unwrap(), [audio("AA")]);
    assert!(data("\"AA\"", Modality::Audio, None).unwrap_err().contains("the model reads sounds"));
    assert!(data(r#"{"image": "AA"}"#, Modality::Audio, None).unwrap_err().contains("of modality image"));
    let file = || Payload::files(vec![Media::Bytes(b"a"[..].into())]);
    let read = |modality| file().into_data_of("input", &[modality], None).unwrap();
    assert!(matches!(read(Modality::Audio)[..], [Datum::Audio(_)]));
    assert!(matches!(read(Modality::Image)[..], [Datum::Image(_)]));
    let refused = file().into_data_of("input", &[Modality::Text], None).unwrap_err().to_string();
    assert!(refused.starts_with("`input` is a file but the model reads text"), "{refused}");
}

#[test]
fn what_does_not_suit_the_model_is_named_by_its_index() {
    assert_eq!(data("[\"a\", \"\"]", Modality::Text, None).unwrap_err(), "`input[1]` is empty");
    assert_eq!(data("[]", Modality::Text, None).unwrap_err(), "`input` is empty");
    assert!(
        data("\"https://a.example/b.png\"", Modality::Image, None).unwrap_err().contains("no URL is fetched")
    );
    assert!(data("\"hello\"", Modality::Image, None).unwrap_err().starts_with("`input` is a plain string"));
    assert!(data("[1]", Modality::Image, None).unwrap_err().contains("of modality text"));
    assert!(
        data("\"a\"", Modality::Text, Some(Modality::Image))
            .unwrap_err()
            .starts_with("`modality` is `image`")
    );
}

#[test]
fn a_model_of_two_modalities_takes_each_item_for_what_it_is() {
    let both = [Modality::Image, Modality::Text];
    let of = |json: &str, stated| read(json).into_data_of("input", &both, stated);
    let mixed = of(r#"["a", "data:image/png;base64,AA", {"image": "BB"}, {"text": "c"}]"#, None).unwrap();
    let image = |text: &str| Datum::Image(Media::Base64(text.into()));
    let text = |text: &str| Datum::Text(text.into());
    assert_eq!(mixed, [text("a"), image("data:image/png;base64,AA"), image("BB"), text("c")]);
    let stated = of(r#"["AA", {"text": "c"}]"#, Some(Modality::Image)).unwrap();
    assert_eq!(stated, [image("AA"), text("c")]);
}

#[test]
fn the_second_text_of_a_pair_is_refused_and_not_left_out() {
    let pair = serde_json::from_str::<Payload>(r#"{"text": "a", "text_pair": "b"}"#).unwrap_err();
    assert!(pair.to_string().contains("`text_pair` is not taken"), "{pair}");
    assert!(serde_json::from_str::<Payload>(r#"{"text": "a", "text_pair": null}"#).is_ok());
}

#[test]
fn null_inside_of_an_object_is_absent() {
    let text = [Datum::Text("a".into())];
    let json = r#"{"image": null, "text": "a", "image_url": null, "tokens": null}"#;
    assert_eq!(data(json, Modality::Text, None).unwrap(), text);
    assert!(serde_json::from_str::<Payload>(r#"{"text": null}"#).is_err());
}

#[test]
fn token_ids_of_any_size_are_kept_for_the_models_vocabulary_to_judge() {
    for json in ["[7, -1, 4294967296]", "[[7, -1, 4294967296]]", r#"{"tokens": [7, -1, 4294967296]}"#] {
        let ids = Datum::Tokens(vec![7, -1, 1 << 32]);
        assert_eq!(data(json, Modality::Text, None).unwrap(), [ids], "{json}");
    }
    let huge = format!("[1{}]", "0".repeat(30));
    assert_eq!(data(&huge, Modality::Text, None).unwrap(), [Datum::Tokens(vec![i64::MAX])]);
    assert!(serde_json::from_str::<Payload>("[[1.5]]").is_err());
}

#[test]
fn a_data_url_is_known_by_its_scheme_in_any_case() {
    let url = "\"DATA:image/png;base64,AA\"";
    assert!(matches!(data(url, Modality::Image, None).unwrap()[..], [Datum::Image(_)]));
}

#[test]
fn mixed_lists_and_objects_without_content_are_refused() {
    for json in ["[1, \"a\"]", "[1.5]", "{}", "{\"text\":\"a\",\"image\":\"b\"}", "true", "1"] {
        assert!(serde_json::from_str::<Payload>(json).is_err(), "{json}");
    }
}

#[test]
fn items_beyond_any_limit_are_counted_and_not_kept() {
    let json = format!("[{}{}]", r#""a","#.repeat(MOST_ITEMS + 6), "1");
    let many = read(&json);
    assert_eq!((many.len(), many.items.len()), (MOST_ITEMS + 7, MOST_ITEMS));
    let refused = many.into_data_of("input", &[Modality::Text], None).unwrap_err().to_string();
    assert!(refused.contains("262151 items"), "{refused}");
}

#[test]
fn an_item_of_more_token_ids_than_any_model_reads_is_refused_with_their_number() {
    let ids = |count: usize| format!("[1{}]", ",1".repeat(count - 1));
    let kept = data(&ids(MOST_IDS), Modality::Text, None).unwrap();
    assert!(matches!(&kept[..], [Datum::Tokens(ids)] if ids.len() == MOST_IDS));
    let many = ids(MOST_IDS + 3);
    let object = format!("{{\"tokens\": {many}}}");
    for (json, field) in
        [(many.clone(), "input"), (object.clone(), "input"), (format!("[[7],{many}]"), "input[1]")]
            .into_iter()
            .chain([(format!("[{object},[7]]"), "input[0]")])
    {
        let refused = data(&json, Modality::Text, None).unwrap_err();
        assert_eq!(refused, format!("`{field}` has 262147 token ids; at most 262144 are taken"));
    }
}

#[test]
fn token_ids_of_a_whole_list_are_bounded_too() {
    let item = format!("[1{}]", ",1".repeat(MOST_IDS - 1));
    let full = vec![item.as_str(); MOST_IDS_IN_ALL / MOST_IDS].join(",");
    assert_eq!(data(&format!("[{full}]"), Modality::Text, None).unwrap().len(), MOST_IDS_IN_ALL / MOST_IDS);
    let refused = data(&format!("[{full},[1,2],{{\"tokens\":[3]}}]"), Modality::Text, None).unwrap_err();
    assert_eq!(refused, "`input` has 8388611 token ids in all; at most 8388608 are taken");
}

#[test]
fn a_picture_is_a_url_or_an_object_with_one() {
    for json in [
        r#"{"image_url": "data:image/png;base64,AA"}"#,
        r#"{"image_url": {"url": "data:image/png;base64,AA", "detail": [1]}}"#,
    ] {
        assert!(matches!(data(json, Modality::Image, None).unwrap()[..], [Datum::Image(_)]), "{json}");
    }
    for json in [r#"{"image_url": 1}"#, r#"{"image_url": ["a"]}"#, r#"{"image_url": {}}"#] {
        assert!(serde_json::from_str::<Payload>(json).is_err(), "{json}");
    }
}

#[test]
fn the_document_has_every_form_of_an_object_that_is_taken() {
    let document = serde_json::to_value(<Payload as utoipa::PartialSchema>::schema()).unwrap();
    let keys = |forms: &serde_json::Value| -> Vec<String> {
        let forms = forms.as_array().unwrap().iter();
        forms.filter_map(|form| form["required"][0].as_str().map(str::to_owned)).collect()
    };
    let all = ["text", "image", "image_url", "audio", "input_audio", "tokens"];
    assert_eq!(keys(&document["oneOf"]), all);
    assert_eq!(keys(&document["oneOf"][2]["items"]["oneOf"]), all);
}
