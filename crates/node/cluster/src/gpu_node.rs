//! The node's `GpuNode` object, by which the node's agent and the operator speak with each other.

use gpu_node::{AGENT, GpuNodeSpec, GpuNodeStatus};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::params::{ListParams, Patch, PatchParams, WatchParams};
use kube::core::request;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use crate::client::{NodeClient, creating};
use crate::error::{Access, Error, Failure, is_missing, said};
use crate::watch::GpuNodeWatch;

const VERSION: &str = "migpool.dev/v1alpha1";
const RESOURCE: &str = "gpunodes.migpool.dev";
const STATUS: &str = "gpunodes/status.migpool.dev";

/// How long a watch goes on, in seconds; then the object is asked for again.
pub(crate) const WATCH: u32 = 290;

/// What the node's agent has to know of its `GpuNode`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuNodeNow {
    /// Tells it from others of its name, before and after it.
    pub uid: String,
    /// The generation of the spec.
    pub generation: i64,
    /// Whose it is.
    pub owner: Owner,
    /// It is being deleted.
    pub is_ending: bool,
    /// What the operator wants.
    pub spec: GpuNodeSpec,
    /// What its status said last of conditions.
    pub conditions: Vec<Condition>,
    /// What its status said last of the last change.
    pub last_actions: Vec<String>,
}

/// Whose a `GpuNode` is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's: it stays when the node goes.
    #[default]
    Nobody,
    /// That of the node with this UID.
    Node(String),
}

/// The node's `GpuNode`, and when that was.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GpuNodeSnapshot {
    /// The object, if there is one.
    pub object: Option<GpuNodeNow>,
    /// The version of all `GpuNode` objects then: a [watch](NodeClient::watch_gpu_node) goes on from there.
    pub version: String,
}

/// As it comes; all else is passed over unread.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Object {
    metadata: Metadata,
    #[serde(deserialize_with = "in_full")]
    spec: GpuNodeSpec,
    status: StatusNow,
}

