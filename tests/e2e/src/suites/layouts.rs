//! Another layout for a node in use: who is in its way is waited for, evicted or left alone as asked, and named.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::charts;
use crate::checks::{self, CpuWork};
use crate::nodes::Node;
use crate::pods::{Pod, PodSpec};
use crate::recording::Recording;
use crate::suite::{Outcome, Test};
use crate::told::{self, MIG_LAYOUT_READY};
use crate::wait::{LATER, SOON, until};
use crate::world::{CPUNODE, H100NODE, MIGNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "drain_wait_waits_for_pods_and_says_for_which",
        run: waits,
    },
    Test {
        name: "drain_evict_evicts_pods",
        run: evicts,
    },
    Test {
        name: "drain_never_refuses_and_says_who_is_in_the_way",
        run: refuses,
    },
    Test {
        name: "a_disruption_budget_is_respected_and_named",
        run: budget,
    },
    Test {
        name: "only_gpus_whose_slices_change_are_touched",
        run: smallest_change,
    },
    Test {
        name: "several_layouts_on_one_node_are_advertised_each_as_what_it_is",
        run: several,
    },
    Test {
        name: "a_reboot_of_an_a100_node_rebuilds_slices_before_any_is_advertised",
        run: |world| reboot(world, MIGNODE, 56),
    },
    Test {
        name: "a_reboot_of_an_h100_node_rebuilds_slices_before_any_is_advertised",
        run: |world| reboot(world, H100NODE, 14),
    },
    Test {
        name: "one_release_serves_nodes_of_every_kind",
        run: every_kind,
    },
];

const RESOURCE: &str = "nvidia.com/gpu";

/// An agent on a node, whose layout is to change without a restart.
struct Stage<'w> {
    world: &'w World,
    node: Node<'w>,
    drain: &'static str,
    agent: Pod,
    work: CpuWork<'w>,
}

impl<'w> Stage<'w> {
    /// A node with 56 slices.
    fn set(world: &'w World, drain: &'static str) -> anyhow::Result<Self> {
        told::forget_events(world)?;
        let node = world.node(MIGNODE);
        let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
        upgrade(world, "MIG1g", drain)?;
        checks::allocatable(world, node, RESOURCE, 56, LATER)?;
        told::comes_to_be(
            world,
            node,
            MIG_LAYOUT_READY,
            ("True", "LayoutReady"),
            &["MIG1g"],
        )?;
        let agent = world.release_pod("migpool", MIGNODE)?;
        Ok(Self {
            world,
            node,
            drain,
            agent,
            work,
        })
    }

    fn upgrade(&self, profile: &str) -> Outcome {
        upgrade(self.world, profile, self.drain)
    }

    /// A pod that holds a slice.
    fn holder(&self, name: &str) -> anyhow::Result<Pod> {
        let pod = PodSpec::with_slices(name, RESOURCE, 1);
        self.world.apply(&[pod.manifest()])?;
        self.world.running(name, LATER)
    }

    /// A pod was left alone: the same containers run, and see the same slice.
    fn undisturbed(&self, before: &Pod) -> Outcome {
        let now = self.world.pod(&before.name)?;
        ensure!(
            now.runs() && now.uid == before.uid && now.containers == before.containers,
            "the pod was {}, and is {}",
            before.line(),
            now.line()
        );
        checks::sees_what_it_holds(self.world, self.node, &before.name, 1)?;
        Ok(())
    }

    /// The agent says that it is not done, for as long as it is not.
    fn is_not_ready(&self, words: &[&str]) -> Outcome {
        until("the agent's pod not to be ready", LATER, || {
            let agent = self.world.release_pod("migpool", MIGNODE)?;
            let (ready, said) = told::readyz(self.world, &agent)?;
            ensure!(
                !ready && !agent.ready && words.iter().all(|word| said.contains(word)),
                "/readyz says {ready}: {said}; {}",
                agent.line()
            );
            Ok(())
        })
    }

