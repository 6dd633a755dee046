//! What a task is: a request's fields, an answer's fields, and the story between them. A new task is one file and one
//! line in [`visit_all`].

use std::future::Future;

use headstart_types::Payload;
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::ToSchema;

use crate::context::{Caller, TaskContext};
use crate::error::TaskError;
use crate::items::Timings;

/// A task's answer with where its time went.
#[derive(Debug)]
pub struct Done<T> {
    /// What the client gets.
    pub answer: T,
    /// Where the time went.
    pub timings: Timings,
}

/// One kind of question that clients ask.
pub trait Task: Send + Sync + 'static {
    /// The URL's last segment.
    const NAME: &'static str;
    /// One line for the API pages.
    const SUMMARY: &'static str;
    /// A paragraph for the API pages.
    const DESCRIPTION: &'static str;
    /// A request that works on the bundled backbones, as JSON.
    const EXAMPLE: &'static str;
    /// Whether its fields can also be parts of a form, or parameters beside a raw picture.
    const FORMS: bool = true;
    /// The request's fields.
    type Params: DeserializeOwned + ToSchema + Send + 'static;
    /// The answer's fields.
    type Answer: Serialize + ToSchema + Send + 'static;

    /// Where bodies that are media put what they carry.
    fn input(params: &mut Self::Params) -> &mut Option<Payload>;

    /// Answers a request.
    fn run(
        cx: &TaskContext,
        params: Self::Params,
        caller: Caller,
    ) -> impl Future<Output = Result<Done<Self::Answer>, TaskError>> + Send;
}

/// Does something for every task, with its types known.
pub trait TaskVisitor {
    /// Called once a task.
    fn visit<T: Task>(&mut self);
}

/// Every task.
pub fn visit_all(visitor: &mut impl TaskVisitor) {
    visitor.visit::<crate::features::Features>();
    visitor.visit::<crate::zero_shot::ZeroShotLabels>();
    visitor.visit::<crate::similarity::Similarity>();
    visitor.visit::<crate::rerank::Rerank>();
    visitor.visit::<crate::decisions::Decisions>();
    visitor.visit::<crate::classify::Classify>();
    visitor.visit::<crate::moderations::Moderations>();
}

/// Takes a field that must be there.
///
/// # Errors
/// [`TaskError::Invalid`] naming the field.
pub fn required<T>(field: Option<T>, name: &str) -> Result<T, TaskError> {
    field.ok_or_else(|| TaskError::invalid(name, "is missing"))
}
