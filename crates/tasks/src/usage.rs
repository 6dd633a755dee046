//! How much a request used, in the shape clients of the OpenAI API read.

use serde::Serialize;
use utoipa::ToSchema;

/// Tokens of a request; pictures and sounds count none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Usage {
    /// Tokens used, after truncation, whether they were computed now or before.
    #[schema(example = 5)]
    pub prompt_tokens: usize,
    /// The same: nothing is generated.
    #[schema(example = 5)]
    pub total_tokens: usize,
}

impl Usage {
    pub(crate) fn of(tokens: usize) -> Self {
        Self { prompt_tokens: tokens, total_tokens: tokens }
    }
}
