//! An id for every request, in the answer and in the log.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

const REQUEST_ID: &str = "x-ms-request-id";
const CORRELATION_ID: &str = "x-ms-correlation-request-id";

/// The ids of a request. Who stands before the front may put its own into a request's extensions; the front then uses these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestIds {
    /// The request's own id.
    pub request: Uuid,
    /// What joins the requests of one piece of work.
    pub correlation: Uuid,
}

impl RequestIds {
    /// A new request id, and the correlation id that the client sent or the request id for want of one.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let request = Uuid::new_v4();
        let correlation = headers
            .get(CORRELATION_ID)
            .and_then(|value| value.to_str().ok())
            .and_then(|text| Uuid::try_parse(text).ok())
            .unwrap_or(request);
        Self {
            request,
            correlation,
        }
    }

    /// Writes both into an answer's headers.
    pub fn write(self, headers: &mut HeaderMap) {
        for (name, id) in [
            (REQUEST_ID, self.request),
            (CORRELATION_ID, self.correlation),
        ] {
            if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
                headers.insert(name, value);
            }
        }
    }
}

/// Gives the answer the ids of its request.
pub(crate) async fn attach(request: Request, next: Next) -> Response {
    let before = request.extensions().get::<RequestIds>().copied();
    let ids = before.unwrap_or_else(|| RequestIds::of(request.headers()));
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    tracing::debug!(id = %ids.request, correlation = %ids.correlation, %method, path, status = response.status().as_u16(), "answered");
    ids.write(response.headers_mut());
    response
}
