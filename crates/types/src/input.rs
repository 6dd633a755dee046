//! The `input` of a request: every form clients send, read in one pass and given meaning once the model is known.

use std::fmt;

use std::borrow::Cow;

use serde::de::value::MapAccessDeserializer;
use serde::de::{
    self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};

use crate::payload::{Datum, Media, Modality};

#[path = "input_ids.rs"]
mod ids;

use ids::{Ids, IdsSeed, TokenVisitor, read_ids};
pub use ids::{MOST_IDS, MOST_IDS_IN_ALL};

/// Most items that are kept of a list, which is more than any option allows; those beyond are counted. As values, the
/// millions of short items that a body has room for would take many times its bytes.
pub const MOST_ITEMS: usize = 1 << 18;

/// The `input` field: a string, a list of strings, token ids, a list of token ids, or objects naming their modality.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload {
    items: Vec<Item>,
    listed: bool,
    /// More than [`MOST_ITEMS`].
    beyond: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// A string whose meaning depends on the model: a text, a data URL or base64.
    String(String),
    Tokens(Ids),
    Text(String),
    Image(Media),
    Audio(Media),
    /// A file of whatever the model reads.
    File(Media),
}

/// Why an input does not suit its model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {problem}")]
pub struct InputError {
    /// The field, with the item's index where there are several.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Payload {
    /// A payload of encoded pictures.
    #[must_use]
    pub fn images(images: Vec<Media>) -> Self {
        Self { items: images.into_iter().map(Item::Image).collect(), listed: false, beyond: 0 }
    }

    /// A payload of encoded pictures or sounds, whichever the model reads, as multipart parts and raw bodies bring them.
    #[must_use]
    pub fn files(files: Vec<Media>) -> Self {
        Self { items: files.into_iter().map(Item::File).collect(), listed: false, beyond: 0 }
    }

    /// A payload of texts.
    #[must_use]
    pub fn texts(texts: Vec<String>) -> Self {
        Self { items: texts.into_iter().map(Item::Text).collect(), listed: false, beyond: 0 }
    }

    /// Number of items, those beyond [`MOST_ITEMS`] with them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len() + self.beyond
    }

    /// Whether it was one item rather than a list of items.
    #[must_use]
    pub fn is_single(&self) -> bool {
        !self.listed
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of token ids, those that are not kept with them.
    fn ids(&self) -> usize {
        let ids = |item: &Item| match item {
            Item::Tokens(ids) => ids.len(),
            Item::String(_) | Item::Text(_) | Item::Image(_) | Item::Audio(_) | Item::File(_) => 0,
        };
        self.items.iter().map(ids).sum()
    }

    /// Gives every item its meaning for a model that reads these modalities: of several an item says by its form which one
    /// it is of. A plain string is a text unless it is a data URL or the request says otherwise. `stated` is the request's
    /// own `modality` field, `field` the name errors use.
    ///
    /// # Errors
    /// [`InputError`] naming the item that is empty, of another modality, or of more than [`MOST_IDS`] token ids; a list of
    /// more than [`MOST_ITEMS`], or of more than [`MOST_IDS_IN_ALL`] token ids.
    pub fn into_data_of(
        self,
        field: &str,
        modalities: &[Modality],
        stated: Option<Modality>,
    ) -> Result<Vec<Datum>, InputError> {
        let names = || {
            let names: Vec<&str> = modalities.iter().map(|modality| modality.as_str()).collect();
            names.join(" and ")
        };
        if let Some(stated) = stated.filter(|stated| !modalities.contains(stated)) {
            let problem = format!("is `{}` but the model reads {}", stated.as_str(), names());
            return Err(InputError { field: "modality".into(), problem });
        }
        if self.items.is_empty() {
            return Err(InputError { field: field.into(), problem: "is empty".into() });
        }
        if self.beyond > 0 {
            let problem = format!("has {} items; at most {MOST_ITEMS} are taken", self.len());
            return Err(InputError { field: field.into(), problem });
        }
        let ids = self.ids();
        if ids > MOST_IDS_IN_ALL && self.items.len() > 1 {
            let problem = format!("has {ids} token ids in all; at most {MOST_IDS_IN_ALL} are taken");
            return Err(InputError { field: field.into(), problem });
        }
        let single = self.items.len() == 1;
        let name = |index: usize| if single { field.to_owned() } else { format!("{field}[{index}]") };
        self.items
            .into_iter()
            .enumerate()
            .map(|(index, item)| {
                let modality = match modalities {
                    [only] => *only,
                    _ => {
                        let modality = item.modality(stated);
                        if !modalities.contains(&modality) {
                            let problem = format!(
                                "is of modality {} but the model reads {}",
                                modality.as_str(),
                                names()
                            );
                            return Err(InputError { field: name(index), problem });
                        }
                        modality
                    }
                };
                let datum = match (item, modality) {
                    (Item::File(_), Modality::Text) => Err(FILE_FOR_TEXT.into()),
                    (Item::String(text), Modality::Image) => media_string(text, &PICTURES, stated),
                    (Item::String(text), Modality::Audio) => media_string(text, &SOUNDS, stated),
                    (Item::String(text) | Item::Text(text), _) => Ok(Datum::Text(text)),
                    (Item::Tokens(ids), _) => ids.whole().map(Datum::Tokens),
                    (Item::Audio(media), _) | (Item::File(media), Modality::Audio) => Ok(Datum::Audio(media)),
                    (Item::Image(media) | Item::File(media), _) => Ok(Datum::Image(media)),
                };
                datum
                    .and_then(|datum| suits(datum, modality))
                    .map_err(|problem| InputError { field: name(index), problem })
            })
            .collect()
    }
}

