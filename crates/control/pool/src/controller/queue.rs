//! What the controller has to look at.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Round, Standing};
use crate::key::Key;
use crate::node::ObservedNode;
use crate::store::Kind;

type Nodes = Vec<Arc<ObservedNode>>;

/// What is to be looked at, by path. It can be lost at any time: a pass finds again whatever there is to do.
#[derive(Debug, Default)]
pub(super) struct Queue {
    pub(super) pools: Waiting,
    pub(super) clusters: Waiting,
    pub(super) groups: Waiting,
    /// Pools that are on their way or have failed: any node that changes may be what they wait for.
    on_their_way: BTreeSet<String>,
    /// Pools at which something is to be tried again after a while.
    later: BTreeSet<String>,
    /// The nodes as they were last seen, by pool.
    nodes: BTreeMap<String, Nodes>,
    /// How far the look at everything has come.
    pub(super) pass: Option<Pass>,
}

/// A look at everything that there is, page by page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pass {
    /// What it looks at now.
    pub(super) kind: Kind,
    /// The last of them that it has looked at.
    pub(super) after: Option<String>,
}

impl Pass {
    /// Where it goes on after a page that ends at `next`.
    pub(super) fn after(&self, next: Option<String>) -> Option<Self> {
        if next.is_some() {
            return Some(Self {
                kind: self.kind,
                after: next,
            });
        }
        let kind = match self.kind {
            Kind::NodePool => Kind::Cluster,
            Kind::Cluster => Kind::Group,
            Kind::Group => Kind::Operation,
            // Whoever carries out deployments looks for them.
            Kind::Operation | Kind::Deployment => return None,
        };
        Some(Self { kind, after: None })
    }
}

impl Queue {
    /// Looks at everything, from the beginning.
    pub(super) fn start_pass(&mut self) {
        self.pass = Some(Pass {
            kind: Kind::NodePool,
            after: None,
        });
        // These may be of pools that are no more, which no page has.
        for path in self.nodes.keys() {
            self.pools.push(path.clone());
        }
    }

    /// Takes in which records a commit changed.
    pub(super) fn changed(&mut self, records: &[(Kind, String)]) {
        for (kind, path) in records {
            match kind {
                Kind::NodePool => {
                    self.pools.push(path.clone());
                    self.clusters.push(parent(path));
                }
                Kind::Cluster => {
                    self.clusters.push(path.clone());
                    self.groups.push(parent(path));
                }
                Kind::Group => self.groups.push(path.clone()),
                Kind::Operation | Kind::Deployment => {}
            }
        }
    }

    /// Takes in what there is of nodes now.
    pub(super) fn saw(&mut self, nodes: Nodes) {
        let mut by_pool: BTreeMap<String, Nodes> = BTreeMap::new();
        for node in nodes {
            by_pool.entry(node.spec.pool.path()).or_default().push(node);
        }
        let before = std::mem::replace(&mut self.nodes, by_pool);
        let gone = before.keys().filter(|path| !self.nodes.contains_key(*path));
        let differs = |path: &&String| {
            let (then, now) = (before.get(*path), self.nodes.get(*path));
            !then.zip(now).is_some_and(|(then, now)| same(then, now))
        };
        let touched: Vec<String> = gone
            .chain(self.nodes.keys().filter(differs))
            .cloned()
            .collect();
        if touched.is_empty() {
            return;
        }
        for path in touched {
            self.pools.push(path);
        }
        for path in &self.on_their_way {
            self.pools.push(path.clone());
        }
    }

    /// The nodes of a pool, as they were last seen.
    pub(super) fn nodes_of(&self, pool: &str) -> &[Arc<ObservedNode>] {
        self.nodes.get(pool).map_or(&[], Vec::as_slice)
    }

    /// Takes in how it stands with a pool that was looked at.
    pub(super) fn looked(&mut self, pool: String, standing: Standing) {
        match standing {
            Standing::AtRest => {
                self.on_their_way.remove(&pool);
                return;
            }
            Standing::OnItsWay => {}
            Standing::Again => self.pools.push(pool.clone()),
            Standing::Retry => {
                self.later.insert(pool.clone());
            }
        }
        self.on_their_way.insert(pool);
    }

