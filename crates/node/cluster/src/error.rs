//! Why something could not be said to the API server, told apart by what a person has to do about it.

use std::fmt;

use kube::core::Status;

/// What was asked for, in the terms of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// `patch`
    pub verb: &'static str,
    /// `nodes/status`; with its API group behind it where that is not the core: `events.events.k8s.io`
    pub resource: &'static str,
}

impl Access {
    pub(crate) const GET_NODE: Self = Self::new("get", "nodes");
    pub(crate) const PATCH_NODE: Self = Self::new("patch", "nodes");
    pub(crate) const PATCH_NODE_STATUS: Self = Self::new("patch", "nodes/status");
    pub(crate) const GET_POD: Self = Self::new("get", "pods");
    pub(crate) const EVICT_POD: Self = Self::new("create", "pods/eviction");
    pub(crate) const CREATE_EVENT: Self = Self::new("create", "events.events.k8s.io");
    pub(crate) const PATCH_EVENT: Self = Self::new("patch", "events.events.k8s.io");

    pub(crate) const fn new(verb: &'static str, resource: &'static str) -> Self {
        Self { verb, resource }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)
    }
}

/// Why the cluster was not told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The node's name can't be one.
    #[error(
        "{name:?} is not the name of a node: set NODE_NAME to the pod's spec.nodeName, as the chart does"
    )]
    BadNodeName {
        /// What was given.
        name: String,
    },
    /// It can't be told where the API server is, or who we are to it.
    #[error("cannot tell how to reach the API server: {reason}")]
    Config {
        /// Which file or variable is missing or wrong.
        reason: String,
    },
    /// Nobody answers, or not in time, or it is not the cluster's server.
    #[error("the API server at {server} does not answer ({access}): {reason}")]
    Unreachable {
        /// Its address.
        server: String,
        /// What was asked for.
        access: Access,
        /// What happened instead of an answer.
        reason: String,
    },
    /// The server is there and can't serve right now.
    #[error("the API server at {server} is too busy or not ready ({access}): {message}")]
    Busy {
        /// Its address.
        server: String,
        /// What was asked for.
        access: Access,
        /// What it said.
        message: String,
    },
    /// The server doesn't know who we are.
    #[error(
        "the API server at {server} does not accept this service account's token ({access}): {message}; \
         the kubelet renews the token of a pod by itself, a kubeconfig has to be renewed by hand"
    )]
    Unauthorized {
        /// Its address.
        server: String,
        /// What was asked for.
        access: Access,
        /// What it said.
        message: String,
    },
    /// No role gives the right to it.
    #[error(
        "not allowed to {access}: {message}; the chart's roles allow it: are they there and bound to this service account?"
    )]
    Forbidden {
        /// The right that is missing.
        access: Access,
        /// What the server said.
        message: String,
    },
    /// The right is there, and an admission policy of the cluster says no all the same.
    #[error("the cluster's admission does not let this {access} pass: {message}")]
    Denied {
        /// What was asked for.
        access: Access,
        /// What the policy said.
        message: String,
    },
    /// The cluster has no node of that name.
    #[error(
        "the cluster has no node {node:?}: is NODE_NAME the name that `kubectl get nodes` shows, or was the node deleted?"
    )]
    NodeNotFound {
        /// The name.
        node: String,
    },
    /// The cluster does not have the resource `NodeFeature`.
    #[error(
        "the cluster has no NodeFeature resource (nfd.k8s-sigs.io/v1alpha1): install Node Feature Discovery, \
         or choose --output node, which needs nothing else"
    )]
    NoNodeFeatureResource,
    /// The cluster does not have the resource `GpuNode`.
    #[error(
        "the cluster has no GpuNode resource (migpool.dev/v1alpha1): install the CustomResourceDefinitions of the \
         chart migpool, or run the agent without --gpu-node"
    )]
    NoGpuNodeResource,
    /// The node's `GpuNode` was deleted, or made anew.
    #[error("the GpuNode {node} is not the one that it was, and is looked for again: {message}")]
    GpuNodeGone {
        /// The name.
        node: String,
        /// What the server said.
        message: String,
    },
    /// Somebody else kept changing the same thing.
    #[error("{access} of {object} met other changes again and again: {message}")]
    Conflict {
        /// What was asked for.
        access: Access,
        /// Of what.
        object: String,
        /// What the server said last.
        message: String,
    },
    /// The server understood and says that it is wrong.
    #[error("the API server refused to {access} ({code}): {message}")]
    Refused {
        /// What was asked for.
        access: Access,
        /// The HTTP status.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The answer can't be read.
    #[error("the answer of {server} is not an API server's ({access}): {reason}")]
    Unintelligible {
        /// The server's address.
        server: String,
        /// What was asked for.
        access: Access,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// Whether it is a matter of waiting alone: nobody has to change anything for it to pass.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Busy { .. }
                | Self::Conflict { .. }
                | Self::GpuNodeGone { .. }
        )
    }
}

/// What came back instead of what was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server's own word.
    Status(Box<Status>),
    /// Everything else.
    Error(Error),
}

/// Who was asked for what, for an error to say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) server: &'a str,
    pub(crate) node: &'a str,
    pub(crate) access: Access,
    /// The object: `node mignode`.
    pub(crate) object: &'a str,
}

impl Failure {
    /// The error that it is where no status has a meaning of its own.
    pub(crate) fn error(self, asked: Asked<'_>) -> Error {
        match self {
            Self::Error(error) => error,
            Self::Status(status) => of_status(&status, asked),
        }
    }
}

