//! Nodes that Cluster API makes: a `MachineDeployment` is scaled, and the nodes of its machines are taken into the pool.
//!
//! Of Cluster API's objects only what is needed is read, as it comes: `spec.replicas` of the `MachineDeployment`, and of each
//! machine the label that says whose it is and `status.nodeRef`. The names are those of cluster.x-k8s.io/v1beta2.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use pool::allocatable::of_boards;
use pool::{PoolKey, ProviderError, Supply, VmSize};
use serde_json::json;

use crate::backend::KubernetesBackend;
use crate::node_pool::{MachineDeploymentReference, NodePool};
use crate::provider::failed;

const GROUP: &str = "cluster.x-k8s.io";

/// The label of a machine that says which `MachineDeployment` it is of.
const DEPLOYMENT: &str = "cluster.x-k8s.io/deployment-name";

/// The annotation by which a machine goes first when there are to be fewer.
const DELETE_MACHINE: &str = "cluster.x-k8s.io/delete-machine";

/// What the annotations begin with by which the cluster autoscaler learns what a node of a set without nodes would have.
const CAPACITY: &str = "capacity.cluster-autoscaler.kubernetes.io";

/// The annotation of a set that the cluster autoscaler scales.
const AUTOSCALED: &str = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size";

/// Who writes the annotations, to server-side apply.
const MANAGER: &str = "migpool-cluster-api";

impl KubernetesBackend {
    /// The machines of a pool whose nodes come from a `MachineDeployment`.
    pub(crate) async fn scaled(
        &self,
        pool: &pool::NodePool,
        object: &NodePool,
    ) -> Result<Supply, ProviderError> {
        let reference = self.reference(object)?;
        let deployment = self.deployment(reference).await?;
        let machines = deployment.data["spec"]["replicas"].as_u64().unwrap_or(1);
        let machines = u32::try_from(machines).unwrap_or(u32::MAX);
        self.annotate(pool, reference, &deployment).await?;
        let nodes = self.nodes_of_machines(reference).await?;
        Ok(Supply::Scaled {
            machines,
            autoscaled: deployment.annotations().contains_key(AUTOSCALED),
            candidates: self.candidates(machines.max(pool.spec.count), pool, object, Some(&nodes)),
        })
    }

    /// Has so many machines.
    pub(crate) async fn resize(&self, pool: &PoolKey, count: u32) -> Result<(), ProviderError> {
        let object = self
            .caches
            .pools
            .get(&kube::runtime::reflector::ObjectRef::new(
                pool.pool.as_str(),
            ));
        let Some(object) = object else {
            return Ok(());
        };
        let reference = self.reference(&object)?;
        let patch = json!({"spec": {"replicas": count}});
        let written = self
            .api(reference, "MachineDeployment", "machinedeployments")
            .patch(
                &reference.machine_deployment,
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await;
        written
            .map(|_| tracing::info!(pool = %pool.pool, count, "machines are asked for"))
            .map_err(|error| failed(&named(reference), &error))
    }

    /// Lets the machine of a node be the first to go.
    pub(crate) async fn mark_machine(&self, node: &str) -> Result<(), ProviderError> {
        let pair = self.pair(node);
        let of = pair.and_then(|pair| pair.gpu_node.spec.pool.clone());
        let pool = of.and_then(|pool| {
            let reference = kube::runtime::reflector::ObjectRef::new(&pool.name);
            self.caches.pools.get(&reference)
        });
        let Some(reference) = pool.and_then(|pool| pool.spec.provider.cluster_api.clone()) else {
            return Ok(());
        };
        let machines = self.machines(&reference).await?;
        let Some(machine) = machines.get(node) else {
            return Ok(());
        };
        let patch = json!({"metadata": {"annotations": {DELETE_MACHINE: "migpool"}}});
        let written = self
            .api(&reference, "Machine", "machines")
            .patch(machine, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        written
            .map(drop)
            .map_err(|error| failed(&format!("Machine {machine}"), &error))
    }

    fn reference<'o>(
        &self,
        object: &'o NodePool,
    ) -> Result<&'o MachineDeploymentReference, ProviderError> {
        if !self.cluster_api {
            return Err(ProviderError::Refused(
                "this operator may not look at Cluster API's objects: install the chart with operator.clusterAPI=true"
                    .to_owned(),
            ));
        }
        object.spec.provider.cluster_api.as_ref().ok_or_else(|| {
            ProviderError::Refused(
                "a provider of type ClusterAPI needs provider.clusterAPI.machineDeployment"
                    .to_owned(),
            )
        })
    }

    fn api(
        &self,
        reference: &MachineDeploymentReference,
        kind: &str,
        plural: &str,
    ) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: GROUP.to_owned(),
            version: "v1beta2".to_owned(),
            api_version: format!("{GROUP}/v1beta2"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::namespaced_with(self.client.clone(), &reference.namespace, &resource)
    }