    /// The node has the sixteen slices of `MIG3g`, all of them can be had, and the agent was never restarted.
    fn arrived(self) -> Outcome {
        let Self { world, node, .. } = self;
        checks::allocatable(world, node, RESOURCE, 16, LATER)?;
        checks::described(world, node, RESOURCE, 16)?;
        told::comes_to_be(
            world,
            node,
            MIG_LAYOUT_READY,
            ("True", "LayoutReady"),
            &["MIG3g"],
        )?;
        told::is_told(world, node, ("Normal", "Partitioned"), &["MIG3g"])?;
        told::comes_to_be_tainted(world, node, false)?;
        until("the labels of the new slices", LATER, || {
            let labels = world.labels(MIGNODE)?;
            let product = labels.get("nvidia.com/gpu.product");
            ensure!(
                product.is_some_and(|product| product.ends_with("-MIG-3g.20gb"))
                    && labels
                        .get("nvidia.com/gpu.count")
                        .is_some_and(|count| count == "16"),
                "{labels:?}"
            );
            Ok(())
        })?;
        until("the agent's pod to be ready", LATER, || {
            let now = world.release_pod("migpool", MIGNODE)?;
            ensure!(
                (&now.uid, now.restarts, &now.containers)
                    == (&self.agent.uid, self.agent.restarts, &self.agent.containers),
                "the agent was restarted: it was {}, and is {}",
                self.agent.line(),
                now.line()
            );
            ensure!(now.runs(), "{}", now.line());
            Ok(())
        })?;
        world.kubectl(&["delete", "replicasets", "--all", "--timeout=120s"])?;
        until("nobody to hold a slice", LATER, || {
            let held = node.held()?;
            ensure!(held.is_empty(), "{held:?}");
            Ok(())
        })?;
        checks::all_can_be_had(world, node, RESOURCE, 16)?;
        self.work.went_on()
    }
}

fn upgrade(world: &World, profile: &str, drain: &str) -> Outcome {
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            &format!("gpuInstanceProfile={profile}"),
            "migStrategy=single",
            &format!("drain={drain}"),
            &charts::only_on(MIGNODE),
        ],
    )
}

fn waits(world: &World) -> Outcome {
    let stage = Stage::set(world, "wait")?;
    let holder = stage.holder("holder")?;
    stage.upgrade("MIG3g")?;
    let who = ["MIG3g", "default/holder", "GPU"];
    told::comes_to_be(
        world,
        stage.node,
        MIG_LAYOUT_READY,
        ("False", "Draining"),
        &who,
    )?;
    told::is_told(world, stage.node, ("Normal", "Draining"), &who)?;
    told::comes_to_be_tainted(world, stage.node, true)?;
    stage.is_not_ready(&who)?;
    // Nobody new gets a slice that is about to go; who asks waits, and has it from the new layout.
    checks::nothing_allocatable(world, stage.node, RESOURCE, LATER)?;
    world.apply(&[PodSpec::with_slices("late", RESOURCE, 1).manifest()])?;
    until("a pod to be told that it has to wait", SOON, || {
        let late = world.pod("late")?;
        ensure!(
            late.phase == "Pending" && late.node.is_none() && !late.reason.is_empty(),
            "{}",
            late.line()
        );
        Ok(())
    })?;
    stage.undisturbed(&holder)?;
    world.delete_pods(&["holder"])?;
    checks::allocatable(world, stage.node, RESOURCE, 16, LATER)?;
    world.running("late", LATER)?;
    checks::sees_what_it_holds(world, stage.node, "late", 1)?;
    world.delete_pods(&["late"])?;
    stage.arrived()
}

