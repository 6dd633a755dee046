//! How much an answer may be. Items, labels and classifiers multiply, each within a limit of its own: what is too much
//! together is refused before anything is computed, and what is long is built off the asynchronous threads.

use headstart_engine::Class;

use crate::context::TaskContext;
use crate::error::TaskError;

/// Most numbers that an answer writes as JSON, which takes several times their bytes.
pub const MOST_NUMBERS: usize = 1 << 24;

/// Most scores that are computed for an answer, whether it lists them or not: 256 MiB.
const MOST_COMPUTED: usize = 1 << 26;

/// Scores that are sorted and named where the request is, in about a millisecond; more go to the CPU pool.
const INLINE_SCORES: usize = 1 << 14;

/// The size of an answer that gives items labels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerSize {
    /// Items of the request.
    pub(crate) items: usize,
    /// Scores that are computed for each.
    pub(crate) computed: usize,
    /// Numbers, labels among them, that are written for each at most.
    pub(crate) written: usize,
}

impl AnswerSize {
    /// Refuses what is too much, as the fault of `field`.
    pub(crate) fn check(self, field: &str) -> Result<Self, TaskError> {
        let (computed, written) =
            (self.items.saturating_mul(self.computed), self.items.saturating_mul(self.written));
        if written > MOST_NUMBERS {
            let problem = format!(
                "asks for an answer of {written} labels and scores; at most {MOST_NUMBERS} are written: \
                 ask for less at a time"
            );
            return Err(TaskError::invalid(field, problem));
        }
        if computed > MOST_COMPUTED {
            let problem = format!(
                "asks for {computed} scores; at most {MOST_COMPUTED} are computed: ask for less at a time"
            );
            return Err(TaskError::invalid(field, problem));
        }
        Ok(self)
    }

    /// Builds the answer from its scores.
    ///
    /// # Errors
    /// [`TaskError::Bug`] when the work panicked.
    pub(crate) async fn build<T: Send + 'static>(
        self,
        cx: &TaskContext,
        class: Class,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, TaskError> {
        let each = self.computed.saturating_add(self.written);
        if self.items.saturating_mul(each) <= INLINE_SCORES {
            return Ok(work());
        }
        cx.offload(class).run(work).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_multiplies_to_too_much_is_refused_and_the_most_is_not() {
        let size = |items, computed, written| AnswerSize { items, computed, written }.check("input");
        assert!(size(1 << 12, 1 << 14, 1 << 12).is_ok());
        for (size, told) in [
            (size(1 << 12, 1 << 12, (1 << 12) + 1), "16777216 are written"),
            (size(1 << 12, (1 << 14) + 1, 1), "67108864 are computed"),
            (size(usize::MAX, 2, 2), "16777216 are written"),
        ] {
            let error = size.unwrap_err().to_string();
            assert!(error.starts_with("`input` asks for") && error.contains(told), "{error}");
        }
    }
}
