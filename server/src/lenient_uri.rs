//! Request lines as people type them: `curl 'localhost:9090/api/v1/query?query=up{job="x"}'` sends quotes and braces
//! unescaped. RFC 3986 forbids them and the HTTP library refuses them with 400; Prometheus and Loki accept them, and scripts
//! rely on it. This wrapper percent-encodes such bytes in the request target before the library sees them.
//!
//! It follows HTTP/1 framing only as far as it must: a head, then as many bytes as `Content-Length` says, then the next head.
//! HTTP/2, upgrades and chunked requests pass through untouched for the rest of the connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A head longer than this is not looked at; the library refuses it by its own limits.
const HEAD_BYTES_MAX: usize = 64 << 10;

const READ_BYTES: usize = 8 << 10;

/// A connection whose HTTP/1 request targets are made acceptable.
pub struct LenientUri<S> {
    inner: S,
    state: State,
    /// Bytes of a head that is not complete yet.
    head: Vec<u8>,
    /// Bytes for the reader, and how many it has taken.
    ready: Vec<u8>,
    taken: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At or within a request's head.
    Head,
    /// So many bytes of a body are to come.
    Body(u64),
    /// Nothing more is looked at.
    Through,
}

impl<S> LenientUri<S> {
    /// Wraps a fresh connection.
    pub fn new(inner: S) -> LenientUri<S> {
        LenientUri {
            inner,
            state: State::Head,
            head: Vec::new(),
            ready: Vec::new(),
            taken: 0,
        }
    }

    /// Takes bytes from the connection and puts what the reader shall see into `ready`.
    fn take_in(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Through => {
                    self.ready.extend_from_slice(bytes);
                    return;
                }
                State::Body(left) => {
                    let n = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    self.ready.extend_from_slice(&bytes[..n]);
                    bytes = &bytes[n..];
                    let left = left - n as u64;
                    self.state = if left == 0 { State::Head } else { State::Body(left) };
                }
                State::Head => {
                    // The end of the head may straddle two reads.
                    let seen = self.head.len().saturating_sub(3);
                    self.head.extend_from_slice(bytes);
                    let end = self.head[seen..]
                        .windows(4)
                        .position(|w| w == b"\r\n\r\n")
                        .map(|at| seen + at + 4);
                    let Some(end) = end else {
                        if self.head.len() > HEAD_BYTES_MAX || !may_be_http1(&self.head) {
                            self.state = State::Through;
                            self.ready.append(&mut self.head);
                        }
                        return;
                    };
                    bytes = &bytes[bytes.len() - (self.head.len() - end)..];
                    self.head.truncate(end);
                    self.state = after_head(&self.head);
                    push_escaped(&self.head, &mut self.ready);
                    self.head.clear();
                }
            }
        }
    }
}

/// Whether the bytes may begin a request line: a method in capital letters. The HTTP/2 preface is no such thing.
fn may_be_http1(head: &[u8]) -> bool {
    let method = head.split(|b| *b == b' ').next().unwrap_or_default();
    method.iter().all(u8::is_ascii_uppercase) && !head.starts_with(b"PRI")
}

/// What follows a head.
fn after_head(head: &[u8]) -> State {
    if !may_be_http1(head) {
        return State::Through;
    }
    let mut length = 0;
    for line in head.split(|b| *b == b'\n').skip(1) {
        let Some(colon) = line.iter().position(|b| *b == b':') else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            match std::str::from_utf8(value).ok().and_then(|v| v.parse().ok()) {
                Some(n) => length = n,
                None => return State::Through,
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") || name.eq_ignore_ascii_case(b"upgrade") {
            return State::Through;
        }
    }
    if length == 0 { State::Head } else { State::Body(length) }
}

