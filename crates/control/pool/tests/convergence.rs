//! Random histories: whatever a person asks for, in whatever order nodes come, fail and get better, and wherever the
//! controller is killed, it converges; there are never more nodes than wanted, and no state is ever claimed that is not so.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic")]

use migpool_pool as pool;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use pool::validation::{NodePoolInput, node_pool};
use pool::{
    Action, ClusterKey, GroupKey, NodeName, NodePhase, NodePool, NodeSpec, ObservedNode, PoolKey,
    PoolSummary, PowerState, ProvisioningState, Rollout, Slices, Supply, expected_allocatable,
    reconcile,
};

fn key(pool: &str) -> PoolKey {
    PoolKey {
        cluster: ClusterKey {
            group: GroupKey {
                subscription: pool::SubscriptionId::local(),
                group: "myResourceGroup".parse().unwrap(),
            },
            cluster: "myAKSCluster".parse().unwrap(),
        },
        pool: pool.parse().unwrap(),
    }
}

fn pool_of(count: u32) -> NodePool {
    let input = NodePoolInput {
        count: Some(i64::from(count)),
        vm_size: Some("Standard_ND96asr_v4".into()),
        gpu_instance_profile: Some("MIG1g".into()),
        ..NodePoolInput::default()
    };
    NodePool {
        key: key("mignode"),
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

/// The nodes as they are; what a provider would show.
#[derive(Default)]
struct World {
    nodes: BTreeMap<NodeName, ObservedNode>,
}

impl World {
    fn observe(&self) -> Vec<ObservedNode> {
        self.nodes.values().cloned().collect()
    }

    fn apply(&mut self, action: Action) {
        match action {
            Action::CreateNode(spec) => {
                self.nodes
                    .entry(spec.name.clone())
                    .or_insert_with(|| new_node(spec));
            }
            Action::UpdateNode(spec) => {
                let node = self
                    .nodes
                    .get_mut(&spec.name)
                    .expect("only nodes that are there are updated");
                if node.spec.layout != spec.layout {
                    node.phase = NodePhase::Creating;
                }
                node.spec = spec;
            }
            Action::DeleteNode(name) => {
                let node = self
                    .nodes
                    .get_mut(&name)
                    .expect("only nodes that are there are deleted");
                node.phase = NodePhase::Deleting;
                node.ready = false;
            }
            Action::Resize(..) => unreachable!("these nodes come one by one"),
        }
    }

    fn live(&self) -> usize {
        self.nodes
            .values()
            .filter(|node| node.phase != NodePhase::Deleting)
            .count()
    }

    fn nth(&mut self, n: usize) -> Option<&mut ObservedNode> {
        let count = self.nodes.len();
        if count == 0 {
            None
        } else {
            self.nodes.values_mut().nth(n % count)
        }
    }
}

fn new_node(spec: NodeSpec) -> ObservedNode {
    ObservedNode {
        spec,
        phase: NodePhase::Creating,
        ready: false,
        message: String::new(),
        capacity: BTreeMap::new(),
        allocatable: BTreeMap::new(),
        labels: BTreeMap::new(),
        conditions: Vec::new(),
        gpus: Vec::new(),
        boards: BTreeMap::new(),
        slices: Slices::default(),
        driver_version: None,
        created: Timestamp::UNIX_EPOCH,
    }
}

fn finish(node: &mut ObservedNode) {
    node.phase = NodePhase::Running;
    node.ready = true;
    node.message = String::new();
    node.allocatable = expected_allocatable(&node.spec).unwrap();
    node.allocatable.insert("cpu".into(), 96);
}

/// One thing that happens.
#[derive(Clone, Debug)]
enum Event {
    /// The controller decides, and is killed after so many of its actions; its decision on the state is lost then.
    Round { killed_after: Option<usize> },
    /// A node that is being made or taken away is done with it.
    Finish(usize),
    /// A node fails.
    Fail(usize),
    /// A node advertises fewer slices than it should.
    Shrink(usize),
    /// A node is not ready for a while.
    NotReady(usize),
    /// A node vanishes.
    Vanish(usize),
    /// Somebody scales the pool.
    Scale(u32),
    /// Somebody labels the pool.
    Label(u8),
    /// Somebody stops or starts the pool.
    Power(PowerState),
    /// Somebody wants a certain node gone.
    Name(usize),
    /// Somebody cancels what is going on.
    Cancel,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => proptest::option::weighted(0.3, 0..4_usize).prop_map(|killed_after| Event::Round { killed_after }),
        6 => (0..8_usize).prop_map(Event::Finish),
        1 => (0..8_usize).prop_map(Event::Fail),
        1 => (0..8_usize).prop_map(Event::Shrink),
        1 => (0..8_usize).prop_map(Event::NotReady),
        1 => (0..8_usize).prop_map(Event::Vanish),
        2 => (0..7_u32).prop_map(Event::Scale),
        1 => (0..3_u8).prop_map(Event::Label),
        1 => prop_oneof![Just(PowerState::Running), Just(PowerState::Stopped)].prop_map(Event::Power),
        1 => (0..8_usize).prop_map(Event::Name),
        1 => Just(Event::Cancel),
    ]
}

/// How many nodes there are to be.
fn wanted(pool: &NodePool) -> usize {
    match pool.spec.power {
        PowerState::Running => pool.spec.count as usize,
        PowerState::Stopped => 0,
    }
}

/// One round: what is decided is checked, then done.
fn round(pool: &mut NodePool, world: &mut World, killed_after: Option<usize>) {
    let before = world.observe();
    let decision = reconcile(pool, &before, &Supply::Made);
    if decision.rollout != pool.rollout || decision.leaving != pool.leaving {
        // It is kept before anything is done, and the next round does it.
        pool.rollout = decision.rollout;
        pool.leaving = decision.leaving;
        return;
    }
    let wanted = wanted(pool);
    if pool.provisioning_state == ProvisioningState::Canceled {
        assert!(decision.actions.is_empty());
        assert_eq!(decision.state, ProvisioningState::Canceled);
    }

    if decision.state == ProvisioningState::Succeeded {
        assert!(decision.actions.is_empty());
        assert_eq!(before.len(), wanted);
        for node in &before {
            let gpus: BTreeMap<_, _> = node
                .allocatable
                .iter()
                .filter(|(name, _)| name.starts_with("nvidia.com/"))
                .map(|(name, count)| (name.clone(), *count))
                .collect();
            assert!(node.ready);
            assert_eq!(gpus, expected_allocatable(&node.spec).unwrap());
        }
    }
    let deleted: BTreeSet<&NodeName> = decision
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::DeleteNode(name) => Some(name),
            _ => None,
        })
        // Those that somebody named go whatever their ordinal.
        .filter(|name| !pool.leaving.contains(*name))
        .collect();
    let stays = before
        .iter()
        .filter(|n| n.phase != NodePhase::Deleting && !deleted.contains(&n.spec.name))
        .filter(|n| !pool.leaving.contains(&n.spec.name));
    if let (Some(highest), Some(lowest)) = (
        stays.map(|n| n.spec.name.ordinal()).max(),
        deleted.iter().map(|n| n.ordinal()).min(),
    ) {
        assert!(highest < lowest, "scaling down takes the highest ordinals");
    }
    let count = decision.actions.len();
    for action in decision
        .actions
        .into_iter()
        .take(killed_after.unwrap_or(count))
    {
        let created = matches!(action, Action::CreateNode(_));
        world.apply(action);
        assert!(
            !created || world.nodes.len() <= wanted,
            "more nodes than wanted were made"
        );
    }
    if killed_after.is_none() {
        pool.provisioning_state = decision.state;
        pool.message = decision.message;
        pool.seen = decision.seen;
    }
}