impl Item {
    /// What an item is for a model that reads anything.
    fn modality(&self, stated: Option<Modality>) -> Modality {
        match self {
            Self::String(text) if is_data_url(text) => Modality::Image,
            Self::String(_) => stated.unwrap_or(Modality::Text),
            Self::Tokens(_) | Self::Text(_) => Modality::Text,
            // No model reads pictures and sounds, so that files need no looking into.
            Self::Image(_) | Self::File(_) => Modality::Image,
            Self::Audio(_) => Modality::Audio,
        }
    }
}

fn begins(text: &str, scheme: &str) -> bool {
    text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
}

fn is_data_url(text: &str) -> bool {
    begins(text, "data:")
}

/// What is said of the bytes of a file where a text belongs.
const FILE_FOR_TEXT: &str = "is a file but the model reads text: send the text itself as a string";

/// How strings become media of one modality, and what is said of those that do not.
struct MediaStrings {
    modality: Modality,
    datum: fn(Media) -> Datum,
    fetched: &'static str,
    plain: &'static str,
}

const PICTURES: MediaStrings = MediaStrings {
    modality: Modality::Image,
    datum: Datum::Image,
    fetched: "is a URL, and no URL is fetched: send the picture itself as a data URL",
    plain: "is a plain string but the model reads images: send a data URL, {\"image\": base64}, or base64 with \
            \"modality\": \"image\"",
};

const SOUNDS: MediaStrings = MediaStrings {
    modality: Modality::Audio,
    datum: Datum::Audio,
    fetched: "is a URL, and no URL is fetched: send the sound itself as a data URL",
    plain: "is a plain string but the model reads sounds: send a data URL, {\"audio\": base64}, or base64 with \
            \"modality\": \"audio\"",
};

fn media_string(text: String, media: &MediaStrings, stated: Option<Modality>) -> Result<Datum, String> {
    if is_data_url(&text) || stated == Some(media.modality) {
        Ok((media.datum)(Media::Base64(text)))
    } else if begins(&text, "http://") || begins(&text, "https://") {
        Err(media.fetched.into())
    } else {
        Err(media.plain.into())
    }
}

