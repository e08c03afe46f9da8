//! Resource ids, and the cluster that a command means when it names none.

use clap::Args;
use hyper::Method;
use serde_json::Value;

use crate::client::{Client, SUBSCRIPTION};
use crate::failure::Failure;

/// The path of the resource groups.
pub(crate) fn groups() -> String {
    format!("/subscriptions/{SUBSCRIPTION}/resourceGroups")
}

/// The path of one resource group.
pub(crate) fn group(name: &str) -> String {
    format!("{}/{}", groups(), segment(name))
}

/// The path of a group's clusters, or of all clusters.
pub(crate) fn clusters(in_group: Option<&str>) -> String {
    let scope = in_group.map_or_else(|| format!("/subscriptions/{SUBSCRIPTION}"), group);
    format!("{scope}/providers/Microsoft.ContainerService/managedClusters")
}

/// The path of one cluster.
pub(crate) fn cluster(in_group: &str, name: &str) -> String {
    format!("{}/{}", clusters(Some(in_group)), segment(name))
}

/// One path segment, percent-encoded: a name that the service will refuse must still reach it as one segment.
pub(crate) fn segment(name: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'(' | b')') {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// The cluster that nodes and pods are asked of.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterScope {
    /// The resource group; may be left out while there is only one cluster
    #[arg(
        short = 'g',
        long,
        value_name = "GROUP",
        requires = "cluster_name",
        global = true
    )]
    resource_group: Option<String>,
    /// The cluster; may be left out while there is only one
    #[arg(
        long,
        value_name = "CLUSTER",
        requires = "resource_group",
        global = true
    )]
    cluster_name: Option<String>,
}

impl ClusterScope {
    /// The path of the cluster that is meant.
    pub(crate) async fn path(&self, client: &Client) -> Result<String, Failure> {
        if let (Some(group), Some(name)) = (&self.resource_group, &self.cluster_name) {
            let path = cluster(group, name);
            client.call(Method::GET, &path, None).await?;
            return Ok(path);
        }
        let clusters = client.list(&clusters(None)).await?;
        match clusters.as_slice() {
            [only] => only
                .get("id")
                .and_then(Value::as_str)
                .map(str::to_owned)
                .ok_or_else(|| Failure::failed("the cluster came back without an id")),
            [] => Err(Failure::failed("there is no cluster yet")
                .with_help("create one: migpool group create, migpool cluster create")),
            several => {
                let names: Vec<_> = several
                    .iter()
                    .filter_map(|c| c.get("name").and_then(Value::as_str))
                    .collect();
                Err(Failure::usage(format!(
                    "there are {} clusters ({}): say which",
                    several.len(),
                    names.join(", ")
                ))
                .with_help("add --resource-group GROUP --cluster-name CLUSTER"))
            }
        }
    }
}

/// A string of a JSON object, by pointer; empty when it isn't there.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment_whatever_it_holds() {
        assert_eq!(segment("my group/../x"), "my%20group%2F..%2Fx");
        assert_eq!(segment("myResourceGroup"), "myResourceGroup");
    }
}
