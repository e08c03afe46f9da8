//! Random histories of pools that take nodes which are there: whatever is changed, in whatever order nodes come, refuse a
//! layout, fail, vanish and come back, whatever is read late and wherever the operator is killed, it converges; no node is
//! ever taken from another pool, and no more nodes are taken out of work for a layout than was said.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use migpool_pool as pool;
use proptest::prelude::*;

use pool::validation::{NodePoolInput, node_pool};
use pool::{
    Action, Candidate, Candidates, ClusterKey, GroupKey, NodeName, NodePhase, NodePool,
    ObservedNode, PoolKey, PoolSummary, ProvisioningState, Reason, Rollout, Slices, Supply,
    expected_of, reconcile,
};

const LAYOUTS: [&str; 3] = ["1g.5gb*7", "3g.20gb*2", "2g.10gb*3"];

fn key(pool: &str) -> PoolKey {
    PoolKey {
        cluster: ClusterKey {
            group: GroupKey {
                subscription: pool::SubscriptionId::local(),
                group: "kubernetes".parse().unwrap(),
            },
            cluster: "kubernetes".parse().unwrap(),
        },
        pool: pool.parse().unwrap(),
    }
}

fn pool_of(name: &str, count: u32, max_unavailable: &str) -> NodePool {
    let input = NodePoolInput {
        count: Some(i64::from(count)),
        node_selector: BTreeMap::from([("gpu".to_owned(), "a100".to_owned())]),
        layouts: Some(LAYOUTS[0].to_owned()),
        max_unavailable: Some(max_unavailable.to_owned()),
        ..NodePoolInput::default()
    };
    NodePool {
        key: key(name),
        spec: node_pool(&input, None).unwrap(),
        provisioning_state: ProvisioningState::Creating,
        message: String::new(),
        operation: None,
        created: Timestamp::UNIX_EPOCH,
        rollout: Rollout::default(),
        leaving: std::collections::BTreeSet::new(),
        seen: PoolSummary::default(),
    }
}

/// A node of the cluster: who has it, and what its agent has done about that.
#[derive(Clone, Debug)]
struct Machine {
    /// It differs after every change.
    version: u64,
    node: Option<ObservedNode>,
    /// The layout that it can't take.
    refuses: Option<&'static str>,
}

#[derive(Clone, Debug, Default)]
struct World {
    machines: BTreeMap<NodeName, Machine>,
    /// What the operator saw of each machine last, which may be old, but never older than what it wrote itself.
    seen: BTreeMap<NodeName, Machine>,
    version: u64,
}

fn taken(spec: pool::NodeSpec) -> ObservedNode {
    ObservedNode {
        spec,
        phase: NodePhase::Creating,
        ready: true,
        message: String::new(),
        capacity: BTreeMap::new(),
        allocatable: BTreeMap::new(),
        labels: BTreeMap::new(),
        conditions: Vec::new(),
        gpus: Vec::new(),
        boards: BTreeMap::from([(0, "A100-40GB".to_owned())]),
        slices: Slices::default(),
        driver_version: None,
        created: Timestamp::UNIX_EPOCH,
    }
}

impl World {
    fn of(machines: usize) -> Self {
        let mut world = Self::default();
        for index in 0..machines {
            world.come(&format!("node-{index}").parse().unwrap());
        }
        world.look();
        world
    }

    fn come(&mut self, name: &NodeName) {
        self.version += 1;
        let version = self.version;
        self.machines.entry(name.clone()).or_insert(Machine {
            version,
            node: None,
            refuses: None,
        });
    }

    /// The operator sees everything as it is.
    fn look(&mut self) {
        self.seen = self.machines.clone();
    }

    fn change(&mut self, n: usize, change: impl FnOnce(&mut Machine)) {
        let count = self.machines.len();
        if count == 0 {
            return;
        }
        self.version += 1;
        let version = self.version;
        if let Some(machine) = self.machines.values_mut().nth(n % count) {
            change(machine);
            machine.version = version;
        }
    }

    fn observed(&self) -> Vec<ObservedNode> {
        self.seen
            .values()
            .filter_map(|it| it.node.clone())
            .collect()
    }

    fn supply(&self, pool: &NodePool) -> Supply {
        let mut candidates = Candidates::default();
        for (name, machine) in &self.seen {
            match &machine.node {
                None => candidates.fitting.push(Candidate {
                    name: name.clone(),
                    vm_size: String::new(),
                }),
                Some(node) if node.spec.pool != pool.key => {
                    candidates.reject(name.as_str(), "it is in another pool".to_owned());
                }
                Some(_) => {}
            }
        }
        Supply::Found(candidates)
    }