fn happen(event: &Event, pool: &mut NodePool, world: &mut World) {
    match *event {
        Event::Round { killed_after } => round(pool, world, killed_after),
        Event::Finish(n) => {
            let done = world.nth(n).map(|node| {
                let gone = node.phase == NodePhase::Deleting;
                if !gone {
                    finish(node);
                }
                (node.spec.name.clone(), gone)
            });
            if let Some((name, true)) = done {
                world.nodes.remove(&name);
            }
        }
        Event::Fail(n) => {
            if let Some(node) = world
                .nth(n)
                .filter(|node| node.phase != NodePhase::Deleting)
            {
                node.phase = NodePhase::Failed;
                node.ready = false;
                node.message = "GPU 3 fell off the bus".into();
            }
        }
        Event::Shrink(n) => {
            if let Some(count) = world
                .nth(n)
                .and_then(|node| node.allocatable.get_mut("nvidia.com/gpu"))
            {
                *count = count.saturating_sub(1);
            }
        }
        Event::NotReady(n) => {
            if let Some(node) = world.nth(n) {
                node.ready = false;
            }
        }
        Event::Vanish(n) => {
            let name = world.nth(n).map(|node| node.spec.name.clone());
            if let Some(name) = name {
                world.nodes.remove(&name);
            }
        }
        Event::Scale(count) => {
            pool.spec.count = count;
            pool.provisioning_state = ProvisioningState::Scaling;
        }
        Event::Label(n) => {
            pool.spec
                .node_labels
                .insert("generation".into(), n.to_string());
        }
        Event::Power(power) => {
            pool.spec.power = power;
            pool.provisioning_state = match power {
                PowerState::Running => ProvisioningState::Starting,
                PowerState::Stopped => ProvisioningState::Stopping,
            };
        }
        Event::Name(n) => {
            let name = world.nth(n).map(|node| node.spec.name.clone());
            if let Some(name) = name
                && pool.leaving.insert(name)
            {
                pool.spec.count = pool.spec.count.saturating_sub(1);
                pool.provisioning_state = ProvisioningState::Scaling;
            }
        }
        Event::Cancel => {
            pool.provisioning_state = ProvisioningState::Canceled;
            pool.seen.power = pool.spec.power;
        }
    }
}

