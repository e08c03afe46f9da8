//! Deleting certain machines of an agent pool, which has so many fewer then.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;

use pool::{
    Change, Invalid, NodeName, NodePhase, NodePool, ObservedNode, PoolKey, PowerState,
    ProvisioningState, StoreError, transition,
};

use super::{find, machine, parent};
use crate::api_version::ApiVersion;
use crate::backend::{App, Backend};
use crate::body::Body;
use crate::error::ArmError;
use crate::long_running::Origin;
use crate::path::At;
use crate::properties;
use crate::resource_group::{ATTEMPTS, gave_up};

const TARGET: &str = "machineNames";

/// How many machines are named in an error.
const NAMED: usize = 5;

pub(crate) async fn delete_machines<B: Backend>(
    State(app): State<App<B>>,
    _: ApiVersion,
    At(key): At<PoolKey>,
    origin: Origin,
    mut body: Body,
) -> Result<Response, ArmError> {
    let names = match body.take(TARGET) {
        Some(names) => properties::list(TARGET, names)?,
        None => Vec::new(),
    };
    let store = &*app.backend;
    for _ in 0..ATTEMPTS {
        let cluster = parent(store, &key.cluster).await?;
        if cluster.record.power == PowerState::Stopped {
            return Err(ArmError::cluster_stopped(&key.cluster));
        }
        let stored = find(store, &key).await?;
        if stored.record.provisioning_state == ProvisioningState::Deleting {
            return Err(ArmError::being_deleted(&format!(
                "the node pool '{}'",
                key.pool
            )));
        }
        let nodes = machine::of_pool(store, &key).await?;
        let there: BTreeSet<&NodeName> = nodes
            .iter()
            .filter(|node| is_there(node, &stored.record))
            .map(|node| &node.spec.name)
            .collect();
        let mut pool = without(stored.record.clone(), &names, &there)?;
        let now = Timestamp::now();
        let scaling = ProvisioningState::Scaling;
        let (operation, mut changes) = transition::begin(store, &mut pool, scaling, now).await?;
        changes.push(Change::update(&pool, stored.revision)?);
        changes.push(Change::unchanged(&cluster));
        match store.commit(changes).await {
            Ok(_) => {
                let mut response = StatusCode::ACCEPTED.into_response();
                let subscription = &key.cluster.group.subscription;
                let location = &cluster.record.location;
                let id = operation.key.id;
                origin.operation(response.headers_mut(), subscription, location, id);
                origin.result(response.headers_mut(), subscription, location, id);
                return Ok(response);
            }
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(&key))
}

/// It is there, and is not on its way out yet.
fn is_there(node: &ObservedNode, pool: &NodePool) -> bool {
    node.phase != NodePhase::Deleting && !pool.leaving.contains(&node.spec.name)
}

/// The pool as it is to be once the machines of these names are gone. All of them are among those that are there.
fn without(
    mut pool: NodePool,
    names: &[String],
    there: &BTreeSet<&NodeName>,
) -> Result<NodePool, Invalid> {
    let mut going = BTreeSet::new();
    for name in names {
        let found = there
            .iter()
            .find(|node| node.as_str().eq_ignore_ascii_case(name));
        let node = found.ok_or_else(|| unknown(&pool, name, there))?;
        going.insert((*node).clone());
    }
    let count = u32::try_from(going.len()).unwrap_or(u32::MAX);
    if count == 0 {
        return Err(Invalid::parameter(
            TARGET,
            "The parameter machineNames is required: the names of the machines that are to be deleted.",
        ));
    }
    let least = pool
        .spec
        .auto_scaling
        .map_or(pool.spec.mode.min_count(), |it| it.min_count);
    let left = pool.spec.count.checked_sub(count);
    let Some(left) = left.filter(|left| *left >= least) else {
        return Err(Invalid::parameter(
            TARGET,
            format!(
                "The node pool '{}' has a count of {}, and at least {least} must be left, so {count} can't be deleted.",
                pool.key.pool, pool.spec.count
            ),
        ));
    };
    pool.spec.count = left;
    pool.leaving.append(&mut going);
    Ok(pool)
}

fn unknown(pool: &NodePool, name: &str, there: &BTreeSet<&NodeName>) -> Invalid {
    let has = if there.is_empty() {
        "It has none.".to_owned()
    } else {
        let named: Vec<&str> = there.iter().take(NAMED).map(|name| name.as_str()).collect();
        let more = match there.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("It has {}{more}.", named.join(", "))
    };
    Invalid::parameter(
        TARGET,
        format!(
            "There is no machine '{name}' in node pool '{}', so none was deleted. {has}",
            pool.key.pool
        ),
    )
}
