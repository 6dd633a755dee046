//! One keep-alive HTTP/1.1 connection that reads no more of an answer than its status and length.

use std::net::SocketAddr;

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// An answer; the body lies in the connection's buffer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
}

impl Answer<'_> {
    /// The body of a 200.
    ///
    /// # Errors
    /// With the beginning of the body, for any other status.
    pub(crate) fn expect_ok(&self) -> anyhow::Result<&[u8]> {
        let beginning = &self.body[..self.body.len().min(300)];
        anyhow::ensure!(
            self.status == 200,
            "the server answered {}: {}",
            self.status,
            String::from_utf8_lossy(beginning)
        );
        Ok(self.body)
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).await.with_context(|| format!("{address} takes no connection"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// When the connection breaks or the answer has no length.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.received.clear();
        self.stream.write_all(request).await?;
        let (status, start, end) = loop {
            anyhow::ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the server hung up");
            if let Some(head) = head_length(&self.received) {
                let (status, length) = parse_head(&self.received[..head])?;
                break (status, head, head + length);
            }
        };
        while self.received.len() < end {
            anyhow::ensure!(self.stream.read_buf(&mut self.received).await? > 0, "the server hung up");
        }
        Ok(Answer { status, body: &self.received[start..end] })
    }
}

/// Bytes up to and with the empty line, once they are there.
fn head_length(received: &[u8]) -> Option<usize> {
    received.windows(4).position(|four| four == b"\r\n\r\n").map(|position| position + 4)
}

fn parse_head(head: &[u8]) -> anyhow::Result<(u16, usize)> {
    let head = std::str::from_utf8(head)?;
    let status =
        head.get(9..12).and_then(|digits| digits.parse().ok()).context("the answer has no status")?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Ok((status, length.context("the answer has no content-length")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_length_are_found_in_any_case() {
        let answer = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\ncontent-length: 12\r\n\r\n{";
        let head = head_length(answer).unwrap();
        assert_eq!(&answer[head..], b"{");
        assert_eq!(parse_head(&answer[..head]).unwrap(), (429, 12));
        assert_eq!(head_length(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
