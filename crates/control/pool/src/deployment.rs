//! Deployments: resources that were asked for together, by a template.
//!
//! A deployment's template is read as a whole when it comes, and kept as steps: the bodies of the resources, in the order in
//! which each comes after what it depends on. What has become of each step is kept too, so whoever carries them out may be
//! killed and goes on where it was.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::key::DeploymentKey;
use crate::operation::{OperationError, OperationTarget};

/// Resources that were asked for together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// Which.
    pub key: DeploymentKey,
    /// Where it is on its way.
    pub state: DeploymentState,
    /// What everything that is done for it has in common.
    pub correlation: Uuid,
    /// When it was asked for.
    pub start: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub end: Option<Timestamp>,
    /// Why it did not succeed.
    #[serde(default)]
    pub error: Option<OperationError>,
    /// The hash of its template.
    pub template_hash: String,
    /// The parameters as they are shown: `{"name": {"type", "value"}}`; the value of a secure one is left out.
    #[serde(default)]
    pub parameters: Map<String, Value>,
    /// The outputs as they are shown, once it has succeeded.
    #[serde(default)]
    pub outputs: Map<String, Value>,
    /// What is needed to evaluate the outputs. It is dropped when the deployment ends, with the secure parameters in it.
    #[serde(default)]
    pub pending: Value,
    /// Its resources.
    pub steps: Vec<DeploymentStep>,
}

/// One resource of a deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeploymentStep {
    /// Its name among the steps.
    pub id: Uuid,
    /// The resource.
    pub target: OperationTarget,
    /// The api-version that its body is of.
    pub api_version: String,
    /// Its body; dropped when the step ends.
    #[serde(default)]
    pub body: Value,
    /// The steps that have to succeed before this one begins, by their places.
    #[serde(default)]
    pub after: Vec<usize>,
    /// How it stands.
    pub state: StepState,
    /// The operation on the resource that it has begun.
    #[serde(default)]
    pub operation: Option<Uuid>,
    /// The resource was not there before.
    #[serde(default)]
    pub created: bool,
    /// When it began.
    #[serde(default)]
    pub start: Option<Timestamp>,
    /// When it ended.
    #[serde(default)]
    pub end: Option<Timestamp>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<OperationError>,
}

/// Where a deployment is on its way, with ARM's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DeploymentState {
    /// Its resources are being made.
    Running,
    /// All of them are as asked.
    Succeeded,
    /// One of them is not.
    Failed,
    /// Somebody stopped it; what had begun goes on by itself.
    Canceled,
}

/// How a step of a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StepState {
    /// It waits for others.
    Waiting,
    /// Its resource was asked for.
    Running,
    /// Its resource is as asked.
    Succeeded,
    /// Its resource was refused, or has failed.
    Failed,
}

impl DeploymentState {
    /// Whether nothing is going on.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        self != Self::Running
    }
}

impl fmt::Display for DeploymentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Deployment {
    /// The places of steps that can begin: all that they come after has succeeded.
    #[must_use]
    pub fn ready(&self) -> Vec<usize> {
        let has_succeeded = |place: &usize| {
            self.steps
                .get(*place)
                .is_some_and(|step| step.state == StepState::Succeeded)
        };
        let can_begin = |step: &DeploymentStep| {
            step.state == StepState::Waiting && step.after.iter().all(has_succeeded)
        };
        let steps = self.steps.iter().enumerate();
        steps
            .filter(|(_, step)| can_begin(step))
            .map(|(place, _)| place)
            .collect()
    }

    /// Ends it. What only mattered on the way is forgotten.
    pub fn ended(&mut self, state: DeploymentState, error: Option<OperationError>, now: Timestamp) {
        self.state = state;
        self.error = error;
        self.end = Some(now);
        self.pending = Value::Null;
        for step in &mut self.steps {
            step.body = Value::Null;
        }
    }
}

impl DeploymentStep {
    /// Ends it: well without an error.
    pub fn ended(&mut self, error: Option<OperationError>, now: Timestamp) {
        self.state = if error.is_some() {
            StepState::Failed
        } else {
            StepState::Succeeded
        };
        self.error = error;
        self.end = Some(now);
        self.body = Value::Null;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{ClusterKey, GroupKey};
    use crate::name::SubscriptionId;

    fn step(after: &[usize], state: StepState) -> DeploymentStep {
        let group = GroupKey {
            subscription: SubscriptionId::local(),
            group: "g".parse().unwrap(),
        };
        DeploymentStep {
            id: Uuid::nil(),
            target: OperationTarget::Cluster(ClusterKey {
                group,
                cluster: "c".parse().unwrap(),
            }),
            api_version: "2026-06-01".to_owned(),
            body: Value::from("a body"),
            after: after.to_vec(),
            state,
            operation: None,
            created: false,
            start: None,
            end: None,
            error: None,
        }
    }

    #[test]
    fn a_step_begins_when_all_that_it_comes_after_have_succeeded() {
        use StepState::{Running, Succeeded, Waiting};
        let mut deployment = Deployment {
            key: DeploymentKey {
                group: GroupKey {
                    subscription: SubscriptionId::local(),
                    group: "g".parse().unwrap(),
                },
                deployment: "d".parse().unwrap(),
            },
            state: DeploymentState::Running,
            correlation: Uuid::nil(),
            start: Timestamp::UNIX_EPOCH,
            end: None,
            error: None,
            template_hash: String::new(),
            parameters: Map::new(),
            outputs: Map::new(),
            pending: Value::from("a secret"),
            steps: vec![
                step(&[], Succeeded),
                step(&[0], Waiting),
                step(&[0, 3], Waiting),
                step(&[], Running),
            ],
        };
        assert_eq!(deployment.ready(), [1]);
        deployment.steps[3].ended(None, Timestamp::UNIX_EPOCH);
        assert_eq!(deployment.ready(), [1, 2]);
        deployment.ended(DeploymentState::Canceled, None, Timestamp::UNIX_EPOCH);
        assert_eq!(deployment.pending, Value::Null);
        assert!(deployment.steps.iter().all(|it| it.body.is_null()));
    }
}
