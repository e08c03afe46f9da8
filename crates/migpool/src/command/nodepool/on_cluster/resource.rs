//! The custom resource that the flags of `nodepool add` mean, and the columns that show one. Pure.

use kubernetes::convert;
use kubernetes::node_pool::{GpuInstanceProfile, Mode as Purpose, Power, Provider};
use kubernetes::{NodePool, NodePoolSpec, state_of};
use mig::MigStrategy;
use pool::Drain;

use crate::command::nodepool::{Add, COLUMNS, Mode, Strategy};
use crate::failure::Failure;
use crate::output::columns;

/// The cluster of a pool that names none.
const CLUSTER: &str = "kubernetes";

/// What `nodepool add` asks for. Whether that can be is the API server's word.
pub(super) fn wanted(add: &Add) -> Result<NodePool, Failure> {
    let profile = add.gpu_instance_profile.as_deref().map(profile);
    let spec = NodePoolSpec {
        cluster_name: add.pool.cluster.cluster_name.clone(),
        resource_group: None,
        subscription: None,
        vm_size: add.node_vm_size.clone(),
        node_selector: None,
        count: count(add.node_count)?,
        gpu_instance_profile: profile.transpose()?,
        layouts: add.layout.clone(),
        mig_strategy: match add.mig_strategy {
            Some(Strategy::None) => MigStrategy::None,
            Some(Strategy::Single) | None => MigStrategy::Single,
            Some(Strategy::Mixed) => MigStrategy::Mixed,
        }
        .into(),
        node_labels: add.labels.iter().cloned().collect(),
        node_taints: add.node_taints.clone(),
        mode: match add.mode {
            Mode::System => Purpose::System,
            Mode::User => Purpose::User,
        },
        max_unavailable: None,
        drain: convert::drain_of(Drain::default()),
        power: Power::default(),
        provider: Provider::default(),
        arm: None,
    };
    Ok(NodePool::new(&add.pool.name, spec))
}

/// A number of nodes, as the custom resource has it.
pub(super) fn count(nodes: u32) -> Result<i32, Failure> {
    i32::try_from(nodes)
        .map_err(|_| Failure::usage(format!("a node pool cannot have {nodes} nodes")))
}

fn profile(text: &str) -> Result<GpuInstanceProfile, Failure> {
    let known: mig::GpuInstanceProfile = text
        .parse()
        .map_err(|error| Failure::usage(format!("{error}")))?;
    Ok(match known {
        mig::GpuInstanceProfile::Mig1g => GpuInstanceProfile::Mig1g,
        mig::GpuInstanceProfile::Mig2g => GpuInstanceProfile::Mig2g,
        mig::GpuInstanceProfile::Mig3g => GpuInstanceProfile::Mig3g,
        mig::GpuInstanceProfile::Mig4g => GpuInstanceProfile::Mig4g,
        mig::GpuInstanceProfile::Mig7g => GpuInstanceProfile::Mig7g,
    })
}

/// The cluster that a pool is said to be in.
pub(super) fn cluster_name(pool: &NodePool) -> &str {
    pool.spec.cluster_name.as_deref().unwrap_or(CLUSTER)
}

/// A pool without what the API server notes for itself.
pub(super) fn shown(mut pool: NodePool) -> NodePool {
    pool.metadata.managed_fields = None;
    pool
}

pub(super) fn table_of_one(pool: &NodePool) -> String {
    table(std::slice::from_ref(pool))
}

/// The columns of a pool on one machine.
pub(super) fn table(pools: &[NodePool]) -> String {
    columns(&COLUMNS, pools.iter().map(row))
}