/// Appends the head with the forbidden bytes of its target escaped.
fn push_escaped(head: &[u8], out: &mut Vec<u8>) {
    let line = head.iter().position(|b| *b == b'\n').unwrap_or(head.len());
    let (Some(start), Some(end)) = (
        head[..line].iter().position(|b| *b == b' '),
        head[..line].iter().rposition(|b| *b == b' '),
    ) else {
        return out.extend_from_slice(head);
    };
    out.extend_from_slice(&head[..=start]);
    for b in head.get(start + 1..end).unwrap_or_default() {
        match b {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.extend([b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
            b => out.push(*b),
        }
    }
    out.extend_from_slice(&head[end.max(start + 1)..]);
}

impl<S: AsyncRead + Unpin> AsyncRead for LenientUri<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.taken < this.ready.len() {
                let n = buf.remaining().min(this.ready.len() - this.taken);
                buf.put_slice(&this.ready[this.taken..this.taken + n]);
                this.taken += n;
                if this.taken == this.ready.len() {
                    this.ready.clear();
                    this.taken = 0;
                }
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Through => return Pin::new(&mut this.inner).poll_read(cx, buf),
                State::Body(left) if left >= buf.remaining() as u64 => {
                    let before = buf.filled().len();
                    ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                    let left = left - (buf.filled().len() - before) as u64;
                    this.state = if left == 0 { State::Head } else { State::Body(left) };
                    return Poll::Ready(Ok(()));
                }
                State::Body(_) | State::Head => {
                    let mut scratch = [0u8; READ_BYTES];
                    let mut read = ReadBuf::new(&mut scratch);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut read))?;
                    if read.filled().is_empty() {
                        // The end; what there is of a head goes to the reader, who knows what to say.
                        if this.head.is_empty() {
                            return Poll::Ready(Ok(()));
                        }
                        this.ready.append(&mut this.head);
                        continue;
                    }
                    this.take_in(read.filled());
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for LenientUri<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;

    /// Feeds the bytes in pieces of every size; what comes out must not depend on how they were cut.
    async fn check(sent: &str, seen: &str) {
        for piece in [1, 2, 3, 7, 64, 100_000] {
            let mut io = tokio_test_pieces(sent.as_bytes(), piece);
            let mut out = Vec::new();
            io.read_to_end(&mut out).await.unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), seen, "in pieces of {piece}");
        }
    }

    fn tokio_test_pieces(bytes: &[u8], piece: usize) -> LenientUri<impl AsyncRead + Unpin> {
        struct Pieces(Vec<u8>, usize);
        impl AsyncRead for Pieces {
            fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
                let this = self.get_mut();
                let n = this.1.min(this.0.len()).min(buf.remaining());
                buf.put_slice(&this.0[..n]);
                this.0.drain(..n);
                Poll::Ready(Ok(()))
            }
        }
        LenientUri::new(Pieces(bytes.to_vec(), piece))
    }

    #[tokio::test]
    async fn targets_are_escaped_and_nothing_else() {
        check(
            "GET /q?query=up{a=\"b|c\"} HTTP/1.1\r\nHost: {\"x\"}\r\n\r\nGET /{ HTTP/1.1\r\n\r\n",
            "GET /q?query=up%7Ba=%22b%7Cc%22%7D HTTP/1.1\r\nHost: {\"x\"}\r\n\r\nGET /%7B HTTP/1.1\r\n\r\n",
        )
        .await;
        check(
            "POST /{ HTTP/1.1\r\nContent-Length: 7\r\n\r\nGET /{ GET /} HTTP/1.1\r\n\r\n",
            "POST /%7B HTTP/1.1\r\nContent-Length: 7\r\n\r\nGET /{ GET /%7D HTTP/1.1\r\n\r\n",
        )
        .await;
    }

    #[tokio::test]
    async fn other_protocols_pass_through() {
        for text in [
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n{\"}",
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nGET /{ \r\n",
            "\u{16}\u{3}{}",
            "GET /unfinished",
            "",
        ] {
            check(text, text).await;
        }
    }
}
