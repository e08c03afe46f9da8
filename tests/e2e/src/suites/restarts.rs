//! Whatever is killed or restarted, no slice is given twice, and none is lost.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use fastrand::Rng;
use serde_json::json;

use crate::charts;
use crate::checks;
use crate::nodes::Node;
use crate::pods::{Pod, PodSpec};
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, SOON, until};
use crate::world::{CPUNODE, MIGNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "twenty_kubelet_restarts_while_pods_come_and_go",
        run: kubelet,
    },
    Test {
        name: "the_plugin_is_killed_while_pods_start",
        run: plugin,
    },
    Test {
        name: "containerd_is_restarted_while_pods_start",
        run: containerd,
    },
    Test {
        name: "the_api_server_is_away_for_half_a_minute",
        run: api_server,
    },
];

const RESOURCE: &str = "nvidia.com/gpu";
const COUNT: u32 = 56;

/// The pods that come and go, by their label.
const CHURN: &str = "app=churn";

/// A node with 56 slices, its agent, and pods of one and of two slices that come and go.
struct Stage<'w> {
    world: &'w World,
    node: Node<'w>,
    random: Rng,
    work: checks::CpuWork<'w>,
}

impl<'w> Stage<'w> {
    fn set(world: &'w World, test: &str) -> anyhow::Result<Self> {
        let node = world.node(MIGNODE);
        charts::install(
            world,
            "migpool",
            "migpool",
            &[
                "gpuInstanceProfile=MIG1g",
                "migStrategy=single",
                &charts::only_on(MIGNODE),
            ],
        )?;
        checks::allocatable(world, node, RESOURCE, COUNT, LATER)?;
        let work = checks::CpuWork::start(world, &[MIGNODE, CPUNODE])?;
        Ok(Self {
            world,
            node,
            random: world.random(test),
            work,
        })
    }

    /// The agent's pod.
    fn agent(&self) -> anyhow::Result<Pod> {
        self.world.release_pod("migpool", MIGNODE)
    }

    /// Lets some pods go and others come, and does not wait for either. A pod that the kubelet refuses because it was
    /// just starting is replaced by its replica set, as in any cluster. Those whose start was broken off go first: what
    /// is left of their first try keeps a kubelet that starts waiting for many seconds.
    fn churn(&mut self) -> Outcome {
        let mut pods = self.world.pods(&["--selector", CHURN])?;
        self.random.shuffle(&mut pods);
        let healthy = self.random.usize(1..3);
        let (broken, whole): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| pod.restarts > 0);
        let gone: Vec<_> = broken
            .into_iter()
            .chain(whole.into_iter().take(healthy))
            .map(|pod| pod.name.clone())
            .collect();
        if !gone.is_empty() {
            let mut arguments = vec!["delete", "pods", "--wait=false", "--grace-period=1"];
            arguments.extend(gone.iter().map(String::as_str));
            self.world.kubectl(&arguments)?;
        }
        let (ones, twos) = (self.random.u32(4..7), self.random.u32(2..4));
        self.scale(ones, twos)
    }

    fn scale(&self, ones: u32, twos: u32) -> Outcome {
        let set = |name: &str, slices: u32, count: u32| {
            let mut set = PodSpec::with_slices(name, RESOURCE, slices)
                .labelled("churn", "yes")
                .replicas(count);
            set["spec"]["selector"]["matchLabels"] = json!({"app": "churn", "slices": name});
            set["spec"]["template"]["metadata"]["labels"] = json!({"app": "churn", "slices": name});
            set
        };
        self.world
            .apply(&[set("ones", 1, ones), set("twos", 2, twos)])
    }

    /// Waits a moment of random length, so that what is killed is killed in the midst of something.
    fn moment(&mut self) {
        thread::sleep(Duration::from_millis(self.random.u64(0..1200)));
    }

    /// Pods that ended are not in the way of counting, and each that runs has its own slices.
    fn no_slice_twice(&self) -> Outcome {
        checks::each_sees_its_own(self.world, self.node, CHURN)?;
        // The kubelet's own word too, of all pods of the node, those that are just starting among them.
        let mut held = BTreeSet::new();
        for holding in self.node.holdings()? {
            for device in holding.devices {
                ensure!(
                    held.insert(device.clone()),
                    "the kubelet says that {device} is held twice; once by {}/{}",
                    holding.namespace,
                    holding.pod
                );
            }
        }
        Ok(())
    }

    /// All pods go, and then one that asks for every slice gets every slice.
    fn none_lost(&self) -> Outcome {
        self.scale(0, 0)?;
        self.world.kubectl(&[
            "delete",
            "pods",
            "--selector",
            CHURN,
            "--grace-period=1",
            "--timeout=180s",
        ])?;
        checks::all_can_be_had(self.world, self.node, RESOURCE, COUNT)?;
        self.work.went_on()
    }

    /// The replica sets' pods run, as many as were asked for.
    fn settled(&self, ones: u32, twos: u32) -> Outcome {
        self.scale(ones, twos)?;
        self.world
            .all_running(CHURN, (ones + twos) as usize, LATER)?;
        Ok(())
    }
}

