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

/// Why an answer is the server's fault. It goes with the answer to where the request's ids are known, and from there into the log.
#[derive(Clone, Debug)]
pub(crate) struct Explanation(pub(crate) String);

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
        let (status, path) = (response.status(), uri.path());
        if status.is_server_error() {
            let explanation = response.extensions_mut().remove::<Explanation>();
            let error = explanation.map(|it| it.0).unwrap_or_default();
            tracing::error!(id = %ids.request, correlation = %ids.correlation, %method, path, status = status.as_u16(), error, "could not be answered");
        } else {
            tracing::debug!(id = %ids.request, correlation = %ids.correlation, %method, path, status = status.as_u16(), "answered");
        }
        if are_ours {
            ids.write(response.headers_mut());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::{Debug, Write};
    use std::sync::{Arc, Mutex};

    use axum::body::Body;
    use axum::response::IntoResponse;
    use pool::StoreError;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Level, Metadata, Subscriber};

    use super::*;
    use crate::error::ArmError;

    /// A log of what somebody has to look at, a line for each event.
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);

    struct Line<'a>(&'a mut String);

    impl Visit for Line<'_> {
        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            write!(self.0, "{field}={value:?} ").unwrap();
        }
    }

    impl Subscriber for Log {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            *metadata.level() <= Level::WARN
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn event(&self, event: &Event<'_>) {
            let mut text = self.0.lock().unwrap();
            event.record(&mut Line(&mut text));
            text.push('\n');
        }
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// What the log says of an answer, and the request's id as the client has it.
    fn logged(answer: impl IntoResponse) -> (String, String) {
        let log = Log::default();
        let request = Request::get("/subscriptions?api-version=2022-12-01");
        let answered = Answered::of(&request.body(Body::empty()).unwrap());
        let answer = tracing::subscriber::with_default(log.clone(), || {
            answered.with_ids(answer.into_response())
        });
        let id = answer.headers()[REQUEST_ID].to_str().unwrap().to_owned();
        let text = log.0.lock().unwrap().clone();
        (text, id)
    }

    #[test]
    fn what_is_the_servers_fault_is_one_line_with_the_id_that_the_client_has() {
        let away = StoreError::Unavailable("the disk is full".to_owned());
        let (text, id) = logged(ArmError::from(away));
        assert_eq!(text.lines().count(), 1, "{text}");
        for part in [&*id, "GET", "/subscriptions", "503", "the disk is full"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn what_is_the_clients_fault_is_no_line() {
        let (text, _) = logged(ArmError::missing_api_version());
        assert_eq!(text, "");
    }
}
