//! What happens to a request: counted, read, authenticated, authorized, handed on, written down.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arm::RequestIds;
use axum::body::{Body, Bytes};
use http::header::{AUTHORIZATION, CACHE_CONTROL, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use identity::{Action, AuditEntry, AuditLog, Identity, Outcome, Principal, PrincipalId};
use jiff::Timestamp;
use tower::{Service, ServiceExt};

use crate::excess::{Excess, Left, PAUSE};
use crate::limits::Limits;
use crate::origin::Origin;
use crate::path::ResourcePath;
use crate::peer::Peer;
use crate::rate::Rates;
use crate::refusal::Refusal;
use crate::sign_in::{Asked, Endpoint};
use crate::view::view_of;

/// The longest method that is written down; those of HTTP are shorter.
const LONGEST_METHOD: usize = 16;

/// The description of what is served. It tells nothing of anybody's resources, so anybody may read it.
const DOCUMENT: &str = "/openapi.json";

/// Answers those who were let in.
pub trait Inner:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Inner for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// All that answers take.
pub(crate) struct Front<S> {
    identity: Identity,
    inner: S,
    limits: Limits,
    rates: Rates,
    excess: Excess,
    origin: Option<Origin>,
    audit: AuditLog,
}

/// What the audit log will say of a request, as far as it is known.
#[derive(Debug)]
struct Record {
    method: String,
    path: String,
    action: Option<Action>,
    principal: Option<Principal>,
    /// Who signed in.
    client: Option<PrincipalId>,
    is_let_in: bool,
    /// More than its peer's share: such ones do not have a line each.
    is_too_many: bool,
    /// Asked every few seconds by what watches the server, and nobody's business.
    is_health: bool,
}

impl<S: Inner> Front<S> {
    pub(crate) fn new(
        identity: Identity,
        inner: S,
        limits: &Limits,
        origin: Option<Origin>,
        audit: AuditLog,
    ) -> Self {
        Self {
            identity,
            inner,
            limits: limits.clone(),
            rates: Rates::new(limits),
            excess: Excess::default(),
            origin,
            audit,
        }
    }

    pub(crate) fn rates(&self) -> &Rates {
        &self.rates
    }

    /// Forgets the peers that have not come for a while, writes down what was only counted of them, and sees that the log is there.
    pub(crate) async fn forget(&self) {
        self.rates.forget();
        self.audit.look();
        self.tell(PAUSE).await;
    }

    /// Writes down what was only counted so far, and returns when all that was recorded is written.
    pub(crate) async fn end(&self) {
        self.tell(Duration::ZERO).await;
        self.audit.flush().await;
    }

    async fn tell(&self, pause: Duration) {
        for Left { address, count } in self.excess.forget(pause, Instant::now()) {
            let ids = RequestIds::of(&HeaderMap::new());
            let mut entry = nobodys(address, StatusCode::TOO_MANY_REQUESTS, ids);
            entry.requests = Some(count);
            self.audit.record(entry).await;
        }
    }

    /// Answers a request, and writes it down before the client has the answer.
    pub(crate) async fn answer(
        &self,
        address: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (time, began) = (Timestamp::now(), Instant::now());
        let ids = RequestIds::of(request.headers());
        let mut record = Record {
            method: request
                .method()
                .as_str()
                .chars()
                .take(LONGEST_METHOD)
                .collect(),
            path: request.uri().path().to_owned(),
            action: None,
            principal: None,
            client: None,
            is_let_in: false,
            is_too_many: false,
            is_health: false,
        };
        let mut response = match self.handle(address, request, ids, &mut record).await {
            Ok(response) => response,
            Err(Refusal(response)) => *response,
        };
        let status = response.status();
        let headers = response.headers_mut();
        ids.write(headers);
        // Tokens, kubeconfigs, and resources that change: nothing here is for a cache.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let requests = if record.is_too_many {
            let due = self.excess.count(address, began);
            if due.is_none() {
                return response;
            }
            due
        } else {
            None
        };
        if !record.is_health {
            let outcome = match (record.is_let_in, status.as_u16()) {
                (false, _) => Outcome::Denied,
                (true, ..400) => Outcome::Allowed,
                (true, _) => Outcome::Failed,
            };
            let mut entry = AuditEntry {
                time,
                request_id: ids.request,
                correlation_id: ids.correlation,
                peer: address.to_string(),
                principal_id: None,
                principal: None,
                method: record.method,
                path: record.path,
                requests,
                action: record.action,
                outcome,
                status: status.as_u16(),
                duration: began.elapsed(),
            }
            .by(record.principal.as_ref());
            entry.principal_id = entry.principal_id.or(record.client);
            self.audit.record(entry).await;
        }
        response
    }

    /// Writes down that somebody sent what is no request.
    pub(crate) async fn heard_noise(
        &self,
        address: SocketAddr,
        status: StatusCode,
        ids: RequestIds,
    ) {
        let entry = nobodys(address, status, ids);
        self.audit.record(entry).await;
    }

    async fn handle(
        &self,
        address: SocketAddr,
        request: Request<Incoming>,
        ids: RequestIds,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let peer = Peer::from(address.ip());
        if let Err(wait) = self.rates.request(peer) {
            record.is_too_many = true;
            return Err(wait.into());
        }
        let path: ResourcePath = request.uri().path().parse()?;
        path.as_str().clone_into(&mut record.path);
        let origin = match &self.origin {
            Some(origin) => origin.clone(),
            None => Origin::of(request.uri(), request.headers())?,
        };
        match Endpoint::at(&path) {
            Some(endpoint) => {
                self.sign_in(endpoint, peer, request, &origin, ids, record)
                    .await
            }
            None if path.as_str() == DOCUMENT => self.document(request, ids, record).await,
            None => self.resource(&path, request, &origin, ids, record).await,
        }
    }

    async fn sign_in(
        &self,
        endpoint: Endpoint,
        peer: Peer,
        request: Request<Incoming>,
        origin: &Origin,
        ids: RequestIds,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        record.is_health = endpoint == Endpoint::Health;
        let (parts, body) = request.into_parts();
        endpoint.check_method(&parts.method)?;
        if endpoint.takes_a_secret()
            && let Err(wait) = self.rates.sign_in(peer)
        {
            record.is_too_many = true;
            return Ok(endpoint.too_many(wait, ids));
        }
        let most = self.limits.body_bytes.min(endpoint.most_body_bytes());
        let body = self.read(body, most).await?;
        let asked = Asked {
            headers: &parts.headers,
            query: parts.uri.query().unwrap_or_default(),
            body: &body,
            origin,
            ids,
        };
        let (response, client) = endpoint.answer(&self.identity, &asked).await;
        record.is_let_in = !endpoint.takes_a_secret() || client.is_some();
        record.client = client;
        Ok(response)
    }

    async fn document(
        &self,
        request: Request<Incoming>,
        ids: RequestIds,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let (parts, body) = request.into_parts();
        self.read(body, 0).await?;
        record.is_let_in = true;
        let mut request = Request::new(Body::empty());
        *request.method_mut() = parts.method;
        *request.uri_mut() = Uri::from_static(DOCUMENT);
        request.extensions_mut().insert(ids);
        let Ok(response) = self.inner.clone().oneshot(request).await;
        Ok(response)
    }

    async fn resource(
        &self,
        path: &ResourcePath,
        request: Request<Incoming>,
        origin: &Origin,
        ids: RequestIds,
        record: &mut Record,
    ) -> Result<Response<Body>, Refusal> {
        let action = Action::of(request.method(), path.as_str());
        record.action = Some(action);
        let token = bearer(request.headers()).map_err(|why| Refusal::no_token(origin, why))?;
        let principal = self.identity.verify(token).await;
        let principal = principal.map_err(|error| Refusal::token(origin, &error))?;
        record.principal = Some(principal.clone());
        let reach = self
            .identity
            .authorize(&principal, action, path.as_str())
            .await?;
        record.is_let_in = true;

        let (mut parts, body) = request.into_parts();
        let body = self.read(body, self.limits.body_bytes).await?;
        // What was authorized is what is routed, to the letter.
        if parts.uri.path() != path.as_str() || parts.uri.authority().is_some() {
            parts.uri = with_path(&parts.uri, path)?;
        }
        parts.headers.remove(AUTHORIZATION);
        if let Some(host) = origin.host() {
            parts.headers.insert(HOST, host);
        }
        parts.extensions.insert(ids);
        parts.extensions.insert(principal);
        parts.extensions.insert(view_of(&reach));
        let request = Request::from_parts(parts, Body::from(body));
        let Ok(response) = self.inner.clone().oneshot(request).await;
        Ok(response)
    }

    /// Reads a body to its end.
    async fn read(&self, body: Incoming, most: usize) -> Result<Bytes, Refusal> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let announced = body.size_hint().lower();
        if u64::try_from(most).is_ok_and(|most| announced > most) {
            return Err(Refusal::too_large(most));
        }
        let time = self.limits.body_time;
        let whole = Limited::new(body, most).collect();
        match tokio::time::timeout(time, whole).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::too_large(most)),
            Ok(Err(_)) => Err(Refusal::broken_off()),
            Err(_) => Err(Refusal::too_slow(time.as_secs())),
        }
    }
}

