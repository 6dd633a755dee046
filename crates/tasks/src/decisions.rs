//! Decisions: typed questions about one input, as OpenAI's `POST /v1/decisions`, answered by zero-shot labels.

use headstart_types::object::Objects;
use headstart_types::payload::Truncate;
use headstart_types::{Label, Payload};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::ToSchema;

use crate::catalog::Served;
use crate::context::{Caller, TaskContext};
use crate::decision_input::{DecisionContent, DecisionInput, read_input, read_instructions};
use crate::error::TaskError;
use crate::features::is_zero;
use crate::items::{Lost, Timings};
use crate::labels::Labels;
use crate::task::{Done, Task, required};
use crate::zero_shot::{Judged, Observed, Question as Labelling, judge, observe};

/// Most questions of a request, choices of a question and levels of a score, as OpenAI takes them.
const QUESTIONS: usize = 400;
const MOST_CHOICES: usize = 255;
const CHOICES: std::ops::RangeInclusive<usize> = 2..=MOST_CHOICES;

/// The task.
pub struct Decisions;

/// Fields of a decisions request.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(title = "DecisionsRequest")]
pub struct DecisionsParams {
    /// The backbone.
    #[schema(required = true, nullable = false, example = "all-minilm-l6-v2")]
    pub model: Option<String>,
    /// A text, or a conversation: what its `user` says is judged, as `input_text`, `input_json`, or one `input_image` with a
    /// data URL.
    #[serde(default, deserialize_with = "read_input")]
    #[schema(required = true, nullable = false, value_type = DecisionInput)]
    pub input: Option<Payload>,
    /// What to decide; 1 to 400 questions.
    #[serde(default, deserialize_with = "read_questions")]
    #[schema(required = true, nullable = false, min_items = 1, max_items = 400)]
    pub questions: Option<Vec<Question>>,
    /// What happens to a text, of the input or of a question, longer than the model takes. Default `end`: the first tokens
    /// stay.
    pub truncate: Option<Truncate>,
}

/// A question about the input.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(try_from = "QuestionForm", tag = "type", rename_all = "lowercase")]
#[schema(title = "DecisionQuestion")]
pub enum Question {
    /// How likely a statement about the input is true.
    Predicate {
        /// Comes back with the answer.
        name: Option<String>,
        /// The statement.
        #[schema(value_type = DecisionContent)]
        instructions: String,
    },
    /// One of several choices.
    Choice {
        /// Comes back with the answer.
        name: Option<String>,
        /// What is asked; a label model reads the choices alone, except for choices of true and false.
        #[schema(value_type = DecisionContent)]
        instructions: String,
        /// 2 to 255 choices.
        #[schema(min_items = 2, max_items = 255)]
        choices: Vec<Choice>,
    },
    /// A place on an ordered scale.
    Score {
        /// Comes back with the answer.
        name: Option<String>,
        /// What is asked.
        #[schema(value_type = DecisionContent)]
        instructions: String,
        /// 2 to 255 levels, lowest first.
        #[schema(min_items = 2, max_items = 255)]
        levels: Vec<Level>,
    },
}

/// A question as it is read, whatever its type: no more of a list is kept than is taken.
#[derive(Deserialize)]
#[serde(expecting = "a question: an object with `type`")]
struct QuestionForm {
    #[serde(rename = "type")]
    kind: QuestionKind,
    name: Option<String>,
    #[serde(default, deserialize_with = "read_instructions")]
    instructions: Option<String>,
    choices: Option<Objects<Choice, MOST_CHOICES>>,
    levels: Option<Objects<Level, MOST_CHOICES>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum QuestionKind {
    Predicate,
    Choice,
    Score,
}

impl TryFrom<QuestionForm> for Question {
    type Error = String;

