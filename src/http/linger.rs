//! Answers that are given before a body was read to its end. A connection that is closed over unread bytes is reset, and
//! takes an answer on its way with it (RFC 9112, 9.6): so what is still to come is read for a while, and thrown away.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};

/// For how long, and how many bytes, a body is read on. Who sends more is cut off.
const LONGEST: Duration = Duration::from_secs(5);
const MOST: usize = 64 << 20;

/// A body that whoever answers reads as far as it likes.
#[derive(Clone)]
struct Shared(Arc<Mutex<Body>>);

/// Reads on when the answer is made, or its making given up.
struct ReadOn(Shared);

impl hyper::body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

impl Drop for ReadOn {
    fn drop(&mut self) {
        let mut body = self.0.clone();
        if body.is_end_stream() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(LONGEST, async move {
            let mut bytes = 0;
            while let Some(Ok(frame)) = body.frame().await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > MOST {
                    break;
                }
            }
        }));
    }
}

/// Reads bodies on that were answered early.
pub(crate) async fn read_on(request: Request, next: Next) -> Response {
    // Who asks first whether to send a body sends none after an answer.
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return next.run(request).await;
    }
    let (head, body) = request.into_parts();
    let body = Shared(Arc::new(Mutex::new(body)));
    let _read_on = ReadOn(body.clone());
    next.run(Request::from_parts(head, Body::new(body))).await
}
