//! Requests beyond a peer's share: each is counted, and now and then the audit log is told how many.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::peer::Peer;

/// How long after one line about a peer the next one may come.
pub(crate) const PAUSE: Duration = Duration::from_secs(10);

/// The peers that have asked for more than their share lately.
#[derive(Debug, Default)]
pub(crate) struct Excess(Mutex<HashMap<Peer, Untold>>);

/// What is not yet told of a peer.
#[derive(Debug)]
struct Untold {
    told: Instant,
    count: u64,
    /// Where the last one came from.
    address: SocketAddr,
}

/// So many requests came from there, and no line has told of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) address: SocketAddr,
    pub(crate) count: u64,
}

impl Excess {
    /// Counts a request. If it is time for a line about its peer: how many requests that stands for, this one among them.
    pub(crate) fn count(&self, address: SocketAddr, now: Instant) -> Option<u64> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = Peer::from(address.ip());
        let Some(untold) = peers.get_mut(&peer) else {
            let (told, count) = (now, 0);
            peers.insert(
                peer,
                Untold {
                    told,
                    count,
                    address,
                },
            );
            return Some(1);
        };
        untold.address = address;
        untold.count = untold.count.saturating_add(1);
        if now.duration_since(untold.told) < PAUSE {
            return None;
        }
        untold.told = now;
        Some(std::mem::take(&mut untold.count))
    }

    /// Forgets the peers that were told of `pause` ago, and gives what no line has told of them.
    pub(crate) fn forget(&self, pause: Duration, now: Instant) -> Vec<Left> {
        let mut peers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = peers.extract_if(|_, untold| now.duration_since(untold.told) >= pause);
        let left = old.filter(|(_, untold)| untold.count > 0);
        let left = left.map(|(_, Untold { address, count, .. })| Left { address, count });
        left.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_told_of_once_and_each_peer_no_more_often_than_now_and_then() {
        let excess = Excess::default();
        let [a, again, b] = ["192.0.2.1:1", "192.0.2.1:2", "192.0.2.2:1"]
            .map(|text| text.parse::<SocketAddr>().unwrap());
        let begin = Instant::now();
        let soon = begin + PAUSE / 2;
        assert_eq!(excess.count(a, begin), Some(1));
        for _ in 0..100 {
            assert_eq!(excess.count(a, soon), None);
        }
        assert_eq!(excess.count(b, soon), Some(1));
        assert_eq!(excess.count(a, begin + PAUSE), Some(101));
        assert_eq!(excess.count(again, begin + PAUSE), None);
        // What came last is told when it is over; of who has been told of, nothing is kept.
        assert_eq!(excess.forget(PAUSE, begin + PAUSE), []);
        let end = begin + PAUSE * 2;
        let left = Left {
            address: again,
            count: 1,
        };
        assert_eq!(excess.forget(PAUSE, end), [left]);
        assert!(excess.0.lock().unwrap().is_empty());
        // At the end nothing is waited for.
        for expected in [Some(1), None, None] {
            assert_eq!(excess.count(b, end), expected);
        }
        let left = Left {
            address: b,
            count: 2,
        };
        assert_eq!(excess.forget(Duration::ZERO, end), [left]);
    }
}
