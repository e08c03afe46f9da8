//! A container has its slices and no others, every slice can be had, and what is taken away is gone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::ensure;

use crate::charts;
use crate::checks::{self, CpuWork};
use crate::nodes::Node;
use crate::pods::PodSpec;
use crate::suite::{Outcome, Test};
use crate::traces::{Traces, owned_by_releases};
use crate::wait::{LATER, SOON, until};
use crate::world::{CPUNODE, MIGNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "a_container_has_the_device_nodes_of_its_slice_only",
        run: device_nodes,
    },
    Test {
        name: "a_container_cannot_change_the_partitioning",
        run: read_only,
    },
    Test {
        name: "fifty_six_pods_hold_fifty_six_slices_and_the_next_waits",
        run: full_house,
    },
    Test {
        name: "two_mig_sizes_work_in_one_container",
        run: two_sizes,
    },
    Test {
        name: "an_upgrade_to_mixed_and_back_leaves_nothing_stale",
        run: upgrade,
    },
    Test {
        name: "uninstalling_the_articles_charts_leaves_nothing",
        run: uninstall_the_articles,
    },
    Test {
        name: "uninstalling_our_chart_leaves_nothing",
        run: uninstall_ours,
    },
];

const SINGLE: &str = "nvidia.com/gpu";
const MIXED: &str = "nvidia.com/mig-1g.5gb";

/// 56 slices of the smallest size on `mignode`, by our chart.
fn fifty_six(world: &World) -> anyhow::Result<Node<'_>> {
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
    checks::allocatable(world, node, SINGLE, 56, LATER)?;
    Ok(node)
}

fn device_nodes(world: &World) -> Outcome {
    let node = fifty_six(world)?;
    world.apply(&[PodSpec::with_slices("alone", SINGLE, 1).manifest()])?;
    world.running("alone", LATER)?;
    checks::sees_what_it_holds(world, node, "alone", 1)?;
    let listed = world.kubectl(&[
        "exec",
        "alone",
        "--",
        "ls",
        "-1",
        "/dev",
        "/dev/nvidia-caps",
    ])?;
    let there: BTreeSet<&str> = listed
        .lines()
        .filter(|line| line.starts_with("nvidia"))
        .collect();
    let caps = there
        .iter()
        .filter(|name| name.starts_with("nvidia-cap") && **name != "nvidia-caps")
        .count();
    let gpus = there
        .iter()
        .filter(|name| {
            name.strip_prefix("nvidia")
                .is_some_and(|rest| rest.parse::<u32>().is_ok())
        })
        .count();
    ensure!(
        (gpus, caps) == (1, 2),
        "a container with one slice has {gpus} GPUs' nodes and {caps} capability nodes, not 1 and 2: {there:?}"
    );
    Ok(())
}

fn read_only(world: &World) -> Outcome {
    let node = fifty_six(world)?;
    world.apply(&[PodSpec::with_slices("alone", SINGLE, 1).manifest()])?;
    world.running("alone", LATER)?;
    let before = node.slices()?;
    for arguments in [
        &["mig", "-dgi"][..],
        &["mig", "-dci"],
        &["mig", "-cgi", "1g.5gb"],
        &["-mig", "0"],
    ] {
        let mut all = vec!["exec", "alone", "--", "nvidia-smi"];
        all.extend(arguments);
        let said = world.try_kubectl(&all)?;
        ensure!(
            !said.ok,
            "`nvidia-smi {}` in a container did not fail: {}",
            arguments.join(" "),
            said.stdout
        );
    }
    let after = node.slices()?;
    ensure!(
        before == after,
        "a container changed the node's slices: from {before:?} to {after:?}"
    );
    checks::sees_what_it_holds(world, node, "alone", 1)?;
    Ok(())
}

fn full_house(world: &World) -> Outcome {
    let node = fifty_six(world)?;
    let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
    let pods: Vec<_> = (0..56)
        .map(|number| {
            PodSpec::with_slices(&format!("full-{number}"), SINGLE, 1)
                .labelled("app", "full")
                .manifest()
        })
        .collect();
    world.apply(&pods)?;
    world.all_running("app=full", 56, LATER)?;
    let own = checks::each_sees_its_own(world, node, "app=full")?;
    let all: BTreeSet<_> = own.into_values().flatten().collect();
    let slices: BTreeSet<_> = node.slices()?.into_iter().map(|slice| slice.uuid).collect();
    ensure!(
        all == slices && all.len() == 56,
        "56 pods hold {} of the node's {} slices",
        all.len(),
        slices.len()
    );

    world.apply(&[PodSpec::with_slices("next", SINGLE, 1).manifest()])?;
    until("the 57th pod to be told why it waits", SOON, || {
        let pod = world.pod("next")?;
        ensure!(
            pod.phase == "Pending" && pod.node.is_none(),
            "{}",
            pod.line()
        );
        ensure!(
            pod.reason.contains("Insufficient nvidia.com/gpu"),
            "no reason: {}",
            pod.line()
        );
        Ok(())
    })?;
    checks::new_cpu_work_runs(world, &[MIGNODE])?;
    let freed = checks::sees_what_it_holds(world, node, "full-23", 1)?;
    world.delete_pods(&["full-23"])?;
    world.running("next", LATER)?;
    let got = checks::sees_what_it_holds(world, node, "next", 1)?;
    ensure!(
        got == freed,
        "the 57th pod got {got:?}, though only {freed:?} was free"
    );
    work.went_on()
}

