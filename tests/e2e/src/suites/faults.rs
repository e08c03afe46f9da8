//! What is faulty is not given away, what is beside it is, and both are told of in words that name the GPU.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::charts;
use crate::checks::{self, CpuWork};
use crate::nodes::{Node, simulate};
use crate::pods::PodSpec;
use crate::seen::Slice;
use crate::suite::{Outcome, Test};
use crate::told::{self, GPUS_HEALTHY};
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, MIGNODE, World};

/// The suite.
pub(crate) const TESTS: &[Test] = &[
    Test {
        name: "an_xid_takes_one_slice_out_until_it_is_over",
        run: xid,
    },
    Test {
        name: "a_lost_gpu_takes_its_seven_slices_out_until_it_is_back",
        run: lost,
    },
    Test {
        name: "an_agent_that_starts_beside_a_lost_gpu_gives_away_the_others",
        run: lost_from_the_start,
    },
];

const RESOURCE: &str = "nvidia.com/gpu";
const COUNT: u32 = 56;

/// An XID after which the GPU need not be reset, so that it is over some time after the last of them.
const XID: &str = "94";

/// How often that XID has to come at least for it not to be over.
const AGAIN: Duration = Duration::from_secs(5);

fn install(world: &World) -> anyhow::Result<Node<'_>> {
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
    Ok(world.node(MIGNODE))
}

/// The node comes to have `count` slices to give, of all that there are.
fn left(world: &World, node: Node<'_>, count: u32) -> Outcome {
    let what = format!("{count} slices to give on {}", node.name());
    until(&what, LATER, || {
        let object = world.get(&["node", node.name()])?;
        let allocatable = &object["status"]["allocatable"][RESOURCE];
        ensure!(
            *allocatable == *count.to_string(),
            "allocatable {allocatable}"
        );
        Ok(())
    })
}

fn xid(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = install(world)?;
    checks::allocatable(world, node, RESOURCE, COUNT, LATER)?;
    let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
    // It goes on with its slice, whatever is told of that.
    world.apply(&[PodSpec::with_slices("holder", RESOURCE, 1).manifest()])?;
    let holder = world.running("holder", LATER)?;
    let held = checks::sees_what_it_holds(world, node, "holder", 1)?;
    let slices = node.slices()?;
    let faulty = slices
        .iter()
        .find(|slice| !held.contains(&slice.uuid))
        .context("no slice is free")?;

    let mut last = None::<Instant>;
    let mut keep_it_up = || -> Outcome {
        if last.is_none_or(|last| last.elapsed() > AGAIN) {
            last = Some(Instant::now());
            let what = ["xid", "--xid", XID, "--uuid", &faulty.uuid];
            simulate(world, node, "inject", &what)?;
        }
        Ok(())
    };
    until("one slice less to give", LATER, || {
        keep_it_up()?;
        let object = world.get(&["node", MIGNODE])?;
        let status = &object["status"];
        ensure!(
            status["allocatable"][RESOURCE] == "55" && status["capacity"][RESOURCE] == "56",
            "capacity {}, allocatable {}",
            status["capacity"][RESOURCE],
            status["allocatable"][RESOURCE]
        );
        Ok(())
    })?;
    let words = [&*faulty.gpu, "GPU instance", "XID 94"];
    told::comes_to_be(world, node, GPUS_HEALTHY, ("False", "GPUFault"), &words)?;
    told::is_told(world, node, ("Warning", "GPUFault"), &words)?;

    // All others can be had, its six siblings among them.
    let others: BTreeSet<_> = slices
        .iter()
        .filter(|slice| *slice != faulty && !held.contains(&slice.uuid))
        .map(|slice| slice.uuid.clone())
        .collect();
    world.apply(&[PodSpec::with_slices("others", RESOURCE, COUNT - 2).manifest()])?;
    until("a pod to get all others", LATER, || {
        keep_it_up()?;
        let pod = world.pod("others")?;
        ensure!(pod.runs(), "{}", pod.line());
        Ok(())
    })?;
    let got = checks::sees_what_it_holds(world, node, "others", (COUNT - 2) as usize)?;
    ensure!(
        got == others,
        "the others are {others:?}, and a pod got {got:?}"
    );

    // Now the one that is held fails, too.
    let own = held.first().context("the pod holds nothing")?;
    let what = ["xid", "--xid", XID, "--uuid", own];
    simulate(world, node, "inject", &what)?;
    keep_it_up()?;
    left(world, node, COUNT - 2)?;
    world.delete_pods(&["others"])?;

    // Nobody says when it is over: it is when nothing more is heard of it.
    checks::allocatable(world, node, RESOURCE, COUNT, LATER)?;
    told::comes_to_be(world, node, GPUS_HEALTHY, ("True", "NoFaults"), &[])?;
    told::is_told(world, node, ("Normal", "GPURecovered"), &words)?;
    let now = world.pod("holder")?;
    ensure!(
        now.runs() && now.containers == holder.containers,
        "the pod on the faulty slice was disturbed: {}",
        now.line()
    );
    checks::sees_what_it_holds(world, node, "holder", 1)?;
    world.delete_pods(&["holder"])?;
    checks::all_can_be_had(world, node, RESOURCE, COUNT)?;
    work.went_on()
}

