//! Routes of migpool's own types: nodes and pods.

use axum::http::StatusCode;

use super::Routes;
use crate::backend::Backend;
use crate::openapi::Op;
use crate::types::{Node, PodExecEnvironment, PodResource, ResourceList, RunPod};
use crate::{node, pod};

/// What is about the nodes and pods of the cluster of this path. Where Kubernetes runs the pods, whatever is asked of them is
/// a conflict.
pub(super) fn routes<B: Backend>(cluster: &str) -> Routes<B> {
    let nodes = format!("{cluster}/providers/Migpool.Local/nodes");
    let pods = format!("{cluster}/providers/Migpool.Local/pods");
    let pod = format!("{pods}/{{pod}}");
    Routes::new()
        .get(
            &nodes,
            Op::new("Nodes_List", "Lists the nodes of a cluster.")
                .answers::<ResourceList<Node>>(StatusCode::OK),
            node::list::<B>,
        )
        .get(
            &format!("{nodes}/{{node}}"),
            Op::new(
                "Nodes_Get",
                "Gets a node, with its GPUs, their slices, and who holds them.",
            )
            .answers::<Node>(StatusCode::OK),
            node::show::<B>,
        )
        .get(
            &pods,
            Op::new("Pods_List", "Lists the pods that run on local nodes.")
                .answers::<ResourceList<PodResource>>(StatusCode::OK)
                .fails(StatusCode::CONFLICT),
            pod::list::<B>,
        )
        .get(
            &pod,
            Op::new("Pods_Get", "Gets a pod.")
                .answers::<PodResource>(StatusCode::OK)
                .fails(StatusCode::CONFLICT),
            pod::show::<B>,
        )
        .put(
            &pod,
            Op::new("Pods_Run", "Runs a pod; by the machine's own socket only.")
                .takes::<RunPod>()
                .answers::<PodResource>(StatusCode::OK)
                .answers::<PodResource>(StatusCode::CREATED),
            pod::put::<B>,
        )
        .delete(
            &pod,
            Op::new("Pods_Delete", "Ends a pod.")
                .ends(StatusCode::OK)
                .ends(StatusCode::NO_CONTENT),
            pod::delete::<B>,
        )
        .get(
            &format!("{pod}/log"),
            Op::new("Pods_GetLog", "Gets what a container of a pod has printed; by the machine's own socket only.")
                .answers_text()
                .fails(StatusCode::CONFLICT),
            pod::log::<B>,
        )
        .post(
            &format!("{pod}/execEnvironment"),
            Op::new(
                "Pods_GetExecEnvironment",
                "Gets what a program needs to run as if inside a container of a pod; by the machine's own socket only.",
            )
            .answers::<PodExecEnvironment>(StatusCode::OK),
            pod::exec_environment::<B>,
        )
}
