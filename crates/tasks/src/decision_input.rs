//! What decisions are asked about, as OpenAI's client writes it: a text, or a conversation of which the user's turns are
//! judged.

use std::fmt;

use headstart_types::Payload;
use headstart_types::payload::Media;
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use utoipa::ToSchema;

/// Whose messages are known and not judged.
const OTHERS: [&str; 3] = ["assistant", "developer", "system"];

/// Turns of a conversation that are nobody's message.
const CALLS: [&str; 4] =
    ["function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"];

/// The input of a decisions request as it is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "what clients may send, for the document; it is read part by part")]
pub(crate) enum DecisionInput {
    /// A text.
    Text(String),
    /// A conversation.
    Messages(Vec<DecisionMessage>),
}

/// A turn of a conversation. Only messages of the role `user` are judged; calls of functions and tools, and their outputs,
/// are turns without a role.
#[derive(Debug, Deserialize, ToSchema)]
#[expect(dead_code, reason = "what clients may send, for the document")]
pub(crate) struct DecisionMessage {
    /// `message`, or the kind of a call or of its output.
    #[serde(rename = "type")]
    #[schema(example = "message")]
    kind: Option<String>,
    /// `user`, `assistant`, `developer` or `system`.
    #[schema(example = "user")]
    role: Option<String>,
    /// A message's text or parts.
    content: Option<DecisionContent>,
}

/// A text or parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "what clients may send, for the document")]
pub(crate) enum DecisionContent {
    /// A text.
    Text(String),
    /// Parts.
    Parts(Vec<DecisionPart>),
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type")]
#[expect(dead_code, reason = "what clients may send, for the document")]
pub(crate) enum DecisionPart {
    /// A text.
    #[serde(rename = "input_text")]
    Text {
        /// The text.
        text: String,
    },
    /// A picture.
    #[serde(rename = "input_image")]
    Image {
        /// A data URL; nothing is fetched.
        image_url: String,
    },
    /// JSON, judged as text.
    #[serde(rename = "input_json")]
    Json {
        /// An object or a list of objects.
        #[schema(value_type = Object)]
        data: Value,
    },
}

/// The words and the pictures of some content. One picture is judged at a time: of more only their number is kept.
#[derive(Default)]
struct Gathered {
    text: Option<String>,
    image: Option<String>,
    images: usize,
}

impl Gathered {
    fn say(&mut self, words: String) {
        match &mut self.text {
            None => self.text = Some(words),
            Some(text) => {
                text.push('\n');
                text.push_str(&words);
            }
        }
    }

    fn show(&mut self, image: String) {
        self.images += 1;
        self.image.get_or_insert(image);
    }

    fn part(&mut self, part: Part) -> Result<(), String> {
        let missing = |field: &str| format!("`{field}` is missing, or no text");
        match part.kind.as_deref() {
            Some("input_text") => self.say(part.text.ok_or_else(|| missing("text"))?),
            Some("input_image") => self.show(part.image_url.ok_or_else(|| missing("image_url"))?),
            Some("input_json") => self.say(part.data.ok_or("`data` is missing")?),
            Some(kind) => {
                return Err(format!(
                    "`type` is `{kind}`; it is one of `input_text`, `input_image`, `input_json`"
                ));
            }
            None => return Err(missing("type")),
        }
        Ok(())
    }

    fn join(&mut self, other: Self) {
        if let Some(text) = other.text {
            self.say(text);
        }
        if let Some(image) = other.image {
            self.show(image);
            self.images += other.images - 1;
        }
    }

    fn turn(&mut self, turn: Turn) -> Result<(), String> {
        match (turn.role.as_deref(), turn.kind.as_deref()) {
            (Some("user"), _) => {
                let Content(content) = turn.content.ok_or("`content` is missing")?;
                self.join(content.map_err(|problem| format!("`content`: {problem}"))?);
                Ok(())
            }
            (Some(role), _) if OTHERS.contains(&role) => Ok(()),
            (None, Some(kind)) if CALLS.contains(&kind) => Ok(()),
            (Some(role), _) => {
                Err(format!("`role` is `{role}`; it is one of `user`, `{}`", OTHERS.join("`, `")))
            }
            (None, _) => Err("`role` is missing".into()),
        }
    }
}

/// An input as it was read: words and pictures are gathered turn by turn, and all else is passed over. As values, millions
/// of short turns would take many times the bytes that a body may have.
enum Input {
    Text(String),
    Turns { turns: usize, gathered: Gathered },
}

impl<'de> Deserialize<'de> for Input {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(InputVisitor)
    }
}

struct InputVisitor;

