//! How often a peer may come.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::limits::Limits;
use crate::peer::Peer;

/// What of each peer's was counted lately.
pub(crate) struct Rates {
    connections: Rate,
    requests: Rate,
    sign_ins: Rate,
}

impl Rates {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            connections: Rate::new(limits.requests_per_second),
            requests: Rate::new(limits.requests_per_second),
            sign_ins: Rate::new(limits.sign_ins_per_second),
        }
    }

    /// Counts a new connection: a handshake costs more than most requests.
    pub(crate) fn connection(&self, peer: Peer) -> Result<(), Wait> {
        self.connections.count(peer)
    }

    /// Counts a request.
    pub(crate) fn request(&self, peer: Peer) -> Result<(), Wait> {
        self.requests.count(peer)
    }

    /// Counts an attempt to sign in.
    pub(crate) fn sign_in(&self, peer: Peer) -> Result<(), Wait> {
        self.sign_ins.count(peer)
    }

    /// Forgets those who have not come for so long that it makes no difference.
    pub(crate) fn forget(&self) {
        for rate in [&self.connections, &self.requests, &self.sign_ins] {
            rate.0.retain_recent();
            rate.0.shrink_to_fit();
        }
    }
}

/// How long to wait, in whole seconds: at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait(pub(crate) u64);

struct Rate(RateLimiter<Peer, HashMapStateStore<Peer>, DefaultClock>);

impl Rate {
    fn new(per_second: NonZeroU32) -> Self {
        let at_once = per_second.saturating_mul(NonZeroU32::MIN.saturating_add(1));
        Self(RateLimiter::hashmap(
            Quota::per_second(per_second).allow_burst(at_once),
        ))
    }

    fn count(&self, peer: Peer) -> Result<(), Wait> {
        self.0.check_key(&peer).map_err(|not_until| {
            let wait = not_until.wait_time_from(self.0.clock().now());
            let begun = u64::from(wait.subsec_nanos() > 0);
            Wait(wait.as_secs().saturating_add(begun).max(1))
        })
    }
}

/// How often [`Rates::forget`] is worth its while.
pub(crate) const FORGET_EVERY: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own_share_and_is_told_when_to_come_again() {
        let limits = Limits {
            sign_ins_per_second: NonZeroU32::MIN,
            ..Limits::default()
        };
        let rates = Rates::new(&limits);
        let [a, b] = ["192.0.2.1", "192.0.2.2"]
            .map(|text| Peer::from(text.parse::<std::net::IpAddr>().unwrap()));
        assert_eq!(rates.sign_in(a), Ok(()));
        assert_eq!(rates.sign_in(a), Ok(()));
        assert_eq!(rates.sign_in(a), Err(Wait(1)));
        assert_eq!(rates.sign_in(b), Ok(()));
        assert_eq!(rates.request(a), Ok(()));
    }
}
