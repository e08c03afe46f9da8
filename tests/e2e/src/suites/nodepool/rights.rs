//! Operator and agents may do what they do, and do what they may.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::{A100_SIZE, RESOURCE};
use crate::audit::{self, Audit, Request};
use crate::checks;
use crate::operators::{self, OPERATOR, RELEASE};
use crate::pods::PodSpec;
use crate::pools;
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, until};
use crate::world::{CPUNODE, H100NODE, MIGNODE, NAMESPACE, World};

pub(super) const TESTS: &[Test] = &[Test {
    name: "every_right_is_used_and_no_request_is_forbidden",
    run: every_right,
}];

/// Rights that a day without accidents does not take: whose, and which.
const FOR_ACCIDENTS: &[(&str, &str, &str)] = &[
    (
        OPERATOR,
        "create leases",
        "the lease was deleted: the chart has brought it",
    ),
    (
        OPERATOR,
        "get validatingwebhookconfigurations",
        "read where a conflict is to be told from a refusal",
    ),
    (
        RELEASE,
        "get gpunodes",
        "read where the watch has not told of it yet",
    ),
    (
        RELEASE,
        "list gpunodes",
        "the watch may begin with a stream instead",
    ),
    (
        RELEASE,
        "patch gpunodes",
        "a GpuNode that was nobody's is made its node's",
    ),
    (OPERATOR, "patch events", "the same is told again"),
    (RELEASE, "patch events", "the same is told again"),
];

/// A right: verb, API group, resource with subresource, and object's name where it is for one alone.
type Right = (String, String, String, Option<String>);

fn every_right(world: &World) -> Outcome {
    let audit = Audit::from_now_on(world)?;
    operators::install(world, &["operator.evict=true"])?;
    everyday(world)?;

    for account in [OPERATOR, RELEASE] {
        let user = audit::user(NAMESPACE, account);
        let requests = audit.requests(|whose| whose == user)?;
        ensure!(!requests.is_empty(), "{user} has asked for nothing");
        for (count, what) in audit::counted(&requests) {
            world.log(&format!("{account}: {count} x {what}"));
        }
        let forbidden: BTreeSet<String> = requests
            .iter()
            .filter(|request| request.code == 403)
            .map(Request::line)
            .collect();
        ensure!(forbidden.is_empty(), "not allowed was {forbidden:#?}");
        let rights = rights(world, account)?;
        let unused: Vec<String> = rights
            .iter()
            .filter(|right| !requests.iter().any(|request| uses(request, right)))
            .map(|(verb, _, resource, _)| format!("{verb} {resource}"))
            .collect();
        let excused = |right: &String| {
            FOR_ACCIDENTS
                .iter()
                .find(|(whose, what, _)| *whose == account && what == right)
        };
        for right in &unused {
            let line = match excused(right) {
                Some((_, _, why)) => format!("{account} did not use `{right}` ({why})"),
                None => format!("{account} did not use `{right}`"),
            };
            println!("{line}");
        }
        let left: Vec<&String> = unused
            .iter()
            .filter(|right| excused(right).is_none())
            .collect();
        ensure!(left.is_empty(), "{account} may, and never did: {left:?}");
    }
    Ok(())
}

