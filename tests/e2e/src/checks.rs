//! What has to hold, as functions that say what does not.
//!
//! Suite `soundness` shows of each of them that it fails on a device plugin that is broken in that way.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::nodes::Node;
use crate::pods::{self, Pod, PodSpec};
use crate::seen::{self, Seen};
use crate::wait::{LATER, SOON, until};
use crate::world::{NAMESPACE, World};

/// The node comes to have exactly this many of a resource, capacity and allocatable alike, and so says its kubelet.
///
/// # Errors
/// After `limit` it has another number.
pub(crate) fn allocatable(
    world: &World,
    node: Node<'_>,
    resource: &str,
    count: u32,
    limit: Duration,
) -> anyhow::Result<()> {
    let what = format!("{resource}: {count} on {}", node.name());
    until(&what, limit, || {
        let status = world.get(&["node", node.name()])?["status"].take();
        let amount = |kind: &str| {
            status[kind][resource]
                .as_str()
                .map_or(Ok(0), str::parse::<u32>)
                .with_context(|| format!("{kind} {resource} is no number"))
        };
        let (capacity, allocatable) = (amount("capacity")?, amount("allocatable")?);
        let kubelet = node.allocatable(resource)?;
        ensure!(
            (capacity, allocatable, kubelet) == (count, count, count as usize),
            "the kubelet can give {kubelet}, the node's capacity is {capacity}, allocatable {allocatable}"
        );
        Ok(())
    })
}

/// The node has none to give of a resource: allocatable is 0, or it is not there at all. The kubelet keeps the capacity
/// of a resource for a while after its plugin went.
///
/// # Errors
/// After `limit` there is still some.
pub(crate) fn nothing_allocatable(
    world: &World,
    node: Node<'_>,
    resource: &str,
    limit: Duration,
) -> anyhow::Result<()> {
    until(&format!("no {resource} on {}", node.name()), limit, || {
        let node = world.get(&["node", node.name()])?;
        match node["status"]["allocatable"][resource].as_str() {
            None | Some("0") => Ok(()),
            Some(amount) => bail!("allocatable {amount}"),
        }
    })
}

/// `kubectl describe node` shows a person this many, under Capacity and under Allocatable.
///
/// # Errors
/// It does not.
pub(crate) fn described(
    world: &World,
    node: Node<'_>,
    resource: &str,
    count: u32,
) -> anyhow::Result<()> {
    let text = world.kubectl(&["describe", "node", node.name()])?;
    for title in ["Capacity:", "Allocatable:"] {
        let section = text
            .lines()
            .skip_while(|line| *line != title)
            .skip(1)
            .take_while(|line| line.starts_with(' '));
        let shown: BTreeMap<_, _> = section
            .filter_map(|line| line.trim().split_once(':'))
            .map(|(name, amount)| (name, amount.trim()))
            .collect();
        ensure!(
            shown.get(resource) == Some(&&*count.to_string()),
            "kubectl describe node {} does not show `{resource}: {count}` under {title}\n{text}",
            node.name()
        );
    }
    Ok(())
}

/// A running pod holds `count` devices, says the kubelet, and what `nvidia-smi -L` shows in it is exactly those. Answers
/// with their UUIDs.
///
/// # Errors
/// What it sees is not what it holds.
pub(crate) fn sees_what_it_holds(
    world: &World,
    node: Node<'_>,
    pod: &str,
    count: usize,
) -> anyhow::Result<BTreeSet<String>> {
    let printed = world.kubectl(&["exec", pod, "--", "nvidia-smi", "-L"])?;
    let seen = Seen::from_smi(&printed).with_context(|| format!("in pod {pod}"))?;
    let held = node.held()?;
    let held = held
        .get(&(NAMESPACE.to_owned(), pod.to_owned()))
        .with_context(|| format!("the kubelet says that pod {pod} holds nothing"))?;
    compare(pod, &seen, held)?;
    ensure!(
        held.len() == count,
        "pod {pod} asked for {count} and holds {held:?}"
    );
    Ok(seen.slice_uuids())
}