fn evicts(world: &World) -> Outcome {
    let stage = Stage::set(world, "evict")?;
    let single = stage.holder("single")?;
    world.apply(&[PodSpec::with_slices("set", RESOURCE, 1).replicas(3)])?;
    let before: BTreeSet<_> = world
        .all_running("app=set", 3, LATER)?
        .into_iter()
        .map(|pod| pod.uid)
        .collect();
    stage.upgrade("MIG3g")?;
    let who = ["default/single"];
    told::is_told(world, stage.node, ("Normal", "PodEvicted"), &who)?;
    until("the evicted pods to be replaced", LATER, || {
        let now = world.all_running("app=set", 3, SOON)?;
        ensure!(
            now.iter().all(|pod| !before.contains(&pod.uid)),
            "{}",
            now.iter().map(Pod::line).collect::<Vec<_>>().join(" | ")
        );
        Ok(())
    })?;
    checks::each_sees_its_own(world, stage.node, "app=set")?;
    until("the pod that was evicted to be gone", LATER, || {
        let said = world.try_kubectl(&["get", "pod", &single.name])?;
        ensure!(
            !said.ok && said.stderr.contains("NotFound"),
            "it is there: {}",
            said.stdout
        );
        Ok(())
    })?;
    stage.arrived()
}

fn refuses(world: &World) -> Outcome {
    let stage = Stage::set(world, "never")?;
    let holder = stage.holder("holder")?;
    stage.upgrade("MIG3g")?;
    let who = ["MIG3g", "refused", "default/holder", "GPU"];
    told::comes_to_be(
        world,
        stage.node,
        MIG_LAYOUT_READY,
        ("False", "LayoutRefused"),
        &who,
    )?;
    told::is_told(world, stage.node, ("Warning", "LayoutRefused"), &who)?;
    stage.is_not_ready(&who)?;
    // All is as it was.
    told::comes_to_be_tainted(world, stage.node, false)?;
    checks::allocatable(world, stage.node, RESOURCE, 56, LATER)?;
    stage.undisturbed(&holder)?;
    let other = stage.holder("other")?;
    stage.undisturbed(&other)?;
    // Who asks for what is there is content with it.
    stage.upgrade("MIG1g")?;
    told::comes_to_be(
        world,
        stage.node,
        MIG_LAYOUT_READY,
        ("True", "LayoutReady"),
        &["MIG1g"],
    )?;
    stage.undisturbed(&holder)?;
    stage.upgrade("MIG3g")?;
    told::comes_to_be(
        world,
        stage.node,
        MIG_LAYOUT_READY,
        ("False", "LayoutRefused"),
        &who,
    )?;
    world.delete_pods(&["holder", "other"])?;
    stage.arrived()
}

fn budget(world: &World) -> Outcome {
    let stage = Stage::set(world, "evict")?;
    world.apply(&[
        PodSpec::with_slices("guarded", RESOURCE, 1).replicas(2),
        json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": "guard"},
            "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "guarded"}}},
        }),
    ])?;
    let guarded = world.all_running("app=guarded", 2, LATER)?;
    until("the budget to know its pods", LATER, || {
        let budget = world.get(&["poddisruptionbudget", "guard"])?;
        ensure!(
            budget["status"]["currentHealthy"] == 2,
            "{}",
            budget["status"]
        );
        Ok(())
    })?;
    stage.upgrade("MIG3g")?;
    let who = ["PodDisruptionBudget default/guard", "default/guarded"];
    told::comes_to_be(
        world,
        stage.node,
        MIG_LAYOUT_READY,
        ("False", "Draining"),
        &who,
    )?;
    told::is_told(world, stage.node, ("Warning", "EvictionBlocked"), &who)?;
    stage.is_not_ready(&who)?;
    for pod in &guarded {
        stage.undisturbed(pod)?;
    }
    world.kubectl(&["delete", "poddisruptionbudget", "guard"])?;
    checks::allocatable(world, stage.node, RESOURCE, 16, LATER)?;
    stage.arrived()
}

