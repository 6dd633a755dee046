//! The parts of a form as they come. What stands before a part, and its headers, are kept in memory until their end is
//! found: so only so much is taken that no part carries.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::multipart::{self, MultipartError, MultipartRejection};
use axum::extract::{FromRequest as _, Multipart, Request};
use bytes::BytesMut;
use hyper::body::{Frame, SizeHint};

/// Most bytes that may come while neither a part nor a piece of one does, beside the last two chunks.
const MOST: usize = 64 << 10;

/// More came than is taken outside of what parts carry.
#[derive(Debug, thiserror::Error)]
#[error("more than {MOST} bytes stand before a part or in its headers")]
struct Outside;

/// What came since something was handed on.
#[derive(Default)]
struct Pace {
    bytes: AtomicUsize,
    /// Whether what is there is to be looked at before more is taken.
    pause: AtomicBool,
}

impl Pace {
    fn hand_on(&self) {
        self.bytes.store(0, Ordering::Relaxed);
        self.pause.store(true, Ordering::Relaxed);
    }
}

/// The parts of a form.
pub(crate) struct Parts {
    multipart: Multipart,
    pace: Arc<Pace>,
}

impl Parts {
    /// Those of a request's body.
    pub(crate) async fn of(request: Request) -> Result<Self, MultipartRejection> {
        let pace = Arc::<Pace>::default();
        let shared = Arc::clone(&pace);
        let request = request.map(|body| Body::new(Paced { body, last: 0, pace: shared }));
        Ok(Self { multipart: Multipart::from_request(request, &()).await?, pace })
    }

    /// The next part; the one before has been read to its end.
    pub(crate) async fn next_field(&mut self) -> Result<Option<Field<'_>>, MultipartError> {
        let field = self.multipart.next_field().await?;
        self.pace.hand_on();
        Ok(field.map(|field| Field { field, pace: &self.pace }))
    }
}

/// A part, whose pieces come as they are asked for.
pub(crate) struct Field<'a> {
    field: multipart::Field<'a>,
    pace: &'a Pace,
}

impl Field<'_> {
    pub(crate) fn name(&self) -> Option<&str> {
        self.field.name()
    }

    pub(crate) fn file_name(&self) -> Option<&str> {
        self.field.file_name()
    }

    pub(crate) fn content_type(&self) -> Option<&str> {
        self.field.content_type()
    }

    /// The next piece.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, MultipartError> {
        let piece = self.field.chunk().await?;
        self.pace.hand_on();
        Ok(piece)
    }

    /// All of it.
    pub(crate) async fn bytes(mut self) -> Result<Bytes, MultipartError> {
        let mut whole = BytesMut::new();
        while let Some(piece) = self.chunk().await? {
            whole.extend_from_slice(&piece);
        }
        Ok(whole.freeze())
    }
}

/// A body that ends with an error when too much of it was taken and nothing handed on. The reader of parts asks for more
/// until nothing is there, and then looks at what it has: so it is told after each chunk that nothing is there.
struct Paced {
    body: Body,
    /// Bytes of the last chunk.
    last: usize,
    pace: Arc<Pace>,
}