    fn try_from(form: QuestionForm) -> Result<Self, String> {
        let missing = |field: &str| format!("`{field}` is missing");
        let QuestionForm { kind, name, instructions, choices, levels } = form;
        let instructions = instructions.ok_or_else(|| missing("instructions"))?;
        Ok(match kind {
            QuestionKind::Predicate => Self::Predicate { name, instructions },
            QuestionKind::Choice => {
                let Objects(choices) = choices.ok_or_else(|| missing("choices"))?;
                Self::Choice { name, instructions, choices }
            }
            QuestionKind::Score => {
                let Objects(levels) = levels.ok_or_else(|| missing("levels"))?;
                Self::Score { name, instructions, levels }
            }
        })
    }
}

fn read_questions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Question>>, D::Error> {
    let questions = Option::<Objects<Question, QUESTIONS>>::deserialize(deserializer)?;
    Ok(questions.map(|Objects(questions)| questions))
}

/// One choice.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(title = "DecisionChoice")]
#[serde(expecting = "a choice: an object with `value`")]
pub struct Choice {
    /// What the answer names.
    pub value: ChoiceValue,
    /// What it means, in other words.
    pub description: Option<String>,
}

/// A string or a truth value; the two are distinct.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(expecting = "a string or a boolean", untagged)]
pub enum ChoiceValue {
    /// True or false.
    Bool(bool),
    /// A word.
    Text(String),
}

/// One level of a scale.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[schema(as = DecisionLevel, title = "DecisionLevel")]
#[serde(expecting = "a level: an object with `label`")]
pub struct Level {
    /// The level's name.
    pub label: String,
    /// What it means, in other words.
    pub description: Option<String>,
}

/// Answers in the order of the questions.
#[derive(Debug, Serialize, ToSchema)]
pub struct DecisionsAnswer {
    /// One answer a question.
    pub answers: Vec<Answer>,
    /// Tokens that were cut off the input; absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words of the input that the model's table does not have; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
    /// The backbone.
    pub model: String,
    /// Tokens used.
    pub usage: DecisionsUsage,
}

/// An answer to one question.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[schema(title = "DecisionAnswer")]
pub enum Answer {
    /// How likely the statement is true.
    Predicate {
        /// The question's name.
        name: Option<String>,
        /// 0 to 1.
        probability: f32,
    },
    /// The best choice.
    Choice {
        /// The question's name.
        name: Option<String>,
        /// The best choice's value.
        choice: ChoiceValue,
        /// Its probability.
        confidence: f32,
        /// All choices, in the order of the question.
        probabilities: Vec<ChoiceProbability>,
    },
    /// The place on the scale.
    Score {
        /// The question's name.
        name: Option<String>,
        /// Expected level; the lowest counts 0.
        score: f32,
        /// Probability of the likeliest level.
        confidence: f32,
        /// All levels, lowest first.
        probabilities: Vec<LevelProbability>,
    },
}

/// One choice's probability.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChoiceProbability {
    /// The choice.
    pub value: ChoiceValue,
    /// 0 to 1.
    pub probability: f32,
}

/// One level's probability.
#[derive(Debug, Serialize, ToSchema)]
pub struct LevelProbability {
    /// The level.
    pub label: String,
    /// Its number; the lowest is 0.
    pub value: usize,
    /// 0 to 1.
    pub probability: f32,
}

/// Tokens of a decisions request. Nothing is generated or cached by the token.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct DecisionsUsage {
    /// Tokens used, after truncation, whether they were computed now or before.
    pub input_tokens: usize,
    /// Always zero.
    pub input_tokens_details: InputTokensDetails,
    /// Always zero.
    pub output_tokens: usize,
    /// Always zero.
    pub output_tokens_details: OutputTokensDetails,
    /// The same: nothing is generated.
    pub total_tokens: usize,
}

/// Always zero.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct InputTokensDetails {
    /// Always zero.
    pub cached_tokens: usize,
    /// Always zero.
    pub cache_write_tokens: usize,
}

