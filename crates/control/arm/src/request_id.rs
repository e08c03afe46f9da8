//! An id for every request, in the answer and in the log.

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use uuid::Uuid;

const REQUEST_ID: &str = "x-ms-request-id";
const CORRELATION_ID: &str = "x-ms-correlation-request-id";

/// Gives the answer a request id, and the correlation id that the client sent or the request id for want of one.
pub(crate) async fn attach(request: Request, next: Next) -> Response {
    let id = Uuid::new_v4();
    let correlation = request
        .headers()
        .get(CORRELATION_ID)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| Uuid::try_parse(text).ok())
        .unwrap_or(id);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    tracing::debug!(%id, %correlation, %method, path, status = response.status().as_u16(), "answered");
    for (name, id) in [(REQUEST_ID, id), (CORRELATION_ID, correlation)] {
        if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}
