//! Keys: where a record lives.

use std::fmt::{self, Debug, Display};
use std::hash::Hash;

use serde::{Deserialize, Deserializer, Serialize};

use crate::name::{ClusterName, DeploymentName, GroupName, PoolName, SubscriptionId};

/// The key of a record.
pub trait Key: Clone + Debug + Display + Eq + Hash + Ord + Send + Sync + 'static {
    /// The key as text that is equal for all spellings: lower-case names joined by `/`. A store keeps records by it.
    fn path(&self) -> String;
}

/// A resource group within a subscription.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct GroupKey {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The resource group.
    pub group: GroupName,
}

/// A managed cluster within a resource group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ClusterKey {
    /// The resource group that it is in.
    #[serde(flatten)]
    pub group: GroupKey,
    /// The cluster.
    pub cluster: ClusterName,
}

/// A node pool within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct PoolKey {
    /// The cluster that it is in.
    #[serde(flatten)]
    pub cluster: ClusterKey,
    /// The node pool.
    pub pool: PoolName,
}

/// A deployment within a resource group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeploymentKey {
    /// The resource group that it is in.
    #[serde(flatten)]
    pub group: GroupKey,
    /// The deployment.
    pub deployment: DeploymentName,
}

/// A long-running operation within a subscription.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct OperationKey {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// The operation's own id.
    pub id: uuid::Uuid,
}

/// A cluster's key as it is kept. Flattened fields would be copied once for each key that they are in, and then read.
#[derive(Deserialize)]
#[serde(rename = "ClusterKey")]
struct ClusterNames {
    subscription: SubscriptionId,
    group: GroupName,
    cluster: ClusterName,
}

/// A pool's key as it is kept.
#[derive(Deserialize)]
#[serde(rename = "PoolKey")]
struct PoolNames {
    subscription: SubscriptionId,
    group: GroupName,
    cluster: ClusterName,
    pool: PoolName,
}

impl<'de> Deserialize<'de> for ClusterKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let ClusterNames {
            subscription,
            group,
            cluster,
        } = ClusterNames::deserialize(deserializer)?;
        let group = GroupKey {
            subscription,
            group,
        };
        Ok(Self { group, cluster })
    }
}

impl<'de> Deserialize<'de> for PoolKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let PoolNames {
            subscription,
            group,
            cluster,
            pool,
        } = PoolNames::deserialize(deserializer)?;
        let group = GroupKey {
            subscription,
            group,
        };
        let cluster = ClusterKey { group, cluster };
        Ok(Self { cluster, pool })
    }
}

/// Names in lower case, joined by `/`.
fn path(names: &[&str]) -> String {
    let mut path = names.join("/");
    path.make_ascii_lowercase();
    path
}

impl Key for GroupKey {
    fn path(&self) -> String {
        path(&[self.subscription.as_str(), self.group.as_str()])
    }
}

impl Key for ClusterKey {
    fn path(&self) -> String {
        let GroupKey {
            subscription,
            group,
        } = &self.group;
        path(&[subscription.as_str(), group.as_str(), self.cluster.as_str()])
    }
}

impl Key for PoolKey {
    fn path(&self) -> String {
        let ClusterKey { group, cluster } = &self.cluster;
        path(&[
            group.subscription.as_str(),
            group.group.as_str(),
            cluster.as_str(),
            self.pool.as_str(),
        ])
    }
}

impl Key for DeploymentKey {
    fn path(&self) -> String {
        format!("{}/{}", self.group.path(), self.deployment.folded())
    }
}

impl Key for OperationKey {
    fn path(&self) -> String {
        format!("{}/{}", self.subscription.folded(), self.id)
    }
}

/// The resource's id as ARM writes it.
impl Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/subscriptions/{}/resourceGroups/{}",
            self.subscription, self.group
        )
    }
}

/// The resource's id as AKS writes it: `resourcegroups` without capitals.
impl Display for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/subscriptions/{}/resourcegroups/{}/providers/Microsoft.ContainerService/managedClusters/{}",
            self.group.subscription, self.group.group, self.cluster
        )
    }
}

/// The resource's id as AKS writes it.
impl Display for PoolKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/agentPools/{}", self.cluster, self.pool)
    }
}

/// The resource's id as ARM writes it.
impl Display for DeploymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/providers/Microsoft.Resources/deployments/{}",
            self.group, self.deployment
        )
    }
}

/// The operation's id, without the location that its URL has.
impl Display for OperationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "/subscriptions/{}/operations/{}",
            self.subscription, self.id
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn pool_keys() -> impl Strategy<Value = PoolKey> {
        let names = (
            any::<u128>(),
            "[A-Za-z0-9_()-]{1,9}",
            "[A-Z]{1,9}",
            "[a-z]{1,9}",
        );
        names.prop_map(|(subscription, group, cluster, pool)| PoolKey {
            cluster: ClusterKey {
                group: GroupKey {
                    subscription: uuid::Uuid::from_u128(subscription).into(),
                    group: group.parse().unwrap(),
                },
                cluster: cluster.parse().unwrap(),
            },
            pool: pool.parse().unwrap(),
        })
    }

    /// The spelling counts as well, which keys compare without.
    fn spelled(key: &impl Serialize) -> Value {
        serde_json::to_value(key).unwrap()
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_written(key in pool_keys()) {
            let (pool, cluster) = (spelled(&key), spelled(&key.cluster));
            let names = json!({
                "subscription": key.cluster.group.subscription, "group": key.cluster.group.group,
                "cluster": key.cluster.cluster, "pool": key.pool,
            });
            prop_assert_eq!(&pool, &names, "side by side");
            let read: PoolKey = serde_json::from_value(pool.clone()).unwrap();
            prop_assert_eq!(spelled(&read), pool.clone());
            let read: ClusterKey = serde_json::from_str(&cluster.to_string()).unwrap();
            prop_assert_eq!(spelled(&read), cluster);
            // A pool's key is its cluster's, and a name more.
            let read: ClusterKey = serde_json::from_value(pool).unwrap();
            prop_assert_eq!(read, key.cluster);
        }

        #[test]
        fn a_path_is_in_lower_case_and_within_its_parents(key in pool_keys()) {
            let path = key.path();
            prop_assert_eq!(&path, &path.to_ascii_lowercase());
            let end = |parent: String, name: String| format!("{parent}/{name}");
            prop_assert_eq!(&path, &end(key.cluster.path(), key.pool.folded()));
            let cluster = &key.cluster;
            prop_assert_eq!(cluster.path(), end(cluster.group.path(), cluster.cluster.folded()));
            let group = &cluster.group;
            prop_assert_eq!(group.path(), end(group.subscription.folded(), group.group.folded()));
        }
    }

    #[test]
    fn a_key_without_one_of_its_names_is_refused() {
        let whole = json!({
            "subscription": "00000000-0000-0000-0000-000000000000", "group": "g", "cluster": "c", "pool": "p",
        });
        assert!(serde_json::from_value::<PoolKey>(whole.clone()).is_ok());
        for name in ["subscription", "group", "cluster", "pool"] {
            let mut part = whole.clone();
            part.as_object_mut().unwrap().remove(name);
            let error = serde_json::from_value::<PoolKey>(part).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
