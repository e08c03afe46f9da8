use axum::body::to_bytes;

use super::*;

async fn answered(error: StoreError) -> (StatusCode, Option<String>, serde_json::Value) {
    let response = ArmError::from(error).into_response();
    let retry = response.headers().get(RETRY_AFTER);
    let retry = retry
        .and_then(|value| value.to_str().ok())
        .map(str::to_owned);
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    (status, retry, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn what_the_store_refuses_is_the_requests_fault_in_the_stores_words() {
    let refused = StoreError::Refused("the API server refuses NodePool a: no".to_owned());
    let (status, retry, body) = answered(refused).await;
    assert_eq!((status, retry), (StatusCode::BAD_REQUEST, None));
    assert_eq!(body["error"]["code"], "BadRequest");
    assert_eq!(
        body["error"]["message"],
        "the API server refuses NodePool a: no"
    );
}

#[tokio::test]
async fn a_store_that_is_away_says_when_to_ask_again() {
    let away = StoreError::Unavailable("connection refused".to_owned());
    let (status, retry, body) = answered(away).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(retry.as_deref(), Some("5"));
    assert_eq!(body["error"]["code"], "ServiceUnavailable");
    let message = body["error"]["message"].as_str().unwrap();
    assert!(message.contains("connection refused"), "{message}");
}