/// Always zero.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
pub struct OutputTokensDetails {
    /// Always zero.
    pub reasoning_tokens: usize,
}

impl Task for Decisions {
    const NAME: &'static str = "decisions";
    const SUMMARY: &'static str = "Answer typed questions about one input";
    const DESCRIPTION: &'static str = "OpenAI's decisions in its own bodies, answered by zero-shot labels: choices and levels are the labels, a \
         predicate's instructions are one label scored on its own.";
    const EXAMPLE: &'static str = r#"{"model": "all-minilm-l6-v2", "input": "I want my money back.", "questions": [{"type": "choice", "name": "topic", "instructions": "What is it about?", "choices": [{"value": "refund"}, {"value": "delivery"}]}]}"#;
    // Questions are objects in a list, which a form cannot hold.
    const FORMS: bool = false;
    type Params = DecisionsParams;
    type Answer = DecisionsAnswer;

    fn input(params: &mut DecisionsParams) -> &mut Option<Payload> {
        &mut params.input
    }

    async fn run(
        cx: &TaskContext,
        params: DecisionsParams,
        caller: Caller,
    ) -> Result<Done<DecisionsAnswer>, TaskError> {
        let model = required(params.model, "model")?;
        let input = required(params.input, "input")?;
        let questions = required(params.questions, "questions")?;
        if questions.is_empty() || questions.len() > QUESTIONS {
            let problem = format!("has {} questions; 1 to {QUESTIONS} are taken", questions.len());
            return Err(TaskError::invalid("questions", problem));
        }
        let served = cx.catalog.get(&model).await?;
        if input.len() > 1 {
            return Err(TaskError::invalid("input", format!("has {} items; it takes one", input.len())));
        }
        cx.check_items(input.len())?;
        let data = served.data(input, "input", None)?;
        let truncate = params.truncate.unwrap_or_default();
        let item = observe(cx, &served, "input", data, truncate, caller).await?;
        let (tokens, timings) = (item.tokens(), item.timings());
        let mut asking = Asking {
            cx,
            served: &served,
            item: &item,
            truncate,
            caller,
            tokens,
            lost: Lost::default(),
            timings,
        };
        let mut answers = Vec::with_capacity(questions.len());
        for (index, question) in questions.into_iter().enumerate() {
            answers.push(asking.answer(&format!("questions[{index}]"), question).await?);
        }
        let tokens = asking.tokens;
        let usage = DecisionsUsage {
            input_tokens: tokens,
            input_tokens_details: InputTokensDetails::default(),
            output_tokens: 0,
            output_tokens_details: OutputTokensDetails::default(),
            total_tokens: tokens,
        };
        let timings = asking.timings;
        let Lost { truncated_tokens, unknown_words } = asking.lost;
        let answer = DecisionsAnswer { answers, truncated_tokens, unknown_words, model, usage };
        Ok(Done { answer, timings })
    }
}

/// Asks one question after the other about the same computed item.
struct Asking<'a> {
    cx: &'a TaskContext,
    served: &'a Served,
    item: &'a Observed,
    truncate: Truncate,
    caller: Caller,
    tokens: usize,
    lost: Lost,
    timings: Timings,
}