fn suits(datum: Datum, modality: Modality) -> Result<Datum, String> {
    let empty = match &datum {
        Datum::Text(text) => text.is_empty(),
        Datum::Tokens(tokens) => tokens.is_empty(),
        Datum::Image(Media::Bytes(bytes)) | Datum::Audio(Media::Bytes(bytes)) => bytes.is_empty(),
        Datum::Image(Media::Base64(text)) | Datum::Audio(Media::Base64(text)) => text.is_empty(),
    };
    if empty {
        Err("is empty".into())
    } else if datum.modality() == modality {
        Ok(datum)
    } else {
        Err(format!("is of modality {} but the model reads {}", datum.modality().as_str(), modality.as_str()))
    }
}

impl utoipa::ToSchema for Payload {
    fn name() -> Cow<'static, str> {
        "Input".into()
    }
}

impl utoipa::PartialSchema for Payload {
    fn schema() -> RefOr<Schema> {
        let string = || ObjectBuilder::new().schema_type(Type::String).min_length(Some(1));
        let token =
            || ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).maximum(Some(u32::MAX));
        let tokens = || ArrayBuilder::new().items(token()).min_items(Some(1));
        let object = |key: &str, value: Schema, says: &str| {
            ObjectBuilder::new().property(key, value).required(key).description(Some(says))
        };
        let objects = || {
            let url = object("url", string().into(), "The same in an object.");
            let url = OneOfBuilder::new().item(string()).item(url);
            let data = object("data", string().into(), "The file's own bytes say its format.");
            [
                object("text", string().into(), "A text."),
                object("image", string().into(), "A picture: base64 of the file, or a data URL."),
                object("image_url", url.into(), "A picture likewise, as OpenAI's bodies have it."),
                object("audio", string().into(), "A sound: base64 of the file, or a data URL."),
                object("input_audio", data.into(), "A sound likewise, as OpenAI's bodies have it."),
                object("tokens", tokens().into(), "Token ids of the model's own vocabulary."),
            ]
        };
        let element = objects()
            .into_iter()
            .fold(OneOfBuilder::new().item(string()).item(tokens()), |one_of, object| one_of.item(object));
        let list = ArrayBuilder::new().items(element).min_items(Some(1));
        let forms = OneOfBuilder::new().item(string()).item(tokens()).item(list);
        objects()
            .into_iter()
            .fold(forms, |one_of, object| one_of.item(object))
            .description(Some(
                "One item or a list of items. A string is a text for text models; for models of images or sounds it is a data \
                 URL, or base64 when `modality` says so. A list of integers is one text as token ids. Nothing is fetched \
                 from URLs.",
            ))
            .into()
    }
}

/// One element of a list, before it is known whether the list is one of items or one item of token ids.
enum Element {
    Item(Item),
    Token(i64),
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PayloadVisitor)
    }
}

struct PayloadVisitor;

impl<'de> Visitor<'de> for PayloadVisitor {
    type Value = Payload;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, an object, token ids, or a list of these")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Payload, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Payload, E> {
        Ok(Payload { items: vec![Item::String(text)], listed: false, beyond: 0 })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Payload, A::Error> {
        let mut left = MOST_IDS_IN_ALL;
        Ok(Payload { items: vec![read_object(map, &mut left)?], listed: false, beyond: 0 })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Payload, A::Error> {
        let mut items = Vec::with_capacity(list.size_hint().unwrap_or(0).min(4096));
        let (mut tokens, mut beyond, mut left) = (Ids::default(), 0, MOST_IDS_IN_ALL);
        while let Some(element) = list.next_element_seed(ElementSeed { left: &mut left })? {
            match element {
                Element::Item(item) => items.push(item),
                Element::Token(id) => tokens.push(id, &mut left),
            }
            if !items.is_empty() && tokens.len() > 0 {
                return Err(de::Error::custom("a list holds either token ids or items, not both"));
            }
            if items.len() == MOST_ITEMS {
                while list.next_element::<IgnoredAny>()?.is_some() {
                    beyond += 1;
                }
            }
        }
        let listed = tokens.len() == 0;
        if !listed {
            items.push(Item::Tokens(tokens));
        }
        Ok(Payload { items, listed, beyond })
    }
}

/// Reads an element of a list of which so many token ids may still be kept.
struct ElementSeed<'a> {
    left: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for ElementSeed<'_> {
    type Value = Element;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Element, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ElementSeed<'_> {
    type Value = Element;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(
            "a string, a token id, a list of token ids, or an object with `text`, `image` or `audio`",
        )
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Element, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Element, E> {
        Ok(Element::Item(Item::String(text)))
    }