/// The GPU of this index, by what `nvidia-smi -L` lists: its UUID and its slices.
fn gpu(node: Node<'_>, index: usize) -> anyhow::Result<(String, BTreeSet<Slice>)> {
    let gpus = node.gpus()?;
    let gpu = gpus.get(index).context("there is no such GPU")?.clone();
    let slices = node.slices()?;
    let own = slices
        .into_iter()
        .filter(|slice| slice.gpu == gpu)
        .collect();
    Ok((gpu, own))
}

fn lost(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = install(world)?;
    checks::allocatable(world, node, RESOURCE, COUNT, LATER)?;
    let work = CpuWork::start(world, &[MIGNODE, CPUNODE])?;
    let (uuid, own) = gpu(node, 3)?;
    ensure!(own.len() == 7, "GPU 3 has the slices {own:?}");
    let others: BTreeSet<_> = node
        .slices()?
        .difference(&own)
        .map(|slice| slice.uuid.clone())
        .collect();

    simulate(world, node, "inject", &["lost", "--gpu", "3"])?;
    left(world, node, COUNT - 7)?;
    let words = ["GPU 3", &uuid];
    told::comes_to_be(world, node, GPUS_HEALTHY, ("False", "GPULost"), &words)?;
    told::is_told(world, node, ("Warning", "GPULost"), &words)?;
    world.apply(&[PodSpec::with_slices("others", RESOURCE, COUNT - 7).manifest()])?;
    world.running("others", LATER)?;
    let got = checks::sees_what_it_holds(world, node, "others", (COUNT - 7) as usize)?;
    ensure!(
        got == others,
        "the slices of the other GPUs are {others:?}, and a pod got {got:?}"
    );
    // The agent goes on working: it says what is wrong, and is no reason to take the node out.
    let agent = world.release_pod("migpool", MIGNODE)?;
    let (ready, said) = told::readyz(world, &agent)?;
    ensure!(
        ready && said.contains(&uuid),
        "/readyz says {ready}: {said}"
    );
    world.delete_pods(&["others"])?;

    simulate(world, node, "inject", &["clear"])?;
    checks::allocatable(world, node, RESOURCE, COUNT, LATER)?;
    told::comes_to_be(world, node, GPUS_HEALTHY, ("True", "NoFaults"), &[])?;
    told::is_told(world, node, ("Normal", "GPURecovered"), &words)?;
    checks::all_can_be_had(world, node, RESOURCE, COUNT)?;
    let after = world.release_pod("migpool", MIGNODE)?;
    ensure!(
        (&after.uid, after.restarts) == (&agent.uid, agent.restarts),
        "the agent was restarted: {}",
        after.line()
    );
    work.went_on()
}

fn lost_from_the_start(world: &World) -> Outcome {
    told::forget_events(world)?;
    let node = world.node(MIGNODE);
    node.partition("MIG1g")?;
    let (uuid, _) = gpu(node, 5)?;
    simulate(world, node, "inject", &["lost", "--gpu", "5"])?;
    install(world)?;
    left(world, node, COUNT - 7)?;
    // Who it is can't be asked of a GPU that does not answer; where it is can be told all the same.
    told::comes_to_be(world, node, GPUS_HEALTHY, ("False", "GPULost"), &["GPU 5"])?;
    told::is_told(world, node, ("Warning", "GPULost"), &["GPU 5"])?;
    simulate(world, node, "inject", &["clear"])?;
    checks::allocatable(world, node, RESOURCE, COUNT, LATER)?;
    told::comes_to_be(world, node, GPUS_HEALTHY, ("True", "NoFaults"), &[])?;
    world.apply(&[PodSpec::with_slices("all", RESOURCE, COUNT).manifest()])?;
    world.running("all", LATER)?;
    checks::sees_what_it_holds(world, node, "all", COUNT as usize)?;
    ensure!(
        node.slices()?.iter().any(|slice| slice.gpu == uuid),
        "GPU 5 has no slices"
    );
    Ok(())
}
