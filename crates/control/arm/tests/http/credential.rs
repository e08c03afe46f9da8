//! Kubeconfigs.

use crate::common::{Answer, Api, VERSION, cluster};
use axum::body::Body;
use axum::http::{Method, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pool::CredentialsError;
use rstest::rstest;

async fn list(api: &Api, action: &str, query: &str) -> Answer {
    let uri = format!("{}/{action}?api-version={VERSION}{query}", cluster());
    api.send(Method::POST, &uri, &[], Body::empty()).await
}

#[rstest]
#[case("listClusterUserCredential", "clusterUser")]
#[case("listClusterAdminCredential", "clusterAdmin")]
#[case("listClusterMonitoringUserCredential", "clusterMonitoringUser")]
#[tokio::test]
async fn without_a_kubernetes_they_are_refused_with_a_sentence_that_says_what_to_use(
    #[case] action: &str,
    #[case] name: &str,
) {
    let api = Api::with_cluster().await;
    let answer = list(&api, action, "").await;
    assert_eq!(
        (answer.status, answer.code()),
        (StatusCode::BAD_REQUEST, "KubernetesNotAvailable")
    );
    for told in ["migpool node list", "arm.enabled=true"] {
        assert!(answer.message().contains(told), "{answer:?}");
    }
    api.backend.set_kubeconfig(Ok(b"kind: Config\n".to_vec()));
    for query in ["", "&format=exec", "&format=azure&server-fqdn=public"] {
        let answer = list(&api, action, query).await;
        assert_eq!(answer.status, StatusCode::OK);
        let kubeconfig = &answer.json["kubeconfigs"][0];
        assert_eq!(kubeconfig["name"], name);
        let yaml = STANDARD.decode(kubeconfig["value"].as_str().unwrap());
        assert_eq!(
            String::from_utf8(yaml.unwrap()).unwrap(),
            format!("kind: Config\n# {name}\n")
        );
    }
}

#[tokio::test]
async fn why_none_could_be_made_is_told() {
    let api = Api::with_cluster().await;
    let refused = CredentialsError::Refused("ask for clusterUser".to_owned());
    api.backend.set_kubeconfig(Err(refused));
    let answer = list(&api, "listClusterAdminCredential", "").await;
    assert_eq!(
        (answer.status, answer.message()),
        (StatusCode::BAD_REQUEST, "ask for clusterUser")
    );
    let away = CredentialsError::Unavailable("the API server does not answer".to_owned());
    api.backend.set_kubeconfig(Err(away));
    let answer = list(&api, "listClusterUserCredential", "").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.message().contains("does not answer"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), Some("5"));
}
