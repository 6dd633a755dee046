//! What decisions are asked about, as OpenAI's client writes it: a text, or a conversation of which the user's turns are
//! judged.

use headstart_types::Payload;
use headstart_types::payload::Media;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Whose messages are known and not judged.
const OTHERS: [&str; 3] = ["assistant", "developer", "system"];

/// Turns of a conversation that are nobody's message.
const CALLS: [&str; 4] =
    ["function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"];

/// The input of a decisions request as it is written.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "a text or a list of messages, each with `role` and `content`", untagged)]
pub(crate) enum DecisionInput {
    /// A text.
    Text(String),
    /// A conversation.
    #[schema(value_type = Vec<DecisionMessage>)]
    Messages(Vec<Map<String, Value>>),
}

/// A turn of a conversation. Only messages of the role `user` are judged; calls of functions and tools, and their outputs,
/// are turns without a role.
#[derive(Debug, Deserialize, ToSchema)]
pub(crate) struct DecisionMessage {
    /// `message`, or the kind of a call or of its output.
    #[serde(rename = "type")]
    #[schema(example = "message")]
    kind: Option<String>,
    /// `user`, `assistant`, `developer` or `system`.
    #[schema(example = "user")]
    role: Option<String>,
    /// A message's text or parts.
    #[schema(value_type = Option<DecisionContent>)]
    content: Option<Value>,
}

/// A text or parts.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(expecting = "a text or a list of parts", untagged)]
pub(crate) enum DecisionContent {
    /// A text.
    Text(String),
    /// Parts.
    #[schema(value_type = Vec<DecisionPart>)]
    Parts(Vec<Map<String, Value>>),
}

/// A part of a message.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(tag = "type")]
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

/// The words and the pictures of some content.
#[derive(Default)]
struct Gathered {
    texts: Vec<String>,
    images: Vec<String>,
}

impl Gathered {
    fn add(&mut self, content: DecisionContent) -> Result<(), String> {
        let parts = match content {
            DecisionContent::Text(text) => {
                self.texts.push(text);
                return Ok(());
            }
            DecisionContent::Parts(parts) => parts,
        };
        for (place, part) in parts.into_iter().enumerate() {
            let part = serde_json::from_value(Value::Object(part));
            match part.map_err(|error| format!("part {place}: {error}"))? {
                DecisionPart::Text { text } => self.texts.push(text),
                DecisionPart::Image { image_url } => self.images.push(image_url),
                DecisionPart::Json { data } => self.texts.push(data.to_string()),
            }
        }
        Ok(())
    }

    fn turn(&mut self, turn: Map<String, Value>) -> Result<(), String> {
        let message: DecisionMessage =
            serde_json::from_value(Value::Object(turn)).map_err(|error| error.to_string())?;
        match (message.role.as_deref(), message.kind.as_deref()) {
            (Some("user"), _) => {
                let content = message.content.ok_or("`content` is missing")?;
                self.add(serde_json::from_value(content).map_err(|error| format!("`content`: {error}"))?)
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

/// The input as one text or one picture.
///
/// # Errors
/// What is wrong with it, and with which turn.
pub(crate) fn read_input<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Payload>, D::Error> {
    let Some(input) = Option::<DecisionInput>::deserialize(deserializer)? else { return Ok(None) };
    let mut gathered = Gathered::default();
    match input {
        DecisionInput::Text(text) => gathered.texts.push(text),
        DecisionInput::Messages(turns) if turns.is_empty() => return Ok(Some(Payload::default())),
        DecisionInput::Messages(turns) => {
            for (place, turn) in turns.into_iter().enumerate() {
                gathered
                    .turn(turn)
                    .map_err(|problem| D::Error::custom(format!("turn {place}: {problem}")))?;
            }
        }
    }
    let bad = |problem: &str| Err(D::Error::custom(problem));
    match (gathered.texts.is_empty(), gathered.images.len()) {
        (false, 0) => Ok(Some(Payload::texts(vec![gathered.texts.join("\n")]))),
        (true, 1) => Ok(Some(Payload::images(gathered.images.into_iter().map(Media::Base64).collect()))),
        (true, 0) => bad("there is no text and no picture of a `user`; other turns are not judged"),
        (true, _) => bad("one picture is judged at a time"),
        (false, _) => bad("a backbone reads either texts or one picture, not both"),
    }
}

/// A question's instructions: a text, or parts that are joined to one.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn read_instructions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut gathered = Gathered::default();
    gathered.add(DecisionContent::deserialize(deserializer)?).map_err(D::Error::custom)?;
    if !gathered.images.is_empty() {
        return Err(D::Error::custom("`instructions` are words; a picture is judged, not asked with"));
    }
    Ok(gathered.texts.join("\n"))
}

#[cfg(test)]
mod tests {
    use headstart_types::Modality;
    use headstart_types::payload::Datum;
    use serde_json::json;

    use super::*;

    fn read(input: Value) -> Result<Vec<Datum>, String> {
        let read = read_input(input).map_err(|error| error.to_string())?;
        read.unwrap_or_default().into_data("input", Modality::Text, None).map_err(|error| error.to_string())
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
        assert!(read(json!([["message", "user", "a"]])).is_err());
        let silent = read(json!([{"role": "assistant", "content": "a"}])).unwrap_err();
        assert!(silent.contains("of a `user`"), "{silent}");
    }

    #[test]
    fn instructions_are_a_text_or_parts_of_text() {
        let parts = json!([{"type": "input_text", "text": "Is it"}, {"type": "input_text", "text": "late?"}]);
        assert_eq!(read_instructions(parts).unwrap(), "Is it\nlate?");
        assert_eq!(read_instructions(json!("late")).unwrap(), "late");
        assert!(read_instructions(json!([{"type": "input_image", "image_url": "data:,"}])).is_err());
    }
}
