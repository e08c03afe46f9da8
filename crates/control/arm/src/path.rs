//! The paths of resources: their words compare without case, their names are checked.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::Request;
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use pool::{
    ClusterKey, ClusterName, DeploymentKey, GroupKey, Invalid, NodeName, OperationKey, PodName,
    PoolKey, SubscriptionId,
};

use crate::error::ArmError;

/// Brings the words of a request's path into lower case, and leaves the names as they are. Of the URL, path and query are left:
/// whom the client asked is in the `Host` header.
pub(crate) fn in_one_case<T>(mut request: Request<T>) -> Request<T> {
    let uri = request.uri();
    let mut whole = words_in_lower_case(uri.path());
    if let Some(query) = uri.query() {
        whole.push('?');
        whole.push_str(query);
    }
    // Changing ASCII letters' case can't make a valid path invalid; if it ever did, the path stays as it was.
    if let Ok(whole) = PathAndQuery::from_maybe_shared(Bytes::from(whole)) {
        *request.uri_mut() = whole.into();
    }
    request
}

/// In ARM's paths words and names take turns, and after the word `providers` comes a namespace, which is a word too.
fn words_in_lower_case(path: &str) -> String {
    let mut is_word = true;
    let mut lowered = String::with_capacity(path.len().max(1));
    for segment in path.trim_end_matches('/').split('/').skip(1) {
        lowered.push('/');
        let start = lowered.len();
        lowered.push_str(segment);
        if is_word {
            let word = lowered.split_at_mut(start).1;
            word.make_ascii_lowercase();
            is_word = word.contains('.') || word == "providers";
        } else {
            is_word = true;
        }
    }
    if lowered.is_empty() {
        lowered.push('/');
    }
    lowered
}

/// A resource that a path names.
pub(crate) trait Named: Sized {
    fn named(names: &Names<'_>) -> Result<Self, Invalid>;
}

/// The names of a path.
pub(crate) struct Names<'a>(&'a RawPathParams);

impl Names<'_> {
    fn get<T>(&self, word: &str) -> Result<T, Invalid>
    where
        T: FromStr,
        Invalid: From<T::Err>,
    {
        let name = self
            .0
            .iter()
            .find(|(key, _)| *key == word)
            .map_or("", |(_, name)| name);
        Ok(name.parse()?)
    }

    fn operation(&self) -> Result<Uuid, Invalid> {
        let id = self.text("operation");
        Uuid::try_parse(id).map_err(|_| {
            Invalid::new(
                "InvalidOperationId",
                None,
                format!("'{id}' is not the id of an operation."),
            )
        })
    }

    fn text(&self, word: &str) -> &str {
        self.0
            .iter()
            .find(|(key, _)| *key == word)
            .map_or("", |(_, name)| name)
    }
}

/// The resource of a request.
pub(crate) struct At<K>(pub(crate) K);

impl<K: Named, S: Send + Sync> FromRequestParts<S> for At<K> {
    type Rejection = ArmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ArmError> {
        let params = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|error| ArmError::bad_path(&error.to_string()))?;
        Ok(Self(K::named(&Names(&params))?))
    }
}

/// The fields of a request's query. Others are passed over.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ArmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ArmError> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let axum::extract::Query(query) =
            read.map_err(|error| ArmError::bad_path(&error.to_string()))?;
        Ok(Self(query))
    }
}

/// The namespace of a resource provider, as somebody wrote it.
pub(crate) struct Namespace(pub(crate) String);

/// The name of a preview feature, as somebody wrote it.
pub(crate) struct FeatureName(pub(crate) String);

impl Named for (SubscriptionId, Namespace) {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        let namespace = names.text("namespace").to_owned();
        Ok((names.get("subscription")?, Namespace(namespace)))
    }
}

impl Named for (SubscriptionId, Namespace, FeatureName) {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        let (subscription, namespace) = Named::named(names)?;
        let feature = names.text("feature").to_owned();
        Ok((subscription, namespace, FeatureName(feature)))
    }
}

impl Named for SubscriptionId {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        names.get("subscription")
    }
}

impl Named for GroupKey {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        Ok(Self {
            subscription: names.get("subscription")?,
            group: names.get("group")?,
        })
    }
}

impl Named for ClusterKey {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        let cluster: ClusterName = names.get("cluster")?;
        Ok(Self {
            group: GroupKey::named(names)?,
            cluster,
        })
    }
}

impl Named for PoolKey {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        Ok(Self {
            cluster: ClusterKey::named(names)?,
            pool: names.get("pool")?,
        })
    }
}

impl Named for DeploymentKey {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        Ok(Self {
            group: GroupKey::named(names)?,
            deployment: names.get("deployment")?,
        })
    }
}

/// The status of a deployment.
impl Named for (DeploymentKey, Uuid) {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        Ok((DeploymentKey::named(names)?, names.operation()?))
    }
}

impl Named for OperationKey {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        Ok(Self {
            subscription: names.get("subscription")?,
            id: names.operation()?,
        })
    }
}

impl Named for (ClusterKey, NodeName) {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        let node = names.text("node").parse::<NodeName>();
        let node = node.map_err(|error| Invalid::parameter("nodeName", error.to_string()))?;
        Ok((ClusterKey::named(names)?, node))
    }
}

impl Named for (PoolKey, NodeName) {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        let (_, node) = <(ClusterKey, NodeName)>::named(names)?;
        Ok((PoolKey::named(names)?, node))
    }
}

impl Named for (ClusterKey, PodName) {
    fn named(names: &Names<'_>) -> Result<Self, Invalid> {
        Ok((ClusterKey::named(names)?, names.get("pod")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lose_their_case_and_names_keep_it() {
        assert_eq!(
            words_in_lower_case(
                "/Subscriptions/S/resourceGroups/Providers/Providers/Microsoft.ContainerService/managedClusters/ManagedClusters/agentPools/AgentPools/"
            ),
            "/subscriptions/S/resourcegroups/Providers/providers/microsoft.containerservice/managedclusters/ManagedClusters/agentpools/AgentPools"
        );
    }

    #[test]
    fn a_name_with_a_full_stop_is_still_a_name() {
        assert_eq!(
            words_in_lower_case(
                "/subscriptions/S/RESOURCEGROUPS/My.Group/PROVIDERS/Migpool.Local/Pods/A.b/LOG"
            ),
            "/subscriptions/S/resourcegroups/My.Group/providers/migpool.local/pods/A.b/log"
        );
    }
}
