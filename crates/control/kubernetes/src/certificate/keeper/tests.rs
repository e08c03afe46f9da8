use super::*;

use jiff::SignedDuration;
use serde_json::Value;

use crate::fake_api::FakeApi;

const SECRET: &str = "/api/v1/namespaces/migpool/secrets/webhook";
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/migpool";

fn keeper(api: &FakeApi, service: &str) -> Keeper {
    let client = api.client();
    Keeper {
        secrets: Api::namespaced(client.clone(), "migpool"),
        configurations: Api::all(client),
        provider: Arc::new(rustls::crypto::ring::default_provider()),
        of: WebhookIdentity {
            namespace: "migpool".to_owned(),
            service: service.to_owned(),
            secret: "webhook".to_owned(),
            configuration: "migpool".to_owned(),
        },
    }
}

fn webhook(name: &str, service: &str) -> Value {
    json!({
        "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"service": {"name": service, "namespace": "migpool", "path": "/validate-nodepool"}},
    })
}

async fn api() -> FakeApi {
    let api = FakeApi::start().await;
    let webhooks = [
        webhook("a.migpool.dev", "hook"),
        webhook("b.example.com", "other"),
    ];
    api.put(
        CONFIGURATION,
        json!({"metadata": {"name": "migpool"}, "webhooks": webhooks}),
    );
    api
}

async fn turn(keeper: &Keeper) -> Arc<CertifiedKey> {
    let serving = Serving::default();
    keeper.turn(&serving, Timestamp::now()).await.unwrap();
    serving.get().unwrap()
}

#[tokio::test]
async fn a_certificate_is_made_trusted_and_then_left_alone() {
    let api = api().await;
    let keeper = keeper(&api, "hook");
    let key = turn(&keeper).await;
    let secret = api.get(SECRET).unwrap();
    assert_eq!(secret["type"], "kubernetes.io/tls");
    let configuration = api.get(CONFIGURATION).unwrap();
    let bundle = |index: usize| &configuration["webhooks"][index]["clientConfig"]["caBundle"];
    assert_eq!(*bundle(0), secret["data"]["ca.crt"]);
    assert!(bundle(1).is_null());
    assert_eq!(configuration["webhooks"][0]["sideEffects"], "None");

    api.requests();
    assert_eq!(turn(&keeper).await.cert, key.cert);
    let requests = api.requests();
    assert!(
        requests.iter().all(|request| request.starts_with("GET ")),
        "{requests:?}"
    );
}

#[tokio::test]
async fn what_an_upgrade_took_away_is_written_again() {
    let api = api().await;
    let keeper = keeper(&api, "hook");
    let key = turn(&keeper).await;
    let mut configuration = api.get(CONFIGURATION).unwrap();
    configuration["webhooks"][0]["clientConfig"]["caBundle"] = "Cg==".into();
    api.put(CONFIGURATION, configuration);
    assert_eq!(turn(&keeper).await.cert, key.cert);
    let configuration = api.get(CONFIGURATION).unwrap();
    let bundle = &configuration["webhooks"][0]["clientConfig"]["caBundle"];
    assert_eq!(*bundle, api.get(SECRET).unwrap()["data"]["ca.crt"]);
}

#[tokio::test]
async fn replicas_that_begin_together_serve_the_same() {
    let api = api().await;
    let keepers: Vec<_> = (0..4).map(|_| keeper(&api, "hook")).collect();
    let keys = futures::future::join_all(keepers.iter().map(turn)).await;
    assert!(keys.iter().all(|key| key.cert == keys[0].cert));
}

#[tokio::test]
async fn an_unreadable_an_old_and_a_certificate_of_another_name_are_replaced() {
    let api = api().await;
    // As a chart has it, which is to be able to delete it.
    api.put(
        SECRET,
        json!({"metadata": {"name": "webhook", "labels": {"chart": "migpool"}}, "type": "Opaque"}),
    );
    let of_hook = keeper(&api, "hook");
    let first = turn(&of_hook).await;
    let secret = api.get(SECRET).unwrap();
    assert_eq!(secret["type"], "Opaque");
    assert_eq!(secret["metadata"]["labels"]["chart"], "migpool");

    let serving = Serving::default();
    let later = Timestamp::now() + SignedDuration::from_hours(24 * 300);
    of_hook.turn(&serving, later).await.unwrap();
    assert_ne!(serving.get().unwrap().cert, first.cert);

    let renamed = keeper(&api, "other");
    let other = turn(&renamed).await;
    assert_ne!(other.cert, serving.get().unwrap().cert);
    let configuration = api.get(CONFIGURATION).unwrap();
    let bundle = &configuration["webhooks"][1]["clientConfig"]["caBundle"];
    assert_eq!(*bundle, api.get(SECRET).unwrap()["data"]["ca.crt"]);
}

#[tokio::test]
async fn without_the_configuration_or_the_right_to_it_the_certificate_is_served_and_the_reason_said()
 {
    let api = api().await;
    let keeper = keeper(&api, "hook");
    let serving = Serving::default();
    api.forbid(Some("validatingwebhookconfigurations"));
    let error = keeper.turn(&serving, Timestamp::now()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("cannot get the ValidatingWebhookConfiguration migpool: "),
        "{text}"
    );
    assert!(serving.get().is_some());
    api.forbid(None);
    api.put(CONFIGURATION, Value::Null);
    let error = keeper.turn(&serving, Timestamp::now()).await.unwrap_err();
    assert!(matches!(error, KeepError::NoConfiguration(_)), "{error}");
    api.forbid(Some("secrets"));
    let error = keeper.turn(&serving, Timestamp::now()).await.unwrap_err();
    assert!(
        error.to_string().contains("get the secret migpool/webhook"),
        "{error}"
    );
}
