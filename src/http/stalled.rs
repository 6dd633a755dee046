//! Bodies that stop arriving. Whoever sends nothing for a while has gone, and must not keep a connection, a key's place and
//! memory for ever: reading the body ends with an error then.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tower_http::timeout::TimeoutBody;

/// How long nothing of a body may come while somebody waits for more of it.
const LONGEST: Duration = Duration::from_secs(30);

/// Ends bodies of which nothing comes any more.
pub(crate) async fn end(request: Request, next: Next) -> Response {
    next.run(request.map(|body| ending(body, LONGEST))).await
}

fn ending(body: Body, longest: Duration) -> Body {
    Body::new(TimeoutBody::new(longest, body))
}

#[cfg(test)]
mod tests {
    use axum::body::{Bytes, to_bytes};
    use futures_util::{Stream, StreamExt as _, stream};

    use super::*;

    const WAIT: Duration = Duration::from_millis(400);

    fn slow_parts(count: u32) -> impl Stream<Item = Result<Bytes, std::io::Error>> {
        let part = |at: u32| async move {
            tokio::time::sleep(WAIT / 4).await;
            Ok(Bytes::from(format!("part {at};")))
        };
        stream::iter(0..count).then(part)
    }

    #[tokio::test]
    async fn a_body_that_stops_arriving_ends_and_a_slow_one_does_not() {
        let slow = ending(Body::from_stream(slow_parts(6)), WAIT);
        assert_eq!(to_bytes(slow, usize::MAX).await.unwrap().len(), 6 * "part 0;".len());
        let stops = ending(Body::from_stream(slow_parts(1).chain(stream::pending())), WAIT);
        let error = to_bytes(stops, usize::MAX).await.unwrap_err();
        assert!(error.to_string().contains("not received"), "{error}");
    }
}