/// What can't be understood is not to be done in part.
fn in_full<'de, D: Deserializer<'de>>(deserializer: D) -> Result<GpuNodeSpec, D::Error> {
    GpuNodeSpec::in_full(Value::deserialize(deserializer)?).map_err(D::Error::custom)
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    uid: String,
    generation: i64,
    resource_version: String,
    deletion_timestamp: Option<String>,
    owner_references: Vec<Reference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reference {
    kind: String,
    name: String,
    uid: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct StatusNow {
    conditions: Vec<Condition>,
    last_actions: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct List {
    metadata: Metadata,
    items: Vec<Object>,
}

impl Object {
    pub(crate) fn read(self, node: &str) -> GpuNodeNow {
        let owners = self.metadata.owner_references;
        let mut owners = owners
            .into_iter()
            .filter(|owner| owner.kind == "Node" && owner.name == node);
        GpuNodeNow {
            uid: self.metadata.uid,
            generation: self.metadata.generation,
            owner: owners
                .next()
                .map_or(Owner::Nobody, |owner| Owner::Node(owner.uid)),
            is_ending: self.metadata.deletion_timestamp.is_some(),
            spec: self.spec,
            conditions: self.status.conditions,
            last_actions: self.status.last_actions,
        }
    }
}

impl NodeClient {
    /// The node's `GpuNode` as it is.
    ///
    /// # Errors
    /// [`Error::NoGpuNodeResource`] where the cluster does not know the resource, others where it can't be read.
    pub async fn gpu_node(&self) -> Result<GpuNodeSnapshot, Error> {
        const ACCESS: Access = Access::new("list", RESOURCE);
        // Not a get: a watch from the version of an object that has not changed for long is refused as too old.
        let list = ListParams::default().fields(&self.only_ours());
        let list: List = self.of_resource(ACCESS, path().list(&list)).await?;
        let object = list.items.into_iter().next();
        Ok(GpuNodeSnapshot {
            object: object.map(|object| object.read(self.node())),
            version: list.metadata.resource_version,
        })
    }

    /// The UID of the node, as owners are named by it.
    ///
    /// # Errors
    /// [`Error::NodeNotFound`] where there is no such node, others where that can't be told.
    pub async fn uid(&self) -> Result<String, Error> {
        Ok(self.metadata().await?.uid)
    }

    /// Makes the node's `GpuNode`, with nothing in it, as the property of the node with this UID.
    ///
    /// # Errors
    /// [`Error::Conflict`] where there is one by now, [`Error::NoGpuNodeResource`] where the cluster does not know the
    /// resource, others where it can't be made.
    pub async fn create_gpu_node(&self, owner: &str) -> Result<GpuNodeNow, Error> {
        const ACCESS: Access = Access::new("create", RESOURCE);
        let mut body = self.owned_by(owner);
        if let Some(body) = body.as_object_mut() {
            body.insert("spec".to_owned(), json!({}));
        }
        let request = path().create(&creating(AGENT), body.to_string().into_bytes());
        let object: Object = self.of_resource(ACCESS, request).await?;
        Ok(object.read(self.node()))
    }

    /// Makes a `GpuNode` that is nobody's the property of the node with this UID, so that it goes with it.
    ///
    /// # Errors
    /// When it can't be changed.
    pub async fn own_gpu_node(&self, owner: &str) -> Result<(), Error> {
        const ACCESS: Access = Access::new("patch", RESOURCE);
        let body = self.owned_by(owner);
        let apply = PatchParams::apply(AGENT).force();
        let request = path().patch_metadata(self.node(), &apply, &Patch::Apply(body));
        let _: Object = self.of_resource(ACCESS, request).await?;
        Ok(())
    }

    /// Makes the status of the `GpuNode` with this UID exactly this.
    ///
    /// # Errors
    /// [`Error::GpuNodeGone`] where there is no such object (any more), [`Error::NoGpuNodeResource`] where the cluster
    /// does not know the resource, others where it can't be changed.
    pub async fn apply_gpu_node_status(
        &self,
        uid: &str,
        status: &GpuNodeStatus,
    ) -> Result<(), Error> {
        const ACCESS: Access = Access::new("patch", STATUS);
        let body = json!({
            "apiVersion": VERSION,
            "kind": "GpuNode",
            "metadata": {"name": self.node(), "uid": uid},
            "status": status,
        });
        let request = path().patch_subresource(
            "status",
            self.node(),
            &PatchParams::apply(AGENT).force(),
            &Patch::Apply(&body),
        );
        let gone = |message: String| Error::GpuNodeGone {
            node: self.node().to_owned(),
            message,
        };
        match self.send::<Value>(ACCESS, request).await {
            Ok(_) => Ok(()),
            // A conflict is one of UIDs: the status is applied by force.
            Err(Failure::Status(status))
                if status.code == 409 || is_missing(&status, self.node()) =>
            {
                Err(gone(said(&status)))
            }
            Err(failure) => Err(self.of_gpu_node(failure, ACCESS)),
        }
    }

    /// What becomes of the node's `GpuNode` from a version on, for some minutes.
    ///
    /// # Errors
    /// [`Error::NoGpuNodeResource`] where the cluster does not know the resource, others where it can't be watched.
    /// A version that is too old is none: the watch says so.
    pub async fn watch_gpu_node(&self, version: &str) -> Result<GpuNodeWatch, Error> {
        const ACCESS: Access = Access::new("watch", RESOURCE);
        let parameters = WatchParams::default()
            .fields(&self.only_ours())
            .timeout(WATCH);
        let request = path().watch(&parameters, version);
        match self.stream(ACCESS, request).await {
            Ok(stream) => Ok(GpuNodeWatch::new(self.clone(), ACCESS, Box::pin(stream))),
            Err(Failure::Status(status)) if status.code == 410 => {
                Ok(GpuNodeWatch::expired(self.clone(), ACCESS))
            }
            Err(failure) => Err(self.of_gpu_node(failure, ACCESS)),
        }
    }

    fn only_ours(&self) -> String {
        format!("metadata.name={}", self.node())
    }

    fn owned_by(&self, owner: &str) -> Value {
        json!({
            "apiVersion": VERSION,
            "kind": "GpuNode",
            "metadata": {
                "name": self.node(),
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": self.node(), "uid": owner,
                }],
            },
        })
    }

    async fn of_resource<T: DeserializeOwned>(
        &self,
        access: Access,
        request: Result<Request<Vec<u8>>, request::Error>,
    ) -> Result<T, Error> {
        self.send(access, request)
            .await
            .map_err(|failure| self.of_gpu_node(failure, access))
    }

    /// The error that a failure is where nothing but the resource itself can be missing.
    pub(crate) fn of_gpu_node(&self, failure: Failure, access: Access) -> Error {
        match failure {
            Failure::Status(status) if status.code == 404 && !is_missing(&status, self.node()) => {
                Error::NoGpuNodeResource
            }
            failure => self.error(failure, access, &format!("GpuNode {}", self.node())),
        }
    }
}

fn path() -> request::Request {
    request::Request::new(format!("/apis/{VERSION}/gpunodes"))
}
