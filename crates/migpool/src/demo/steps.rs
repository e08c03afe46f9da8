//! The article's steps, and what it promises of each.

use std::collections::BTreeSet;

use pool::{ObservedNode, Pod, PodPhase};
use serde_json::{Value, json};

use super::control_plane::ControlPlane;
use super::script::{self, Script};
use super::{Demo, Expected, Strategy};
use crate::command::scope;
use crate::failure::Failure;

/// The resource group that everything is in.
pub(super) const GROUP: &str = "myResourceGroup";
const CLUSTER: &str = "myAKSCluster";
const POOL: &str = "mignode";

/// The article's manifests, as printed there: what is asked for, and the manifest.
const SINGLE: &str = include_str!("../../../../examples/single-strategy-example.yaml");
const MIXED: &str = include_str!("../../../../examples/mixed-strategy-example.yaml");
const MIXED_RESOURCE: &str = "nvidia.com/mig-1g.5gb";

/// A pod that asks for no GPU.
const CPU_POD: &str = include_str!("../../../../examples/cpu-example.yaml");

/// Runs them in order. An error ends the demo; a broken promise is told and the next step tried.
pub(crate) fn run(
    demo: &Demo,
    expected: &Expected,
    script: &mut Script,
    plane: &mut ControlPlane,
) -> Result<(), Failure> {
    let mut story = Story {
        demo,
        expected,
        script,
        plane,
    };
    story.resource_group()?;
    story.cluster()?;
    story.node_pool()?;
    story.strategy()?;
    story.plugin_and_discovery()?;
    story.capability()?;
    story.work()?;
    story.troubleshooting()?;
    if demo.keep { Ok(()) } else { story.clean_up() }
}

struct Story<'a> {
    demo: &'a Demo,
    expected: &'a Expected,
    script: &'a mut Script,
    plane: &'a mut ControlPlane,
}