impl<'de> Visitor<'de> for InputVisitor {
    type Value = Input;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or a list of messages, each with `role` and `content`")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Input, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Input, E> {
        Ok(Input::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Input, A::Error> {
        let (mut turns, mut gathered) = (0, Gathered::default());
        while let Some(turn) = list.next_element()? {
            let judged = gathered.turn(turn);
            judged.map_err(|problem| A::Error::custom(format!("turn {turns}: {problem}")))?;
            turns += 1;
        }
        Ok(Input::Turns { turns, gathered })
    }
}

/// A turn as it was read.
#[derive(Default)]
struct Turn {
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
}

impl<'de> Deserialize<'de> for Turn {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(TurnVisitor)
    }
}

struct TurnVisitor;

impl<'de> Visitor<'de> for TurnVisitor {
    type Value = Turn;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a message: an object with `role` and `content`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Turn, A::Error> {
        let mut turn = Turn::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => turn.kind = map.next_value()?,
                "role" => turn.role = map.next_value()?,
                "content" => turn.content = map.next_value()?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(turn)
    }
}

/// Content as it was read, or what is wrong with it, which matters only where it is judged.
struct Content(Result<Gathered, String>);

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text or a list of parts")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Content, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Content, E> {
        Ok(Content(Ok(Gathered { text: Some(text), ..Gathered::default() })))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Content, A::Error> {
        let (mut place, mut gathered) = (0, Ok(Gathered::default()));
        while let Some(part) = list.next_element::<Part>()? {
            gathered = gathered.and_then(|mut gathered: Gathered| {
                let added = gathered.part(part).map_err(|problem| format!("part {place}: {problem}"));
                added.map(|()| gathered)
            });
            place += 1;
        }
        Ok(Content(gathered))
    }
}

/// A part as it was read.
#[derive(Default)]
struct Part {
    kind: Option<String>,
    text: Option<String>,
    image_url: Option<String>,
    /// JSON as text.
    data: Option<String>,
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartVisitor)
    }
}

struct PartVisitor;

impl<'de> Visitor<'de> for PartVisitor {
    type Value = Part;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a part: an object with `type`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let mut part = Part::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => part.kind = map.next_value_seed(Words)?,
                "text" => part.text = map.next_value_seed(Words)?,
                "image_url" => part.image_url = map.next_value_seed(Words)?,
                "data" => part.data = Some(map.next_value_seed(Json)?),
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(part)
    }
}

/// Reads a text. Anything else is nothing: parts of other kinds, which are not judged, have objects here.
struct Words;

