//! A service principal's token: OAuth 2.0 with client credentials (RFC 6749, 4.4), as Microsoft's clients ask for it.

use arm::RequestIds;
use axum::Json;
use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use identity::{Identity, IssuedToken, PrincipalId, SignInError, TenantId};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Asked, Authority, client};

/// An error's name in OAuth, with the number that Microsoft's clients know it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    InvalidRequest,
    InvalidClient,
    InvalidInstance,
    InvalidResource,
    NoTenant,
    UnsupportedGrantType,
    Unavailable,
    ServerError,
}

impl Code {
    fn name(self) -> &'static str {
        match self {
            Self::InvalidRequest | Self::NoTenant => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidInstance => "invalid_instance",
            Self::InvalidResource => "invalid_resource",
            Self::UnsupportedGrantType => "unsupported_grant_type",
            Self::Unavailable => "temporarily_unavailable",
            Self::ServerError => "server_error",
        }
    }

    /// The number of AADSTS.
    fn number(self) -> u32 {
        match self {
            Self::InvalidRequest => 900_144,
            Self::InvalidClient => 7_000_215,
            Self::InvalidInstance => 50_049,
            Self::InvalidResource => 500_011,
            Self::NoTenant => 90_002,
            Self::UnsupportedGrantType => 70_003,
            Self::Unavailable => 90_033,
            Self::ServerError => 90_100,
        }
    }
}

pub(super) async fn token(
    identity: &Identity,
    asked: &Asked<'_>,
    authority: Authority,
) -> (Response<Body>, Option<PrincipalId>) {
    if let Some(tenant) = authority.is_strange(identity) {
        return (no_tenant(tenant, asked.ids), None);
    }
    let form = match Form::of(asked.headers, asked.body) {
        Ok(form) => form,
        Err((code, message)) => {
            let response = refuse(StatusCode::BAD_REQUEST, code, &message, asked.ids);
            return (response, None);
        }
    };
    let issued = identity
        .sign_in_secret(&form.client_id, &form.client_secret, form.wanted.resource())
        .await;
    match issued {
        Ok(token) => {
            let who = client(&token.client_id);
            (Json(form.wanted.answer(&token)).into_response(), who)
        }
        Err(error) => (refuse_sign_in(&error, asked.ids), None),
    }
}

/// OAuth's shape of an error (RFC 6749, 5.2), with what Microsoft's clients look for besides.
pub(super) fn refuse(
    status: StatusCode,
    code: Code,
    message: &str,
    ids: RequestIds,
) -> Response<Body> {
    let number = code.number();
    let time = Timestamp::now().strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    let body = json!({
        "error": code.name(),
        "error_description": format!("AADSTS{number}: {message}"),
        "error_codes": [number],
        "timestamp": time,
        "trace_id": ids.request.to_string(),
        "correlation_id": ids.correlation.to_string(),
    });
    (status, Json(body)).into_response()
}

pub(super) fn no_tenant(tenant: TenantId, ids: RequestIds) -> Response<Body> {
    let message = format!("Tenant '{tenant}' not found. It is not this server's tenant.");
    refuse(StatusCode::BAD_REQUEST, Code::NoTenant, &message, ids)
}

/// Nobody has a password here, so there is no page to type one into.
pub(super) fn no_browser(asked: &Asked<'_>) -> Response<Body> {
    let message = "There is no sign-in with a browser or a device code here: use `az login --identity` (after `migpool azure env`) or `az login --service-principal`.";
    refuse(
        StatusCode::BAD_REQUEST,
        Code::UnsupportedGrantType,
        message,
        asked.ids,
    )
}