fn smallest_change(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    let install = |layout: &str| {
        charts::install(
            world,
            "migpool",
            "migpool",
            &[
                &format!("layout={}", escaped(layout)),
                "migStrategy=mixed",
                "drain=never",
                &charts::only_on(MIGNODE),
            ],
        )
    };
    let (ones, threes) = ("nvidia.com/mig-1g.5gb", "nvidia.com/mig-3g.20gb");
    install("0-3=MIG1g;4-7=MIG3g")?;
    checks::allocatable(world, node, ones, 28, LATER)?;
    checks::allocatable(world, node, threes, 8, LATER)?;
    world.apply(&[PodSpec::with_slices("holder", threes, 8).manifest()])?;
    world.running("holder", LATER)?;
    let before = checks::sees_what_it_holds(world, node, "holder", 8)?;
    // Nobody who is in use is in the way, so not even `never` refuses.
    install("0-1=MIG1g;2-3=MIG2g;4-7=MIG3g")?;
    checks::allocatable(world, node, ones, 14, LATER)?;
    checks::allocatable(world, node, "nvidia.com/mig-2g.10gb", 6, LATER)?;
    checks::allocatable(world, node, threes, 8, LATER)?;
    let after = checks::sees_what_it_holds(world, node, "holder", 8)?;
    ensure!(before == after, "the pod had {before:?}, and has {after:?}");
    Ok(())
}

/// A value as `helm --set` takes it.
fn escaped(value: &str) -> String {
    value.replace(',', "\\,")
}

fn several(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    let layout = "0-3=3g.20gb,2g.10gb,1g.5gb*2;4-7=off";
    let install = |strategy: &str| {
        charts::install(
            world,
            "migpool",
            "migpool",
            &[
                &format!("layout={}", escaped(layout)),
                &format!("migStrategy={strategy}"),
                &charts::only_on(MIGNODE),
            ],
        )
    };
    install("mixed")?;
    let wanted = [
        ("nvidia.com/mig-3g.20gb", 4),
        ("nvidia.com/mig-2g.10gb", 4),
        ("nvidia.com/mig-1g.5gb", 8),
        (RESOURCE, 4),
    ];
    for (resource, count) in wanted {
        checks::allocatable(world, node, resource, count, LATER)?;
        checks::described(world, node, resource, count)?;
    }
    // Nothing else is advertised.
    let object = world.get(&["node", MIGNODE])?;
    let advertised: BTreeMap<&str, &str> = object["status"]["allocatable"]
        .as_object()
        .context("a node without allocatable")?
        .iter()
        .filter(|(name, amount)| name.starts_with("nvidia.com/") && **amount != "0")
        .filter_map(|(name, amount)| Some((name.as_str(), amount.as_str()?)))
        .collect();
    ensure!(
        advertised.len() == wanted.len(),
        "advertised is {advertised:?}"
    );
    let pods: Vec<Value> = wanted
        .iter()
        .enumerate()
        .filter(|(_, (resource, _))| *resource != RESOURCE)
        .map(|(number, (resource, _))| {
            PodSpec::with_slices(&format!("size-{number}"), resource, 1).manifest()
        })
        .collect();
    world.apply(&pods)?;
    for number in 0..pods.len() {
        let name = format!("size-{number}");
        world.running(&name, LATER)?;
        checks::sees_what_it_holds(world, node, &name, 1)?;
    }
    world.apply(&[PodSpec::with_slices("whole", RESOURCE, 1).manifest()])?;
    world.running("whole", LATER)?;
    let held = node.held()?;
    let held = held.get(&("default".to_owned(), "whole".to_owned()));
    let seen = world.kubectl(&["exec", "whole", "--", "nvidia-smi", "-L"])?;
    ensure!(
        seen.lines().count() == 1
            && held
                .is_some_and(|held| held.len() == 1 && held.iter().all(|gpu| seen.contains(gpu))),
        "a pod with a whole GPU holds {held:?}, and sees {seen}"
    );
    world.delete_pods(&["size-0", "size-1", "size-2", "whole"])?;

    // The same with `single`, which has one name for all slices: it says what it can't express.
    install("single")?;
    let words = ["MIG strategy single", "use strategy mixed"];
    told::comes_to_be(
        world,
        node,
        MIG_LAYOUT_READY,
        ("False", "NotAdvertised"),
        &words,
    )?;
    told::is_told(world, node, ("Warning", "NotAdvertised"), &words)?;
    until("the agent's pod to say so", LATER, || {
        let agent = world.release_pod("migpool", MIGNODE)?;
        let (ready, said) = told::readyz(world, &agent)?;
        ensure!(
            !ready && words.iter().all(|word| said.contains(word)),
            "/readyz says {ready}: {said}"
        );
        ensure!(agent.restarts == 0, "{}", agent.line());
        let log = world.kubectl(&["logs", &agent.name])?;
        ensure!(words.iter().all(|word| log.contains(word)), "{log}");
        Ok(())
    })?;
    for (resource, _) in wanted {
        checks::nothing_allocatable(world, node, resource, LATER)?;
    }
    install("mixed")?;
    for (resource, count) in wanted {
        checks::allocatable(world, node, resource, count, LATER)?;
    }
    Ok(())
}

