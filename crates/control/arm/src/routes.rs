//! Which path leads to which handler.

mod agent_pool;
mod deployment;
mod managed_cluster;
mod subscription;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, Uri};
use axum::routing::{get, post};
use tower::Layer;
use tower::util::MapRequestLayer;

use crate::account::{self, Account};
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::{node, operation, path, pod, request_id, resource_group, resource_list};

/// The largest body that is read: ARM's limit of 4 MiB.
const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;

/// How clients reach the listener: the beginning of the absolute URLs that they are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS: a Unix socket.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What a front says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontSettings {
    /// How clients reach it.
    pub scheme: Scheme,
    /// Whose resources it has.
    pub account: Account,
}

/// The front over `backend`. The controller runs beside it, over the same backend.
pub fn router<B: Backend>(backend: Arc<B>, settings: FrontSettings) -> Router {
    const GROUPS: &str = "/subscriptions/{subscription}/resourcegroups";
    const PROVIDER: &str = "/subscriptions/{subscription}/providers/microsoft.containerservice";
    let group = format!("{GROUPS}/{{group}}");
    let provider = format!("{group}/providers/microsoft.containerservice");
    let clusters = format!("{provider}/managedclusters");
    let cluster = format!("{clusters}/{{cluster}}");
    let nodes = format!("{cluster}/providers/migpool.local/nodes");
    let pods = format!("{cluster}/providers/migpool.local/pods");
    let locations = format!("{PROVIDER}/locations/{{location}}");

    let account = Arc::new(settings.account);
    let inner = agent_pool::routes(&cluster)
        .merge(agent_pool::snapshots(PROVIDER, &provider))
        .merge(managed_cluster::routes(&clusters, PROVIDER))
        .merge(deployment::routes(&group))
        .merge(subscription::routes())
        .route(GROUPS, get(resource_group::list::<B>))
        .route(
            &group,
            get(resource_group::show::<B>)
                .head(resource_group::exists::<B>)
                .put(resource_group::put::<B>)
                .patch(resource_group::patch::<B>)
                .delete(resource_group::delete::<B>),
        )
        .route(
            &format!("{group}/resources"),
            get(resource_list::of_group::<B>),
        )
        .route(
            &format!("{group}/exporttemplate"),
            post(resource_group::export_template::<B>),
        )
        .route(
            "/subscriptions/{subscription}/operationresults/{operation}",
            get(operation::group_result::<B>),
        )
        .route(
            &format!("{locations}/operations/{{operation}}"),
            get(operation::status::<B>),
        )
        .route(
            &format!("{locations}/operationresults/{{operation}}"),
            get(operation::result::<B>),
        )
        .route(&nodes, get(node::list::<B>))
        .route(&format!("{nodes}/{{node}}"), get(node::show::<B>))
        .route(&pods, get(pod::list::<B>))
        .route(
            &format!("{pods}/{{pod}}"),
            get(pod::show::<B>)
                .put(pod::put::<B>)
                .delete(pod::delete::<B>),
        )
        .route(&format!("{pods}/{{pod}}/log"), get(pod::log::<B>))
        .route(
            &format!("{pods}/{{pod}}/execenvironment"),
            post(pod::exec_environment::<B>),
        )
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(App {
            backend,
            scheme: settings.scheme,
            account: Arc::clone(&account),
        })
        .layer(axum::middleware::from_fn_with_state(
            account,
            account::check,
        ));

    // Around the router, not in it: routing looks at the path that this layer has brought into one case.
    let inner = MapRequestLayer::new(path::in_one_case).layer(inner);
    Router::new()
        .fallback_service(inner)
        .layer(axum::middleware::from_fn(request_id::attach))
}

async fn no_such_path(uri: Uri) -> ArmError {
    ArmError::no_such_path(uri.path())
}

async fn no_such_method(method: Method, uri: Uri) -> ArmError {
    ArmError::no_such_method(method.as_str(), uri.path())
}