fn refuse_sign_in(error: &SignInError, ids: RequestIds) -> Response<Body> {
    let (status, code) = match error {
        SignInError::WrongCredentials | SignInError::WrongHeader => {
            (StatusCode::UNAUTHORIZED, Code::InvalidClient)
        }
        SignInError::UnknownClient(_) => (StatusCode::BAD_REQUEST, Code::InvalidClient),
        SignInError::UnknownResource(_) => (StatusCode::BAD_REQUEST, Code::InvalidResource),
        SignInError::Busy => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        SignInError::Failed(_) => {
            tracing::error!(%error, "a service principal can't sign in");
            (StatusCode::INTERNAL_SERVER_ERROR, Code::ServerError)
        }
    };
    let mut response = refuse(status, code, &format!("No token is given: {error}."), ids);
    if *error == SignInError::Busy {
        let headers = response.headers_mut();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

/// What a token is asked for, in the words of either edition.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Wanted {
    Resource(String),
    Scope(String),
}

impl Wanted {
    fn resource(&self) -> &str {
        match self {
            Self::Resource(resource) => resource,
            Self::Scope(scope) => scope.strip_suffix("/.default").unwrap_or(scope),
        }
    }

    /// The first edition writes numbers as text, and says more.
    fn answer(&self, token: &IssuedToken) -> Value {
        let life = token.expires_on.duration_since(Timestamp::now()).as_secs();
        match self {
            Self::Scope(_) => json!({
                "token_type": "Bearer",
                "expires_in": life,
                "ext_expires_in": life,
                "access_token": token.access_token,
            }),
            Self::Resource(_) => json!({
                "token_type": "Bearer",
                "expires_in": life.to_string(),
                "ext_expires_in": life.to_string(),
                "expires_on": token.expires_on.as_second().to_string(),
                "not_before": token.not_before.as_second().to_string(),
                "resource": token.resource,
                "access_token": token.access_token,
            }),
        }
    }
}

/// The form of a sign-in.
struct Form {
    client_id: String,
    client_secret: String,
    wanted: Wanted,
}

impl Form {
    fn of(headers: &HeaderMap, body: &[u8]) -> Result<Self, (Code, String)> {
        const TYPE: &str = "application/x-www-form-urlencoded";
        let kind = headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case(TYPE) {
            return Err((
                Code::InvalidRequest,
                format!("The request body must be of type {TYPE}."),
            ));
        }
        let mut fields = Fields::default();
        for (name, value) in form_urlencoded::parse(body) {
            fields.take(&name, value.into_owned())?;
        }
        fields.check()
    }
}

/// The fields of a form that mean something here.
#[derive(Default)]
struct Fields {
    grant_type: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    client_assertion: Option<String>,
    resource: Option<String>,
    scope: Option<String>,
}

impl Fields {
    fn take(&mut self, name: &str, value: String) -> Result<(), (Code, String)> {
        let field = match name {
            "grant_type" => &mut self.grant_type,
            "client_id" => &mut self.client_id,
            "client_secret" => &mut self.client_secret,
            "client_assertion" => &mut self.client_assertion,
            "resource" => &mut self.resource,
            "scope" => &mut self.scope,
            _ => return Ok(()),
        };
        if field.replace(value).is_some() {
            let message = format!("The parameter '{name}' is there more than once.");
            return Err((Code::InvalidRequest, message));
        }
        Ok(())
    }

    fn check(self) -> Result<Form, (Code, String)> {
        let there = |field: Option<String>| field.filter(|text| !text.is_empty());
        let missing = |name: &str| {
            let message =
                format!("The request body must contain the following parameter: '{name}'.");
            (Code::InvalidRequest, message)
        };
        let grant = there(self.grant_type).ok_or_else(|| missing("grant_type"))?;
        if grant != "client_credentials" {
            let message = format!(
                "The grant type '{grant}' is not supported: only service principals sign in here, with 'client_credentials'."
            );
            return Err((Code::UnsupportedGrantType, message));
        }
        let client_id = there(self.client_id).ok_or_else(|| missing("client_id"))?;
        if self.client_assertion.is_some() {
            let message = "Service principals sign in with a secret here: certificates and federated tokens are not supported.";
            return Err((Code::InvalidClient, message.to_owned()));
        }
        let client_secret = there(self.client_secret).ok_or_else(|| missing("client_secret"))?;
        let wanted = match (there(self.resource), there(self.scope)) {
            (Some(resource), _) => Wanted::Resource(resource),
            (None, Some(scope)) => Wanted::Scope(scope),
            (None, None) => return Err(missing("scope")),
        };
        Ok(Form {
            client_id,
            client_secret,
            wanted,
        })
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn form(text: &str) -> Result<Form, (Code, String)> {
        let mut headers = HeaderMap::new();
        let kind = "application/x-www-form-urlencoded; charset=utf-8";
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        Form::of(&headers, text.as_bytes())
    }

    #[rstest]
    #[case("resource=https%3A%2F%2Fa", "https://a")]
    #[case("scope=https%3A%2F%2Fa%2F.default", "https://a")]
    #[case("scope=https%3A%2F%2Fa%2F%2F.default", "https://a/")]
    fn a_client_asks_in_the_words_of_either_edition(#[case] wanted: &str, #[case] resource: &str) {
        let text = format!("grant_type=client_credentials&client_id=i&client_secret=s%2B&{wanted}");
        let form = form(&text).ok().unwrap();
        assert_eq!(form.wanted.resource(), resource);
        assert_eq!(form.client_secret, "s+");
    }

    #[rstest]
    #[case("", Code::InvalidRequest)]
    #[case("grant_type=password&client_id=i", Code::UnsupportedGrantType)]
    #[case(
        "grant_type=client_credentials&client_secret=s&scope=a",
        Code::InvalidRequest
    )]
    #[case(
        "grant_type=client_credentials&client_id=i&scope=a",
        Code::InvalidRequest
    )]
    #[case(
        "grant_type=client_credentials&client_id=i&client_secret=s",
        Code::InvalidRequest
    )]
    #[case(
        "grant_type=client_credentials&client_id=i&client_id=j&client_secret=s&scope=a",
        Code::InvalidRequest
    )]
    #[case(
        "grant_type=client_credentials&client_id=i&client_assertion=x&scope=a",
        Code::InvalidClient
    )]
    fn a_form_that_says_too_little_is_refused(#[case] text: &str, #[case] code: Code) {
        assert_eq!(form(text).err().map(|(code, _)| code), Some(code));
    }

    #[test]
    fn a_body_of_another_type_is_no_form() {
        let refused = Form::of(&HeaderMap::new(), b"grant_type=client_credentials");
        assert_eq!(
            refused.err().map(|(code, _)| code),
            Some(Code::InvalidRequest)
        );
    }
}
