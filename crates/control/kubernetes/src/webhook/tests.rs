use super::*;

use std::net::SocketAddr;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::certificate::Bundle;

const NAME: &str = "hook.migpool.svc";

fn pool(spec: &Value) -> NodePool {
    let object = json!({
        "apiVersion": "migpool.dev/v1alpha1", "kind": "NodePool", "metadata": {"name": "gpus"}, "spec": spec,
    });
    serde_json::from_value(object).unwrap()
}

fn of_size(spec: &str) -> NodePool {
    pool(&json!({"vmSize": "Standard_ND96asr_v4", "layouts": spec, "migStrategy": "mixed"}))
}

#[test]
fn a_layout_that_fits_the_board_is_let_in() {
    assert_eq!(judge(&of_size("3g.20gb,2g.10gb,1g.5gb*2"), None), Ok(()));
    let profile = json!({"vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g"});
    assert_eq!(judge(&pool(&profile), None), Ok(()));
    let labels = json!({"nodeSelector": {"gpu": "yes"}, "layouts": "1g.5gb*7"});
    assert_eq!(judge(&pool(&labels), None), Ok(()));
}

#[test]
fn one_that_does_not_is_refused_with_the_nearest_that_does() {
    let reason = judge(&of_size("3g.20gb*2,2g.10gb"), None).unwrap_err();
    assert!(reason.contains("3g.20gb"), "{reason}");
    let lower = reason.to_lowercase();
    assert!(
        lower.contains("nearest") || lower.contains("fits"),
        "{reason}"
    );
    let unknown = json!({"vmSize": "Standard_ND96asr_v9", "gpuInstanceProfile": "MIG1g"});
    let reason = judge(&pool(&unknown), None).unwrap_err();
    assert!(reason.contains("Standard_ND96asr_v4"), "{reason}");
}

#[test]
fn what_is_being_deleted_or_did_not_change_is_always_let_in() {
    let bad = of_size("3g.20gb*3");
    assert!(judge(&bad, Some(&of_size("3g.20gb*2"))).is_err());
    let mut finalized = bad.clone();
    finalized.metadata.finalizers = Some(vec!["migpool.dev/nodes".to_owned()]);
    assert_eq!(judge(&finalized, Some(&bad)), Ok(()));
    let mut deleted = bad;
    deleted.metadata.deletion_timestamp = Some(Time(Timestamp::now()));
    assert_eq!(judge(&deleted, None), Ok(()));
}

fn review(operation: &str, object: &Value, old: &Value) -> Vec<u8> {
    let review = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": operation, "name": "gpus", "userInfo": {}, "object": object, "oldObject": old,
            "kind": {"group": "migpool.dev", "version": "v1alpha1", "kind": "NodePool"},
            "resource": {"group": "migpool.dev", "version": "v1alpha1", "resource": "nodepools"},
        },
    });
    review.to_string().into_bytes()
}

fn response(body: &[u8]) -> AdmissionResponse {
    answer(body).unwrap().response.unwrap()
}

#[test]
fn a_review_is_answered_by_its_uid_and_a_refusal_says_why() {
    let bad = json!(of_size("3g.20gb*3"));
    let refused = response(&review("CREATE", &bad, &Value::Null));
    assert!(!refused.allowed && refused.uid == "u-1");
    assert_eq!(refused.result.code, 422);
    assert!(refused.result.message.contains("3g.20gb"));
    assert!(response(&review("UPDATE", &bad, &bad)).allowed);
    assert!(response(&review("DELETE", &Value::Null, &bad)).allowed);
    assert!(response(&review("CREATE", &json!(of_size("1g.5gb*7")), &Value::Null)).allowed);
}

#[test]
fn a_pool_of_a_version_to_come_is_refused_unless_it_is_being_deleted() {
    let mut object = json!(of_size("1g.5gb*7"));
    object["spec"]["mode"] = "Elastic".into();
    let refused = response(&review("CREATE", &object, &Value::Null));
    assert!(!refused.allowed && refused.result.message.contains("Elastic"));
    object["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z".into();
    assert!(response(&review("UPDATE", &object, &Value::Null)).allowed);
}

#[test]
fn what_is_no_review_is_refused_and_nothing_else_happens() {
    let without = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"});
    let old = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview"});
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        without.to_string().as_bytes(),
        old.to_string().as_bytes(),
        &review("CREATE", &Value::Null, &Value::Null),
        &review("WHATEVER", &Value::Null, &Value::Null),
    ] {
        assert!(answer(body).is_err(), "{}", String::from_utf8_lossy(body));
    }
}

struct Hook {
    address: SocketAddr,
    serving: Serving,
    stop: CancellationToken,
    server: tokio::task::JoinHandle<Result<(), rustls::Error>>,
}

async fn start() -> Hook {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = Serving::default();
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, serving.clone(), stop.clone()));
    Hook {
        address,
        serving,
        stop,
        server,
    }
}

fn bundle(serving: &Serving) -> Bundle {
    let now = Timestamp::now();
    let bundle = Bundle::new(&[NAME.to_owned()], now, None).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    serving.set(bundle.check(NAME, now, &provider).unwrap());
    bundle
}

impl Hook {
    /// What the API server does: trusts the bundle alone, and asks for the service's name.
    async fn connect(
        &self,
        trusted: &Bundle,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(&trusted.authorities) {
            roots.add(authority.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(NAME).unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    async fn post(&self, trusted: &Bundle, path: &str, body: &[u8]) -> std::io::Result<String> {
        let mut stream = self.connect(trusted).await?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {NAME}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }
}

#[tokio::test]
async fn the_api_server_is_answered_over_tls_with_the_certificate_that_is_served_now() {
    let hook = start().await;
    let body = review("CREATE", &json!(of_size("3g.20gb*3")), &Value::Null);
    let first = bundle(&hook.serving);
    let answer = hook.post(&first, PATH, &body).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#""allowed":false"#), "{answer}");

    let second = bundle(&hook.serving);
    assert!(hook.post(&first, PATH, &body).await.is_err());
    assert!(hook.post(&second, PATH, &body).await.is_ok());
    hook.stop.cancel();
    assert_eq!(hook.server.await.unwrap(), Ok(()));
}

#[tokio::test]
async fn without_a_certificate_there_is_no_handshake_and_later_there_is() {
    let hook = start().await;
    let other = bundle(&Serving::default());
    assert!(hook.connect(&other).await.is_err());
    let own = bundle(&hook.serving);
    assert!(hook.connect(&other).await.is_err());
    assert!(hook.connect(&own).await.is_ok());
}

#[tokio::test]
async fn requests_that_are_none_are_told_so() {
    let hook = start().await;
    let own = bundle(&hook.serving);
    for (path, body, status) in [
        (PATH, vec![b'{'], "400"),
        (PATH, vec![b' '; LARGEST + 1], "413"),
        ("/", Vec::new(), "404"),
    ] {
        let answer = hook.post(&own, path, &body).await.unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for_long() {
    let hook = start().await;
    let own = bundle(&hook.serving);
    let mut stream = hook.connect(&own).await.unwrap();
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: {NAME}\r\ncontent-length: 10\r\n\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    let read = timeout(LIMIT * 2, stream.read_exact(&mut answer)).await;
    assert!(read.unwrap().is_ok());
    assert_eq!(answer, b"HTTP/1.1 408");
}
