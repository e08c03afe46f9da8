//! Kubeconfigs: a short-lived token of one `ServiceAccount`, and where the API server is.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::{Api, Client};
use pool::{ClusterKey, CredentialKind, CredentialsError};
use serde_json::{Value, json};

use crate::client::causes;

/// Where kubeadm, and what is made with it, say where the API server is.
const CLUSTER_INFO: (&str, &str) = ("kube-public", "cluster-info");

/// For whom kubeconfigs are, and where they lead.
#[derive(Clone, Debug)]
pub struct CredentialsConfig {
    /// The `ServiceAccount`, of the front's own namespace, whose rights whoever has a kubeconfig has.
    pub service_account: String,
    /// How long a token is good. The API server has bounds of its own; ten minutes are the least.
    pub life: Duration,
    /// The API server's URL as people reach it; without one, what kubeadm left in `kube-public/cluster-info`.
    pub server: Option<String>,
}

/// Makes kubeconfigs.
#[derive(Clone)]
pub(crate) struct Kubeconfigs {
    pub(crate) client: Client,
    pub(crate) namespace: String,
    pub(crate) config: CredentialsConfig,
    /// Who signs the API server's certificate, in PEM, as the front itself knows it.
    pub(crate) authority: Option<String>,
}

impl std::fmt::Debug for Kubeconfigs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubeconfigs")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Kubeconfigs {
    /// A new one.
    ///
    /// # Errors
    /// If it is for somebody whom there is none for, if nobody knows where the API server is, or it does not answer.
    pub(crate) async fn make(
        &self,
        cluster: &ClusterKey,
        who: CredentialKind,
    ) -> Result<Vec<u8>, CredentialsError> {
        if who == CredentialKind::MonitoringUser {
            return Err(CredentialsError::Refused(
                "There is no kubeconfig for monitoring users. Leave --user away.".to_owned(),
            ));
        }
        let (server, authority) = self.server().await?;
        let token = self.token().await?;
        let kubeconfig = kubeconfig(cluster, who, &server, authority.as_deref(), &token);
        serde_saphyr::to_string(&kubeconfig)
            .map(String::into_bytes)
            .map_err(|error| CredentialsError::Unavailable(error.to_string()))
    }

    async fn token(&self) -> Result<String, CredentialsError> {
        let name = &self.config.service_account;
        let namespace = &self.namespace;
        let failed = |reason: String| {
            CredentialsError::Unavailable(format!(
                "the API server gives no token of the ServiceAccount {namespace}/{name}: {reason}"
            ))
        };
        let wanted = TokenRequest {
            spec: TokenRequestSpec {
                expiration_seconds: i64::try_from(self.config.life.as_secs()).ok(),
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let accounts = Api::<ServiceAccount>::namespaced(self.client.clone(), namespace);
        let made = accounts
            .create_token_request(name, &PostParams::default(), &wanted)
            .await
            .map_err(|error| failed(causes(&error)))?;
        let status = made.status.filter(|status| !status.token.is_empty());
        let status = status.ok_or_else(|| failed("its answer has none".to_owned()))?;
        Ok(status.token)
    }

    /// Where the API server is, and who signs its certificate.
    async fn server(&self) -> Result<(String, Option<String>), CredentialsError> {
        if let Some(server) = &self.config.server {
            return Ok((server.clone(), self.authority.clone()));
        }
        let (namespace, name) = CLUSTER_INFO;
        let unknown = |why: &str| {
            CredentialsError::Refused(format!(
                "Nobody has said where the Kubernetes API server is for you: {why}. Upgrade the chart with arm.credentials.server=https://HOST:PORT, which 'kubectl cluster-info' tells."
            ))
        };
        let found = Api::<ConfigMap>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await;
        let found = match found {
            Ok(found) => found,
            Err(kube::Error::Api(status)) if matches!(status.code, 401 | 403) => None,
            Err(error) => return Err(CredentialsError::Unavailable(causes(&error))),
        };
        let data = found.and_then(|found| found.data).unwrap_or_default();
        let text = data.get("kubeconfig").ok_or_else(|| {
            unknown("the cluster was not made by kubeadm, and has no ConfigMap kube-public/cluster-info with it")
        })?;
        read_cluster_info(text)
            .ok_or_else(|| unknown("the ConfigMap kube-public/cluster-info can't be read"))
    }
}

/// What kubeadm left: the server, and who signs its certificate, in PEM.
fn read_cluster_info(text: &str) -> Option<(String, Option<String>)> {
    let kubeconfig: Kubeconfig = serde_saphyr::from_str(text).ok()?;
    let cluster = kubeconfig.clusters.into_iter().next()?.cluster?;
    let authority = match cluster.certificate_authority_data {
        Some(data) => Some(String::from_utf8(STANDARD.decode(data).ok()?).ok()?),
        None => None,
    };
    Some((cluster.server?, authority))
}

/// A kubeconfig with the names that AKS gives. An administrator's context is called as a user's: az itself adds `-admin` to one whose
/// user is called `clusterAdmin..`.
fn kubeconfig(
    cluster: &ClusterKey,
    who: CredentialKind,
    server: &str,
    authority: Option<&str>,
    token: &str,
) -> Value {
    let name = cluster.cluster.as_str();
    let user = format!("{who}_{}_{name}", cluster.group.group);
    let mut reached = json!({ "server": server });
    if let Some(authority) = authority {
        reached["certificate-authority-data"] = STANDARD.encode(authority).into();
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": reached}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": user}}],
        "current-context": name,
        "preferences": {},
    })
}

