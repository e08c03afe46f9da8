//! What service accounts may do, held against what they did.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::audit::{self, Audit, Request};
use crate::world::{NAMESPACE, World};

/// A right that a test does not come to use: whose, which (`get secrets`), and why.
pub(crate) type Excuse = (&'static str, &'static str, &'static str);

/// A right: verb, API group, resource with subresource, and object's name where it is for one alone.
type Right = (String, String, String, Option<String>);

/// An account has used every right that it has, apart from those that are excused, and was forbidden nothing. The answer is what
/// it asked.
///
/// # Errors
/// It has a right too many or too few.
pub(crate) fn are_used(
    world: &World,
    audit: &Audit,
    account: &str,
    excused: &[Excuse],
) -> anyhow::Result<Vec<Request>> {
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
    let mut left = Vec::new();
    for right in of(world, account)? {
        if requests.iter().any(|request| uses(request, &right)) {
            continue;
        }
        let (verb, _, resource, _) = right;
        let right = format!("{verb} {resource}");
        let excuse = excused
            .iter()
            .find(|(whose, what, _)| *whose == account && *what == right);
        if let Some((_, _, why)) = excuse {
            println!("{account} did not use `{right}` ({why})");
        } else {
            println!("{account} did not use `{right}`");
            left.push(right);
        }
    }
    ensure!(left.is_empty(), "{account} may, and never did: {left:?}");
    Ok(requests)
}

/// What a service account may do, by all roles that are bound to it.
fn of(world: &World, account: &str) -> anyhow::Result<BTreeSet<Right>> {
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
    use serde_json::json;

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