/// Nothing bad happens any more, and what was canceled is asked for again.
fn settle(pool: &mut NodePool, world: &mut World) {
    if pool.provisioning_state == ProvisioningState::Canceled {
        pool.provisioning_state = ProvisioningState::Updating;
    }
    for _ in 0..8 {
        round(pool, world, None);
        world
            .nodes
            .retain(|_, node| node.phase != NodePhase::Deleting);
        world.nodes.values_mut().for_each(finish);
    }
    round(pool, world, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn every_history_converges(count in 0..5_u32, events in prop::collection::vec(event(), 0..60)) {
        let mut pool = pool_of(count);
        let mut world = World::default();
        for event in events {
            happen(&event, &mut pool, &mut world);
        }
        settle(&mut pool, &mut world);
        prop_assert_eq!(pool.provisioning_state, ProvisioningState::Succeeded);
        prop_assert_eq!(world.live(), wanted(&pool));
        prop_assert_eq!(pool.seen.power, pool.spec.power);
        prop_assert!(pool.leaving.is_empty());
        for node in world.nodes.values() {
            prop_assert_eq!(node.spec.labels.get("generation"), pool.spec.node_labels.get("generation"));
        }
        let quiet = reconcile(&pool, &world.observe(), &Supply::Made);
        prop_assert!(quiet.actions.is_empty());
    }

    #[test]
    fn every_history_ends_with_nothing_when_the_pool_is_deleted(
        events in prop::collection::vec(event(), 0..40),
    ) {
        let mut pool = pool_of(3);
        let mut world = World::default();
        for event in events {
            happen(&event, &mut pool, &mut world);
        }
        pool.provisioning_state = ProvisioningState::Deleting;
        for action in reconcile(&pool, &world.observe(), &Supply::Made).actions {
            world.apply(action);
        }
        prop_assert_eq!(world.live(), 0);
        prop_assert_eq!(reconcile(&pool, &world.observe(), &Supply::Made).gone, world.nodes.is_empty());
        prop_assert_eq!(reconcile::<ObservedNode>(&pool, &[], &Supply::Made).gone, true);
    }
}

fn names(world: &World) -> Vec<NodeName> {
    world.nodes.keys().cloned().collect()
}

fn succeeded(count: u32) -> (NodePool, World) {
    let mut pool = pool_of(count);
    let mut world = World::default();
    settle(&mut pool, &mut world);
    assert_eq!(pool.provisioning_state, ProvisioningState::Succeeded);
    (pool, world)
}

#[test]
fn a_stopped_pool_has_no_node_and_gets_as_many_back_when_it_is_started() {
    let (mut pool, mut world) = succeeded(3);
    let before = names(&world);
    happen(&Event::Power(PowerState::Stopped), &mut pool, &mut world);
    round(&mut pool, &mut world, None);
    assert_eq!(pool.provisioning_state, ProvisioningState::Stopping);
    settle(&mut pool, &mut world);
    assert_eq!((world.nodes.len(), pool.spec.count), (0, 3));
    assert_eq!(pool.provisioning_state, ProvisioningState::Succeeded);
    assert_eq!(pool.seen.reason, pool::Reason::Stopped);

    happen(&Event::Power(PowerState::Running), &mut pool, &mut world);
    round(&mut pool, &mut world, None);
    assert_eq!(pool.provisioning_state, ProvisioningState::Starting);
    settle(&mut pool, &mut world);
    assert_eq!(names(&world), before);
}

#[test]
fn a_pool_within_a_stopped_cluster_stops_and_starts_with_it_save_when_it_was_stopped_itself() {
    let (mut pool, mut world) = succeeded(2);
    let look = |pool: &mut NodePool, world: &mut World, cluster| {
        let own = pool.spec.power;
        *pool = pool.within(cluster);
        settle(pool, world);
        pool.spec.power = own;
    };
    look(&mut pool, &mut world, PowerState::Stopped);
    assert_eq!(world.live(), 0);
    look(&mut pool, &mut world, PowerState::Running);
    assert_eq!(world.live(), 2);

    pool.spec.power = PowerState::Stopped;
    look(&mut pool, &mut world, PowerState::Stopped);
    look(&mut pool, &mut world, PowerState::Running);
    assert_eq!(world.live(), 0);
}

#[test]
fn a_node_that_was_named_goes_and_the_others_stay() {
    let (mut pool, mut world) = succeeded(3);
    let before = names(&world);
    happen(&Event::Name(1), &mut pool, &mut world);
    settle(&mut pool, &mut world);
    assert_eq!(names(&world), [before[0].clone(), before[2].clone()]);
    // Its name is free again.
    happen(&Event::Scale(3), &mut pool, &mut world);
    settle(&mut pool, &mut world);
    assert_eq!(names(&world), before);
}

#[test]
fn a_canceled_pool_stays_as_it_is_until_its_cluster_is_stopped_or_something_is_asked() {
    let (mut pool, mut world) = succeeded(1);
    happen(&Event::Scale(4), &mut pool, &mut world);
    round(&mut pool, &mut world, Some(1));
    happen(&Event::Cancel, &mut pool, &mut world);
    for _ in 0..3 {
        round(&mut pool, &mut world, None);
        world.nodes.values_mut().for_each(finish);
    }
    assert_eq!(world.live(), 2);
    assert_eq!(pool.provisioning_state, ProvisioningState::Canceled);

    let stopped = reconcile(
        &pool.within(PowerState::Stopped),
        &world.observe(),
        &Supply::Made,
    );
    assert_eq!(stopped.state, ProvisioningState::Stopping);
    assert_eq!(stopped.actions.len(), 2);
}

#[test]
fn a_failed_node_gives_the_pool_its_reason() {
    let mut pool = pool_of(2);
    let mut world = World::default();
    round(&mut pool, &mut world, None);
    world.nodes.values_mut().for_each(finish);
    happen(&Event::Fail(1), &mut pool, &mut world);
    round(&mut pool, &mut world, None);
    assert_eq!(pool.provisioning_state, ProvisioningState::Failed);
    assert!(
        pool.message.contains("vmss000001: GPU 3 fell off the bus"),
        "{}",
        pool.message
    );
}

#[test]
fn a_node_that_advertises_too_little_is_named_with_the_difference() {
    let mut pool = pool_of(1);
    let mut world = World::default();
    round(&mut pool, &mut world, None);
    world.nodes.values_mut().for_each(finish);
    happen(&Event::Shrink(0), &mut pool, &mut world);
    round(&mut pool, &mut world, None);
    assert_eq!(pool.provisioning_state, ProvisioningState::Creating);
    assert!(
        pool.message.contains("nvidia.com/gpu is 55 instead of 56"),
        "{}",
        pool.message
    );
}

#[test]
fn nodes_have_the_names_and_labels_of_aks_and_reuse_the_lowest_ordinal() {
    let mut pool = pool_of(3);
    let mut world = World::default();
    round(&mut pool, &mut world, None);
    let names: Vec<String> = world.nodes.keys().map(ToString::to_string).collect();
    let prefix = names[0].strip_suffix("vmss000000").unwrap();
    let digits = prefix
        .strip_prefix("aks-mignode-")
        .unwrap()
        .strip_suffix('-')
        .unwrap();
    assert!(
        digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit()),
        "{prefix}"
    );
    assert_eq!(names[2], format!("{prefix}vmss000002"));

    let node = world.nodes.values().next().unwrap();
    assert_eq!(node.spec.labels["agentpool"], "mignode");
    assert_eq!(
        node.spec.labels["kubernetes.azure.com/agentpool"],
        "mignode"
    );
    assert_eq!(
        node.spec.labels["node.kubernetes.io/instance-type"],
        "Standard_ND96asr_v4"
    );

    world.nodes.remove(&names[1].parse().unwrap());
    round(&mut pool, &mut world, None);
    assert_eq!(
        world
            .nodes
            .keys()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        names
    );
}

#[test]
fn ordinals_are_base_36() {
    let name = NodeName::of(&key("mignode"), 36 * 36 + 35);
    assert!(name.as_str().ends_with("-vmss00010z"));
    assert_eq!(name.ordinal(), Some(36 * 36 + 35));
    assert_eq!(
        "somebody-elses".parse::<NodeName>().unwrap().ordinal(),
        None
    );
}

#[test]
fn nodes_of_other_pools_are_left_alone() {
    let mut other = pool_of(1);
    other.key = key("other");
    let mut world = World::default();
    round(&mut other, &mut world, None);
    let pool = pool_of(0);
    let decision = reconcile(&pool, &world.observe(), &Supply::Made);
    assert!(decision.actions.is_empty());
    assert_eq!(decision.state, ProvisioningState::Succeeded);
}
