//! A request that goes no further: its answer.

use arm::ArmError;
use axum::body::Body;
use axum::response::IntoResponse;
use http::header::{CONNECTION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use identity::{Denied, TokenError};

use crate::origin::{InvalidHost, Origin};
use crate::path::PathError;
use crate::rate::Wait;

/// The answer to a request that goes no further.
#[derive(Debug)]
pub(crate) struct Refusal(pub(crate) Box<Response<Body>>);

impl From<ArmError> for Refusal {
    fn from(error: ArmError) -> Self {
        Self(Box::new(error.into_response()))
    }
}

impl From<PathError> for Refusal {
    fn from(error: PathError) -> Self {
        bad_request("InvalidRequestUri", &error)
    }
}

impl From<InvalidHost> for Refusal {
    fn from(error: InvalidHost) -> Self {
        bad_request("InvalidHostHeader", &error)
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        ArmError::gateway(StatusCode::FORBIDDEN, denied.code(), denied.to_string()).into()
    }
}

impl From<Wait> for Refusal {
    fn from(wait: Wait) -> Self {
        let Wait(seconds) = wait;
        let message = format!(
            "This client sends more requests than the server takes from one. Try again in {seconds} seconds."
        );
        Self::from(ArmError::gateway(
            StatusCode::TOO_MANY_REQUESTS,
            "TooManyRequests",
            message,
        ))
        .with(RETRY_AFTER, seconds.into())
    }
}

impl Refusal {
    /// A request without a token that could be looked at.
    pub(crate) fn no_token(origin: &Origin, why: &str) -> Self {
        let message = format!("Authentication failed. {why}");
        Self::unauthorized(origin, "AuthenticationFailed", &message)
    }

    /// A request whose token is not taken.
    pub(crate) fn token(origin: &Origin, error: &TokenError) -> Self {
        let message = format!("Authentication failed: {error}.");
        let code = match error {
            TokenError::IssuerUnavailable { .. } => {
                tracing::warn!(%error, "a token can't be verified");
                return ArmError::gateway(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "ServiceUnavailable",
                    message,
                )
                .into();
            }
            TokenError::Expired(_) => "ExpiredAuthenticationToken",
            TokenError::Tenant { .. } | TokenError::Issuer(_) => "InvalidAuthenticationTokenTenant",
            _ => "InvalidAuthenticationToken",
        };
        Self::unauthorized(origin, code, &message)
    }

    fn unauthorized(origin: &Origin, code: &str, message: &str) -> Self {
        let challenge = format!(
            r#"Bearer authorization_uri="{origin}/adfs", error="invalid_token", error_description="{}""#,
            quotable(message)
        );
        let refusal = Self::from(ArmError::gateway(StatusCode::UNAUTHORIZED, code, message));
        match HeaderValue::from_str(&challenge) {
            Ok(challenge) => refusal.with(WWW_AUTHENTICATE, challenge),
            Err(_) => refusal.with(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")),
        }
    }

    /// A body that is larger than is read.
    pub(crate) fn too_large(most: usize) -> Self {
        Self::from(ArmError::gateway(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestContentTooLarge",
            format!("The request content is too large; at most {most} bytes are read."),
        ))
        .with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// A body that takes too long.
    pub(crate) fn too_slow(seconds: u64) -> Self {
        Self::from(ArmError::gateway(
            StatusCode::REQUEST_TIMEOUT,
            "RequestTimeout",
            format!("The request content did not arrive within {seconds} seconds."),
        ))
        .with(CONNECTION, HeaderValue::from_static("close"))
    }

    /// A body that breaks off.
    pub(crate) fn broken_off() -> Self {
        ArmError::gateway(
            StatusCode::BAD_REQUEST,
            "InvalidRequestContent",
            "The request content can't be read to its end.",
        )
        .into()
    }

    pub(crate) fn with(mut self, name: http::HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }
}

fn bad_request(code: &str, error: &dyn std::error::Error) -> Refusal {
    let message = format!("The request can't be served: {error}.");
    ArmError::gateway(StatusCode::BAD_REQUEST, code, message).into()
}

/// Text that can stand between quotation marks in a header: what comes from a token may hold anything.
fn quotable(text: &str) -> String {
    let plain = |c: char| (c.is_ascii_graphic() || c == ' ') && !matches!(c, '"' | '\\');
    text.chars()
        .map(|c| match c {
            '"' => '\'',
            c if plain(c) => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_token_says_cannot_end_the_challenge() {
        let origin: Origin = "https://127.0.0.1:8443".parse().unwrap();
        let error = TokenError::Audience("a\", error=\"insufficient_claims\r\nx: ä".to_owned());
        let refusal = Refusal::token(&origin, &error);
        let challenge = refusal.0.headers()[WWW_AUTHENTICATE].to_str().unwrap();
        assert_eq!(challenge.matches('"').count(), 6, "{challenge}");
    }

    #[test]
    fn a_token_of_a_key_that_cannot_be_asked_for_is_no_wrong_token() {
        let origin: Origin = "https://127.0.0.1:8443".parse().unwrap();
        let error = TokenError::IssuerUnavailable {
            issuer: "https://login.example".to_owned(),
            reason: "no route".to_owned(),
        };
        let refusal = Refusal::token(&origin, &error);
        assert_eq!(refusal.0.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
