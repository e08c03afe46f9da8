//! The article's steps 4 to 7, with the commands that it prints.

use anyhow::ensure;

use crate::charts;
use crate::checks::{self, CpuWork};
use crate::pods::{self, PodSpec};
use crate::suite::{Outcome, Test};
use crate::wait::LATER;
use crate::world::{CPUNODE, H100NODE, MIGNODE, World};

/// The suite: each of the five profiles with each of the two strategies, then all of it by the one chart of ours.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "mig1g_single",
        run: |world| as_printed(world, "MIG1g", "single"),
    },
    Test {
        name: "mig1g_mixed",
        run: |world| as_printed(world, "MIG1g", "mixed"),
    },
    Test {
        name: "mig2g_single",
        run: |world| as_printed(world, "MIG2g", "single"),
    },
    Test {
        name: "mig2g_mixed",
        run: |world| as_printed(world, "MIG2g", "mixed"),
    },
    Test {
        name: "mig3g_single",
        run: |world| as_printed(world, "MIG3g", "single"),
    },
    Test {
        name: "mig3g_mixed",
        run: |world| as_printed(world, "MIG3g", "mixed"),
    },
    Test {
        name: "mig4g_single",
        run: |world| as_printed(world, "MIG4g", "single"),
    },
    Test {
        name: "mig4g_mixed",
        run: |world| as_printed(world, "MIG4g", "mixed"),
    },
    Test {
        name: "mig7g_single",
        run: |world| as_printed(world, "MIG7g", "single"),
    },
    Test {
        name: "mig7g_mixed",
        run: |world| as_printed(world, "MIG7g", "mixed"),
    },
    Test {
        name: "one_chart_does_it_all_single",
        run: |world| one_chart(world, "single"),
    },
    Test {
        name: "one_chart_does_it_all_mixed",
        run: |world| one_chart(world, "mixed"),
    },
];

/// What a profile of AKS makes of eight A100 40GB: the resource with the mixed strategy, and how many there are.
fn promised(profile: &str) -> anyhow::Result<(&'static str, u32)> {
    Ok(match profile {
        "MIG1g" => ("nvidia.com/mig-1g.5gb", 56),
        "MIG2g" => ("nvidia.com/mig-2g.10gb", 24),
        "MIG3g" => ("nvidia.com/mig-3g.20gb", 16),
        "MIG4g" => ("nvidia.com/mig-4g.20gb", 8),
        "MIG7g" => ("nvidia.com/mig-7g.40gb", 8),
        other => anyhow::bail!("the article has no profile {other}"),
    })
}

/// The resource that slices of a profile have with a strategy.
fn resource(profile: &str, strategy: &str) -> anyhow::Result<(&'static str, u32)> {
    let (mixed, count) = promised(profile)?;
    Ok(if strategy == "single" {
        ("nvidia.com/gpu", count)
    } else {
        (mixed, count)
    })
}

/// The article's two charts from a repository, on a node that came with its slices, as a node pool's do.
fn as_printed(world: &World, profile: &str, strategy: &str) -> Outcome {
    let node = world.node(MIGNODE);
    let (resource, count) = resource(profile, strategy)?;
    let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
    // The article's cluster has one node with GPUs.
    world.kubectl(&["cordon", H100NODE])?;
    node.partition(profile)?;

    let url = world.repository()?.url();
    world.shell(
        &format!(
            "helm repo add nvdp {url}
             helm repo add nvgfd {url}
             helm repo update
             helm install --generate-name --set migStrategy=${{MIG_STRATEGY}} nvdp/nvidia-device-plugin
             helm install --generate-name --set migStrategy=${{MIG_STRATEGY}} nvgfd/gpu-feature-discovery"
        ),
        &[("MIG_STRATEGY", strategy)],
    )?;
    checks::allocatable(world, node, resource, count, LATER)?;
    let wide = world.kubectl(&["get", "nodes", "-o", "wide"])?;
    ensure!(wide.contains(MIGNODE), "kubectl get nodes -o wide: {wide}");
    checks::described(world, node, resource, count)?;
    labelled(world, profile, strategy)?;

    manifest(world, profile, strategy)?;
    checks::new_cpu_work_runs(world, &[MIGNODE, CPUNODE])?;
    work.went_on()
}

/// The chart `migpool` partitions, advertises and labels.
fn one_chart(world: &World, strategy: &str) -> Outcome {
    let node = world.node(MIGNODE);
    let (resource, count) = resource("MIG1g", strategy)?;
    let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
    charts::install(
        world,
        "migpool",
        "migpool",
        &[
            "gpuInstanceProfile=MIG1g",
            &format!("migStrategy={strategy}"),
            &charts::only_on(MIGNODE),
        ],
    )?;
    checks::allocatable(world, node, resource, count, LATER)?;
    checks::described(world, node, resource, count)?;
    labelled(world, "MIG1g", strategy)?;
    manifest(world, "MIG1g", strategy)?;
    world.delete_pods(&[&format!("nvidia-{strategy}"), "pynvml"])?;
    checks::all_can_be_had(world, node, resource, count)?;
    work.went_on()
}

/// Runs the article's manifest, and asks in the container what it has: the one slice that the kubelet says it holds.
fn manifest(world: &World, profile: &str, strategy: &str) -> Outcome {
    let node = world.node(MIGNODE);
    let (resource, _) = resource(profile, strategy)?;
    let pod = format!("nvidia-{strategy}");
    // The article's manifest for the mixed strategy asks for the slices of MIG1g; those of other profiles are asked for
    // by a manifest of the same shape.
    if strategy == "single" || profile == "MIG1g" {
        world.apply_file(&format!("examples/{strategy}-strategy-example.yaml"))?;
    } else {
        world.apply(&[PodSpec::with_slices(&pod, resource, 1).manifest()])?;
    }
    world.running(&pod, LATER)?;
    let own = checks::sees_what_it_holds(world, node, &pod, 1)?;

    world.apply(&[PodSpec::with_slices("pynvml", resource, 1)
        .running(pods::PYNVML, &["sleep", "1000"])
        .manifest()])?;
    world.running("pynvml", LATER)?;
    let other = checks::sees_what_it_holds(world, node, "pynvml", 1)?;
    checks::pynvml_sees_the_same(world, "pynvml")?;
    ensure!(
        own.is_disjoint(&other),
        "two pods have the same slice: {own:?}"
    );
    Ok(())
}

/// The labels say the strategy and the slices.
fn labelled(world: &World, profile: &str, strategy: &str) -> Outcome {
    let (mixed, count) = promised(profile)?;
    let name = mixed.trim_start_matches("nvidia.com/");
    let prefix = if strategy == "single" { "gpu" } else { name };
    let product = format!(
        "NVIDIA-A100-SXM4-40GB-MIG-{}",
        name.trim_start_matches("mig-")
    );
    let wanted = [
        ("nvidia.com/mig.strategy".to_owned(), strategy.to_owned()),
        (format!("nvidia.com/{prefix}.count"), count.to_string()),
        (format!("nvidia.com/{prefix}.product"), product),
    ];
    crate::wait::until("the labels of the slices", LATER, || {
        let labels = world.labels(MIGNODE)?;
        for (key, value) in &wanted {
            ensure!(
                labels.get(key) == Some(value),
                "{key} is {:?}, not {value}",
                labels.get(key)
            );
        }
        Ok(())
    })
}
