//! Answers that are given before a body was read to its end. A connection that is closed over unread bytes is reset, and
//! takes an answer on its way with it (RFC 9112, 9.6): so what is still to come is read for a while, and thrown away.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
struct Shared(Arc<Inner>);

struct Inner {
    body: Mutex<Body>,
    /// Whether anybody has begun to read it.
    begun: AtomicBool,
}

impl Shared {
    fn body(&self) -> MutexGuard<'_, Body> {
        self.0.body.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads on when the answer is made, or its making given up.
struct ReadOn {
    body: Shared,
    /// Whether the client sends the body only once it is asked to, which beginning to read does.
    asks: bool,
}

impl hyper::body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.0.begun.store(true, Ordering::Relaxed);
        Pin::new(&mut *self.body()).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body().is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body().size_hint()
    }
}

impl Drop for ReadOn {
    fn drop(&mut self) {
        let mut body = self.body.clone();
        let waits = self.asks && !body.0.begun.load(Ordering::Relaxed);
        if waits || body.is_end_stream() {
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
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let asks = request.headers().contains_key(header::EXPECT);
    let (head, body) = request.into_parts();
    let body = Shared(Arc::new(Inner { body: Mutex::new(body), begun: AtomicBool::new(false) }));
    let _read_on = ReadOn { body: body.clone(), asks };
    next.run(Request::from_parts(head, Body::new(body))).await
}