/// An entry about what nobody who is known has sent, and no request that could be read.
fn nobodys(address: SocketAddr, status: StatusCode, ids: RequestIds) -> AuditEntry {
    AuditEntry {
        time: Timestamp::now(),
        request_id: ids.request,
        correlation_id: ids.correlation,
        peer: address.to_string(),
        principal_id: None,
        principal: None,
        method: "-".to_owned(),
        path: "-".to_owned(),
        requests: None,
        action: None,
        outcome: Outcome::Denied,
        status: status.as_u16(),
        duration: Duration::ZERO,
    }
}

/// The token that a request carries, or why there is none.
fn bearer(headers: &HeaderMap) -> Result<&str, &'static str> {
    const FORMAT: &str = "The 'Authorization' header must be there once and read 'Bearer TOKEN'.";
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let value = match (all.next(), all.next()) {
        (None, _) => return Err("The 'Authorization' header is missing."),
        // `to_str` goes by bytes, and a token is long. One that is no ASCII is not a token: it is refused as such.
        (Some(value), None) => str::from_utf8(value.as_bytes()).map_err(|_| FORMAT)?,
        (Some(_), Some(_)) => return Err(FORMAT),
    };
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(FORMAT),
    }
}

/// The URL that the front behind is given: `path`, and the query as it came.
fn with_path(uri: &Uri, path: &ResourcePath) -> Result<Uri, Refusal> {
    let whole = match uri.query() {
        Some(query) => format!("{}?{query}", path.as_str()),
        None => path.as_str().to_owned(),
    };
    let whole = PathAndQuery::try_from(whole).map_err(|_| crate::path::PathError::NotText)?;
    Ok(Uri::from(whole))
}