fn two_sizes(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            "layout=3g.20gb\\,2g.10gb\\,1g.5gb*2",
            "migStrategy=mixed",
            &charts::only_on(MIGNODE),
        ],
    )?;
    checks::allocatable(world, node, "nvidia.com/mig-3g.20gb", 8, LATER)?;
    checks::allocatable(world, node, "nvidia.com/mig-2g.10gb", 8, LATER)?;
    checks::allocatable(world, node, MIXED, 16, LATER)?;
    world.apply(&[
        PodSpec::with_slices("two-sizes", "nvidia.com/mig-3g.20gb", 1)
            .and(MIXED, 2)
            .manifest(),
    ])?;
    world.running("two-sizes", LATER)?;
    let own = checks::sees_what_it_holds(world, node, "two-sizes", 3)?;
    let mut sizes: BTreeMap<String, usize> = BTreeMap::new();
    for holding in node.holdings()? {
        if holding.pod == "two-sizes" {
            *sizes.entry(holding.resource).or_default() += holding.devices.len();
        }
    }
    let wanted = BTreeMap::from([
        ("nvidia.com/mig-3g.20gb".to_owned(), 1),
        (MIXED.to_owned(), 2),
    ]);
    ensure!(sizes == wanted, "it holds {sizes:?}: {own:?}");
    Ok(())
}

fn upgrade(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    node.partition("MIG1g")?;
    let both = |strategy: &str| -> Outcome {
        let value = format!("migStrategy={strategy}");
        articles(world, &value)
    };
    for (round, strategy) in ["single", "mixed", "single"].into_iter().enumerate() {
        both(strategy)?;
        let (new, old) = if strategy == "single" {
            (SINGLE, MIXED)
        } else {
            (MIXED, SINGLE)
        };
        checks::allocatable(world, node, new, 56, LATER)?;
        checks::nothing_allocatable(world, node, old, SOON)?;
        checks::described(world, node, new, 56)?;
        until("one socket and no stale label", LATER, || {
            let traces = Traces::of(world, node)?;
            ensure!(
                traces.sockets.len() == 1,
                "round {round}, {strategy}: sockets {:?}",
                traces.sockets
            );
            let stale = if strategy == "single" {
                "nvidia.com/mig-1g.5gb."
            } else {
                "nvidia.com/gpu.slices."
            };
            let label = traces.labels.keys().find(|key| key.starts_with(stale));
            ensure!(
                label.is_none()
                    && traces
                        .labels
                        .get("nvidia.com/mig.strategy")
                        .map(String::as_str)
                        == Some(strategy),
                "round {round}, {strategy}: labels {:?}",
                traces.labels
            );
            Ok(())
        })?;
        world.apply(&[PodSpec::with_slices("probe", new, 1).manifest()])?;
        world.running("probe", LATER)?;
        checks::sees_what_it_holds(world, node, "probe", 1)?;
        world.delete_pods(&["probe"])?;
    }
    Ok(())
}

fn uninstall_the_articles(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    node.partition("MIG1g")?;
    leaves_nothing(world, SINGLE, || articles(world, "migStrategy=single"))
}

/// The article's two charts, on `mignode` only.
fn articles(world: &World, strategy: &str) -> Outcome {
    let values = [strategy, &charts::only_on(MIGNODE)];
    charts::install(world, "plugin", "nvidia-device-plugin", &values)?;
    charts::install(world, "discovery", "gpu-feature-discovery", &values)
}

fn uninstall_ours(world: &World) -> Outcome {
    leaves_nothing(world, MIXED, || {
        charts::install(
            world,
            "migpool",
            "migpool",
            &[
                "gpuInstanceProfile=MIG1g",
                "migStrategy=mixed",
                &charts::only_on(MIGNODE),
            ],
        )
    })
}

/// What is installed can be seen on the node, and once it is uninstalled the node is as it was.
fn leaves_nothing(world: &World, resource: &str, install: impl Fn() -> Outcome) -> Outcome {
    let node = world.node(MIGNODE);
    let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
    let before = Traces::of(world, node)?;
    let cluster = owned_by_releases(world)?;
    install()?;
    checks::allocatable(world, node, resource, 56, LATER)?;
    until("labels, a socket and a CDI specification", LATER, || {
        let now = Traces::of(world, node)?;
        ensure!(
            now.labels.len() > before.labels.len()
                && !now.sockets.is_empty()
                && !now.specifications.is_empty(),
            "{now:?}"
        );
        Ok(())
    })?;
    charts::uninstall_all(world)?;
    until("the node to be as it was", LATER, || {
        let now = Traces::of(world, node)?;
        ensure!(now == before, "before {before:?}, after {now:?}");
        Ok(())
    })?;
    checks::nothing_allocatable(world, node, resource, SOON)?;
    let left = owned_by_releases(world)?;
    ensure!(
        left == cluster,
        "the cluster still has {:?}",
        left.difference(&cluster).collect::<Vec<_>>()
    );
    work.went_on()
}
