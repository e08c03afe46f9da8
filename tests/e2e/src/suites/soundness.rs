//! The checks can fail: each is shown a device plugin that is broken in just the way that it is there to see, and has to
//! complain. The same plugin without a fault pleases all of them, so it is the fault that they see.

use std::time::Duration;

use anyhow::{bail, ensure};

use crate::charts;
use crate::checks;
use crate::nodes::Node;
use crate::plugin::{Fault, Plugin};
use crate::pods::PodSpec;
use crate::seen::Slice;
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, SOON};
use crate::world::{MIGNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "an_honest_plugin_passes_every_check",
        run: honest,
    },
    Test {
        name: "one_slice_too_few_or_too_many_is_seen",
        run: miscounted,
    },
    Test {
        name: "one_slice_for_two_pods_is_seen",
        run: |world| broken(world, Fault::SameSliceForAll, Seen::ByEither),
    },
    Test {
        name: "another_slice_than_the_kubelet_says_is_seen",
        run: |world| broken(world, Fault::TheNextSlice, Seen::ByBoth),
    },
    Test {
        name: "all_slices_of_the_gpu_are_seen",
        run: |world| broken(world, Fault::TheWholeGpu, Seen::ByBoth),
    },
    Test {
        name: "one_slice_more_than_asked_for_is_seen",
        run: |world| broken(world, Fault::OneMoreSlice, Seen::ByBoth),
    },
    Test {
        name: "a_pod_without_its_slice_is_seen",
        run: |world| broken(world, Fault::Nothing, Seen::ByBoth),
    },
    Test {
        name: "a_plugin_that_does_not_come_back_is_seen",
        run: registers_once,
    },
];

/// The resource of the plugin under test. The real plugin, whose CDI specification it borrows, serves another.
const RESOURCE: &str = "nvidia.com/gpu";

/// How many slices there are.
const COUNT: u32 = 56;

/// How long a check that has to fail may look for what never comes.
const BRIEFLY: Duration = Duration::from_secs(5);

/// Which of the two checks of a pod's view has to see a fault.
#[derive(Clone, Copy)]
enum Seen {
    /// The one of a single pod, and the one of all pods.
    ByBoth,
    /// One of them at least: a pod may get by chance what it should.
    ByEither,
}

/// Lets the real plugin, with the mixed strategy, make slices and their CDI specification, and answers with the slices.
fn slices(world: &World, node: Node<'_>) -> anyhow::Result<Vec<Slice>> {
    node.partition("MIG1g")?;
    charts::install(
        world,
        "real",
        "nvidia-device-plugin",
        &["migStrategy=mixed", &charts::only_on(MIGNODE)],
    )?;
    checks::allocatable(world, node, "nvidia.com/mig-1g.5gb", COUNT, LATER)?;
    let slices: Vec<_> = node.slices()?.into_iter().collect();
    ensure!(slices.len() == COUNT as usize, "{} slices", slices.len());
    Ok(slices)
}

fn honest(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    let slices = slices(world, node)?;
    let _plugin = Plugin::serve(node, RESOURCE, slices, Fault::None)?;
    checks::allocatable(world, node, RESOURCE, COUNT, SOON)?;
    checks::described(world, node, RESOURCE, COUNT)?;
    let (one, all) = pair(world, node)?;
    one?;
    all?;
    world.delete_pods(&["pair-0", "pair-1"])?;
    checks::all_can_be_had(world, node, RESOURCE, COUNT)?;
    node.restart_kubelet(false)?;
    checks::allocatable(world, node, RESOURCE, COUNT, SOON)
}

fn miscounted(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    let slices = slices(world, node)?;
    for (fault, count) in [
        (Fault::OneMissing, COUNT - 1),
        (Fault::OneTooMany, COUNT + 1),
    ] {
        let plugin = Plugin::serve(node, RESOURCE, slices.clone(), fault)?;
        checks::allocatable(world, node, RESOURCE, count, SOON)?;
        let counted = checks::allocatable(world, node, RESOURCE, COUNT, BRIEFLY);
        must_fail(world, fault, counted, &format!("allocatable {count}"))?;
        let shown = checks::described(world, node, RESOURCE, COUNT);
        must_fail(world, fault, shown, "does not show")?;
        drop(plugin);
        checks::nothing_allocatable(world, node, RESOURCE, SOON)?;
    }
    Ok(())
}

fn broken(world: &World, fault: Fault, seen: Seen) -> Outcome {
    let node = world.node(MIGNODE);
    let slices = slices(world, node)?;
    let _plugin = Plugin::serve(node, RESOURCE, slices, fault)?;
    checks::allocatable(world, node, RESOURCE, COUNT, SOON)?;
    let (one, all) = pair(world, node)?;
    let complaint = if fault == Fault::Nothing {
        "nvidia-smi"
    } else {
        "see"
    };
    match seen {
        Seen::ByBoth => {
            must_fail(world, fault, one, complaint)?;
            must_fail(world, fault, all, complaint)
        }
        Seen::ByEither => must_fail(world, fault, one.and(all), complaint),
    }
}

fn registers_once(world: &World) -> Outcome {
    let node = world.node(MIGNODE);
    let slices = slices(world, node)?;
    let _plugin = Plugin::serve(node, RESOURCE, slices, Fault::RegistersOnce)?;
    checks::allocatable(world, node, RESOURCE, COUNT, SOON)?;
    node.restart_kubelet(false)?;
    // The real plugin has come back: that the other has not is not for want of time.
    checks::allocatable(world, node, "nvidia.com/mig-1g.5gb", COUNT, SOON)?;
    let counted = checks::allocatable(world, node, RESOURCE, COUNT, BRIEFLY);
    must_fail(
        world,
        Fault::RegistersOnce,
        counted,
        "the kubelet can give 0",
    )
}

/// Two pods of one slice each, and what the checks of one pod's and of all pods' view say.
fn pair(world: &World, node: Node<'_>) -> anyhow::Result<(Outcome, Outcome)> {
    let pods: Vec<_> = (0..2)
        .map(|number| {
            PodSpec::with_slices(&format!("pair-{number}"), RESOURCE, 1)
                .running_whatever_it_sees()
                .labelled("app", "pair")
                .manifest()
        })
        .collect();
    world.apply(&pods)?;
    world.all_running("app=pair", 2, LATER)?;
    let one = checks::sees_what_it_holds(world, node, "pair-0", 1).map(drop);
    let all = checks::each_sees_its_own(world, node, "app=pair").map(drop);
    Ok((one, all))
}

/// The check has to complain, and of what it is there to see.
fn must_fail(world: &World, fault: Fault, outcome: Outcome, complaint: &str) -> Outcome {
    let Err(error) = outcome else {
        bail!("a check is content with a plugin that is broken: {fault:?}");
    };
    world.log(&format!("{fault:?}, as it has to be: {error:#}"));
    ensure!(
        format!("{error:#}").contains(complaint),
        "a check complains of {fault:?}, but not of `{complaint}`: {error:#}"
    );
    Ok(())
}