fn row(pool: &NodePool) -> Vec<String> {
    let spec = &pool.spec;
    let labels = spec.node_selector.iter().flatten();
    let selector: Vec<_> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let profile = spec.gpu_instance_profile.map(|it| it.as_str().to_owned());
    let strategy = match MigStrategy::from(spec.mig_strategy) {
        MigStrategy::None => "None",
        MigStrategy::Single => "Single",
        MigStrategy::Mixed => "Mixed",
    };
    let mode = match spec.mode {
        Purpose::System => "System",
        Purpose::User => "User",
    };
    let message = pool.status.as_ref().map(|status| status.message.clone());
    vec![
        pool.metadata.name.clone().unwrap_or_default(),
        spec.vm_size.clone().unwrap_or_else(|| selector.join(",")),
        spec.count.to_string(),
        profile
            .or_else(|| spec.layouts.clone())
            .unwrap_or_else(|| "-".to_owned()),
        strategy.to_owned(),
        mode.to_owned(),
        state_of(pool).to_string(),
        message.unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        add: Add,
    }

    fn spec(flags: &[&str]) -> Result<Value, Failure> {
        let always = ["add", "--name", "mignode", "--kubeconfig", "k"];
        let line = Line::try_parse_from(always.iter().chain(flags))?;
        let mut pool = serde_json::to_value(wanted(&line.add)?).unwrap();
        assert_eq!(pool["metadata"]["name"], "mignode");
        Ok(pool["spec"].take())
    }

    #[test]
    fn every_flag_of_az_has_its_field() {
        let spec = spec(&[
            "--cluster-name",
            "east",
            "-g",
            "group",
            "-s",
            "Standard_ND96asr_v4",
            "-c",
            "2",
            "--mode",
            "system",
            "--gpu-instance-profile",
            "mig1G",
            "--mig-strategy",
            "mixed",
            "--labels",
            "a=b",
            "c=",
            "--node-taints",
            "sku=gpu:NoSchedule,x:NoExecute",
        ]);
        let expected = json!({
            "clusterName": "east", "vmSize": "Standard_ND96asr_v4", "count": 2, "mode": "System",
            "gpuInstanceProfile": "MIG1g", "migStrategy": "mixed", "nodeLabels": {"a": "b", "c": ""},
            "nodeTaints": ["sku=gpu:NoSchedule", "x:NoExecute"], "drain": "wait", "provider": {"type": "Adopt"},
        });
        assert_eq!(spec.unwrap(), expected);
    }

    #[test]
    fn what_was_not_asked_has_the_defaults_of_one_machine() {
        let spec = spec(&["--layout", "3g.20gb*2"]).unwrap();
        let expected = json!({
            "count": 3, "mode": "User", "migStrategy": "single", "layouts": "3g.20gb*2", "drain": "wait",
            "provider": {"type": "Adopt"},
        });
        assert_eq!(spec, expected);
    }

    #[test]
    fn what_a_cluster_has_no_word_for_is_a_misuse() {
        for flags in [
            &["--gpu-instance-profile", "MIG5g"],
            &["--node-count", "4000000000"],
            &["--tags", "a=b"],
        ] {
            let misuse = spec(flags).unwrap_err();
            assert!(
                matches!(misuse, Failure::Usage { .. } | Failure::Arguments(_)),
                "{misuse}"
            );
        }
    }

    #[test]
    fn a_pool_is_shown_in_the_columns_of_one_machine() {
        let pool = |name: &str, spec: Value, status: Value| -> NodePool {
            serde_json::from_value(json!({
                "apiVersion": "migpool.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": name, "generation": 1},
                "spec": spec, "status": status,
            }))
            .unwrap()
        };
        let done =
            json!({"observedGeneration": 1, "phase": "Succeeded", "nodes": 1, "message": ""});
        let size = json!({"vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g"});
        let labels =
            json!({"nodeSelector": {"a": "b", "c": "d"}, "count": 2, "migStrategy": "none"});
        let shown = table(&[
            pool("mignode", size, done),
            pool("whole", labels, Value::Null),
        ]);
        assert_eq!(
            shown,
            "NAME     VM SIZE              COUNT  PROFILE  STRATEGY  MODE  STATE      MESSAGE\n\
             mignode  Standard_ND96asr_v4  1      MIG1g    Single    User  Succeeded\n\
             whole    a=b,c=d              2      -        None      User  Creating"
        );
    }
}