/// What goes on in a cluster on any day.
fn everyday(world: &World) -> Outcome {
    world.kubectl(&["cordon", H100NODE])?;
    pools::ask(
        world,
        "daily",
        &json!({
            "vmSize": A100_SIZE, "layouts": "MIG1g", "drain": "evict", "nodeLabels": {"a": "b"},
            "nodeTaints": ["e2e=yes:PreferNoSchedule"],
        }),
    )?;
    pools::comes_to_be_ready(world, "daily", 1, LATER)?;
    let node = world.node(MIGNODE);
    checks::allocatable(world, node, RESOURCE, 56, LATER)?;
    world.apply(&[PodSpec::with_slices("load", RESOURCE, 1).replicas(2)])?;
    let before = world.all_running("app=load", 2, LATER)?;
    pools::change(world, "daily", &json!({"layouts": "MIG3g"}))?;
    pools::comes_to_be_ready(world, "daily", 1, LATER)?;
    checks::allocatable(world, node, RESOURCE, 16, LATER)?;
    until("the evicted pods to be replaced", LATER, || {
        let now = world.all_running("app=load", 2, LATER)?;
        let replaced = now
            .iter()
            .all(|pod| before.iter().all(|old| old.uid != pod.uid));
        ensure!(replaced, "they are not");
        Ok(())
    })?;
    world.kubectl(&["scale", "replicaset", "load", "--replicas=0"])?;
    // An operator that starts anew, an agent that starts anew, and a certificate that is lost.
    world.kubectl(&[
        "patch",
        "secret",
        operators::WEBHOOK,
        "--type=merge",
        "--patch",
        r#"{"data": null}"#,
    ])?;
    operators::kill(world, &operators::leader(world)?)?;
    operators::acts(world)?;
    let agent = world.release_pod(RELEASE, MIGNODE)?;
    world.delete_pods(&[&agent.name])?;
    world.kubectl(&["delete", "gpunodes.migpool.dev", H100NODE])?;
    pools::comes_to_be_reported(world, H100NODE, 2)?;
    pools::delete(world, "daily")?;
    pools::comes_to_wear(world, MIGNODE, None, &[])?;
    // A node without GPUs, for which the operator makes what an agent would.
    pools::ask(world, "plain", &json!({"vmSize": CPU_SIZE}))?;
    pools::comes_to_be_ready(world, "plain", 1, LATER)?;
    pools::delete(world, "plain")?;
    pools::comes_to_wear(world, CPUNODE, None, &[]).map(drop)
}

/// A size without GPUs.
const CPU_SIZE: &str = "Standard_DS2_v2";

/// What a service account may do, by all roles that are bound to it.
fn rights(world: &World, account: &str) -> anyhow::Result<BTreeSet<Right>> {
    let mut found = BTreeSet::new();
    for (bindings, roles) in [
        ("clusterrolebindings", "clusterrole"),
        ("rolebindings", "role"),
    ] {
        let list = world.get(&[bindings, "--all-namespaces"])?;
        for binding in list["items"].as_array().context("no list of bindings")? {
            let subjects = binding["subjects"].as_array();
            let is_bound = subjects.into_iter().flatten().any(|subject| {
                subject["kind"] == "ServiceAccount"
                    && subject["name"] == account
                    && subject["namespace"] == NAMESPACE
            });
            if !is_bound {
                continue;
            }
            let role = binding["roleRef"]["name"]
                .as_str()
                .context("a binding of no role")?;
            let namespace = binding["metadata"]["namespace"]
                .as_str()
                .unwrap_or(NAMESPACE);
            let kind = binding["roleRef"]["kind"]
                .as_str()
                .unwrap_or(roles)
                .to_lowercase();
            let role = world.get(&[&kind, role, "--namespace", namespace])?;
            let rules = role["rules"].as_array();
            found.extend(rules.into_iter().flatten().flat_map(of_rule));
        }
    }
    ensure!(!found.is_empty(), "{account} has no rights");
    Ok(found)
}

fn of_rule(rule: &Value) -> Vec<Right> {
    let list = |key: &str| -> Vec<String> {
        let values = rule[key].as_array();
        values
            .into_iter()
            .flatten()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let names: Vec<Option<String>> = match list("resourceNames") {
        names if names.is_empty() => vec![None],
        names => names.into_iter().map(Some).collect(),
    };
    let mut rights = Vec::new();
    for verb in list("verbs") {
        for group in list("apiGroups") {
            for resource in list("resources") {
                for name in &names {
                    rights.push((verb.clone(), group.clone(), resource.clone(), name.clone()));
                }
            }
        }
    }
    rights
}

fn uses(request: &Request, (verb, group, resource, name): &Right) -> bool {
    request.code != 403
        && request.verb == *verb
        && request.group == *group
        && request.resource == *resource
        && name.as_ref().is_none_or(|name| request.name == *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_all_of_its_verbs_with_all_of_its_resources() {
        let rule = json!({
            "apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": ["get", "patch"],
        });
        assert_eq!(of_rule(&rule).len(), 4);
        let named = json!({
            "apiGroups": [""], "resources": ["secrets"], "resourceNames": ["x"], "verbs": ["get"],
        });
        let right = (
            "get".to_owned(),
            String::new(),
            "secrets".to_owned(),
            Some("x".to_owned()),
        );
        assert_eq!(of_rule(&named), [right]);
    }
}