impl<'de> DeserializeSeed<'de> for Words {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<String>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Words {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Option<String>, E> {
        Ok(Some(text.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Option<String>, E> {
        Ok(Some(text))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Option<String>, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Option<String>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// Reads JSON as the text that it is without spaces.
struct Json;

impl<'de> DeserializeSeed<'de> for Json {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        let mut bytes = Vec::new();
        serde_transcode::transcode(deserializer, &mut serde_json::Serializer::new(&mut bytes))
            .map_err(D::Error::custom)?;
        String::from_utf8(bytes).map_err(D::Error::custom)
    }
}

/// The input as one text or one picture.
///
/// # Errors
/// What is wrong with it, and with which turn.
pub(crate) fn read_input<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Payload>, D::Error> {
    let gathered = match Option::<Input>::deserialize(deserializer)? {
        None => return Ok(None),
        Some(Input::Text(text)) => return Ok(Some(Payload::texts(vec![text]))),
        Some(Input::Turns { turns: 0, .. }) => return Ok(Some(Payload::default())),
        Some(Input::Turns { gathered, .. }) => gathered,
    };
    let bad = |problem: &str| Err(D::Error::custom(problem));
    match (gathered.text, gathered.image) {
        (Some(text), None) => Ok(Some(Payload::texts(vec![text]))),
        (None, Some(image)) if gathered.images == 1 => Ok(Some(Payload::images(vec![Media::Base64(image)]))),
        (None, None) => bad("there is no text and no picture of a `user`; other turns are not judged"),
        (None, Some(_)) => bad("one picture is judged at a time"),
        (Some(_), Some(_)) => bad("a backbone reads either texts or one picture, not both"),
    }
}

/// A question's instructions: a text, or parts that are joined to one; null is none.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn read_instructions<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<String>, D::Error> {
    let Some(Content(content)) = Option::deserialize(deserializer)? else { return Ok(None) };
    let gathered = content.map_err(D::Error::custom)?;
    if gathered.images > 0 {
        return Err(D::Error::custom("`instructions` are words; a picture is judged, not asked with"));
    }
    Ok(Some(gathered.text.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use headstart_types::Modality;
    use headstart_types::payload::Datum;
    use serde_json::json;

    use super::*;

    fn read(input: Value) -> Result<Vec<Datum>, String> {
        let read = read_input(input).map_err(|error| error.to_string())?;
        let data = read.unwrap_or_default().into_data_of("input", &[Modality::Text], None);
        data.map_err(|error| error.to_string())
    }

    #[test]
    fn a_conversation_is_the_text_of_its_users_turns() {
        let conversation = json!([
            {"role": "system", "content": "Judge."},
            {"role": "user", "type": "message", "content": [
                {"type": "input_text", "text": "Where is it?", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_json", "data": {"order": 7}}
            ]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "On its way."}, {"type": "refusal", "refusal": "no"}]},
            {"type": "function_call", "call_id": "1", "name": "track", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": [{"type": "input_text", "text": "lost"}]},
            {"role": "user", "content": "I am angry."}
        ]);
        assert_eq!(
            read(conversation).unwrap(),
            [Datum::Text("Where is it?\n{\"order\":7}\nI am angry.".into())]
        );
    }

    #[test]
    fn what_is_unknown_or_missing_is_named_with_its_turn() {
        let problem = |turn: Value| read(json!([{"role": "user", "content": "a"}, turn])).unwrap_err();
        assert!(problem(json!({"role": "robot", "content": "a"})).contains("turn 1: `role` is `robot`"));
        assert!(problem(json!({"content": "a"})).contains("turn 1: `role` is missing"));
        assert!(problem(json!({"type": "riddle"})).contains("turn 1: `role` is missing"));
        assert!(problem(json!({"role": "user"})).contains("`content` is missing"));
        let riddle = problem(json!({"role": "user", "content": [{"type": "riddle"}]}));
        assert!(riddle.contains("part 0") && riddle.contains("riddle"), "{riddle}");
        let list = read(json!([["message", "user", "a"]])).unwrap_err();
        assert!(list.contains("a message: an object with `role` and `content`"), "{list}");
        let part = problem(json!({"role": "user", "content": [["input_text", "a"]]}));
        assert!(part.contains("a part: an object with `type`"), "{part}");
        let bare =
            problem(json!({"role": "user", "content": [{"type": "input_text", "text": {"value": "a"}}]}));
        assert!(bare.contains("turn 1: `content`: part 0: `text` is missing, or no text"), "{bare}");
        let silent = read(json!([{"role": "assistant", "content": "a"}])).unwrap_err();
        assert!(silent.contains("of a `user`"), "{silent}");
    }

    #[test]
    fn fields_come_in_any_order_and_json_is_judged_as_it_is_written() {
        let conversation = r#"[{"content": [{"data": {"b": [1, 2.5, null], "a": "ü"}, "type": "input_json"}, {"text": "x", "type": "input_text"}], "role": "user"},
            {"content": [{"text": {"value": "y"}, "type": "text"}, {"type": 7}], "role": "assistant"}]"#;
        let mut reader = serde_json::Deserializer::from_str(conversation);
        let read = read_input(&mut reader).unwrap().unwrap().into_data_of("input", &[Modality::Text], None);
        assert_eq!(read.unwrap(), [Datum::Text("{\"b\":[1,2.5,null],\"a\":\"ü\"}\nx".into())]);
    }

    #[test]
    fn of_pictures_one_is_judged_and_none_beside_words() {
        let picture = |url: &str| json!({"type": "input_image", "image_url": url});
        let of = |parts: Value| {
            read_input(json!([{"role": "user", "content": parts}])).map_err(|error| error.to_string())
        };
        assert_eq!(
            of(json!([picture("data:,")])).unwrap(),
            Some(Payload::images(vec![Media::Base64("data:,".into())]))
        );
        assert!(of(json!([picture("data:,"), picture("data:,")])).unwrap_err().contains("one picture"));
        assert!(
            of(json!([picture("data:,"), {"type": "input_text", "text": "a"}]))
                .unwrap_err()
                .contains("not both")
        );
    }

    #[test]
    fn instructions_are_a_text_or_parts_of_text() {
        let parts = json!([{"type": "input_text", "text": "Is it"}, {"type": "input_text", "text": "late?"}]);
        assert_eq!(read_instructions(parts).unwrap().unwrap(), "Is it\nlate?");
        assert_eq!(read_instructions(json!("late")).unwrap().unwrap(), "late");
        assert!(read_instructions(json!([{"type": "input_image", "image_url": "data:,"}])).is_err());
    }
}