fn kubelet(world: &World) -> Outcome {
    let mut stage = Stage::set(world, "kubelet")?;
    let before = stage.agent()?;
    for round in 0..20 {
        stage.churn()?;
        stage.moment();
        // Now as an upgrade does it, now as a crash does.
        let by_force = stage.random.bool();
        world.log(&format!(
            "---- kubelet restart {round}, by force: {by_force}"
        ));
        stage.node.restart_kubelet(by_force)?;
        checks::allocatable(world, stage.node, RESOURCE, COUNT, SOON)?;
        stage.no_slice_twice()?;
    }
    let after = stage.agent()?;
    ensure!(
        (&before.uid, before.restarts, &before.containers)
            == (&after.uid, after.restarts, &after.containers),
        "the plugin was restarted: it was {}, and is {}",
        before.line(),
        after.line()
    );
    stage.settled(5, 3)?;
    stage.no_slice_twice()?;
    stage.none_lost()
}

fn plugin(world: &World) -> Outcome {
    let mut stage = Stage::set(world, "plugin")?;
    for round in 0..3 {
        let before = stage.agent()?;
        stage.churn()?;
        stage.moment();
        world.log(&format!("---- kill {round} of the plugin"));
        stage.node.kill(&before.uid, "migpool")?;
        until("the plugin to run again", LATER, || {
            let now = stage.agent()?;
            ensure!(
                now.runs() && now.restarts > before.restarts,
                "{}",
                now.line()
            );
            Ok(())
        })?;
        checks::allocatable(world, stage.node, RESOURCE, COUNT, SOON)?;
        stage.no_slice_twice()?;
    }
    stage.settled(5, 3)?;
    stage.no_slice_twice()?;
    stage.none_lost()
}

fn containerd(world: &World) -> Outcome {
    let mut stage = Stage::set(world, "containerd")?;
    stage.settled(4, 2)?;
    let before = stage.agent()?;
    for round in 0..3 {
        stage.churn()?;
        stage.moment();
        world.log(&format!("---- containerd restart {round}"));
        stage.node.restart_containerd()?;
        checks::allocatable(world, stage.node, RESOURCE, COUNT, SOON)?;
        stage.no_slice_twice()?;
    }
    let after = stage.agent()?;
    ensure!(
        (&before.uid, before.restarts) == (&after.uid, after.restarts),
        "the plugin was restarted: it was {}, and is {}",
        before.line(),
        after.line()
    );
    stage.settled(5, 3)?;
    stage.no_slice_twice()?;
    stage.none_lost()
}

fn api_server(world: &World) -> Outcome {
    let stage = Stage::set(world, "api_server")?;
    stage.settled(5, 3)?;
    let held = stage.node.held()?;
    let agent = stage.agent()?;
    let witness = held
        .keys()
        .map(|(_, pod)| pod.clone())
        .find(|pod| pod.starts_with("ones"))
        .ok_or_else(|| anyhow::anyhow!("no pod of one slice holds anything: {held:?}"))?;

    let stopped = Stopped::stop(world)?;
    let away = std::time::Instant::now();
    // Meanwhile something happens on the node that the cluster has to hear of.
    stage.node.inject(&["lost", "--gpu", "7"])?;
    // Half a minute without an API server is what is tried here, not something that is waited for.
    while away.elapsed() < Duration::from_secs(30) {
        let now = stage.node.held()?;
        ensure!(
            now == held,
            "without an API server the node's slices changed hands: {held:?}, then {now:?}"
        );
        thread::sleep(Duration::from_secs(1));
    }
    drop(stopped);
    world.cluster().wait_for_api_server()?;

    // It catches up: the lost GPU's slices are out, the pods are the same, and new ones run.
    until("49 slices that can be given", LATER, || {
        let node = world.get(&["node", MIGNODE])?;
        let amount = node["status"]["allocatable"][RESOURCE].as_str();
        ensure!(amount == Some("49"), "allocatable {amount:?}");
        Ok(())
    })?;
    let now = stage.node.held()?;
    ensure!(
        now == held,
        "the node's slices changed hands: {held:?}, then {now:?}"
    );
    let after = stage.agent()?;
    ensure!(
        (&agent.uid, agent.restarts) == (&after.uid, after.restarts),
        "the agent was restarted: it was {}, and is {}",
        agent.line(),
        after.line()
    );
    stage.node.inject(&["clear"])?;
    checks::allocatable(world, stage.node, RESOURCE, COUNT, LATER)?;
    stage.no_slice_twice()?;
    checks::sees_what_it_holds(world, stage.node, &witness, 1)?;
    stage.settled(7, 2)?;
    stage.no_slice_twice()?;
    stage.none_lost()
}

/// An API server that is stopped, for as long as this lives.
struct Stopped<'w>(&'w World);

impl<'w> Stopped<'w> {
    fn stop(world: &'w World) -> anyhow::Result<Self> {
        let stopped = Self(world);
        world.cluster().api_server().stop()?;
        Ok(stopped)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        // That it did not start is seen by whoever waits for it.
        let _ = self.0.cluster().api_server().start();
    }
}