#[cfg(test)]
mod tests {
    use pool::{GroupKey, SubscriptionId};

    use super::*;
    use crate::fake_api::FakeApi;

    fn cluster() -> ClusterKey {
        ClusterKey {
            group: GroupKey {
                subscription: SubscriptionId::local(),
                group: "myResourceGroup".parse().unwrap(),
            },
            cluster: "myAKSCluster".parse().unwrap(),
        }
    }

    fn kubeconfigs(api: &FakeApi, server: Option<&str>) -> Kubeconfigs {
        Kubeconfigs {
            client: api.client(),
            namespace: "migpool".to_owned(),
            config: CredentialsConfig {
                service_account: "people".to_owned(),
                life: Duration::from_hours(8),
                server: server.map(str::to_owned),
            },
            authority: Some("-----BEGIN CERTIFICATE-----\n".to_owned()),
        }
    }

    const INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";

    #[tokio::test]
    async fn a_kubeconfig_has_akss_names_and_a_token_that_ends() {
        let api = FakeApi::start().await;
        api.answer_tokens("a.b.c");
        let made = kubeconfigs(&api, Some("https://10.0.0.1:6443"));
        let made = made.make(&cluster(), CredentialKind::User).await.unwrap();
        let read: Kubeconfig = serde_saphyr::from_slice(&made).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("myAKSCluster"));
        assert_eq!(
            read.auth_infos[0].name,
            "clusterUser_myResourceGroup_myAKSCluster"
        );
        let text = String::from_utf8(made).unwrap();
        assert!(text.contains("a.b.c"), "{text}");
        assert!(text.contains("https://10.0.0.1:6443"), "{text}");
    }

    #[tokio::test]
    async fn where_the_server_is_is_asked_of_kubeadm_or_said_to_be_unknown() {
        let api = FakeApi::start().await;
        api.answer_tokens("a.b.c");
        let kubeconfigs = kubeconfigs(&api, None);
        let refused = kubeconfigs.make(&cluster(), CredentialKind::User).await;
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains("arm.credentials.server"), "{refused}");
        let info = "apiVersion: v1\nkind: Config\nclusters:\n- name: ''\n  cluster:\n    server: https://cp:6443\n    certificate-authority-data: Y2E=\n";
        api.put(
            INFO,
            json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": info}}),
        );
        let made = kubeconfigs.make(&cluster(), CredentialKind::Admin).await;
        let made = made.unwrap();
        let read: Kubeconfig = serde_saphyr::from_slice(&made).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("myAKSCluster"));
        assert_eq!(read.contexts[0].name, "myAKSCluster");
        assert_eq!(
            read.auth_infos[0].name,
            "clusterAdmin_myResourceGroup_myAKSCluster"
        );
        let text = String::from_utf8(made).unwrap();
        assert!(
            text.contains("https://cp:6443") && text.contains("Y2E="),
            "{text}"
        );
    }

    #[tokio::test]
    async fn nobody_but_users_and_admins_has_one() {
        let api = FakeApi::start().await;
        let made = kubeconfigs(&api, Some("https://x"));
        let made = made.make(&cluster(), CredentialKind::MonitoringUser).await;
        assert!(matches!(made, Err(CredentialsError::Refused(_))));
        assert!(api.requests().is_empty());
    }
}
