//! An answer's body with something that is held until the body is at its end or nobody reads it any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

/// A body that holds `T`.
struct Held<T> {
    body: Body,
    held: Option<T>,
}

/// Holds `held` for as long as the body is being read.
pub(crate) fn hold<T: Send + Unpin + 'static>(body: Body, held: T) -> Body {
    Body::new(Held { body, held: Some(held) })
}

impl<T: Unpin> HttpBody for Held<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(None | Some(Err(_)))) || self.body.is_end_stream() {
            self.held = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn what_is_held_is_free_at_the_bodys_end_or_when_nobody_reads_it() {
        let held = Arc::new(());
        let mut body = hold(Body::from("text"), Arc::clone(&held));
        assert_eq!((body.size_hint().exact(), Arc::strong_count(&held)), (Some(4), 2));
        assert!(body.frame().await.is_some());
        assert!(body.frame().await.is_none());
        assert_eq!(Arc::strong_count(&held), 1);
        drop(hold(Body::from("text"), Arc::clone(&held)));
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
