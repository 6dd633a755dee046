//! Reranking: documents by their relevance to a query, best first, as `POST /v1/rerank`.

use headstart_engine::Want;
use headstart_media::Shorter;
use headstart_types::Payload;
use headstart_types::payload::{Datum, Modality, Truncate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::catalog::Served;
use crate::context::{Caller, Owed, TaskContext};
use crate::error::TaskError;
use crate::features::is_zero;
use crate::items::{self, Item, Items, Lost, Reading, Timings};
use crate::pairs::{self, Pairs};
use crate::similarity::cosine;
use crate::task::{Done, Task, required};
use crate::usage::Usage;

/// The task.
pub struct Rerank;

/// Fields of a rerank request: Cohere's with `documents`, text-embeddings-inference's with `texts`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(title = "RerankRequest")]
pub struct RerankParams {
    /// The backbone.
    #[schema(required = true, nullable = false, example = "all-minilm-l6-v2")]
    pub model: Option<String>,
    /// What is looked for.
    #[schema(required = true, nullable = false)]
    pub query: Option<Payload>,
    /// What is searched: strings, or objects with `text`.
    pub documents: Option<Payload>,
    /// The same in the body of text-embeddings-inference, in place of `documents`: the answer is then a bare list of
    /// `index`, `score` and `text`.
    pub texts: Option<Payload>,
    /// Most results. Default: all.
    #[schema(minimum = 1)]
    pub top_n: Option<usize>,
    /// Whether results carry their documents. Default false.
    pub return_documents: Option<bool>,
    /// The same for `texts`.
    pub return_text: Option<bool>,
    /// Whether a cross-encoder's scores are its logits; otherwise they lie between 0 and 1. Scores by embeddings are
    /// cosines either way. Default false.
    pub raw_scores: Option<bool>,
    /// States the modality of plain strings; base64 pictures need it.
    pub modality: Option<Modality>,
    /// What happens to texts longer than the model takes; true is `end`, false `none`. Default `end`: the first tokens
    /// stay.
    pub truncate: Option<Cutting>,
    /// Which end is cut where `truncate` does not say it, in the words of text-embeddings-inference: `Right` cuts the end.
    pub truncation_direction: Option<Direction>,
}

/// What happens to long texts, in words or as other servers have it.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(expecting = "expected `none`, `start`, `end`, true or false", untagged)]
pub enum Cutting {
    /// Whether they are cut.
    Whether(bool),
    /// How they are cut.
    How(Truncate),
}

/// Which end of a long text is cut.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub enum Direction {
    /// The start.
    #[serde(alias = "left")]
    Left,
    /// The end.
    #[serde(alias = "right")]
    Right,
}

/// What the two fields together say of a long text.
#[must_use]
pub fn truncation(cutting: Option<Cutting>, direction: Option<Direction>) -> Truncate {
    match (cutting, direction) {
        (Some(Cutting::How(truncate)), _) => truncate,
        (Some(Cutting::Whether(false)), _) => Truncate::None,
        (Some(Cutting::Whether(true)) | None, Some(Direction::Left)) => Truncate::Start,
        (Some(Cutting::Whether(true)) | None, Some(Direction::Right) | None) => Truncate::End,
    }
}

/// Documents, best first, in the body of the request's kind.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum RerankAnswer {
    /// Cohere's.
    Ranked(Ranked),
    /// That of text-embeddings-inference.
    Bare(Vec<BareResult>),
}

/// Documents, best first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ranked {
    /// Always `rerank`.
    #[schema(example = "rerank")]
    pub object: &'static str,
    /// One entry a document, best first.
    pub results: Vec<RankedDocument>,
    /// The backbone.
    pub model: String,
    /// Tokens used.
    pub usage: Usage,
    /// Tokens of the query that were cut; absent when nothing was. A cross-encoder reads it together with each document,
    /// whose entry has what was cut of both.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words of the query that the model's table does not have; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
}

/// One document's relevance.
#[derive(Debug, Serialize, ToSchema)]
pub struct RankedDocument {
    /// Position among the documents.
    pub index: usize,
    /// By embeddings the cosine, −1 to 1; of a cross-encoder 0 to 1, or its logit with `raw_scores`.
    pub relevance_score: f32,
    /// The document, when it was asked for and is a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Document>,
    /// Tokens that were cut; absent when nothing was.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub truncated_tokens: usize,
    /// Words of the document that the model's table does not have; absent when there were none.
    #[serde(skip_serializing_if = "is_zero")]
    #[schema(required = false)]
    pub unknown_words: usize,
}

/// A document of a request.
#[derive(Debug, Serialize, ToSchema)]
pub struct Document {
    /// Its text.
    pub text: String,
}

