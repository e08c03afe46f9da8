//! The connection, and the requests about the node.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::AsyncBufRead;
use http::Request;
use kube::core::params::{GetParams, Patch, PatchParams, PostParams};
use kube::core::request;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::connection;
use crate::error::{Access, Asked, Error, Failure, causes};
use crate::label_syntax::is_dns_subdomain;

/// How long a request may take in all: a server that hangs must not hang the node.
const REQUEST: Duration = Duration::from_secs(15);

/// How often a change is worked out anew when something else changed in between.
pub(crate) const TRIES: usize = 5;

const NODES: &str = "/api/v1/nodes";

/// Speaks to the API server about one node. A clone shares the connection.
///
/// Made and used within a tokio runtime; one of another runtime needs a client of its own.
#[derive(Clone)]
pub struct NodeClient {
    client: kube::Client,
    node: Arc<str>,
    server: Arc<str>,
    patience: Duration,
}

impl std::fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeClient")
            .field("node", &self.node)
            .field("server", &self.server)
            .finish_non_exhaustive()
    }
}

/// What is looked at of a node; all else is passed over unread.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct NodeNow {
    pub(crate) metadata: Metadata,
    #[serde(default)]
    pub(crate) spec: SpecNow,
    #[serde(default)]
    pub(crate) status: StatusNow,
}

/// What tells one object from another of its name, and one version of it from another.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    pub(crate) uid: String,
    pub(crate) resource_version: String,
}

/// Taints as they come, so that what we don't know of is written back as it was.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SpecNow {
    pub(crate) taints: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StatusNow {
    pub(crate) conditions: Vec<Value>,
    pub(crate) capacity: BTreeMap<String, Value>,
}

impl NodeClient {
    /// Finds out where the API server is and who we are to it: from the kubeconfig, or where there is none as a pod
    /// of the cluster. Asks the server nothing yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`Error::BadNodeName`], or [`Error::Config`] where a file or variable is missing or wrong.
    pub async fn connect(node: &str, kubeconfig: Option<&Path>) -> Result<Self, Error> {
        if !is_dns_subdomain(node) {
            return Err(Error::BadNodeName {
                name: node.to_owned(),
            });
        }
        let config = connection::config(kubeconfig).await?;
        let server = config.cluster_url.to_string();
        let client = connection::client(config)?;
        Ok(Self {
            client,
            node: node.into(),
            server: server.trim_end_matches('/').into(),
            patience: REQUEST,
        })
    }

    /// The same client with requests that may take so long at most, 15 seconds otherwise: at its end a process has
    /// less time.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// The node's name.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The API server's address.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Looks whether the cluster has the node.
    ///
    /// # Errors
    /// [`Error::NodeNotFound`] where it hasn't, other errors where that can't be told.
    pub async fn exists(&self) -> Result<(), Error> {
        self.metadata().await.map(|_| ())
    }

    /// The names of the resources of which the node is said to have any, allocatable or not: `cpu`, `nvidia.com/gpu`.
    ///
    /// # Errors
    /// When the node can't be read.
    pub async fn resources(&self) -> Result<BTreeSet<String>, Error> {
        let capacity = self.node_now().await?.status.capacity.into_iter();
        Ok(capacity
            .filter(|(_, quantity)| quantity.as_str() != Some("0"))
            .map(|(name, _)| name)
            .collect())
    }

    /// The node, for errors.
    pub(crate) fn object(&self) -> String {
        format!("node {}", self.node)
    }

    /// What identifies the node: a small answer, where the whole node's may be large.
    pub(crate) async fn metadata(&self) -> Result<Metadata, Error> {
        let request = request::Request::new(NODES).get_metadata(&self.node, &GetParams::default());
        let node: NodeNow = self.of_node(Access::GET_NODE, request).await?;
        Ok(node.metadata)
    }

    /// The node as it is.
    pub(crate) async fn node_now(&self) -> Result<NodeNow, Error> {
        let request = request::Request::new(NODES).get(&self.node, &GetParams::default());
        self.of_node(Access::GET_NODE, request).await
    }

    /// A merge patch of the node.
    pub(crate) async fn merge_node(&self, manager: &str, patch: &Value) -> Result<(), Error> {
        let request = request::Request::new(NODES).patch_metadata(
            &self.node,
            &merging(manager),
            &Patch::Merge(patch),
        );
        let _: NodeNow = self.of_node(Access::PATCH_NODE, request).await?;
        Ok(())
    }