impl Story<'_> {
    fn resource_group(&mut self) -> Result<(), Failure> {
        script::step(1, "A resource group (az group create)");
        let arguments = [
            "group",
            "create",
            "--name",
            GROUP,
            "--location",
            "southcentralus",
        ];
        self.script.run_well(self.plane.command(&arguments))?;
        let group: Value = script::ask(
            self.plane
                .command(&["group", "show", "--name", GROUP, "-o", "json"]),
        )?;
        let state = text(&group, "/properties/provisioningState");
        self.script
            .promise("the group is there", state == "Succeeded", state);
        Ok(())
    }

    fn cluster(&mut self) -> Result<(), Failure> {
        script::step(2, "A cluster (az aks create)");
        let arguments = [
            "cluster",
            "create",
            "--resource-group",
            GROUP,
            "--name",
            CLUSTER,
            "--node-count",
            "1",
        ];
        self.script.run_well(self.plane.command(&arguments))?;
        let ready = self.nodes()?.iter().filter(|node| node.ready).count();
        self.script
            .promise("one node is Ready", ready == 1, &ready.to_string());
        Ok(())
    }

    fn node_pool(&mut self) -> Result<(), Failure> {
        script::step(3, "A multi-instance GPU node pool (az aks nodepool add)");
        let profile = self.demo.gpu_instance_profile.to_string();
        let strategy = self.strategy_name();
        let arguments = [
            "nodepool",
            "add",
            "--name",
            POOL,
            "--resource-group",
            GROUP,
            "--cluster-name",
            CLUSTER,
            "--node-vm-size",
            &self.demo.node_vm_size,
            "--gpu-instance-profile",
            &profile,
            "--node-count",
            "1",
            "--mig-strategy",
            strategy,
        ];
        self.script.run_well(self.plane.command(&arguments))?;
        let pool = self.pool(POOL)?;
        let state = text(&pool, "/properties/provisioningState");
        self.script
            .promise("the pool is made", state == "Succeeded", state);

        let other = if profile == "MIG2g" { "MIG3g" } else { "MIG2g" };
        script::say("The profile cannot be changed after creation:");
        let body = json!({"properties": {
            "count": 1,
            "vmSize": self.demo.node_vm_size,
            "type": "VirtualMachineScaleSets",
            "gpuInstanceProfile": other,
        }});
        let path = format!("{}/agentPools/{POOL}", scope::cluster(GROUP, CLUSTER));
        let arguments = [
            "rest",
            "--method",
            "put",
            "--uri",
            &path,
            "--body",
            &body.to_string(),
        ];
        let ran = script::run(self.plane.command(&arguments))?;
        let kept = text(&self.pool(POOL)?, "/properties/gpuInstanceProfile").to_owned();
        self.script.promise(
            "another profile is refused and changes nothing",
            ran.stderr.contains("PropertyChangeNotAllowed") && kept == profile,
            &format!("{}, still {kept}", ran.status),
        );
        Ok(())
    }

    fn strategy(&mut self) -> Result<(), Failure> {
        let title = format!(
            "MIG strategy {}: CPU work does not notice",
            self.strategy_name()
        );
        script::step(4, &title);
        let manifest = self.write("cpu-example.yaml", CPU_POD)?;
        self.script
            .run_well(self.plane.command(&["pod", "run", "-f", &manifest]))?;
        let pod = self.pod("cpu-only")?;
        let devices: usize = pod.containers.iter().map(|c| c.devices.len()).sum();
        self.script.promise(
            "a pod that asks for no GPU runs and is given none",
            pod.phase == PodPhase::Running && devices == 0,
            &format!("{:?}, {devices} devices", pod.phase),
        );
        Ok(())
    }

    fn plugin_and_discovery(&mut self) -> Result<(), Failure> {
        script::step(
            5,
            "Device plugin and GPU feature discovery (helm install ...)",
        );
        script::say(
            "The node's agent runs both, with the pool's strategy; these are the labels it found:",
        );
        let node = self.gpu_node()?;
        for (key, value) in node
            .labels
            .iter()
            .filter(|(key, _)| key.starts_with("nvidia.com/"))
        {
            script::say(&format!("{key}={value}"));
        }
        let resource = match self.demo.mig_strategy {
            Strategy::Single => "gpu".to_owned(),
            Strategy::Mixed => format!("mig-{}", self.expected.profile).replace('+', "."),
        };
        for (label, wanted) in [
            (
                "nvidia.com/mig.strategy".to_owned(),
                self.strategy_name().to_owned(),
            ),
            ("nvidia.com/mig.capable".to_owned(), "true".to_owned()),
            (
                format!("nvidia.com/{resource}.count"),
                self.expected.slices.to_string(),
            ),
        ] {
            let seen = node.labels.get(&label).map_or("nothing", String::as_str);
            self.script
                .promise(&format!("label {label} is {wanted}"), seen == wanted, seen);
        }
        Ok(())
    }

    fn capability(&mut self) -> Result<(), Failure> {
        script::step(
            6,
            "Multi-instance GPU capability (kubectl get nodes, kubectl describe node mignode)",
        );
        self.script
            .run_well(self.plane.command(&["node", "list"]))?;
        let node = self.gpu_node()?;
        let resource = &self.expected.resource;
        let slices = node.allocatable.get(resource).copied().unwrap_or(0);
        self.script.promise(
            &format!("Allocatable {resource}: {}", self.expected.slices),
            slices == self.expected.slices,
            &slices.to_string(),
        );
        let others: Vec<_> = node
            .allocatable
            .iter()
            .filter(|(name, count)| {
                name.starts_with("nvidia.com/") && name.as_str() != resource && **count > 0
            })
            .map(|(name, count)| format!("{name}: {count}"))
            .collect();
        let seen = if others.is_empty() {
            "nothing".to_owned()
        } else {
            others.join(", ")
        };
        self.script.promise(
            "no other GPU resource is allocatable",
            others.is_empty(),
            &seen,
        );
        Ok(())
    }

    fn work(&mut self) -> Result<(), Failure> {
        script::step(
            7,
            "Schedule work (kubectl apply, kubectl exec ... nvidia-smi -L)",
        );
        let (name, file, manifest) = match self.demo.mig_strategy {
            Strategy::Single => (
                "nvidia-single",
                "single-strategy-example.yaml",
                SINGLE.to_owned(),
            ),
            Strategy::Mixed => {
                let manifest = MIXED.replace(MIXED_RESOURCE, &self.expected.resource);
                ("nvidia-mixed", "mixed-strategy-example.yaml", manifest)
            }
        };
        if self.demo.mig_strategy == Strategy::Mixed && self.expected.resource != MIXED_RESOURCE {
            script::say(&format!(
                "The article's manifest, with {} in the place of {MIXED_RESOURCE}:",
                self.expected.resource
            ));
        }
        let path = self.write(file, &manifest)?;
        self.script
            .run_well(self.plane.command(&["pod", "run", "-f", &path]))?;
        let pod = self.pod(name)?;
        let held: Vec<_> = pod
            .containers
            .iter()
            .flat_map(|c| c.devices.values().flatten())
            .collect();
        self.script.promise(
            "the pod runs and holds one slice",
            pod.phase == PodPhase::Running && held.len() == 1,
            &format!("{:?}, holds {held:?}", pod.phase),
        );
        let slice = held.first().map_or("", |uuid| uuid.as_str()).to_owned();

        self.sees_its_slice(name, &slice)?;
        self.script
            .run_well(self.plane.command(&["node", "map", POOL]))?;

        script::say("More than promised: kill -9 of the control plane, and a start anew.");
        let before = pids(&pod);
        self.plane.kill_and_restart()?;
        let pod = self.pod(name)?;
        let still: Vec<_> = pod
            .containers
            .iter()
            .flat_map(|c| c.devices.values().flatten())
            .collect();
        self.script.promise(
            "the pod runs on, with the same process and slice",
            pod.phase == PodPhase::Running && pids(&pod) == before && still == [&slice],
            &format!("{:?}, processes {:?}", pod.phase, pids(&pod)),
        );
        self.sees_its_slice(name, &slice)?;

        self.script
            .run_well(self.plane.command(&["pod", "delete", name, "cpu-only"]))?;
        let free = self.holders()?;
        self.script.promise(
            "its slice is free again",
            free == 0,
            &format!("{free} slices held"),
        );
        Ok(())
    }

    /// `nvidia-smi -L` in the pod: one GPU, and of its slices only the pod's own.
    fn sees_its_slice(&mut self, name: &str, slice: &str) -> Result<(), Failure> {
        let arguments = ["pod", "exec", name, "--", "nvidia-smi", "-L"];
        let listed = self.script.run_well(self.plane.command(&arguments))?.stdout;
        let gpus = listed
            .lines()
            .filter(|line| line.starts_with("GPU "))
            .count();
        let slices: Vec<_> = listed
            .lines()
            .filter(|line| line.contains("MIG-"))
            .collect();
        let own = !slice.is_empty() && slices.iter().all(|line| line.contains(slice));
        self.script.promise(
            &format!(
                "the pod sees one GPU and exactly its {}",
                self.expected.profile
            ),
            gpus == 1
                && slices.len() == 1
                && own
                && slices
                    .iter()
                    .all(|line| line.contains(&format!("MIG {} ", self.expected.profile))),
            &format!("{gpus} GPU, {} slice", slices.len()),
        );
        Ok(())
    }

    fn troubleshooting(&mut self) -> Result<(), Failure> {
        script::step(
            8,
            "Troubleshooting: an api-version older than 2021-08-01 does not know the profile",
        );
        let profile = self.demo.gpu_instance_profile.to_string();
        let arguments = [
            "nodepool",
            "add",
            "--name",
            "oldapi",
            "--resource-group",
            GROUP,
            "--cluster-name",
            CLUSTER,
            "--node-vm-size",
            &self.demo.node_vm_size,
            "--gpu-instance-profile",
            &profile,
            "--node-count",
            "0",
            "--api-version",
            "2021-07-01",
        ];
        let ran = self.script.run_well(self.plane.command(&arguments))?;
        let pool = self.pool("oldapi")?;
        let seen = text(&pool, "/properties/gpuInstanceProfile");
        self.script.promise(
            "the profile was left out, and a warning says so",
            seen.is_empty() && ran.stderr.contains("2021-08-01"),
            if seen.is_empty() {
                "a pool without a GPU instance profile"
            } else {
                seen
            },
        );
        Ok(())
    }

    fn clean_up(&mut self) -> Result<(), Failure> {
        script::step(9, "Clean up");
        let arguments = [
            "nodepool",
            "delete",
            "--name",
            POOL,
            "--resource-group",
            GROUP,
            "--cluster-name",
            CLUSTER,
        ];
        self.script.run_well(self.plane.command(&arguments))?;
        let gpu_nodes = self
            .nodes()?
            .iter()
            .filter(|node| !node.gpus.is_empty())
            .count();
        self.script.promise(
            "its nodes are gone",
            gpu_nodes == 0,
            &format!("{gpu_nodes} GPU nodes"),
        );
        self.script.run_well(
            self.plane
                .command(&["group", "delete", "--name", GROUP, "--yes"]),
        )?;
        let clusters: Vec<Value> =
            script::ask(self.plane.command(&["cluster", "list", "-o", "json"]))?;
        let left =
            std::fs::read_dir(self.plane.state_dir().join("nodes")).map_or(0, Iterator::count);
        self.script.promise(
            "nothing is left",
            clusters.is_empty() && left == 0,
            &format!("{} clusters, {left} nodes", clusters.len()),
        );
        Ok(())
    }

    fn strategy_name(&self) -> &'static str {
        self.demo.mig_strategy.as_mig().as_str()
    }

    fn nodes(&self) -> Result<Vec<ObservedNode>, Failure> {
        script::ask(self.plane.command(&["node", "list", "-o", "json"]))
    }

    fn gpu_node(&self) -> Result<ObservedNode, Failure> {
        let nodes: Vec<ObservedNode> = script::ask(
            self.plane
                .command(&["node", "describe", POOL, "-o", "json"]),
        )?;
        nodes
            .into_iter()
            .next()
            .ok_or_else(|| Failure::failed("the pool has no node"))
    }

    /// How many slices of the pool's nodes are held.
    fn holders(&self) -> Result<usize, Failure> {
        let node = self.gpu_node()?;
        let holders: BTreeSet<_> = node
            .gpus
            .iter()
            .flat_map(|gpu| &gpu.slices)
            .filter(|slice| slice.holder.is_some())
            .map(|slice| &slice.uuid)
            .collect();
        Ok(holders.len())
    }

    fn pool(&self, name: &str) -> Result<Value, Failure> {
        let arguments = [
            "nodepool",
            "show",
            "--name",
            name,
            "--resource-group",
            GROUP,
            "--cluster-name",
            CLUSTER,
            "-o",
            "json",
        ];
        script::ask(self.plane.command(&arguments))
    }

    fn pod(&self, name: &str) -> Result<Pod, Failure> {
        let pods: Vec<Pod> = script::ask(self.plane.command(&["pod", "list", "-o", "json"]))?;
        pods.into_iter()
            .find(|pod| pod.name.to_string() == name)
            .ok_or_else(|| Failure::failed(format!("pod {name} is not there")))
    }

    /// Writes a manifest beside the state folder, and gives its path.
    fn write(&self, name: &str, text: &str) -> Result<String, Failure> {
        let path = self.plane.state_dir().with_file_name(name);
        std::fs::write(&path, text)?;
        Ok(path.to_string_lossy().into_owned())
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    scope::text(value, pointer)
}

fn pids(pod: &Pod) -> Vec<Option<u32>> {
    pod.containers
        .iter()
        .map(|container| container.pid)
        .collect()
}
