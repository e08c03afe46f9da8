//! Keys: where a record lives.

use std::fmt::{self, Debug, Display};
use std::hash::Hash;

use serde::{Deserialize, Serialize};

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schemars", derive(schemars::JsonSchema))]
pub struct ClusterKey {
    /// The resource group that it is in.
    #[serde(flatten)]
    pub group: GroupKey,
    /// The cluster.
    pub cluster: ClusterName,
}

/// A node pool within a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

impl Key for GroupKey {
    fn path(&self) -> String {
        format!("{}/{}", self.subscription.folded(), self.group.folded())
    }
}

impl Key for ClusterKey {
    fn path(&self) -> String {
        format!("{}/{}", self.group.path(), self.cluster.folded())
    }
}

impl Key for PoolKey {
    fn path(&self) -> String {
        format!("{}/{}", self.cluster.path(), self.pool.folded())
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
