//! Which path leads to which handler.

mod agent_pool;
mod deployment;
mod described;
mod local;
mod managed_cluster;
mod resource_group;
mod subscription;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, Uri};
use axum::response::{IntoResponse, Response};
use tower::Service;

use crate::account::Account;
use crate::backend::{App, Backend};
use crate::error::ArmError;
use crate::openapi::{self, Op};
use crate::{path, request_id};

pub(crate) use described::Routes;

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

/// The front: a service that answers every request. Cheap to clone; all clones answer from the same backend.
#[derive(Clone, Debug)]
pub struct Front {
    router: Router,
    account: Arc<Account>,
}

impl Front {
    /// The front over `backend`. The controller runs beside it, over the same backend.
    pub fn new<B: Backend>(backend: Arc<B>, settings: FrontSettings) -> Self {
        let account = Arc::new(settings.account);
        let router = routes::<B>()
            .into_router()
            .fallback(no_such_path)
            .method_not_allowed_fallback(no_such_method)
            .with_state(App {
                backend,
                scheme: settings.scheme,
                account: Arc::clone(&account),
                answers: Arc::default(),
            });
        Self { router, account }
    }
}

/// What is done with every request, around the router: routing looks at the path that was brought into one case here. One step
/// and not a layer each: every layer of axum's costs as much as reading a record, and so does a router around the router.
impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answered = request_id::Answered::of(&request);
        let mut request = path::in_one_case(request);
        DefaultBodyLimit::max(MAX_BODY_BYTES).apply(&mut request);
        let answering = match self.account.check(request.uri().path()) {
            Ok(()) => Ok(self.router.call(request)),
            Err(error) => Err(error),
        };
        Box::pin(async move {
            let response = match answering {
                Ok(answering) => answering.await?,
                Err(error) => error.into_response(),
            };
            Ok(answered.with_ids(response))
        })
    }
}

/// All there is, and what the OpenAPI document says of it.
pub(crate) fn routes<B: Backend>() -> Routes<B> {
    const GROUPS: &str = "/subscriptions/{subscription}/resourceGroups";
    const PROVIDER: &str = "/subscriptions/{subscription}/providers/Microsoft.ContainerService";
    let group = format!("{GROUPS}/{{group}}");
    let provider = format!("{group}/providers/Microsoft.ContainerService");
    let clusters = format!("{provider}/managedClusters");
    let cluster = format!("{clusters}/{{cluster}}");
    subscription::routes()
        .and(resource_group::routes(GROUPS))
        .and(resource_group::operations(PROVIDER))
        .and(managed_cluster::routes(&clusters, PROVIDER))
        .and(agent_pool::routes(&cluster))
        .and(agent_pool::snapshots(PROVIDER, &provider))
        .and(local::routes(&cluster))
        .and(deployment::routes(&group))
        .get(
            "/openapi.json",
            Op::new("OpenApi_Get", "Gets this document.")
                .answers_object()
                .for_everybody(),
            openapi::show::<B>,
        )
}

async fn no_such_path(uri: Uri) -> ArmError {
    ArmError::no_such_path(uri.path())
}

async fn no_such_method(method: Method, uri: Uri) -> ArmError {
    ArmError::no_such_method(method.as_str(), uri.path())
}