/// Which error a status is.
pub(crate) fn of_status(status: &Status, asked: Asked<'_>) -> Error {
    let access = asked.access;
    let server = asked.server.to_owned();
    let message = said(status);
    match status.code {
        401 => Error::Unauthorized {
            server,
            access,
            message,
        },
        403 if is_missing_right(&message, access) => Error::Forbidden { access, message },
        403 => Error::Denied { access, message },
        422 if message.contains("denied request") => Error::Denied { access, message },
        404 if is_of_nodes(access) && is_missing(status, asked.node) => Error::NodeNotFound {
            node: asked.node.to_owned(),
        },
        404 if status.details.is_none() => Error::Unintelligible {
            server,
            access,
            reason: message,
        },
        409 => Error::Conflict {
            access,
            object: asked.object.to_owned(),
            message,
        },
        // A server that starts or ends answers with these, too.
        429 | 500 | 502..=504 => Error::Busy {
            server,
            access,
            message,
        },
        code => Error::Refused {
            access,
            code,
            message,
        },
    }
}

fn is_of_nodes(access: Access) -> bool {
    access.resource == "nodes" || access.resource.starts_with("nodes/")
}

/// Whether the status says that there is no object of this name, as an API server's does, and not that there is no such
/// path, as that of anything else behind the address.
pub(crate) fn is_missing(status: &Status, object: &str) -> bool {
    let details = status.details.as_ref();
    status.code == 404 && details.is_some_and(|details| details.name == object)
}

/// The authorizer's wording, as against that of an admission policy: `User "x" cannot patch resource "nodes"`.
fn is_missing_right(message: &str, access: Access) -> bool {
    message.contains(&format!(" cannot {} resource \"", access.verb))
}

/// The server's message, or its reason where it has none.
pub(crate) fn said(status: &Status) -> String {
    let text = if status.message.trim().is_empty() {
        &status.reason
    } else {
        &status.message
    };
    clipped(text.trim(), 1000)
}

/// At most `most` bytes of a text, cut between characters.
pub(crate) fn clipped(text: &str, most: usize) -> String {
    const MORE: &str = "...";
    if text.len() <= most {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(most.saturating_sub(MORE.len()));
    format!("{}{MORE}", text.get(..end).unwrap_or_default())
}

/// An error and its causes in one line, without what was said already.
pub(crate) fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    fn of(code: u16, message: &str, access: Access) -> Error {
        let details = StatusDetails {
            name: "mignode".into(),
            group: String::new(),
            kind: "nodes".into(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        let status = Status::failure(message, "Whatever")
            .with_code(code)
            .with_details(details);
        let asked = Asked {
            server: "https://10.96.0.1:443",
            node: "mignode",
            access,
            object: "node mignode",
        };
        of_status(&status, asked)
    }

    #[test]
    fn a_missing_right_is_named_by_verb_and_resource() {
        let error = of(
            403,
            r#"nodes "mignode" is forbidden: User "system:serviceaccount:migpool:migpool" cannot patch resource "nodes/status" in API group "" at the cluster scope"#,
            Access::PATCH_NODE_STATUS,
        );
        assert!(matches!(error, Error::Forbidden { .. }), "{error:?}");
        let text = error.to_string();
        assert!(
            text.starts_with("not allowed to patch nodes/status: "),
            "{text}"
        );
        assert!(
            text.contains("serviceaccount:migpool:migpool") && text.contains("chart"),
            "{text}"
        );
    }

    #[test]
    fn a_policy_that_says_no_is_not_taken_for_a_missing_right() {
        let policy = r#"nodes "mignode" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: a node cannot change a resource of another one"#;
        let webhook =
            r#"admission webhook "w" denied the request: labels outside nvidia.com/ are not ours"#;
        for (code, message) in [(403, policy), (422, policy), (403, webhook)] {
            let error = of(code, message, Access::PATCH_NODE);
            assert!(
                matches!(error, Error::Denied { .. }),
                "{code} gave {error:?}"
            );
        }
    }

    #[test]
    fn only_what_passes_by_itself_is_transient() {
        let transient = [429, 500, 502, 503, 504, 409];
        for code in transient {
            assert!(of(code, "m", Access::GET_NODE).is_transient(), "{code}");
        }
        for code in [400, 401, 403, 404, 405, 422] {
            assert!(!of(code, "m", Access::GET_NODE).is_transient(), "{code}");
        }
    }

    #[test]
    fn a_node_that_is_not_there_is_not_a_pod_that_is_not_there() {
        assert_eq!(
            of(404, "m", Access::PATCH_NODE_STATUS),
            Error::NodeNotFound {
                node: "mignode".into()
            }
        );
        assert!(matches!(
            of(404, "m", Access::GET_POD),
            Error::Refused { code: 404, .. }
        ));
    }

    #[test]
    fn something_else_on_the_servers_port_is_not_taken_for_a_cluster_without_the_node() {
        let status = Status::failure("404 page not found", "").with_code(404);
        let asked = Asked {
            server: "http://localhost",
            node: "mignode",
            access: Access::GET_NODE,
            object: "node mignode",
        };
        let error = of_status(&status, asked);
        assert!(matches!(error, Error::Unintelligible { .. }), "{error:?}");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(clipped("äöü", 6), "äöü");
        assert_eq!(clipped("äöüäöü", 8), "äö...");
    }
}
