//! An id for every request, in the answer and in the log.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use axum::response::Response;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-ms-correlation-request-id");

/// The ids of a request. Who stands before the front may put its own into a request's extensions; the front then uses these, and
/// leaves it to who put them there to write them into the answer.
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
            let mut text = Uuid::encode_buffer();
            if let Ok(value) = HeaderValue::from_str(id.hyphenated().encode_lower(&mut text)) {
                headers.insert(name, value);
            }
        }
    }
}

/// What is needed of a request to give its answer its ids, once it is answered.
pub(crate) struct Answered {
    ids: RequestIds,
    /// Nobody else has made the ids, so nobody else writes them.
    are_ours: bool,
    method: Method,
    uri: Uri,
}

impl Answered {
    pub(crate) fn of(request: &Request) -> Self {
        let before = request.extensions().get::<RequestIds>().copied();
        Self {
            ids: before.unwrap_or_else(|| RequestIds::of(request.headers())),
            are_ours: before.is_none(),
            method: request.method().clone(),
            uri: request.uri().clone(),
        }
    }

    /// Gives the answer the ids of its request.
    pub(crate) fn with_ids(self, mut response: Response) -> Response {
        let Self {
            ids,
            are_ours,
            method,
            uri,
        } = self;
        tracing::debug!(id = %ids.request, correlation = %ids.correlation, %method, path = uri.path(), status = response.status().as_u16(), "answered");
        if are_ours {
            ids.write(response.headers_mut());
        }
        response
    }
}