    /// As the API server does: a write over a version that is not the latest is refused.
    fn write(&mut self, name: &NodeName, change: impl FnOnce(&mut Machine)) -> bool {
        let seen = self.seen.get(name).map(|machine| machine.version);
        let now = self.machines.get(name).map(|machine| machine.version);
        if now.is_none() || seen != now {
            return false;
        }
        self.version += 1;
        let version = self.version;
        let machine = self.machines.get_mut(name).unwrap();
        change(machine);
        machine.version = version;
        let machine = machine.clone();
        self.seen.insert(name.clone(), machine);
        true
    }

    fn apply(&mut self, action: Action) -> bool {
        match action {
            Action::CreateNode(spec) => {
                let name = spec.name.clone();
                self.write(&name, |machine| {
                    assert!(machine.node.is_none(), "a node of another pool was taken");
                    machine.node = Some(taken(spec));
                })
            }
            Action::UpdateNode(spec) => {
                let name = spec.name.clone();
                self.write(&name, |machine| {
                    let node = machine
                        .node
                        .as_mut()
                        .expect("only nodes of a pool are changed");
                    assert_eq!(
                        node.spec.pool, spec.pool,
                        "a node of another pool was changed"
                    );
                    if node.spec.layout != spec.layout {
                        node.phase = NodePhase::Creating;
                    }
                    node.spec = spec;
                })
            }
            Action::DeleteNode(name) => self.write(&name, |machine| {
                if let Some(node) = &mut machine.node {
                    node.phase = NodePhase::Deleting;
                }
            }),
            Action::Resize(..) => unreachable!("nobody makes nodes here"),
        }
    }
}

/// The agent of a machine does what is asked.
fn work(machine: &mut Machine) {
    let refuses = machine.refuses;
    let Some(node) = &mut machine.node else {
        return;
    };
    if node.phase == NodePhase::Deleting {
        machine.node = None;
        return;
    }
    let asked = node.spec.layout.as_ref().map(ToString::to_string);
    if refuses.is_some() && asked.as_deref() == refuses {
        node.phase = NodePhase::Failed;
        "GPU 0 does not take it".clone_into(&mut node.message);
        return;
    }
    node.phase = NodePhase::Running;
    node.ready = true;
    node.message.clear();
    node.allocatable = expected_of(node).unwrap();
    node.slices.total = node.allocatable.values().sum();
}

fn is_working(node: &ObservedNode) -> bool {
    node.phase == NodePhase::Running
        && node.ready
        && expected_of(node).is_ok_and(|expected| expected == node.allocatable)
}

#[derive(Clone, Debug)]
enum Event {
    /// The operator looks at a pool, having seen all or only what it saw before, and is killed after so many actions.
    Round {
        pool: usize,
        late: bool,
        killed_after: Option<usize>,
    },
    /// An agent does what is asked of it.
    Work(usize),
    /// A node does not answer for a while.
    NotReady(usize),
    /// A node can't take one of the layouts, or can again.
    Refuse(usize, Option<usize>),
    /// A node vanishes.
    Vanish(usize),
    /// A node comes, or comes back.
    Come(usize),
    /// Somebody scales a pool.
    Scale(usize, u32),
    /// Somebody asks for another layout.
    Layout(usize, usize),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..2_usize, any::<bool>(), proptest::option::weighted(0.2, 0..4_usize))
            .prop_map(|(pool, late, killed_after)| Event::Round { pool, late, killed_after }),
        8 => (0..8_usize).prop_map(Event::Work),
        1 => (0..8_usize).prop_map(Event::NotReady),
        1 => (0..8_usize, proptest::option::of(0..LAYOUTS.len())).prop_map(|(n, layout)| Event::Refuse(n, layout)),
        1 => (0..8_usize).prop_map(Event::Vanish),
        1 => (0..8_usize).prop_map(Event::Come),
        1 => (0..2_usize, 0..5_u32).prop_map(|(pool, count)| Event::Scale(pool, count)),
        2 => (0..2_usize, 0..LAYOUTS.len()).prop_map(|(pool, layout)| Event::Layout(pool, layout)),
    ]
}

