//! Memory for bodies. They are read before their items are counted, so many large ones at once must not fill the machine:
//! each takes its bytes of a common budget first, or waits for some.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header;
use hyper::body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::app::{App, BODY_UNIT};
use crate::http::error::ApiError;

/// Bodies that say they have at most this many bytes take none of the budget, and never wait for it: the number of
/// connections bounds them.
const SMALL: usize = 64 << 10;

/// What a body holds of the budget; dropped when nothing of the body is left.
pub(crate) struct BodyMemory {
    _permit: Option<Shared>,
}

type Shared = Arc<Mutex<OwnedSemaphorePermit>>;

/// Takes memory for a request's body, or waits for some. A body of unstated length counts as the largest until it was read.
pub(crate) async fn hold(app: &App, request: Request) -> Result<(Request, BodyMemory), ApiError> {
    let limit = app.config.max_body_bytes;
    let stated = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let stated = stated.and_then(|text| text.parse::<usize>().ok());
    // A request without a body need not state a length.
    let stated = stated.or_else(|| request.body().is_end_stream().then_some(0));
    let bytes = stated.unwrap_or(limit).min(limit);
    if stated.is_some() && bytes <= SMALL {
        return Ok((request, BodyMemory { _permit: None }));
    }
    let taken = Arc::clone(&app.bodies).acquire_many_owned(units(bytes)).await;
    let permit = Arc::new(Mutex::new(taken.map_err(|_| ApiError::internal())?));
    let memory = BodyMemory { _permit: Some(Arc::clone(&permit)) };
    if stated.is_some() {
        return Ok((request, memory));
    }
    let counted = |body| Body::new(Counted { body, read: 0, permit });
    Ok((request.map(counted), memory))
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(BODY_UNIT)).unwrap_or(u32::MAX)
}

/// A body that gives back, at its end, what it did not need.
struct Counted {
    body: Body,
    read: usize,
    permit: Shared,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.read += frame.data_ref().map_or(0, Bytes::len),
            Poll::Ready(None) => {
                let mut permit = self.permit.lock().unwrap_or_else(PoisonError::into_inner);
                let needed = units(self.read) as usize;
                let excess = permit.num_permits().saturating_sub(needed);
                drop(permit.split(excess));
            }
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
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
    use futures_util::stream;

    use super::*;
    use crate::config::{Config, Options};

    fn app() -> App {
        App::new(Config::resolve(Options::default()).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_body_of_unstated_length_keeps_what_it_has_once_it_was_read() {
        let app = app();
        let all = app.bodies.available_permits();
        let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![0; 5000])), Ok(Bytes::from("x"))]);
        let request = Request::new(Body::from_stream(parts));
        let (request, memory) = hold(&app, request).await.unwrap();
        assert_eq!(all - app.bodies.available_permits(), app.config.max_body_bytes.div_ceil(BODY_UNIT));
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
        assert_eq!((body.len(), all - app.bodies.available_permits()), (5001, 2));
        drop(memory);
        assert_eq!(app.bodies.available_permits(), all);
    }

    #[tokio::test]
    async fn a_small_body_waits_for_nobody() {
        let app = app();
        let all = u32::try_from(app.bodies.available_permits()).unwrap();
        let _everything = app.bodies.acquire_many(all).await.unwrap();
        let small = Request::builder().header(header::CONTENT_LENGTH, SMALL).body(Body::empty()).unwrap();
        assert!(hold(&app, small).await.is_ok());
        assert!(hold(&app, Request::new(Body::empty())).await.is_ok());
        let large = Request::builder().header(header::CONTENT_LENGTH, SMALL + 1).body(Body::empty()).unwrap();
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), hold(&app, large)).await;
        assert!(waited.is_err());
    }
}