    async fn deployment(
        &self,
        reference: &MachineDeploymentReference,
    ) -> Result<DynamicObject, ProviderError> {
        let api = self.api(reference, "MachineDeployment", "machinedeployments");
        let found = api.get_opt(&reference.machine_deployment).await;
        found
            .map_err(|error| unread(&named(reference), &error))?
            .ok_or_else(|| ProviderError::Unavailable(format!("there is no {}", named(reference))))
    }

    /// The machines of a deployment, by the node that each has become.
    async fn machines(
        &self,
        reference: &MachineDeploymentReference,
    ) -> Result<BTreeMap<String, String>, ProviderError> {
        let of = format!("{DEPLOYMENT}={}", reference.machine_deployment);
        let list = self
            .api(reference, "Machine", "machines")
            .list(&ListParams::default().labels(&of))
            .await
            .map_err(|error| unread(&format!("machines of {}", named(reference)), &error))?;
        let by_node = list.items.into_iter().filter_map(|machine| {
            let node = machine.data["status"]["nodeRef"]["name"]
                .as_str()?
                .to_owned();
            Some((node, machine.name_any()))
        });
        Ok(by_node.collect())
    }

    async fn nodes_of_machines(
        &self,
        reference: &MachineDeploymentReference,
    ) -> Result<BTreeSet<String>, ProviderError> {
        Ok(self.machines(reference).await?.into_keys().collect())
    }

    /// Tells the cluster autoscaler what a node of this pool has before there is one.
    async fn annotate(
        &self,
        pool: &pool::NodePool,
        reference: &MachineDeploymentReference,
        deployment: &DynamicObject,
    ) -> Result<(), ProviderError> {
        let wanted = capacity(pool);
        let has = deployment.annotations();
        if wanted
            .iter()
            .all(|(key, value)| has.get(key) == Some(value))
        {
            return Ok(());
        }
        let body = json!({
            "apiVersion": format!("{GROUP}/v1beta2"),
            "kind": "MachineDeployment",
            "metadata": {"name": reference.machine_deployment, "annotations": wanted},
        });
        let parameters = PatchParams::apply(MANAGER).force();
        let written = self
            .api(reference, "MachineDeployment", "machinedeployments")
            .patch(
                &reference.machine_deployment,
                &parameters,
                &Patch::Apply(body),
            )
            .await;
        written
            .map(drop)
            .map_err(|error| failed(&named(reference), &error))
    }
}

/// The annotations that say what a node of a pool has: processors, memory, labels, taints, and its slices as far as the
/// autoscaler can be told of them, which is one resource. A layout of several profiles is told by the first.
pub(crate) fn capacity(pool: &pool::NodePool) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    let mut put = |name: &str, value: String| {
        annotations.insert(format!("{CAPACITY}/{name}"), value);
    };
    let Ok(size) = VmSize::find(pool.spec.vm_size()) else {
        return annotations;
    };
    put("cpu", size.vcpus.to_string());
    put("memory", format!("{}Gi", size.memory_gib));
    let boards: BTreeMap<u32, String> = match size.mig_board() {
        Ok((board, count)) => (0..count)
            .map(|index| (index, board.name.clone()))
            .collect(),
        Err(_) => BTreeMap::new(),
    };
    let layout = pool.spec.node_layout();
    let resources = of_boards(&boards, layout.as_ref(), pool.spec.mig_strategy).unwrap_or_default();
    if let Some((resource, count)) = resources.into_iter().next() {
        put("gpu-type", resource);
        put("gpu-count", count.to_string());
    }
    let name = format!("kubernetes.azure.com/agentpool={}", pool.key.pool);
    let labels = pool.spec.node_labels.iter();
    let labels = labels.map(|(key, value)| format!("{key}={value}"));
    let labels: Vec<String> = std::iter::once(name).chain(labels).collect();
    put("labels", labels.join(","));
    if !pool.spec.node_taints.is_empty() {
        let taints = pool.spec.node_taints.iter().map(ToString::to_string);
        put("taints", taints.collect::<Vec<_>>().join(","));
    }
    annotations
}

fn named(reference: &MachineDeploymentReference) -> String {
    format!(
        "MachineDeployment {}/{}",
        reference.namespace, reference.machine_deployment
    )
}

fn unread(object: &str, error: &kube::Error) -> ProviderError {
    ProviderError::Unavailable(match error {
        kube::Error::Api(status) if status.code == 404 => {
            format!("{object} can't be read: this cluster has no Cluster API ({GROUP}/v1beta2)")
        }
        error => format!("{object} can't be read: {error}"),
    })
}