fn round(pool: &mut NodePool, world: &mut World, late: bool, killed_after: Option<usize>) {
    if !late {
        world.look();
    }
    let supply = world.supply(pool);
    let before = world.observed();
    let decision = reconcile(pool, &before, &supply);
    if decision.rollout != pool.rollout {
        // Kept before anything is done.
        pool.rollout = decision.rollout;
        return;
    }
    if !late {
        judge(pool, &before, &decision.actions);
    }
    let count = decision.actions.len();
    for action in decision
        .actions
        .into_iter()
        .take(killed_after.unwrap_or(count))
    {
        world.apply(action);
    }
    if killed_after.is_none() {
        pool.provisioning_state = decision.state;
        pool.message = decision.message;
        pool.seen = decision.seen;
    }
}

/// What must hold of a decision that was made knowing everything.
fn judge(pool: &NodePool, nodes: &[ObservedNode], actions: &[Action]) {
    let mine: BTreeMap<&NodeName, &ObservedNode> = nodes
        .iter()
        .filter(|node| node.spec.pool == pool.key)
        .map(|node| (&node.spec.name, node))
        .collect();
    let going: BTreeSet<&NodeName> = actions
        .iter()
        .filter_map(|action| match action {
            Action::DeleteNode(name) => Some(name),
            _ => None,
        })
        .collect();
    let kept: Vec<&&ObservedNode> = mine
        .values()
        .filter(|node| node.phase != NodePhase::Deleting && !going.contains(&node.spec.name))
        .collect();
    let down = kept.iter().filter(|node| !is_working(node)).count();
    let taken_down = actions.iter().filter(|action| match action {
        Action::UpdateNode(spec) => {
            let node = mine[&spec.name];
            is_working(node) && node.spec.layout != spec.layout
        }
        _ => false,
    });
    let taken_down = taken_down.count();
    let most = pool.spec.max_unavailable.of(kept.len());
    assert!(
        taken_down == 0 || down + taken_down <= most,
        "{taken_down} more nodes are taken out of work though {down} are, and {most} may be"
    );
    let added = actions
        .iter()
        .filter(|it| matches!(it, Action::CreateNode(_)));
    assert!(
        mine.len() + added.count() <= (pool.spec.count as usize).max(mine.len()),
        "more nodes than wanted were taken"
    );
}

fn happen(event: &Event, pools: &mut [NodePool], world: &mut World) {
    match *event {
        Event::Round {
            pool,
            late,
            killed_after,
        } => round(&mut pools[pool], world, late, killed_after),
        Event::Work(n) => world.change(n, work),
        Event::NotReady(n) => world.change(n, |machine| {
            if let Some(node) = &mut machine.node {
                node.ready = false;
            }
        }),
        Event::Refuse(n, layout) => world.change(n, |machine| {
            machine.refuses = layout.map(|layout| LAYOUTS[layout]);
        }),
        Event::Vanish(n) => {
            let name = world.machines.keys().nth(n).cloned();
            if let Some(name) = name {
                world.machines.remove(&name);
            }
        }
        Event::Come(n) => world.come(&format!("node-{n}").parse().unwrap()),
        Event::Scale(pool, count) => {
            pools[pool].spec.count = count;
            pools[pool].provisioning_state = ProvisioningState::Scaling;
        }
        Event::Layout(pool, layout) => {
            pools[pool].spec.layouts = Some(LAYOUTS[layout].parse().unwrap());
            pools[pool].provisioning_state = ProvisioningState::Updating;
        }
    }
}

