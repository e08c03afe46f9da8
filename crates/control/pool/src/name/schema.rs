//! JSON Schemas of names: the rules that parsing holds them to, as far as a client can check them beforehand.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{ClusterName, DeploymentName, GroupName, PodName, PoolName, SubscriptionId};
use crate::node_name::NodeName;

/// Says that a name is text of this pattern, and of so many characters at most.
macro_rules! schema {
    ($type:ident, $most:literal, $pattern:literal, $description:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($type))
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "description": $description,
                    "type": "string",
                    "minLength": 1,
                    "maxLength": $most,
                    "pattern": $pattern,
                })
            }
        }
    };
}

schema!(
    SubscriptionId,
    36,
    "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$",
    "The id of a subscription: a UUID."
);
schema!(
    GroupName,
    90,
    "^[-A-Za-z0-9_.()]*[-A-Za-z0-9_()]$",
    "The name of a resource group. It compares without case."
);
schema!(
    ClusterName,
    63,
    "^[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?$",
    "The name of a managed cluster. It compares without case."
);
schema!(
    PoolName,
    12,
    "^[a-z][a-z0-9]*$",
    "The name of an agent pool."
);
schema!(
    DeploymentName,
    64,
    "^[-A-Za-z0-9_.()]+$",
    "The name of a deployment. It compares without case."
);
schema!(
    PodName,
    253,
    "^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "The name of a pod: a DNS subdomain."
);
schema!(
    NodeName,
    253,
    "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
    "The name of a node."
);