impl HttpBody for Paced {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.pace.pause.swap(false, Ordering::Relaxed) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        // A boundary may begin in the chunk before the last.
        if self.pace.bytes.load(Ordering::Relaxed) > MOST + self.last {
            return Poll::Ready(Some(Err(axum::Error::new(Outside))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            self.last = bytes;
            self.pace.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.pace.pause.store(true, Ordering::Relaxed);
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

/// The error of this kind among the causes of one, which the reader of parts wraps in its own.
pub(crate) fn cause<E: Error + 'static>(error: &MultipartError) -> Option<&E> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

/// Why parts could not be read.
pub(crate) fn problem(error: &MultipartError) -> String {
    cause::<Outside>(error).map_or_else(|| error.body_text(), Outside::to_string)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::extract::DefaultBodyLimit;
    use axum::http::header;
    use futures_util::{StreamExt as _, stream};

    use super::*;

    const END: &[u8] = b"--cut--\r\n";

    fn part(name: &str, bytes: &[u8]) -> Vec<u8> {
        let head = format!("--cut\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n".as_slice()].concat()
    }

    /// A form of chunks, and how many bytes of it were taken.
    fn request(chunks: Vec<Vec<u8>>) -> (Request, Arc<AtomicUsize>) {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&taken);
        let chunks = stream::iter(chunks).map(move |chunk| {
            count.fetch_add(chunk.len(), Ordering::Relaxed);
            Ok::<_, Infallible>(chunk)
        });
        let request = Request::builder().header(header::CONTENT_TYPE, "multipart/form-data; boundary=cut");
        let mut request = request.body(Body::from_stream(chunks)).unwrap();
        // As the route has it: what a file may be is counted elsewhere.
        DefaultBodyLimit::disable().apply(&mut request);
        (request, taken)
    }

    fn cut(bytes: &[u8], length: usize) -> Vec<Vec<u8>> {
        bytes.chunks(length).map(<[u8]>::to_vec).collect()
    }

    async fn lengths(chunks: Vec<Vec<u8>>) -> Vec<(String, usize)> {
        let mut parts = Parts::of(request(chunks).0).await.unwrap();
        let mut lengths = Vec::new();
        while let Some(field) = parts.next_field().await.unwrap() {
            let name = field.name().unwrap_or_default().to_owned();
            lengths.push((name, field.bytes().await.unwrap().len()));
        }
        lengths
    }

    #[tokio::test]
    async fn what_no_part_carries_is_refused_before_much_of_it_is_taken() {
        const CHUNK: usize = 4096;
        let (long, spaces) = (vec![b'x'; 1 << 20], vec![b' '; 1 << 20]);
        let text = b"\r\n\r\ntext\r\n".as_slice();
        let bodies = [
            [long.as_slice(), text, part("a", b"text").as_slice(), END].concat(),
            [b"--cut\r\nx-long: ".as_slice(), long.as_slice(), text, END].concat(),
            [b"--cut".as_slice(), spaces.as_slice(), text, END].concat(),
        ];
        for body in bodies {
            let (request, taken) = request(cut(&body, CHUNK));
            let mut parts = Parts::of(request).await.unwrap();
            let error = parts.next_field().await.err().unwrap();
            assert!(problem(&error).starts_with("more than 65536 bytes"), "{}", problem(&error));
            let taken = taken.load(Ordering::Relaxed);
            assert!(taken <= MOST + 2 * CHUNK, "{taken} bytes were taken");
        }
    }

    #[tokio::test]
    async fn parts_of_any_size_pass_however_their_bytes_come() {
        let long = vec![b'x'; 50 << 20];
        let body = [part("a", b""), part("file", &long), part("b", b"text"), END.to_vec()].concat();
        let named = |name: &str, length| (name.to_owned(), length);
        let expected = [named("a", 0), named("file", 50 << 20), named("b", 4)];
        for chunk in [1500, 400 << 10, body.len()] {
            assert_eq!(lengths(cut(&body, chunk)).await, expected, "{chunk}");
        }
        let (head, rest) = body.split_at(3);
        assert_eq!(lengths(vec![head.to_vec(), rest.to_vec()]).await, expected, "a boundary in two chunks");
        let (head, rest) = body.split_at(10_000);
        let chunks = [cut(head, 1), cut(rest, 1 << 20)].concat();
        assert_eq!(lengths(chunks).await, expected, "small chunks and large ones");
    }

    #[tokio::test]
    async fn nothing_more_is_taken_while_parts_are_there() {
        let body = [part("a", b"text").repeat(10_000), END.to_vec()].concat();
        let (request, taken) = request(cut(&body, 4096));
        let mut parts = Parts::of(request).await.unwrap();
        for _ in 0..10 {
            let field = parts.next_field().await.unwrap().unwrap();
            assert_eq!(field.bytes().await.unwrap(), "text");
        }
        assert_eq!(taken.load(Ordering::Relaxed), 4096);
    }
}
