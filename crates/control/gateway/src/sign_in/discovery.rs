//! Documents that clients read before they sign in.

use arm::ArmError;
use axum::Json;
use axum::body::Body;
use axum::response::IntoResponse;
use http::{Response, StatusCode};
use identity::Identity;
use serde_json::{Value, json};

use super::oauth::{self, Code};
use super::{Asked, Authority, Edition};

/// The name under which `az cloud register` may list this cloud.
const NAME: &str = "migpool";
/// From this version on the clouds are a list.
const LIST_FROM: &str = "2019-05-01";
/// From this version on it is the one cloud again, in the list's form.
const ONE_FROM: &str = "2022-09-01";

/// ARM's `metadata/endpoints`, in the shape of the version that is asked for.
pub(super) fn clouds(identity: &Identity, asked: &Asked<'_>) -> Response<Body> {
    let mut query = form_urlencoded::parse(asked.query.as_bytes());
    let Some((_, version)) = query.find(|(key, _)| key.eq_ignore_ascii_case("api-version")) else {
        return ArmError::gateway(
            StatusCode::BAD_REQUEST,
            "MissingApiVersionParameter",
            "The api-version query parameter (?api-version=) is required for all requests.",
        )
        .into_response();
    };
    let origin = asked.origin;
    let authentication = json!({
        "loginEndpoint": format!("{origin}/adfs"),
        "audiences": [identity.audience()],
        "tenant": "adfs",
        "identityProvider": "ADFS",
    });
    // Dates in this form sort as text.
    if version.as_ref() < LIST_FROM {
        return Json(json!({
            "galleryEndpoint": "",
            "graphEndpoint": "",
            "portalEndpoint": "",
            "authentication": authentication,
        }))
        .into_response();
    }
    // What is left out does not exist here, and clients say so when they need it.
    let cloud = json!({
        "name": NAME,
        "resourceManager": origin.to_string(),
        "authentication": authentication,
        "suffixes": {},
    });
    if version.as_ref() < ONE_FROM {
        return Json(json!([cloud])).into_response();
    }
    Json(cloud).into_response()
}

/// An authority's `.well-known/openid-configuration`.
pub(super) fn openid_configuration(
    identity: &Identity,
    asked: &Asked<'_>,
    authority: Authority,
    edition: Edition,
) -> Response<Body> {
    if let Some(tenant) = authority.is_strange(identity) {
        return oauth::no_tenant(tenant, asked.ids);
    }
    Json(configuration(identity, asked, authority, edition)).into_response()
}

fn configuration(
    identity: &Identity,
    asked: &Asked<'_>,
    authority: Authority,
    edition: Edition,
) -> Value {
    let name = match authority {
        Authority::Adfs => "adfs".to_owned(),
        // Clients take the tenant from the token endpoint.
        Authority::Any | Authority::Tenant(_) => identity.tenant().to_string(),
    };
    let base = format!("{}/{name}", asked.origin);
    let (oauth2, keys) = match edition {
        Edition::First => ("oauth2", "discovery/keys"),
        Edition::Second => ("oauth2/v2.0", "discovery/v2.0/keys"),
    };
    json!({
        "issuer": identity.issuer(),
        "authorization_endpoint": format!("{base}/{oauth2}/authorize"),
        "device_authorization_endpoint": format!("{base}/{oauth2}/devicecode"),
        "token_endpoint": format!("{base}/{oauth2}/token"),
        "jwks_uri": format!("{base}/{keys}"),
        "grant_types_supported": ["client_credentials"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
    })
}

/// Says of an authorization endpoint whether it is this server's.
pub(super) fn instance(identity: &Identity, asked: &Asked<'_>) -> Response<Body> {
    let origin = asked.origin.to_string();
    let endpoint = form_urlencoded::parse(asked.query.as_bytes())
        .find(|(key, _)| key == "authorization_endpoint")
        .map(|(_, endpoint)| endpoint.into_owned())
        .unwrap_or_default();
    let is_ours = endpoint
        .strip_prefix(&origin)
        .is_some_and(|rest| rest.starts_with('/'));
    if !is_ours {
        let message = format!("The authority of '{endpoint}' is not this server, {origin}.");
        return oauth::refuse(
            StatusCode::BAD_REQUEST,
            Code::InvalidInstance,
            &message,
            asked.ids,
        );
    }
    let host = origin.trim_start_matches("https://");
    let tenant = identity.tenant();
    Json(json!({
        "tenant_discovery_endpoint": format!("{origin}/{tenant}/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
    }))
    .into_response()
}