    /// A server-side apply of the node's metadata and spec that doesn't take from other managers what they own.
    pub(crate) async fn apply_node(&self, manager: &str, body: &Value) -> Result<(), Failure> {
        let request = request::Request::new(NODES).patch_metadata(
            &self.node,
            &PatchParams::apply(manager),
            &Patch::Apply(body),
        );
        let _: NodeNow = self.send(Access::PATCH_NODE, request).await?;
        Ok(())
    }

    /// A server-side apply of the node's status, also over what other managers own.
    pub(crate) async fn apply_node_status(&self, manager: &str, body: &Value) -> Result<(), Error> {
        let request = request::Request::new(NODES).patch_subresource(
            "status",
            &self.node,
            &PatchParams::apply(manager).force(),
            &Patch::Apply(body),
        );
        let _: NodeNow = self.of_node(Access::PATCH_NODE_STATUS, request).await?;
        Ok(())
    }

    async fn of_node<T: DeserializeOwned>(
        &self,
        access: Access,
        request: Result<Request<Vec<u8>>, request::Error>,
    ) -> Result<T, Error> {
        self.send(access, request)
            .await
            .map_err(|failure| self.error(failure, access, &self.object()))
    }

    /// The error that a failure is where no status has a meaning of its own.
    pub(crate) fn error(&self, failure: Failure, access: Access, object: &str) -> Error {
        failure.error(Asked {
            server: &self.server,
            node: &self.node,
            access,
            object,
        })
    }

    /// Sends a request and waits for its answer, not for ever.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        access: Access,
        request: Result<Request<Vec<u8>>, request::Error>,
    ) -> Result<T, Failure> {
        let request = request.map_err(|error| self.unintelligible(access, causes(&error)))?;
        let text = tokio::time::timeout(self.patience, self.client.request_text(request))
            .await
            .map_err(|_| self.silent(access, self.patience))?
            .map_err(|error| self.failure(error, access))?;
        serde_json::from_str(&text).map_err(|error| self.unintelligible(access, error.to_string()))
    }

    /// Sends a request whose answer goes on and on, and waits for its beginning, not for ever.
    pub(crate) async fn stream(
        &self,
        access: Access,
        request: Result<Request<Vec<u8>>, request::Error>,
    ) -> Result<impl AsyncBufRead + use<>, Failure> {
        let request = request.map_err(|error| self.unintelligible(access, causes(&error)))?;
        tokio::time::timeout(self.patience, self.client.request_stream(request))
            .await
            .map_err(|_| self.silent(access, self.patience))?
            .map_err(|error| self.failure(error, access))
    }

    fn unintelligible(&self, access: Access, reason: String) -> Failure {
        Failure::Error(Error::Unintelligible {
            server: self.server.to_string(),
            access,
            reason,
        })
    }

    fn silent(&self, access: Access, patience: Duration) -> Failure {
        Failure::Error(Error::Unreachable {
            server: self.server.to_string(),
            access,
            reason: format!("no answer for {patience:?}"),
        })
    }

    fn failure(&self, error: kube::Error, access: Access) -> Failure {
        let server = self.server.to_string();
        Failure::Error(match error {
            kube::Error::Api(status) => return Failure::Status(status),
            kube::Error::Auth(error) => Error::Config {
                reason: causes(&error),
            },
            kube::Error::Service(error) => match error.downcast_ref::<kube::client::AuthError>() {
                Some(error) => Error::Config {
                    reason: causes(error),
                },
                None => Error::Unreachable {
                    server,
                    access,
                    reason: causes(error.as_ref()),
                },
            },
            kube::Error::HyperError(error) => Error::Unreachable {
                server,
                access,
                reason: causes(&error),
            },
            other => Error::Unintelligible {
                server,
                access,
                reason: causes(&other),
            },
        })
    }
}

/// The parameters of a merge patch in a manager's name.
pub(crate) fn merging(manager: &str) -> PatchParams {
    PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    }
}

/// The parameters of a creation in a manager's name.
pub(crate) fn creating(manager: &str) -> PostParams {
    PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    }
}
