//! A connection's bytes: what has to move within what time, and what is answered to noise.
//!
//! The HTTP library above knows one limit of time for a head, which it counts from the answer before; and what it answers to
//! noise has neither body nor ids. So a [`Wire`] sits between it and the stream. From an [`Exchange`] it knows whether a request
//! is being served; what the library writes while none is can only be such an answer, and goes out as [`raw::answer`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arm::RequestIds;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use crate::limits::Limits;
use crate::raw;

/// How much, and how long, is still read of a client that was refused in the middle of what it sent.
const LINGER: (u64, Duration) = (1024 * 1024, Duration::from_secs(2));

/// Where a connection is between two requests. All of its handles are used by the one task that serves the connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exchange(Arc<AtomicU8>);

const WAITING: u8 = 0;
const SERVING: u8 = 1;
const ANSWERED: u8 = 2;

impl Exchange {
    /// A request has come. It is answered as soon as what this gives is dropped.
    pub(crate) fn begin(&self) -> Serving {
        self.0.store(SERVING, Ordering::Relaxed);
        Serving(self.clone())
    }

    /// What was written has left; with it, if it was answered, the request.
    fn flushed(&self) -> bool {
        let left = self
            .0
            .compare_exchange(ANSWERED, WAITING, Ordering::Relaxed, Ordering::Relaxed);
        left.is_ok()
    }

    fn is_waiting(&self) -> bool {
        self.0.load(Ordering::Relaxed) == WAITING
    }
}

/// A request that is being served: goes with its answer's body.
#[derive(Debug)]
pub(crate) struct Serving(Exchange);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.store(ANSWERED, Ordering::Relaxed);
    }
}

/// What is waited for while no request is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    /// The first byte on a new connection.
    First,
    /// The next request's first byte.
    Next,
    /// The rest of a head.
    Rest,
}

/// What noise was answered.
#[derive(Clone, Debug)]
pub(crate) struct Noise {
    pub(crate) status: StatusCode,
    pub(crate) ids: RequestIds,
    left: Vec<u8>,
}

/// A stream under the HTTP library.
pub(crate) struct Wire<S> {
    stream: S,
    exchange: Exchange,
    times: Times,
    awaited: Awaited,
    to_read: Option<Pin<Box<Sleep>>>,
    to_write: Option<Pin<Box<Sleep>>>,
    noise: Option<Noise>,
}

#[derive(Clone, Copy, Debug)]
struct Times {
    header: Duration,
    idle: Duration,
    stall: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S, exchange: Exchange, limits: &Limits) -> Self {
        Self {
            stream,
            exchange,
            times: Times {
                header: limits.header_time,
                idle: limits.idle_time,
                stall: limits.stall_time,
            },
            awaited: Awaited::First,
            to_read: None,
            to_write: None,
            noise: None,
        }
    }

    /// What noise was answered, if there was any.
    pub(crate) fn noise(&self) -> Option<&Noise> {
        self.noise.as_ref()
    }

    /// Whether no request is being served.
    pub(crate) fn is_waiting(&self) -> bool {
        self.exchange.is_waiting()
    }

    /// Ends the connection.
    ///
    /// With `linger`, what the client still sends is read for a while: if it were not, the kernel would reset the connection, and
    /// the client might never see the answer.
    pub(crate) async fn end(mut self, linger: bool) {
        let (most, time) = LINGER;
        let end = async {
            self.shutdown().await?;
            if linger {
                let mut rest = (&mut self.stream).take(most);
                tokio::io::copy(&mut rest, &mut tokio::io::sink()).await?;
            }
            io::Result::Ok(())
        };
        // Whether the client waits for its answer is its own affair.
        let _ = timeout(time, end).await;
    }

    /// Fails if the client has not taken a byte for too long.
    fn while_it_moves<T>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if let Poll::Ready(done) = act(Pin::new(&mut self.stream), cx) {
            self.to_write = None;
            return Poll::Ready(done);
        }
        let time = self.times.stall;
        let timer = self.to_write.get_or_insert_with(|| alarm(time));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Writes what is left of the answer to noise.
    fn poll_noise(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(noise) = self.noise.as_mut().filter(|noise| !noise.left.is_empty()) {
            let words = std::mem::take(&mut noise.left);
            let written = self.while_it_moves(cx, |stream, cx| stream.poll_write(cx, &words));
            let count = match &written {
                Poll::Ready(Ok(count)) => *count,
                _ => 0,
            };
            if let Some(noise) = &mut self.noise {
                noise.left = words.get(count..).unwrap_or_default().to_vec();
            }
            if ready!(written)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Answers, once, that what was sent is no request that can be served. Nothing more is read.
    pub(crate) fn refuse(&mut self, status: StatusCode) {
        if self.noise.is_none() {
            let ids = RequestIds::of(&HeaderMap::new());
            let left = raw::answer(status, ids);
            self.noise = Some(Noise { status, ids, left });
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.noise.is_some() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if !this.exchange.is_waiting() {
            this.to_read = None;
            return read;
        }
        if read.is_ready() {
            if this.awaited != Awaited::Rest && buf.filled().len() > before {
                this.awaited = Awaited::Rest;
                this.to_read = Some(alarm(this.times.header));
            }
            return read;
        }
        let time = match this.awaited {
            Awaited::Next => this.times.idle,
            Awaited::First | Awaited::Rest => this.times.header,
        };
        let timer = this.to_read.get_or_insert_with(|| alarm(time));
        ready!(timer.as_mut().poll(cx));
        if this.awaited == Awaited::Rest {
            this.refuse(StatusCode::REQUEST_TIMEOUT);
        }
        // To the library it is as if the client had closed.
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.noise.is_some() || this.exchange.is_waiting() {
            this.refuse(status_of(buf));
            return Poll::Ready(Ok(buf.len()));
        }
        this.while_it_moves(cx, |stream, cx| stream.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_noise(cx))?;
        ready!(this.while_it_moves(cx, S::poll_flush))?;
        if this.exchange.flushed() {
            this.awaited = Awaited::Next;
            let mut timer = alarm(this.times.idle);
            // The library reads on only when something wakes it.
            let _ = timer.as_mut().poll(cx);
            this.to_read = Some(timer);
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_noise(cx))?;
        this.while_it_moves(cx, S::poll_shutdown)
    }
}

fn alarm(time: Duration) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(Instant::now() + time))
}

