//! How somebody reaches the Kubernetes of a cluster.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::key::ClusterKey;

/// Hands out kubeconfigs, where the backend has a Kubernetes that they lead to.
pub trait Credentials: Send + Sync + 'static {
    /// A kubeconfig (YAML) that leads to a cluster: `None` if it has no Kubernetes API server. It is made for whoever asks, so
    /// it may be another one each time.
    ///
    /// # Errors
    /// If there is a Kubernetes and no kubeconfig can be made for it.
    fn kubeconfig(
        &self,
        cluster: &ClusterKey,
        who: CredentialKind,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, CredentialsError>> + Send {
        let _ = (cluster, who);
        std::future::ready(Ok(None))
    }
}

impl<T: Credentials> Credentials for Arc<T> {
    fn kubeconfig(
        &self,
        cluster: &ClusterKey,
        who: CredentialKind,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, CredentialsError>> + Send {
        T::kubeconfig(self, cluster, who)
    }
}

/// Whom a kubeconfig is for, with AKS's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CredentialKind {
    /// Somebody who uses the cluster: `clusterUser`.
    User,
    /// Somebody who may do everything: `clusterAdmin`.
    Admin,
    /// Somebody who looks: `clusterMonitoringUser`.
    MonitoringUser,
}

impl CredentialKind {
    /// The name of the kubeconfig in AKS's answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "clusterUser",
            Self::Admin => "clusterAdmin",
            Self::MonitoringUser => "clusterMonitoringUser",
        }
    }
}

impl fmt::Display for CredentialKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why no kubeconfig could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// This kind is not handed out, and asking again does not help; the sentence says which is.
    #[error("{0}")]
    Refused(String),
    /// The Kubernetes does not answer, or does not let it be made.
    #[error("{0}")]
    Unavailable(String),
}
