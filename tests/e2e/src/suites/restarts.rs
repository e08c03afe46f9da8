//! Whatever is killed or restarted, no slice is given twice, and none is lost.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
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
    Test {
        name: "slices_that_the_kubelet_has_lost_track_of_are_counted_no_more",
        run: lost_track,
    },
];

const RESOURCE: &str = "nvidia.com/gpu";
const COUNT: u32 = 56;

/// The GPU that gets lost while the API server is away.
const LOST: usize = 7;

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
    /// just starting is replaced by its replica set, as in any cluster. Only those whose start was broken off are waited
    /// for: what is left of their first try costs a kubelet that starts six seconds each.
    fn churn(&mut self) -> Outcome {
        let pods = self.world.pods(&["--selector", CHURN])?;
        let (broken, mut whole): (Vec<_>, Vec<_>) = pods
            .into_iter()
            .map(|pod| (pod.restarts > 0 || pod.deleting, pod.name))
            .partition(|(broken, _)| *broken);
        self.random.shuffle(&mut whole);
        whole.truncate(self.random.usize(1..3));
        for (pods, wait) in [(broken, "--wait=true"), (whole, "--wait=false")] {
            if !pods.is_empty() {
                let mut arguments = vec!["delete", "pods", "--grace-period=1", wait];
                arguments.extend(["--ignore-not-found", "--timeout=180s"]);
                arguments.extend(pods.iter().map(|(_, name)| name.as_str()));
                self.world.kubectl(&arguments)?;
            }
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
    fn none_lost(&self, count: u32) -> Outcome {
        self.scale(0, 0)?;
        self.world.kubectl(&[
            "delete",
            "pods",
            "--selector",
            CHURN,
            "--grace-period=1",
            "--timeout=180s",
        ])?;
        checks::all_can_be_had(self.world, self.node, RESOURCE, count)?;
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
    stage.none_lost(COUNT)
}

fn plugin(world: &World) -> Outcome {
    let mut stage = Stage::set(world, "plugin")?;
    for round in 0..2 {
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
    stage.none_lost(COUNT)
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
    stage.none_lost(COUNT)
}

fn api_server(world: &World) -> Outcome {
    let stage = Stage::set(world, "api_server")?;
    stage.settled(5, 3)?;
    let held = stage.node.held()?;
    let agent = stage.agent()?;
    let gpus = stage.node.gpus()?;
    let lost = gpus.get(LOST).context("no such GPU")?;
    let on_lost: BTreeSet<_> = stage
        .node
        .slices()?
        .into_iter()
        .filter(|slice| slice.gpu == *lost)
        .map(|slice| slice.uuid)
        .collect();
    let witness = held
        .iter()
        .filter(|((_, pod), devices)| {
            pod.starts_with("ones") && devices.iter().all(|device| !on_lost.contains(device))
        })
        .map(|((_, pod), _)| pod.clone())
        .next()
        .with_context(|| format!("no pod of one slice holds one elsewhere: {held:?}"))?;

    let stopped = Stopped::stop(world)?;
    let away = std::time::Instant::now();
    // Meanwhile something happens on the node that the cluster has to hear of.
    stage.node.inject(&["lost", "--gpu", &LOST.to_string()])?;
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
    comes_to_show(world, RESOURCE, "49")?;
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
    stage.no_slice_twice()?;
    checks::sees_what_it_holds(world, stage.node, &witness, 1)?;
    stage.settled(7, 2)?;
    stage.no_slice_twice()?;
    stage.none_lost(COUNT - 7)
}

/// A kubelet forgets a plugin five minutes after it went, and tells the API server so in one update of the node. When that
/// one fails, the node has the plugin's slices for ever. What is left then is a number in the node's capacity that the
/// kubelet leaves alone; here it is put there by hand, so as not to wait for the five minutes.
fn lost_track(world: &World) -> Outcome {
    // Of a board that no node here has: of what a plugin had registered lately, the kubelet says itself for minutes that there is
    // none, also one that was started anew, and that would be written over what is written here.
    const LEFT: &str = "nvidia.com/mig-2g.12gb";
    let stage = Stage::set(world, "lost_track")?;
    world.kubectl(&[
        "patch",
        "node",
        MIGNODE,
        "--subresource=status",
        "--patch",
        &json!({"status": {"capacity": {LEFT: "4"}}}).to_string(),
    ])?;
    comes_to_show(world, LEFT, "4")?;
    world.kubectl(&["delete", "pod", &stage.agent()?.name, "--wait=true"])?;
    checks::allocatable(world, stage.node, LEFT, 0, LATER)?;
    checks::allocatable(world, stage.node, RESOURCE, COUNT, LATER)?;
    stage.no_slice_twice()
}

/// The node comes to show so many of a resource that can be given, whatever its kubelet says.
fn comes_to_show(world: &World, resource: &str, amount: &str) -> Outcome {
    until(&format!("{amount} of {resource}"), LATER, || {
        let node = world.get(&["node", MIGNODE])?;
        let shown = node["status"]["allocatable"][resource].as_str();
        ensure!(shown == Some(amount), "allocatable {shown:?}");
        Ok(())
    })
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