    fn visit_u64<E: de::Error>(self, id: u64) -> Result<Element, E> {
        TokenVisitor.visit_u64(id).map(|token| Element::Token(token.0))
    }

    fn visit_i64<E: de::Error>(self, id: i64) -> Result<Element, E> {
        Ok(Element::Token(id))
    }

    fn visit_f64<E: de::Error>(self, id: f64) -> Result<Element, E> {
        TokenVisitor.visit_f64(id).map(|token| Element::Token(token.0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Element, A::Error> {
        read_ids(list, self.left).map(|ids| Element::Item(Item::Tokens(ids)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element, A::Error> {
        read_object(map, self.left).map(Element::Item)
    }
}

/// A picture as OpenAI's bodies have it.
struct ImageUrl(String);

impl<'de> Deserialize<'de> for ImageUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ImageUrlVisitor)
    }
}

struct ImageUrlVisitor;

impl<'de> Visitor<'de> for ImageUrlVisitor {
    type Value = ImageUrl;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a data URL or an object with `url`")
    }

    fn visit_str<E: de::Error>(self, url: &str) -> Result<ImageUrl, E> {
        self.visit_string(url.to_owned())
    }

    fn visit_string<E: de::Error>(self, url: String) -> Result<ImageUrl, E> {
        Ok(ImageUrl(url))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ImageUrl, A::Error> {
        Url::deserialize(MapAccessDeserializer::new(map)).map(|Url { url }| ImageUrl(url))
    }
}

#[derive(serde::Deserialize)]
struct Url {
    url: String,
}

impl From<ImageUrl> for String {
    fn from(ImageUrl(url): ImageUrl) -> Self {
        url
    }
}

/// A sound as OpenAI's bodies have it; its format is read from the file itself.
#[derive(serde::Deserialize)]
#[serde(expecting = "an object with `data`")]
struct InputAudio {
    data: String,
}

fn read_object<'de, A: MapAccess<'de>>(mut map: A, left: &mut usize) -> Result<Item, A::Error> {
    let mut item = None;
    while let Some(key) = map.next_key::<String>()? {
        let image = |text: String| Item::Image(Media::Base64(text));
        let read = match key.as_str() {
            "text" => map.next_value::<Option<String>>()?.map(Item::Text),
            "image" => map.next_value::<Option<String>>()?.map(image),
            "audio" => map.next_value::<Option<String>>()?.map(|text| Item::Audio(Media::Base64(text))),
            "input_audio" => {
                map.next_value::<Option<InputAudio>>()?.map(|audio| Item::Audio(Media::Base64(audio.data)))
            }
            "image_url" => map.next_value::<Option<ImageUrl>>()?.map(|url| image(url.into())),
            "tokens" => map.next_value_seed(IdsSeed { left: &mut *left })?.map(Item::Tokens),
            "text_pair" if map.next_value::<Option<IgnoredAny>>()?.is_some() => {
                return Err(de::Error::custom("`text_pair` is not taken: an item is one text"));
            }
            "text_pair" => None,
            _ => {
                map.next_value::<IgnoredAny>()?;
                None
            }
        };
        // Null is absent.
        let Some(read) = read else { continue };
        if item.replace(read).is_some() {
            return Err(de::Error::custom("an object holds one of `text`, `image`, `audio`, `tokens`"));
        }
    }
    item.ok_or_else(|| de::Error::custom("an object needs `text`, `image`, `audio` or `tokens`"))
}

#[cfg(test)]
#[path = "input_test.rs"]
mod tests;
