//! The listener, and its connections from the first byte to the last.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use identity::{AuditLog, Identity};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::answer::Answer;
use crate::front::{Front, Inner};
use crate::lasting::Lasting;
use crate::limits::Limits;
use crate::origin::Origin;
use crate::peer::{Connections, Peer};
use crate::rate;
use crate::wire::{Exchange, Wire};

/// How long to wait when the system can't open one more connection.
const AFTER_FAILURE: Duration = Duration::from_millis(200);
/// What the HTTP library reads of a connection in advance; it wants 8 KiB at least.
const LEAST_BUFFER: usize = 16 * 1024;

/// What [`serve`] needs to know.
#[derive(Debug)]
pub struct GatewayConfig {
    /// Where clients connect.
    pub listener: TcpListener,
    /// What one client may take.
    pub limits: Limits,
    /// Where clients find the server: an `https://` URL with nothing behind the host and port. None: what each says in `Host`.
    pub origin: Option<String>,
    /// Where it is written down who did what.
    pub audit: AuditLog,
}

/// Serves `inner` with TLS, to those whom `identity` knows, until `cancel`; then requests that are under way are ended within
/// [`Limits::grace`], and the audit log is written to its end.
///
/// # Errors
/// If the origin is not the beginning of an `https://` URL, or the server's certificate can't be used.
pub async fn serve<S: Inner>(
    config: GatewayConfig,
    identity: Identity,
    inner: S,
    cancel: CancellationToken,
) -> io::Result<()> {
    let GatewayConfig {
        listener,
        limits,
        origin,
        audit,
    } = config;
    let origin = origin
        .map(|url| url.parse::<Origin>())
        .transpose()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let tls = identity.server_config().map_err(io::Error::other)?;
    let door = Arc::new(Door {
        tls: TlsAcceptor::from(tls),
        front: Front::new(identity, inner, &limits, origin, audit),
        limits,
        cancel: cancel.clone(),
    });

    let mut places = Connections::new(door.limits.connections, door.limits.connections_per_peer);
    let mut tasks = JoinSet::new();
    let mut forget = interval(rate::FORGET_EVERY);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            Some(ended) = tasks.join_next_with_id() => {
                let task = match ended {
                    Ok((task, ())) => task,
                    Err(error) => {
                        tracing::error!(%error, "a connection failed");
                        error.id()
                    }
                };
                places.ended(task);
            }
            // In a task of its own: the audit log may have to wait for whoever reads it.
            _ = forget.tick() => {
                let door = Arc::clone(&door);
                tasks.spawn(async move { door.front.forget().await });
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    let peer = Peer::from(address.ip());
                    if !places.has_place(peer) || door.front.rates().connection(peer).is_err() {
                        tracing::debug!(%address, "a connection is refused: there are too many");
                        continue;
                    }
                    let task = tasks.spawn(converse(Arc::clone(&door), stream, address));
                    places.opened(task.id(), peer);
                }
                // That client alone has given up.
                Err(error) if is_the_clients(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted at the moment");
                    sleep(AFTER_FAILURE).await;
                }
            },
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(door.limits.grace, all).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            "requests that are still under way are cut off"
        );
        tasks.shutdown().await;
    }
    // Somebody who does not read it must not keep the server from ending.
    if timeout(door.limits.grace, door.front.end()).await.is_err() {
        tracing::error!("the last entries of the audit log are lost: they were not taken in time");
    }
    Ok(())
}

fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// What all connections share.
struct Door<S> {
    tls: TlsAcceptor,
    front: Front<S>,
    limits: Limits,
    cancel: CancellationToken,
}

/// A connection, from the handshake on.
async fn converse<S: Inner>(door: Arc<Door<S>>, stream: TcpStream, address: SocketAddr) {
    // An answer is one write; waiting for more of it to send would only delay it.
    let _ = stream.set_nodelay(true);
    let handshake = timeout(door.limits.handshake, handshake(&door, stream, address));
    let stream = tokio::select! {
        () = door.cancel.cancelled() => return,
        done = handshake => match done {
            Ok(Ok(Some(stream))) => stream,
            Ok(Ok(None)) => return,
            Ok(Err(error)) => return tracing::debug!(%address, %error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!(%address, "a TLS handshake took too long"),
        },
    };

    let exchange = Exchange::default();
    let wire = Wire::new(stream, exchange.clone(), &door.limits);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (door, serving) = (Arc::clone(&door), exchange.begin());
        // A client that goes away does not cut off what it has begun, nor that it is written down.
        let answer = Lasting::new(async move { door.front.answer(address, request).await });
        Box::pin(async move {
            let answer = answer.await;
            Ok::<_, Infallible>(answer.map(|body| Answer::new(body, serving)))
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The wire has the limits of time.
        .header_read_timeout(None)
        .max_headers(door.limits.headers)
        .max_header_size(door.limits.header_bytes)
        .max_buf_size(door.limits.header_bytes.max(LEAST_BUFFER))
        .serve_connection(TokioIo::new(wire), service);

    let result = tokio::select! {
        result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => result,
        () = door.cancel.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            poll_fn(|cx| connection.poll_without_shutdown(cx)).await
        }
    };
    let is_noise = match result {
        Ok(()) => false,
        Err(error) => {
            tracing::debug!(%address, %error, "a connection ended before its time");
            error.is_parse()
        }
    };
    let mut wire = connection.into_parts().io.into_inner();
    // To some noise, such as a greeting of HTTP/2, the library has no answer.
    if is_noise && wire.is_waiting() {
        wire.refuse(StatusCode::BAD_REQUEST);
    }
    end(&door, wire, address).await;
}

/// The end of a connection. Noise is written down before whoever made it can see that it is over.
async fn end<S: Inner, T: AsyncRead + AsyncWrite + Unpin>(
    door: &Door<S>,
    wire: Wire<T>,
    address: SocketAddr,
) {
    if let Some(noise) = wire.noise() {
        door.front
            .heard_noise(address, noise.status, noise.ids)
            .await;
    }
    wire.end(!door.cancel.is_cancelled()).await;
}

/// The handshake; none for a client that was told that this port speaks TLS.
async fn handshake<S: Inner>(
    door: &Door<S>,
    stream: TcpStream,
    address: SocketAddr,
) -> io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A TLS record begins with 22, a request with its method.
    if !first[0].is_ascii_uppercase() {
        return door.tls.accept(stream).await.map(Some);
    }
    let mut wire = Wire::new(stream, Exchange::default(), &door.limits);
    wire.refuse(StatusCode::UPGRADE_REQUIRED);
    end(door, wire, address).await;
    Ok(None)
}
