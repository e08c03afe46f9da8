//! The door of the ARM front: TLS, limits, sign-in, authentication, authorization and audit around a service that has none of them.
//!
//! [`serve`] takes connections. For each, `peer` and `rate` say whether there is room; `serve` makes the handshake; a `wire` under the
//! HTTP library holds the client to its times, and answers what is no request at all. Then `front` takes each request the same way:
//! `rate` counts it; `path` gives its path one meaning or refuses it; `sign_in` answers what needs no token; of all else
//! `identity` verifies the token and decides by the principal's roles; the body is read, within its limits; the service is handed
//! the request, with the very path that was decided on, and with the [`identity::Principal`], [`arm::RequestIds`] and the
//! [`arm::View`] that `view` makes of how far the roles reach among its extensions; and the audit log has an entry before the
//! client has its answer (of more requests than a peer's share, `excess` has their number told now and then). What goes no further
//! is a `refusal`.
//!
//! What an attacker may cost: no body is read before its sender is known (a sign-in's form of 16 KiB excepted), no handshake, head,
//! body, answer or pause may take longer than its time, and a peer has its share of connections and requests, and a smaller one
//! of attempts to sign in.
#![forbid(unsafe_code)]

mod answer;
mod excess;
mod front;
mod lasting;
mod limits;
mod origin;
mod path;
mod peer;
mod rate;
mod raw;
mod refusal;
mod serve;
mod sign_in;
mod view;
mod wire;

pub use front::Inner;
pub use limits::Limits;
pub use serve::{GatewayConfig, serve};