    /// What did not work is to be tried again now.
    pub(super) fn try_again(&mut self) {
        for path in std::mem::take(&mut self.later) {
            self.pools.push(path);
        }
    }

    /// Whether something waits to be tried again.
    pub(super) fn has_later(&self) -> bool {
        !self.later.is_empty()
    }

    /// Whether something is to be looked at now.
    pub(super) fn has_more(&self) -> bool {
        self.pass.is_some()
            || !(self.pools.is_empty() && self.clusters.is_empty() && self.groups.is_empty())
    }

    /// How a round stands that has left this.
    pub(super) fn round(&self) -> Round {
        if self.has_more() {
            Round::Again
        } else if self.has_later() {
            Round::Retry
        } else {
            Round::Complete
        }
    }
}

/// The path of what holds a record.
pub(super) fn parent(path: &str) -> String {
    let above = path.rsplit_once('/').map_or("", |(above, _)| above);
    above.to_owned()
}

fn same(then: &Nodes, now: &Nodes) -> bool {
    let is_same = |(a, b): (&Arc<_>, &Arc<ObservedNode>)| Arc::ptr_eq(a, b) || a == b;
    then.len() == now.len() && then.iter().zip(now).all(is_same)
}

/// Paths in the order in which they came, each once.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    order: VecDeque<String>,
    members: BTreeSet<String>,
}

impl Waiting {
    pub(super) fn push(&mut self, path: String) {
        if !self.members.contains(&path) {
            self.members.insert(path.clone());
            self.order.push_back(path);
        }
    }

    pub(super) fn pop(&mut self) -> Option<String> {
        let path = self.order.pop_front()?;
        self.members.remove(&path);
        Some(path)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(waiting: &mut Waiting) -> Vec<String> {
        std::iter::from_fn(|| waiting.pop()).collect()
    }

    #[test]
    fn a_change_is_looked_at_once_with_what_holds_it() {
        let mut queue = Queue::default();
        let change = (Kind::NodePool, "s/g/c/p".to_owned());
        queue.changed(&[
            change.clone(),
            change,
            (Kind::Operation, "s/o".to_owned()),
            (Kind::Cluster, "s/h/d".to_owned()),
        ]);
        assert_eq!(taken(&mut queue.pools), ["s/g/c/p"]);
        assert_eq!(taken(&mut queue.clusters), ["s/g/c", "s/h/d"]);
        assert_eq!(taken(&mut queue.groups), ["s/h"]);
        assert!(!queue.has_more());
    }

    #[test]
    fn what_comes_first_is_looked_at_first_whatever_its_name() {
        let mut waiting = Waiting::default();
        for path in ["b", "a", "b", "c"] {
            waiting.push(path.to_owned());
        }
        assert_eq!(waiting.pop().as_deref(), Some("b"));
        waiting.push("b".to_owned());
        assert_eq!(taken(&mut waiting), ["a", "c", "b"]);
    }

    #[test]
    fn a_pass_goes_through_every_kind_page_by_page() {
        let mut pass = Pass {
            kind: Kind::NodePool,
            after: None,
        };
        pass = pass.after(Some("s/g/c/p".to_owned())).unwrap();
        assert_eq!(pass.kind, Kind::NodePool);
        let mut kinds = Vec::new();
        while let Some(next) = pass.after(None) {
            assert_eq!(next.after, None);
            kinds.push(next.kind);
            pass = next;
        }
        assert_eq!(kinds, [Kind::Cluster, Kind::Group, Kind::Operation]);
    }

    #[test]
    fn what_is_to_be_tried_again_waits_until_it_is_told() {
        let mut queue = Queue::default();
        queue.looked("p".to_owned(), Standing::Retry);
        assert_eq!(queue.round(), Round::Retry);
        queue.try_again();
        assert_eq!(queue.round(), Round::Again);
        assert_eq!(queue.pools.pop().as_deref(), Some("p"));
        queue.looked("p".to_owned(), Standing::AtRest);
        assert_eq!(queue.round(), Round::Complete);
    }
}
