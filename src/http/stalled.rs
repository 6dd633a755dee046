//! Bodies that stop arriving. Whoever sends nothing for a while has gone, and must not keep a connection, a key's place and
//! memory for ever: reading the body ends with an error then.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// How long nothing of a body may come while somebody waits for more of it.
const LONGEST: Duration = Duration::from_secs(30);

/// Ends bodies of which nothing comes any more.
pub(crate) async fn end(request: Request, next: Next) -> Response {
    next.run(request.map(|body| ending(body, LONGEST))).await
}

fn ending(body: Body, longest: Duration) -> Body {
    Body::new(Ending { body, longest, waiting: None })
}

/// A body that ends when nothing came for so long.
struct Ending {
    body: Body,
    longest: Duration,
    /// Runs while there was nothing when somebody asked for more.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl HttpBody for Ending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        // What has come counts first: who reads it late is not the client's fault.
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            self.waiting = None;
            return Poll::Ready(frame);
        }
        let longest = self.longest;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(longest)));
        ready!(waiting.as_mut().poll(context));
        let problem = format!("nothing of it came for {} s", longest.as_secs());
        Poll::Ready(Some(Err(axum::Error::new(io::Error::new(io::ErrorKind::TimedOut, problem)))))
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
    use std::time::Instant;

    use axum::body::to_bytes;
    use futures_util::{Stream, StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    const WAIT: Duration = Duration::from_secs(1);

    fn slow_parts(count: u32) -> impl Stream<Item = Result<Bytes, io::Error>> {
        let part = |at: u32| async move {
            sleep(WAIT / 40).await;
            Ok(Bytes::from(format!("part {at:2};")))
        };
        stream::iter(0..count).then(part)
    }

    #[tokio::test]
    async fn a_body_that_stops_arriving_ends_and_a_slow_one_does_not() {
        let begun = Instant::now();
        let slow = ending(Body::from_stream(slow_parts(50)), WAIT);
        assert_eq!(to_bytes(slow, usize::MAX).await.unwrap().len(), 50 * "part  0;".len());
        assert!(begun.elapsed() > WAIT, "the whole took longer than any part may");
        let stops = ending(Body::from_stream(slow_parts(1).chain(stream::pending())), WAIT);
        let error = to_bytes(stops, usize::MAX).await.unwrap_err();
        assert!(error.to_string().contains("nothing of it came"), "{error}");
    }

    #[tokio::test]
    async fn what_came_while_nobody_asked_is_there_however_late() {
        let (sender, parts) = tokio::sync::mpsc::channel::<Result<Bytes, io::Error>>(1);
        let parts = stream::unfold(parts, |mut parts| async { Some((parts.recv().await?, parts)) });
        let mut body = ending(Body::from_stream(parts), WAIT / 8);
        // Somebody asks, finds nothing, and is busy with other things for long.
        assert!(futures_util::poll!(body.frame()).is_pending());
        sender.send(Ok(Bytes::from("late"))).await.unwrap();
        sleep(WAIT / 2).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "late");
    }
}