/// The simulated node boots: its slices are gone, and on an H100 MIG mode is off again. Nothing but what the layout says
/// may ever be advertised after that.
fn reboot(world: &World, name: &str, count: u32) -> Outcome {
    let node = world.node(name);
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            "gpuInstanceProfile=MIG1g",
            "migStrategy=single",
            &charts::only_on(name),
        ],
    )?;
    checks::allocatable(world, node, RESOURCE, count, LATER)?;
    let agent = world.release_pod("migpool", name)?;
    let recording = Recording::of_allocatable(world, node)?;

    node.stop_kubelet()?;
    node.kill(&agent.uid, "migpool")?;
    node.reboot()?;
    ensure!(
        node.slices()?.is_empty(),
        "the slices have outlived the reboot"
    );
    node.start_kubelet()?;

    until("the agent to run again", LATER, || {
        let now = world.release_pod("migpool", name)?;
        ensure!(
            now.runs() && now.restarts > agent.restarts,
            "{}",
            now.line()
        );
        Ok(())
    })?;
    checks::allocatable(world, node, RESOURCE, count, LATER)?;
    told::comes_to_be_tainted(world, node, false)?;
    let slices = node.slices()?.len();
    ensure!(slices == count as usize, "there are {slices} slices");
    checks::all_can_be_had(world, node, RESOURCE, count)?;
    let seen = recording.end(RESOURCE)?;
    ensure!(
        seen.iter().all(|amount| *amount == 0 || *amount == count) && seen.contains(&count),
        "what was advertised in the course of it: {seen:?}"
    );
    Ok(())
}

fn every_kind(world: &World) -> Outcome {
    charts::install(
        world,
        "migpool",
        "migpool",
        &["gpuInstanceProfile=MIG1g", "migStrategy=mixed"],
    )?;
    let (a100, h100) = (world.node(MIGNODE), world.node(H100NODE));
    checks::allocatable(world, a100, "nvidia.com/mig-1g.5gb", 56, LATER)?;
    checks::allocatable(world, h100, "nvidia.com/mig-1g.10gb", 14, LATER)?;
    for (name, node, resource) in [
        ("on-a100", a100, "nvidia.com/mig-1g.5gb"),
        ("on-h100", h100, "nvidia.com/mig-1g.10gb"),
    ] {
        world.apply(&[PodSpec::with_slices(name, resource, 1).manifest()])?;
        world.running(name, LATER)?;
        checks::sees_what_it_holds(world, node, name, 1)?;
    }
    until("an agent without GPUs to be ready", LATER, || {
        let idle = world.release_pod("migpool", CPUNODE)?;
        ensure!(idle.runs(), "{}", idle.line());
        Ok(())
    })?;
    checks::new_cpu_work_runs(world, &[CPUNODE])?;
    world.delete_pods(&["on-a100", "on-h100"])?;

    // The same node gets sizes of its own, of which an A100 has none.
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            &format!("layout={}", escaped("3g.40gb,1g.10gb*4")),
            "migStrategy=mixed",
            &charts::only_on(H100NODE),
        ],
    )?;
    checks::allocatable(world, h100, "nvidia.com/mig-3g.40gb", 2, LATER)?;
    checks::allocatable(world, h100, "nvidia.com/mig-1g.10gb", 8, LATER)
}
