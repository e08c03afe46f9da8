//! How much, how long and how often.

use std::num::NonZeroU32;
use std::time::Duration;

/// What one client may take of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest body that is read, in bytes. ARM's own is 4 MiB.
    pub body_bytes: usize,
    /// The largest head (request line and headers), in bytes.
    pub header_bytes: usize,
    /// The most headers.
    pub headers: usize,
    /// How long the TLS handshake may take.
    pub handshake: Duration,
    /// How long a head may take from its first byte on, and how long a new connection may stay without one.
    pub header_time: Duration,
    /// How long a body may take.
    pub body_time: Duration,
    /// How long a connection may stay open between two requests.
    pub idle_time: Duration,
    /// How long a client may take no byte of an answer that is ready.
    pub stall_time: Duration,
    /// How long requests that are under way at the end may take.
    pub grace: Duration,
    /// The most connections at once.
    pub connections: usize,
    /// The most connections at once of one peer: an IPv4 address, or an IPv6 network of 64 bits.
    pub connections_per_peer: usize,
    /// The requests, and the new connections, of one peer in a second; twice as many may come at once.
    pub requests_per_second: NonZeroU32,
    /// The attempts to sign in of one peer in a second; twice as many may come at once.
    pub sign_ins_per_second: NonZeroU32,
}

impl Default for Limits {
    fn default() -> Self {
        let per_second = |count| NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN);
        Self {
            body_bytes: 4 * 1024 * 1024,
            header_bytes: 32 * 1024,
            headers: 100,
            handshake: Duration::from_secs(10),
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            idle_time: Duration::from_mins(1),
            stall_time: Duration::from_secs(30),
            grace: Duration::from_secs(5),
            connections: 512,
            connections_per_peer: 64,
            requests_per_second: per_second(200),
            sign_ins_per_second: per_second(10),
        }
    }
}