/// The status of an answer's first line.
fn status_of(answer: &[u8]) -> StatusCode {
    answer
        .get(b"HTTP/1.1 ".len()..b"HTTP/1.1 400".len())
        .and_then(|digits| StatusCode::from_bytes(digits).ok())
        .unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    fn wire(buffer: usize) -> (Wire<DuplexStream>, Exchange, DuplexStream) {
        let (server, client) = duplex(buffer);
        let exchange = Exchange::default();
        let wire = Wire::new(server, exchange.clone(), &Limits::default());
        (wire, exchange, client)
    }

    /// How long until the wire says that the client is gone.
    async fn seconds_to_the_end(wire: &mut Wire<DuplexStream>) -> u64 {
        let began = Instant::now();
        let mut byte = [0];
        while wire.read(&mut byte).await.unwrap() > 0 {}
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_let_go() {
        let (mut wire, _, _client) = wire(64);
        assert_eq!(seconds_to_the_end(&mut wire).await, 10);
        assert!(wire.noise().is_none(), "nothing was asked");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_that_trickles_in_is_answered_that_it_took_too_long() {
        let (mut wire, _, mut client) = wire(64);
        let trickle = tokio::spawn(async move {
            while client.write_all(b"a").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let mut text = String::new();
            client.read_to_string(&mut text).await.unwrap();
            text
        });
        assert_eq!(seconds_to_the_end(&mut wire).await, 10);
        let status = wire.noise().map(|noise| noise.status);
        assert_eq!(status, Some(StatusCode::REQUEST_TIMEOUT));
        wire.end(false).await;
        let text = trickle.await.unwrap();
        assert!(text.starts_with("HTTP/1.1 408"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn between_two_requests_a_client_may_wait_longer() {
        let (mut wire, exchange, mut client) = wire(64);
        client.write_all(b"GET").await.unwrap();
        let mut head = [0; 3];
        wire.read_exact(&mut head).await.unwrap();
        let serving = exchange.begin();
        wire.write_all(b"answer").await.unwrap();
        drop(serving);
        wire.flush().await.unwrap();
        assert_eq!(seconds_to_the_end(&mut wire).await, 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_no_answer_is_let_go() {
        let (mut wire, exchange, _client) = wire(8);
        let _serving = exchange.begin();
        let began = Instant::now();
        let error = wire.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 30);
    }

    #[tokio::test]
    async fn what_is_written_while_no_request_is_served_goes_out_in_our_own_words() {
        let (mut wire, _, mut client) = wire(4096);
        wire.write_all(b"HTTP/1.1 431 Request Header Fields Too Large\r\n\r\n")
            .await
            .unwrap();
        wire.end(false).await;
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 431"), "{text}");
        assert!(text.contains("x-ms-request-id"), "{text}");
        assert!(text.contains("RequestHeaderFieldsTooLarge"), "{text}");
    }
}