/// What NVIDIA's Python binding sees in a running pod is what `nvidia-smi -L` shows there.
///
/// # Errors
/// They differ.
pub(crate) fn pynvml_sees_the_same(world: &World, pod: &str) -> anyhow::Result<()> {
    let smi = Seen::from_smi(&world.kubectl(&["exec", pod, "--", "nvidia-smi", "-L"])?)?;
    let printed = world.kubectl(&["exec", pod, "--", "python3", "-c", seen::PYNVML])?;
    let python = Seen::from_pynvml(&printed)?;
    ensure!(
        smi == python,
        "in pod {pod} nvidia-smi shows {smi:?}, and pynvml sees {python:?}"
    );
    Ok(())
}

/// Every running pod of a selector saw, when it began, exactly what the kubelet says that it holds, and no slice is seen
/// or held by two. Answers with what each sees.
///
/// # Errors
/// One sees something else, or two the same.
pub(crate) fn each_sees_its_own(
    world: &World,
    node: Node<'_>,
    selector: &str,
) -> anyhow::Result<BTreeMap<String, BTreeSet<String>>> {
    // A pod that goes or comes while it is looked at has to be looked at again, not to be complained of.
    let running = || -> anyhow::Result<BTreeMap<String, Pod>> {
        Ok(world
            .pods(&["--selector", selector])?
            .into_iter()
            .filter(|pod| pod.runs() && pod.node.as_deref() == Some(node.name()))
            .map(|pod| (pod.name.clone(), pod))
            .collect())
    };
    let look = || -> anyhow::Result<anyhow::Result<_>> {
        let before = running()?;
        let logs = world.logs(selector)?;
        let held = node.held()?;
        let after = running()?;
        ensure!(
            before.len() == after.len()
                && before
                    .iter()
                    .all(|(name, pod)| after.get(name).is_some_and(|now| now.uid == pod.uid)),
            "the pods {selector} were other ones before and after they were looked at"
        );
        let holds = |pod: &str| held.get(&(NAMESPACE.to_owned(), pod.to_owned()));
        // A kubelet that has just started may not have all its pods or logs yet, nor a pod begun to write.
        for name in before.keys() {
            ensure!(
                holds(name).is_some(),
                "the kubelet says that pod {name} holds nothing"
            );
            ensure!(logs.contains_key(name), "pod {name} shows nothing");
        }
        // What is seen now counts, and is not looked at again until it pleases. But a log may have lost lines with the
        // container runtime that wrote it: then the container itself is asked.
        let own = before.keys().map(|name| {
            let held = holds(name).map_or(&[][..], Vec::as_slice);
            let judge = |printed: &str| -> anyhow::Result<Seen> {
                let seen = Seen::from_smi(printed).with_context(|| format!("in pod {name}"))?;
                compare(name, &seen, held)?;
                Ok(seen)
            };
            let seen = logs.get(name).and_then(|log| judge(log).ok()).map_or_else(
                || judge(&world.kubectl(&["exec", name, "--", "nvidia-smi", "-L"])?),
                Ok,
            )?;
            Ok((name.clone(), seen.slice_uuids()))
        });
        Ok(own.collect::<anyhow::Result<BTreeMap<_, _>>>())
    };
    let own = until(&format!("the pods {selector} to hold still"), SOON, look)??;
    disjoint(&own)?;
    Ok(own)
}

/// Nothing is lost: one pod that asks for all gets all, each once.
///
/// # Errors
/// It does not run, or does not see `count` slices.
pub(crate) fn all_can_be_had(
    world: &World,
    node: Node<'_>,
    resource: &str,
    count: u32,
) -> anyhow::Result<()> {
    let name = "takes-all";
    world.apply(&[PodSpec::with_slices(name, resource, count).manifest()])?;
    world.running(name, LATER)?;
    let all = sees_what_it_holds(world, node, name, count as usize)?;
    ensure!(
        all.len() == count as usize,
        "a pod with all {count} of {resource} sees {} slices",
        all.len()
    );
    world.delete_pods(&[name])
}

/// What a pod sees is what it holds: the same slices, on just their GPUs.
fn compare(pod: &str, seen: &Seen, held: &[String]) -> anyhow::Result<()> {
    let set: BTreeSet<String> = held.iter().cloned().collect();
    ensure!(
        set.len() == held.len(),
        "the kubelet says that pod {pod} holds a device twice: {held:?}"
    );
    ensure!(
        seen.slice_uuids() == set,
        "pod {pod} sees {:?}, and the kubelet says that it holds {set:?}",
        seen.slice_uuids()
    );
    let parents: BTreeSet<String> = seen.slices.iter().map(|slice| slice.gpu.clone()).collect();
    ensure!(
        seen.gpus == parents,
        "pod {pod} sees the GPUs {:?}, and has slices of {parents:?}",
        seen.gpus
    );
    Ok(())
}