/// One text's relevance as text-embeddings-inference writes it.
#[derive(Debug, Serialize, ToSchema)]
pub struct BareResult {
    /// Position among the texts.
    pub index: usize,
    /// As `relevance_score`.
    pub score: f32,
    /// The text, when it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// Prefixes by which manifests name what is looked for, and what is searched.
const QUERY_PROMPTS: [&str; 1] = ["query"];
const DOCUMENT_PROMPTS: [&str; 2] = ["passage", "document"];

impl Task for Rerank {
    const NAME: &'static str = "rerank";
    const SUMMARY: &'static str = "Order documents by their relevance to a query";
    const DESCRIPTION: &'static str = "By the cosine of their embeddings, with the prefixes `query` and `passage`, or else `document`, where the model's manifest has them; or by a \
         cross-encoder, which reads query and document together. Takes the bodies of Cohere (`documents`) and of \
         text-embeddings-inference (`texts`), and answers each in its own form.";
    const EXAMPLE: &'static str = r#"{"model": "all-minilm-l6-v2", "query": "How do I get my money back?", "documents": ["Refunds take five days.", {"text": "We deliver on Mondays."}], "top_n": 2, "return_documents": true}"#;
    const FORMS: bool = false;
    type Params = RerankParams;
    type Answer = RerankAnswer;

    fn input(params: &mut RerankParams) -> &mut Option<Payload> {
        &mut params.query
    }

    async fn run(
        cx: &TaskContext,
        params: RerankParams,
        caller: Caller,
    ) -> Result<Done<RerankAnswer>, TaskError> {
        let model = required(params.model, "model")?;
        let query = required(params.query, "query")?;
        let (field, documents) = match (params.documents, params.texts) {
            (Some(_), Some(_)) => {
                return Err(TaskError::invalid("texts", "is given beside `documents`: send one of them"));
            }
            (None, Some(texts)) => ("texts", texts),
            (documents, None) => ("documents", required(documents, "documents")?),
        };
        if params.top_n == Some(0) {
            return Err(TaskError::invalid("top_n", "must be at least 1"));
        }
        let served = cx.catalog.get(&model).await?;
        if query.len() > 1 {
            return Err(TaskError::invalid("query", format!("has {} items; it takes one", query.len())));
        }
        let owed = Owed::of(query.len() + documents.len());
        cx.check_items(query.len() + documents.len())?;
        let query = served.data(query, "query", params.modality)?;
        let documents = served.data(documents, field, params.modality)?;
        let bare = field == "texts";
        let kept = if bare { params.return_text } else { params.return_documents };
        let mut texts: Vec<Option<String>> = match kept {
            Some(true) => documents.iter().map(text_of).collect(),
            _ => vec![None; documents.len()],
        };
        let truncate = truncation(params.truncate, params.truncation_direction);
        let question = Question { query, documents, field, truncate, owed };
        let scored = if served.gives_features() {
            by_embeddings(cx, &served, question, caller).await?
        } else {
            by_pairs(cx, &served, question, params.raw_scores.unwrap_or(false), caller).await?
        };
        let Scored { scores, of_query, lost, tokens, timings } = scored;

        let order = best_first(&scores, params.top_n);
        let mut text = |index: usize| texts.get_mut(index).and_then(Option::take);
        let answer = if bare {
            let results = order.into_iter();
            RerankAnswer::Bare(
                results.map(|index| BareResult { index, score: scores[index], text: text(index) }).collect(),
            )
        } else {
            let results = order.into_iter().map(|index| RankedDocument {
                index,
                relevance_score: scores[index],
                document: text(index).map(|text| Document { text }),
                truncated_tokens: lost[index].truncated_tokens,
                unknown_words: lost[index].unknown_words,
            });
            let results = results.collect();
            RerankAnswer::Ranked(Ranked {
                object: "rerank",
                results,
                model,
                usage: Usage::of(tokens),
                truncated_tokens: of_query.truncated_tokens,
                unknown_words: of_query.unknown_words,
            })
        };
        Ok(Done { answer, timings })
    }
}

/// A query and the documents to score.
struct Question {
    query: Vec<Datum>,
    documents: Vec<Datum>,
    /// What errors call the documents.
    field: &'static str,
    truncate: Truncate,
    owed: Owed,
}

/// Scores and what was not read, in the order of the documents.
struct Scored {
    scores: Vec<f32>,
    /// What was not read of the query alone.
    of_query: Lost,
    lost: Vec<Lost>,
    tokens: usize,
    timings: Timings,
}

async fn by_embeddings(
    cx: &TaskContext,
    served: &Served,
    question: Question,
    caller: Caller,
) -> Result<Scored, TaskError> {
    let prompts = served.manifest().text.as_ref().map(|text| &text.prompts);
    let prompt = |names: &[&str]| {
        let found = names.iter().find_map(|name| prompts.and_then(|prompts| prompts.get(*name)));
        found.map(String::as_str)
    };
    let reading = |field, prompt| Reading {
        field,
        want: Want { features: true, logits: false },
        truncate: question.truncate,
        prompt,
    };
    let (of_query, of_documents) =
        (reading("query", prompt(&QUERY_PROMPTS)), reading(question.field, prompt(&DOCUMENT_PROMPTS)));
    let one_admitted = items::admit(cx, served, &question.query, of_query.field)?;
    let many_admitted = items::admit(cx, served, &question.documents, of_documents.field)?;
    cx.take_owed(&question.owed, caller)?;
    let (one, many) = ((question.query, one_admitted), (question.documents, many_admitted));
    let (one, many): (Items, Items) = tokio::try_join!(
        items::compute(cx, served, one, of_query, &cx.features, caller),
        items::compute(cx, served, many, of_documents, &cx.features, caller),
    )?;
    let target = one.items.first().ok_or(TaskError::Bug("no row for an item"))?;
    Ok(Scored {
        scores: many.items.iter().map(|item| cosine(&target.features, &item.features)).collect(),
        of_query: target.lost(),
        lost: many.items.iter().map(Item::lost).collect(),
        tokens: one.tokens() + many.tokens(),
        timings: one.timings.beside(many.timings),
    })
}

/// Scores of a cross-encoder with one logit: its logistic function, or the logit itself.
async fn by_pairs(
    cx: &TaskContext,
    served: &Served,
    question: Question,
    raw: bool,
    caller: Caller,
) -> Result<Scored, TaskError> {
    let classes = served.graph()?.labels().len();
    if classes != 1 {
        let id = served.id();
        let problem =
            format!("`{id}` says {classes} things of a pair; a reranker says one, how relevant it is");
        return Err(TaskError::invalid("model", problem));
    }
    let pairs = Pairs {
        first: pairs::texts(cx, "query", question.query)?,
        second: pairs::texts(cx, question.field, question.documents)?,
        shorter: Shorter::Longest,
        truncate: question.truncate,
    };
    let rows = pairs::compute(cx, served, pairs, &question.owed, caller).await?;
    let score = |logit: f32| if raw { logit } else { (1.0 / (1.0 + (-f64::from(logit)).exp())) as f32 };
    let logits = rows.items.iter().map(|row| row.logits.first().copied());
    let scores = logits.map(|logit| logit.map(score).ok_or(TaskError::Bug("a pair without a logit")));
    Ok(Scored {
        scores: scores.collect::<Result<_, _>>()?,
        of_query: Lost::default(),
        lost: rows.items.iter().map(Item::lost).collect(),
        tokens: rows.tokens(),
        timings: rows.timings,
    })
}

/// Positions by falling score, at most `top`; equal scores keep the caller's order.
fn best_first(scores: &[f32], top: Option<usize>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|left, right| scores[*right].total_cmp(&scores[*left]).then(left.cmp(right)));
    order.truncate(top.unwrap_or(usize::MAX));
    order
}