impl Asking<'_> {
    async fn answer(&mut self, field: &str, question: Question) -> Result<Answer, TaskError> {
        match question {
            Question::Predicate { name, instructions } => {
                let probability = self.predicate(field, &instructions).await?;
                Ok(Answer::Predicate { name, probability })
            }
            Question::Choice { name, instructions, choices } => {
                let probabilities = self.choice(field, &instructions, &choices).await?;
                let (best, confidence) = best(&probabilities)?;
                let choice = choices[best].value.clone();
                let probabilities = choices
                    .into_iter()
                    .zip(probabilities)
                    .map(|(choice, probability)| ChoiceProbability { value: choice.value, probability })
                    .collect();
                Ok(Answer::Choice { name, choice, confidence, probabilities })
            }
            Question::Score { name, instructions: _, levels } => {
                let labels = levels
                    .iter()
                    .map(|level| Label {
                        label: level.label.clone(),
                        description: level.description.clone(),
                        examples: Vec::new(),
                    })
                    .collect();
                let probabilities = self.labels(&format!("{field}.levels"), labels).await?;
                let (_, confidence) = best(&probabilities)?;
                let score = probabilities.iter().enumerate().map(|(level, p)| level as f32 * p).sum();
                let probabilities = levels
                    .into_iter()
                    .zip(probabilities)
                    .enumerate()
                    .map(|(value, (level, probability))| LevelProbability {
                        label: level.label,
                        value,
                        probability,
                    })
                    .collect();
                Ok(Answer::Score { name, score, confidence, probabilities })
            }
        }
    }

    async fn predicate(&mut self, field: &str, statement: &str) -> Result<f32, TaskError> {
        let field = format!("{field}.instructions");
        let one = |error: TaskError| error.one_of(&field);
        let labels =
            Labels::from(vec![Label::from(statement)]).check(&field, &self.cx.limits).map_err(one)?;
        let judged = self.judge(&field, &labels, true).await.map_err(one)?;
        judged.first().copied().ok_or(TaskError::Bug("no score for a label"))
    }

    async fn choice(
        &mut self,
        question: &str,
        instructions: &str,
        choices: &[Choice],
    ) -> Result<Vec<f32>, TaskError> {
        let field = format!("{question}.choices");
        if !CHOICES.contains(&choices.len()) {
            let problem = format!("has {} choices; 2 to 255 are taken", choices.len());
            return Err(TaskError::invalid(field, problem));
        }
        // The words true and false say nothing about the input: such a choice is a predicate in disguise.
        if let [
            Choice { value: ChoiceValue::Bool(first), .. },
            Choice { value: ChoiceValue::Bool(second), .. },
        ] = choices
            && first != second
        {
            let probability = self.predicate(question, instructions).await?;
            let (one, other) = (probability, 1.0 - probability);
            return Ok(if *first { vec![one, other] } else { vec![other, one] });
        }
        let labels = choices
            .iter()
            .map(|choice| Label {
                label: match &choice.value {
                    ChoiceValue::Text(text) => text.clone(),
                    ChoiceValue::Bool(value) => value.to_string(),
                },
                description: choice.description.clone(),
                examples: Vec::new(),
            })
            .collect();
        self.labels(&field, labels).await
    }

    async fn labels(&mut self, field: &str, labels: Vec<Label>) -> Result<Vec<f32>, TaskError> {
        if !CHOICES.contains(&labels.len()) {
            return Err(TaskError::invalid(
                field,
                format!("has {} entries; 2 to 255 are taken", labels.len()),
            ));
        }
        let labels = Labels::from(labels).check(field, &self.cx.limits)?;
        self.judge(field, &labels, false).await
    }

    async fn judge(
        &mut self,
        field: &str,
        labels: &[Label],
        independent: bool,
    ) -> Result<Vec<f32>, TaskError> {
        let question = Labelling { labels, template: None, independent, truncate: self.truncate, field };
        let Judged { probabilities, lost, tokens, timings } =
            judge(self.cx, self.served, self.item, question, self.caller).await?;
        self.tokens += tokens;
        self.lost = lost.into_iter().fold(self.lost, Lost::most);
        self.timings = self.timings.beside(timings);
        probabilities.into_iter().next().ok_or(TaskError::Bug("no scores for an item"))
    }
}

fn best(probabilities: &[f32]) -> Result<(usize, f32), TaskError> {
    // Of equals the first, as everywhere.
    let best = probabilities
        .iter()
        .copied()
        .enumerate()
        .reduce(|best, next| if next.1.total_cmp(&best.1).is_gt() { next } else { best });
    best.ok_or(TaskError::Bug("a question without choices"))
}
