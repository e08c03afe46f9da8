//! What is answered without a token: how to sign in, signing in, and whether the server is there.
//!
//! | Path | |
//! |---|---|
//! | `GET /metadata/endpoints` | what `az cloud register` asks for |
//! | `GET /{authority}/[v2.0/].well-known/openid-configuration`, `/{authority}/discovery/[v2.0/]keys` | discovery, as MSAL and Azure's SDKs do it |
//! | `GET /common/discovery/instance` | whether the authority is known |
//! | `POST /{authority}/oauth2/[v2.0/]token` | a service principal's sign-in (OAuth 2.0, client credentials) |
//! | `GET /msi/token` | the managed identity's sign-in, as App Service has it |
//! | `GET /healthz` | whether the server is there |
//!
//! Beside these, the resources' own `GET /openapi.json` needs no token.
//!
//! An authority is the tenant's id, `common`, `organizations`, or `adfs`: with the last one `az` asks no server but this one.

mod discovery;
mod managed_identity;
mod oauth;

use arm::{ArmError, RequestIds};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::response::IntoResponse;
use http::header::{ALLOW, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use identity::{Identity, PrincipalId, TenantId};

use crate::origin::Origin;
use crate::path::ResourcePath;
use crate::rate::Wait;
use crate::refusal::Refusal;

/// The largest form that is read, in bytes.
const MOST_FORM_BYTES: usize = 16 * 1024;

/// What is answered without a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Health,
    Clouds,
    OpenIdConfiguration(Authority, Edition),
    Keys,
    Instance,
    Token(Authority),
    /// Where a person would sign in with a browser, if that were possible.
    Interactive,
    ManagedIdentity,
}

/// At whose door a client signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authority {
    Adfs,
    Any,
    Tenant(TenantId),
}

/// Which of Microsoft's two generations of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edition {
    First,
    Second,
}

/// A request, as far as signing in goes.
pub(crate) struct Asked<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) query: &'a str,
    pub(crate) body: &'a Bytes,
    pub(crate) origin: &'a Origin,
    pub(crate) ids: RequestIds,
}

impl Authority {
    fn of(word: &str) -> Option<Self> {
        match word {
            "adfs" => Some(Self::Adfs),
            "common" | "organizations" => Some(Self::Any),
            id => id.parse().ok().map(Self::Tenant),
        }
    }

    /// Whether it is another tenant's.
    fn is_strange(self, identity: &Identity) -> Option<TenantId> {
        match self {
            Self::Tenant(tenant) if tenant != identity.tenant() => Some(tenant),
            _ => None,
        }
    }
}

impl Endpoint {
    /// The endpoint at a path, if there is one. All else is a resource.
    pub(crate) fn at(path: &ResourcePath) -> Option<Self> {
        use Edition::{First, Second};
        const CONFIGURATION: &str = "openid-configuration";
        const RESOURCES: &str = "/subscriptions/";
        // Nearly all requests, and no authority has this name.
        let start = path.as_str().get(..RESOURCES.len());
        if start.is_some_and(|start| start.eq_ignore_ascii_case(RESOURCES)) {
            return None;
        }
        let words = path.words();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let (authority, rest) = match words.as_slice() {
            ["healthz"] => return Some(Self::Health),
            ["metadata", "endpoints"] => return Some(Self::Clouds),
            ["msi", "token"] => return Some(Self::ManagedIdentity),
            ["common", "discovery", "instance"] => return Some(Self::Instance),
            // Whoever was told `.../adfs` as the place to sign in may put a tenant behind it.
            ["adfs", authority, rest @ ..] if Authority::of(authority).is_some() => {
                (Authority::of(authority)?, rest)
            }
            [authority, rest @ ..] => (Authority::of(authority)?, rest),
            [] => return None,
        };
        match rest {
            [".well-known", CONFIGURATION] => Some(Self::OpenIdConfiguration(authority, First)),
            ["v2.0", ".well-known", CONFIGURATION] => {
                Some(Self::OpenIdConfiguration(authority, Second))
            }
            ["discovery", "keys"] | ["discovery", "v2.0", "keys"] => Some(Self::Keys),
            ["oauth2", "token"] | ["oauth2", "v2.0", "token"] => Some(Self::Token(authority)),
            ["oauth2", ..] => Some(Self::Interactive),
            _ => None,
        }
    }

