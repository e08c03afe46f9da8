//! Whom the limits count.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use tokio::task::Id;

/// An IPv4 address, or an IPv6 network of 64 bits: a machine may take any address of its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        const NETWORK: u128 = !0 << 64;
        Self(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// The connections that are open, by the tasks that serve them.
#[derive(Debug)]
pub(crate) struct Connections {
    most: usize,
    most_per_peer: usize,
    tasks: HashMap<Id, Peer>,
    peers: HashMap<Peer, usize>,
}

impl Connections {
    pub(crate) fn new(most: usize, most_per_peer: usize) -> Self {
        Self {
            most,
            most_per_peer,
            tasks: HashMap::new(),
            peers: HashMap::new(),
        }
    }

    /// Whether one more of `peer` would be within the limits.
    pub(crate) fn has_place(&self, peer: Peer) -> bool {
        let of_peer = self.peers.get(&peer).copied().unwrap_or_default();
        self.tasks.len() < self.most && of_peer < self.most_per_peer
    }

    pub(crate) fn opened(&mut self, task: Id, peer: Peer) {
        if self.tasks.insert(task, peer).is_none() {
            *self.peers.entry(peer).or_default() += 1;
        }
    }

    pub(crate) fn ended(&mut self, task: Id) {
        let Some(peer) = self.tasks.remove(&task) else {
            return;
        };
        if let Some(count) = self.peers.get_mut(&peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.peers.remove(&peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer::from(text.parse::<IpAddr>().unwrap())
    }

    #[test]
    fn a_machine_is_one_peer_whichever_of_its_addresses_it_uses() {
        assert_eq!(peer("2001:db8::1"), peer("2001:db8::ffff:1"));
        assert_ne!(peer("2001:db8::1"), peer("2001:db8:0:1::1"));
        assert_eq!(peer("::ffff:192.0.2.1"), peer("192.0.2.1"));
        assert_ne!(peer("192.0.2.1"), peer("192.0.2.2"));
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_ends() {
        let mut connections = Connections::new(3, 2);
        let (a, b) = (peer("192.0.2.1"), peer("192.0.2.2"));
        let mut tasks = Vec::new();
        for who in [a, a, b] {
            assert!(connections.has_place(who));
            let task = tokio::spawn(async {});
            connections.opened(task.id(), who);
            tasks.push(task);
        }
        assert!(!connections.has_place(a), "its own share is used up");
        assert!(!connections.has_place(b), "all places are taken");
        for task in tasks {
            connections.ended(task.id());
        }
        assert!(connections.has_place(a) && connections.has_place(b));
        assert!(
            connections.peers.is_empty(),
            "nothing is kept of those gone"
        );
    }
}