/// No slice is seen by two pods.
fn disjoint(own: &BTreeMap<String, BTreeSet<String>>) -> anyhow::Result<()> {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (pod, slices) in own {
        for slice in slices {
            if let Some(other) = owners.insert(slice, pod) {
                bail!("the pods {other} and {pod} both see {slice}");
            }
        }
    }
    Ok(())
}

/// A pod without slices that counts in its log, on each of these nodes: CPU work, as a witness.
pub(crate) struct CpuWork<'w> {
    world: &'w World,
    pods: Vec<Pod>,
}

impl<'w> CpuWork<'w> {
    /// Starts it.
    ///
    /// # Errors
    /// It does not come to run.
    pub(crate) fn start(world: &'w World, nodes: &[&str]) -> anyhow::Result<Self> {
        let names: Vec<_> = nodes.iter().map(|node| format!("cpu-{node}")).collect();
        let manifests: Vec<Value> = names
            .iter()
            .zip(nodes)
            .map(|(name, node)| PodSpec::counting(name, node).manifest())
            .collect();
        world.apply(&manifests)?;
        let pods = names
            .iter()
            .map(|name| world.running(name, LATER))
            .collect::<Result<_, _>>()?;
        Ok(Self { world, pods })
    }

    /// It still runs, and was never started again: the same containers go on counting.
    ///
    /// # Errors
    /// One was disturbed.
    pub(crate) fn went_on(&self) -> anyhow::Result<()> {
        for pod in &self.pods {
            let now = self.world.pod(&pod.name)?;
            ensure!(
                now.uid == pod.uid && now.containers == pod.containers && now.restarts == 0,
                "the CPU pod was disturbed: it was {}, and is {}",
                pod.line(),
                now.line()
            );
            let count = || -> anyhow::Result<u64> {
                let last = self.world.kubectl(&["logs", "--tail=1", &pod.name])?;
                last.trim()
                    .parse()
                    .with_context(|| format!("pod {} counts no more: {last}", pod.name))
            };
            let before = count()?;
            until(
                &format!("pod {} to count on from {before}", pod.name),
                LATER,
                || {
                    let after = count()?;
                    ensure!(after > before, "it is at {after}");
                    Ok(())
                },
            )?;
        }
        Ok(())
    }
}

/// Runs new pods without slices, one on each of these nodes, to their end.
///
/// # Errors
/// One does not come to its end.
pub(crate) fn new_cpu_work_runs(world: &World, nodes: &[&str]) -> anyhow::Result<()> {
    let names: Vec<_> = nodes.iter().map(|node| format!("cpu-new-{node}")).collect();
    let pods: Vec<_> = names
        .iter()
        .zip(nodes)
        .map(|(name, node)| {
            PodSpec::counting(name, node)
                .running(pods::CUDA, &["/bin/sh", "-c", "echo done"])
                .manifest()
        })
        .collect();
    world.apply(&pods)?;
    for name in &names {
        until(&format!("pod {name} to end well"), LATER, || {
            let pod = world.pod(name)?;
            ensure!(pod.phase == "Succeeded", "{}", pod.line());
            Ok(())
        })?;
    }
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    world.delete_pods(&names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(slices: &[&str]) -> BTreeSet<String> {
        slices.iter().map(|&slice| slice.to_owned()).collect()
    }

    #[test]
    fn a_slice_that_two_pods_see_is_told() {
        let shared = BTreeMap::from([
            ("a".to_owned(), set(&["MIG-1"])),
            ("b".to_owned(), set(&["MIG-2", "MIG-1"])),
        ]);
        let error = disjoint(&shared).unwrap_err().to_string();
        assert_eq!(error, "the pods a and b both see MIG-1");
    }

    #[test]
    fn a_gpu_without_a_slice_of_the_pod_is_told() {
        let mut seen = Seen::from_smi("GPU 0: x (UUID: GPU-1)\n  MIG y: (UUID: MIG-a)").unwrap();
        assert!(compare("p", &seen, &["MIG-a".to_owned()]).is_ok());
        assert!(compare("p", &seen, &["MIG-b".to_owned()]).is_err());
        seen.gpus.insert("GPU-2".to_owned());
        assert!(compare("p", &seen, &["MIG-a".to_owned()]).is_err());
    }
}