fn text_of(datum: &Datum) -> Option<String> {
    match datum {
        Datum::Text(text) => Some(text.clone()),
        Datum::Tokens(_) | Datum::Image(_) | Datum::Audio(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_come_first_and_equals_keep_their_order() {
        assert_eq!(best_first(&[0.1, 0.9, 0.9, -1.0], None), [1, 2, 0, 3]);
        assert_eq!(best_first(&[0.1, 0.9, 0.9, -1.0], Some(2)), [1, 2]);
        assert_eq!(best_first(&[0.5], Some(9)), [0]);
    }

    #[test]
    fn truncate_is_a_word_or_whether_and_where_it_is_not_how_the_direction_says_it() {
        let read = |json: &str| serde_json::from_str::<RerankParams>(json);
        for (fields, expected) in [
            (r#"{"truncate": true}"#, Truncate::End),
            (r#"{"truncate": false}"#, Truncate::None),
            (r#"{"truncate": "start"}"#, Truncate::Start),
            (r#"{"truncation_direction": "left"}"#, Truncate::Start),
            (r#"{"truncate": true, "truncation_direction": "Left"}"#, Truncate::Start),
            (r#"{"truncate": true, "truncation_direction": "Right"}"#, Truncate::End),
            (r#"{"truncate": false, "truncation_direction": "Left"}"#, Truncate::None),
            (r#"{"truncate": "end", "truncation_direction": "Left"}"#, Truncate::End),
            (r#"{"truncate": null, "truncation_direction": null}"#, Truncate::End),
        ] {
            let params = read(fields).unwrap();
            assert_eq!(truncation(params.truncate, params.truncation_direction), expected, "{fields}");
        }
        let refused = read(r#"{"truncate": "left"}"#).unwrap_err().to_string();
        assert!(refused.contains("expected `none`"), "{refused}");
        assert!(read(r#"{"truncation_direction": "start"}"#).is_err());
    }
}