    /// Whether asking it is an attempt to sign in.
    pub(crate) fn takes_a_secret(self) -> bool {
        matches!(self, Self::Token(_) | Self::ManagedIdentity)
    }

    pub(crate) fn most_body_bytes(self) -> usize {
        match self {
            Self::Token(_) => MOST_FORM_BYTES,
            _ => 0,
        }
    }

    pub(crate) fn check_method(self, method: &Method) -> Result<(), Refusal> {
        let (fits, allowed) = match self {
            Self::Interactive => return Ok(()),
            Self::Token(_) => (method == Method::POST, "POST"),
            Self::ManagedIdentity => (method == Method::GET, "GET"),
            _ => (method == Method::GET || method == Method::HEAD, "GET, HEAD"),
        };
        if fits {
            return Ok(());
        }
        let message = format!("This endpoint has no such method. Use {allowed}.");
        let error = ArmError::gateway(
            StatusCode::METHOD_NOT_ALLOWED,
            "HttpMethodNotAllowed",
            message,
        );
        Err(Refusal::from(error).with(ALLOW, HeaderValue::from_static(allowed)))
    }

    /// The answer, and who has signed in with it.
    pub(crate) async fn answer(
        self,
        identity: &Identity,
        asked: &Asked<'_>,
    ) -> (Response<Body>, Option<PrincipalId>) {
        let response = match self {
            Self::Health => "ok\n".into_response(),
            Self::Clouds => discovery::clouds(identity, asked),
            Self::OpenIdConfiguration(authority, edition) => {
                discovery::openid_configuration(identity, asked, authority, edition)
            }
            Self::Keys => Json(identity.key_set()).into_response(),
            Self::Instance => discovery::instance(identity, asked),
            Self::Interactive => oauth::no_browser(asked),
            Self::Token(authority) => return oauth::token(identity, asked, authority).await,
            Self::ManagedIdentity => return managed_identity::token(identity, asked).await,
        };
        (response, None)
    }

    /// The answer to one more attempt than are taken, in the words that this endpoint's clients read.
    pub(crate) fn too_many(self, wait: Wait, ids: RequestIds) -> Response<Body> {
        let Wait(seconds) = wait;
        let message = format!(
            "Too many attempts to sign in came from this address. Try again in {seconds} seconds."
        );
        let status = StatusCode::TOO_MANY_REQUESTS;
        let mut response = match self {
            Self::ManagedIdentity => managed_identity::refuse(status, &message, ids),
            _ => oauth::refuse(status, oauth::Code::Unavailable, &message, ids),
        };
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, seconds.into());
        response
    }
}

/// The client id of a token that was given out.
fn client(id: &str) -> Option<PrincipalId> {
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/adfs/oauth2/token", Some(Endpoint::Token(Authority::Adfs)))]
    #[case("/ADFS/OAuth2/Token/", Some(Endpoint::Token(Authority::Adfs)))]
    #[case(
        "/organizations/oauth2/v2.0/token",
        Some(Endpoint::Token(Authority::Any))
    )]
    #[case(
        "/adfs/organizations/oauth2/token",
        Some(Endpoint::Token(Authority::Any))
    )]
    #[case("/adfs/adfs/oauth2/v2.0/token", Some(Endpoint::Token(Authority::Adfs)))]
    #[case("/adfs/oauth2/authorize", Some(Endpoint::Interactive))]
    #[case("/common/oauth2/v2.0/devicecode", Some(Endpoint::Interactive))]
    #[case("/msi/token", Some(Endpoint::ManagedIdentity))]
    #[case("/healthz", Some(Endpoint::Health))]
    #[case("/subscriptions/oauth2/token", None)]
    #[case("/subscriptions/a/oauth2/token", None)]
    #[case("/healthz/x", None)]
    #[case("/", None)]
    fn what_needs_no_token_is_told_by_the_whole_path(
        #[case] path: &str,
        #[case] endpoint: Option<Endpoint>,
    ) {
        assert_eq!(Endpoint::at(&path.parse().unwrap()), endpoint);
    }
}