/// Nothing bad happens any more, and all nodes take every layout.
fn settle(pools: &mut [NodePool], world: &mut World) {
    for machine in world.machines.values_mut() {
        machine.refuses = None;
    }
    for _ in 0..40 {
        for pool in &mut *pools {
            round(pool, world, false, None);
            for n in 0..world.machines.len() {
                world.change(n, work);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_history_converges(
        machines in 0..7_usize,
        counts in (0..5_u32, 0..5_u32),
        events in prop::collection::vec(event(), 0..80),
    ) {
        let mut pools = [pool_of("one", counts.0, "1"), pool_of("two", counts.1, "50%")];
        let mut world = World::of(machines);
        for event in events {
            happen(&event, &mut pools, &mut world);
        }
        settle(&mut pools, &mut world);
        let wanted: u32 = pools.iter().map(|pool| pool.spec.count).sum();
        let has = |pool: &NodePool| world.machines.values().filter(|machine| {
            machine.node.as_ref().is_some_and(|node| node.spec.pool == pool.key)
        }).count();
        let all: usize = pools.iter().map(has).sum();
        prop_assert_eq!(all, (wanted as usize).min(world.machines.len()));
        for pool in &pools {
            let is_enough = has(pool) == pool.spec.count as usize;
            let rolled_back = pool.rollout.refused.is_some();
            let expected = match (is_enough, rolled_back) {
                (true, false) => Reason::AsAsked,
                (true, true) => Reason::RolledBack,
                (false, true) => Reason::RollingBack,
                (false, false) => Reason::TooFewNodes,
            };
            prop_assert_eq!(pool.seen.reason, expected, "{}", &pool.message);
        }
    }

    #[test]
    fn a_deleted_pool_gives_every_node_back(events in prop::collection::vec(event(), 0..60)) {
        let mut pools = [pool_of("one", 3, "1"), pool_of("two", 2, "1")];
        let mut world = World::of(5);
        for event in events {
            happen(&event, &mut pools, &mut world);
        }
        pools[0].provisioning_state = ProvisioningState::Deleting;
        for _ in 0..4 {
            round(&mut pools[0], &mut world, false, None);
            for n in 0..world.machines.len() {
                world.change(n, work);
            }
        }
        world.look();
        prop_assert!(world.observed().iter().all(|node| node.spec.pool != pools[0].key));
        let supply = world.supply(&pools[0]);
        prop_assert!(reconcile(&pools[0], &world.observed(), &supply).gone);
    }
}

fn settled(pool: &mut NodePool, world: &mut World) {
    settle(std::slice::from_mut(pool), world);
    assert_eq!(
        pool.provisioning_state,
        ProvisioningState::Succeeded,
        "{}",
        pool.message
    );
}

#[test]
fn a_layout_that_a_node_refuses_is_taken_back_everywhere() {
    let mut pool = pool_of("one", 4, "2");
    let mut world = World::of(4);
    settled(&mut pool, &mut world);
    world.change(1, |machine| machine.refuses = Some(LAYOUTS[1]));
    happen(
        &Event::Layout(0, 1),
        std::slice::from_mut(&mut pool),
        &mut world,
    );
    let mut reasons = BTreeSet::new();
    for _ in 0..20 {
        round(&mut pool, &mut world, false, None);
        reasons.insert(pool.seen.reason.to_string());
        for n in 0..4 {
            world.change(n, work);
        }
    }
    assert_eq!(pool.provisioning_state, ProvisioningState::Failed);
    assert_eq!(pool.seen.reason, Reason::RolledBack);
    assert!(
        reasons.contains("RollingOut") && reasons.contains("RollingBack"),
        "{reasons:?}"
    );
    let said = "node node-1 could not take the layout 3g.20gb*2: GPU 0 does not take it; all nodes have the layout 1g.5gb*7";
    assert!(pool.message.starts_with(said), "{}", pool.message);
    for machine in world.machines.values() {
        let layout = machine
            .node
            .as_ref()
            .and_then(|node| node.spec.layout.as_ref());
        assert_eq!(layout.unwrap().to_string(), LAYOUTS[0]);
    }
    // Something else may be tried then.
    happen(
        &Event::Layout(0, 2),
        std::slice::from_mut(&mut pool),
        &mut world,
    );
    settled(&mut pool, &mut world);
}

#[test]
fn a_pool_without_enough_nodes_says_how_many_and_why_each_other_does_not_fit() {
    let mut one = pool_of("one", 2, "1");
    let mut two = pool_of("two", 2, "1");
    let mut world = World::of(3);
    settled(&mut one, &mut world);
    settle(std::slice::from_mut(&mut two), &mut world);
    assert_eq!(two.seen.reason, Reason::TooFewNodes);
    assert_eq!(
        two.message,
        "1 of 2 nodes ready; 1 more node is needed, and no free node fits (node-0, node-1: it is in another pool)"
    );
}

#[test]
fn fewer_nodes_means_that_those_in_use_stay() {
    let mut pool = pool_of("one", 3, "1");
    let mut world = World::of(3);
    settled(&mut pool, &mut world);
    world.change(2, |machine| {
        machine.node.as_mut().unwrap().slices.in_use = 3;
    });
    pool.spec.count = 1;
    settled(&mut pool, &mut world);
    let left: Vec<_> = world
        .observed()
        .into_iter()
        .map(|node| node.spec.name.to_string())
        .collect();
    assert_eq!(left, ["node-2"]);
}
