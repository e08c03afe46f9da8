//! The managed identity's token, as App Service gives it out (`IDENTITY_ENDPOINT`, api-version 2019-08-01).

use arm::RequestIds;
use axum::Json;
use axum::body::Body;
use axum::response::IntoResponse;
use http::header::RETRY_AFTER;
use http::{HeaderValue, Response, StatusCode};
use identity::{Identity, PrincipalId, SignInError};
use serde_json::json;

use super::{Asked, client};

const HEADER: &str = "x-identity-header";
const VERSION: &str = "2019-08-01";

pub(super) async fn token(
    identity: &Identity,
    asked: &Asked<'_>,
) -> (Response<Body>, Option<PrincipalId>) {
    let refuse = |status, message: &str| (refuse(status, message, asked.ids), None);
    let wanted = match Wanted::of(asked.query) {
        Ok(wanted) => wanted,
        Err(message) => return refuse(StatusCode::BAD_REQUEST, &message),
    };
    let header = asked.headers.get(HEADER).map(HeaderValue::to_str);
    let Some(Ok(header)) = header else {
        let message = "The header X-IDENTITY-HEADER is missing: it must be the value of IDENTITY_HEADER, which `migpool azure env` prints.";
        return refuse(StatusCode::UNAUTHORIZED, message);
    };
    let issued = identity
        .sign_in_managed_identity(header, wanted.client_id.as_deref(), &wanted.resource)
        .await;
    match issued {
        Ok(token) => {
            let body = Json(json!({
                "access_token": token.access_token,
                "expires_on": token.expires_on.as_second().to_string(),
                "not_before": token.not_before.as_second().to_string(),
                "resource": token.resource,
                "token_type": "Bearer",
                "client_id": token.client_id,
            }));
            (body.into_response(), client(&token.client_id))
        }
        Err(error) => {
            let status = match &error {
                SignInError::WrongHeader | SignInError::WrongCredentials => {
                    StatusCode::UNAUTHORIZED
                }
                SignInError::UnknownClient(_) | SignInError::UnknownResource(_) => {
                    StatusCode::BAD_REQUEST
                }
                SignInError::Busy => StatusCode::SERVICE_UNAVAILABLE,
                SignInError::Failed(_) => {
                    tracing::error!(%error, "the managed identity can't sign in");
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            let (mut response, nobody) = refuse(status, &format!("No token is given: {error}."));
            if error == SignInError::Busy {
                let headers = response.headers_mut();
                headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
            }
            (response, nobody)
        }
    }
}

/// App Service's own shape of an error.
pub(super) fn refuse(status: StatusCode, message: &str, ids: RequestIds) -> Response<Body> {
    let body = json!({
        "statusCode": status.as_u16(),
        "message": message,
        "correlationId": ids.correlation.to_string(),
    });
    (status, Json(body)).into_response()
}

/// What a query asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    resource: String,
    client_id: Option<String>,
}

impl Wanted {
    fn of(query: &str) -> Result<Self, String> {
        let (mut version, mut wanted) = (None, Self::default());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            match key.to_ascii_lowercase().as_str() {
                "api-version" => version = Some(value.into_owned()),
                "resource" => wanted.resource = value.into_owned(),
                // A principal has one id, as client and as object.
                "client_id" | "clientid" | "object_id" | "principal_id" => {
                    wanted.client_id = Some(value.into_owned()).filter(|id| !id.is_empty());
                }
                "mi_res_id" => {
                    return Err(
                        "The managed identity is no resource of its own: leave mi_res_id out."
                            .to_owned(),
                    );
                }
                _ => {}
            }
        }
        if version.as_deref() != Some(VERSION) {
            return Err(format!("The api-version must be '{VERSION}'."));
        }
        if wanted.resource.is_empty() {
            return Err("The parameter 'resource' is missing.".to_owned());
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_its_version_and_resource() {
        let wanted = Wanted::of("api-version=2019-08-01&resource=https%3A%2F%2Fa%2F&client_id=");
        let expected = Wanted {
            resource: "https://a/".to_owned(),
            client_id: None,
        };
        assert_eq!(wanted, Ok(expected));
        for query in [
            "",
            "resource=a",
            "api-version=2018-02-01&resource=a",
            "api-version=2019-08-01",
            "api-version=2019-08-01&resource=a&mi_res_id=b",
        ] {
            assert!(Wanted::of(query).is_err(), "{query}");
        }
    }
}
