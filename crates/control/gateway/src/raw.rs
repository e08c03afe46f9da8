//! Answers to those whom the HTTP library never hands over: what they sent is no request.

use arm::RequestIds;
use http::StatusCode;
use serde_json::json;

/// The whole answer, as text, after which the connection ends.
pub(crate) fn answer(status: StatusCode, ids: RequestIds) -> Vec<u8> {
    let (code, message) = words(status);
    let body = json!({ "error": { "code": code, "message": message } }).to_string();
    let RequestIds {
        request,
        correlation,
    } = ids;
    format!(
        "HTTP/1.1 {status}\r\n\
         content-type: application/json\r\n\
         content-length: {}\r\n\
         cache-control: no-store\r\n\
         connection: close\r\n\
         x-ms-request-id: {request}\r\n\
         x-ms-correlation-request-id: {correlation}\r\n\
         x-ms-error-code: {code}\r\n\
         \r\n\
         {body}",
        body.len(),
    )
    .into_bytes()
}

fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status {
        StatusCode::REQUEST_TIMEOUT => (
            "RequestTimeout",
            "The request's headers did not arrive in time.",
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "RequestHeaderFieldsTooLarge",
            "The request's headers are too many or too large.",
        ),
        StatusCode::URI_TOO_LONG => ("RequestUriTooLong", "The request's URL is too long."),
        StatusCode::UPGRADE_REQUIRED => (
            "HttpsRequired",
            "This port speaks HTTPS only. Send the request to an https:// URL.",
        ),
        _ => (
            "InvalidRequest",
            "What was sent can't be read as an HTTP/1.1 request.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_to_noise_is_a_whole_answer_in_arms_shape() {
        let ids = RequestIds::of(&http::HeaderMap::new());
        for status in [400, 408, 414, 426, 431] {
            let status = StatusCode::from_u16(status).unwrap();
            let text = String::from_utf8(answer(status, ids)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {}", status.as_str())));
            assert!(head.contains(&format!("content-length: {}", body.len())));
            assert!(head.contains(&ids.request.to_string()));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert!(body["error"]["code"].is_string(), "{body}");
        }
    }
}
