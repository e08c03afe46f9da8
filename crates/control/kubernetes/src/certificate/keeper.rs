//! Keeps the webhook's certificate in its Secret, and what the API server trusts in the `ValidatingWebhookConfiguration`.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingWebhookConfiguration, WebhookClientConfig,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Bundle, Serving, Unusable};
use crate::client::causes;

/// How often it is looked whether everything is still as it was written.
const AGAIN: Duration = Duration::from_mins(1);

/// The first pause after something went wrong; it doubles up to [`AGAIN`].
const RETRY: Duration = Duration::from_secs(1);

/// How often another replica may be in between.
const CONFLICTS: usize = 5;

/// Who the webhook is to the API server.
#[derive(Clone, Debug)]
pub(crate) struct WebhookIdentity {
    /// The namespace of the Service and the Secret.
    pub(crate) namespace: String,
    /// The Service that the API server calls.
    pub(crate) service: String,
    /// The Secret with the certificate. It is created when it is missing.
    pub(crate) secret: String,
    /// The `ValidatingWebhookConfiguration` that names the Service.
    pub(crate) configuration: String,
}

/// What kept the webhook from being trusted.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    /// The API server said no, or nothing.
    #[error("cannot {what}: {reason}")]
    Api {
        /// What was tried, and on what.
        what: String,
        /// Why it failed.
        reason: String,
    },
    /// The object that says who calls the webhook is not there, so that nobody does.
    #[error(
        "there is no ValidatingWebhookConfiguration {0}, so the API server does not ask the webhook"
    )]
    NoConfiguration(String),
    /// It is there and calls something else.
    #[error("no webhook of the ValidatingWebhookConfiguration {0} calls the service {1}")]
    NoWebhook(String, String),
    /// No certificate can be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// What was made can't be used.
    #[error("the certificate that was made can't be used: {0}")]
    Made(#[from] Unusable),
    /// Others wrote the Secret again and again.
    #[error("the secret {0} was changed by others again and again")]
    Conflict(String),
}

impl WebhookIdentity {
    /// Keeps `serving` supplied with a certificate that the API server trusts, until `stop`. What goes wrong is logged, once, and
    /// tried again; nothing but the webhook needs it.
    pub(crate) async fn keep(self, client: Client, serving: Serving, stop: CancellationToken) {
        let keeper = Keeper {
            secrets: Api::namespaced(client.clone(), &self.namespace),
            configurations: Api::all(client),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            of: self,
        };
        let mut said = String::new();
        let mut pause = RETRY;
        loop {
            let wait = match keeper.turn(&serving, Timestamp::now()).await {
                Ok(()) => {
                    if !std::mem::take(&mut said).is_empty() {
                        info!("the API server trusts the webhook again");
                    }
                    pause = RETRY;
                    AGAIN
                }
                Err(error) => {
                    let text = error.to_string();
                    if said != text {
                        warn!(
                            "the webhook is not all there, and the operator goes on without: {text}"
                        );
                        said = text;
                    }
                    let wait = pause;
                    pause = (pause * 2).min(AGAIN);
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The names that a client may know the webhook by, the API server's own first.
    fn names(&self) -> Vec<String> {
        let short = format!("{}.{}", self.service, self.namespace);
        vec![
            format!("{short}.svc"),
            format!("{short}.svc.cluster.local"),
            short,
        ]
    }
}

struct Keeper {
    of: WebhookIdentity,
    secrets: Api<Secret>,
    configurations: Api<ValidatingWebhookConfiguration>,
    provider: Arc<CryptoProvider>,
}

impl Keeper {
    /// Makes everything as it should be, where it is not.
    async fn turn(&self, serving: &Serving, now: Timestamp) -> Result<(), KeepError> {
        let (bundle, key) = self.certificate(now).await?;
        // First who is trusted, then who is shown.
        let trusted = self.trust(&bundle.authorities).await;
        if serving.get().is_none_or(|old| old.cert != key.cert) {
            serving.set(key);
        }
        trusted
    }

    /// The certificate of the Secret, or a new one that was put there.
    async fn certificate(&self, now: Timestamp) -> Result<(Bundle, Arc<CertifiedKey>), KeepError> {
        let secret = &self.of.secret;
        let names = self.of.names();
        for _ in 0..CONFLICTS {
            let found = self
                .secrets
                .get_opt(secret)
                .await
                .map_err(|error| self.failed("get", &error))?;
            let bundle = found.as_ref().map(Bundle::of);
            let last = match &bundle {
                Some(Ok(bundle)) => match self.check(bundle, &names, now) {
                    Ok(key) => return Ok((bundle.clone(), key)),
                    Err(why) => {
                        info!(
                            "a new certificate for the webhook, since that of secret {secret} is not good: {why}"
                        );
                        Some(bundle)
                    }
                },
                None | Some(Err(_)) => None,
            };
            let made = Bundle::new(&names, now, last)?;
            let key = self.check(&made, &names, now)?;
            if self.write(found, &made).await? {
                return Ok((made, key));
            }
        }
        Err(KeepError::Conflict(secret.clone()))
    }

    fn check(
        &self,
        bundle: &Bundle,
        names: &[String],
        now: Timestamp,
    ) -> Result<Arc<CertifiedKey>, Unusable> {
        let name = names.first().map_or("", String::as_str);
        bundle.check(name, now, &self.provider)
    }

    /// Whether it was written: it is not when another replica wrote first.
    async fn write(&self, found: Option<Secret>, bundle: &Bundle) -> Result<bool, KeepError> {
        let parameters = PostParams::default();
        let written = if let Some(mut secret) = found {
            bundle.write(&mut secret);
            self.secrets
                .replace(&self.of.secret, &parameters, &secret)
                .await
                .map_err(|error| ("update", error))
        } else {
            let managed_by = ("app.kubernetes.io/managed-by", "migpool-operator");
            let mut secret = Secret {
                metadata: ObjectMeta {
                    name: Some(self.of.secret.clone()),
                    labels: Some([(managed_by.0.to_owned(), managed_by.1.to_owned())].into()),
                    ..ObjectMeta::default()
                },
                type_: Some("kubernetes.io/tls".to_owned()),
                ..Secret::default()
            };
            bundle.write(&mut secret);
            self.secrets
                .create(&parameters, &secret)
                .await
                .map_err(|error| ("create", error))
        };
        match written {
            Ok(_) => Ok(true),
            Err((_, kube::Error::Api(status))) if status.code == 409 => Ok(false),
            Err((verb, error)) => Err(self.failed(verb, &error)),
        }
    }

    fn failed(&self, verb: &str, error: &kube::Error) -> KeepError {
        let WebhookIdentity {
            namespace, secret, ..
        } = &self.of;
        KeepError::Api {
            what: format!("{verb} the secret {namespace}/{secret}"),
            reason: causes(error),
        }
    }

    /// Makes the API server trust these authorities for our Service.
    async fn trust(&self, authorities: &[u8]) -> Result<(), KeepError> {
        let name = &self.of.configuration;
        let failed = |verb: &str, error: &kube::Error| KeepError::Api {
            what: format!("{verb} the ValidatingWebhookConfiguration {name}"),
            reason: causes(error),
        };
        let found = self
            .configurations
            .get_opt(name)
            .await
            .map_err(|error| failed("get", &error))?
            .ok_or_else(|| KeepError::NoConfiguration(name.clone()))?;
        let ours: Vec<_> = found
            .webhooks
            .unwrap_or_default()
            .into_iter()
            .filter(|webhook| self.is_ours(&webhook.client_config))
            .collect();
        if ours.is_empty() {
            return Err(KeepError::NoWebhook(name.clone(), self.of.service.clone()));
        }
        let authorities = k8s_openapi::ByteString(authorities.to_vec());
        // Merged by name, so that nothing else of a webhook is touched.
        let webhooks: Vec<_> = ours
            .iter()
            .filter(|webhook| webhook.client_config.ca_bundle.as_ref() != Some(&authorities))
            .map(
                |webhook| json!({"name": webhook.name, "clientConfig": {"caBundle": &authorities}}),
            )
            .collect();
        if webhooks.is_empty() {
            return Ok(());
        }
        let patch = Patch::Strategic(json!({ "webhooks": webhooks }));
        self.configurations
            .patch(name, &PatchParams::default(), &patch)
            .await
            .map_err(|error| failed("patch", &error))?;
        info!("the API server was told to trust the webhook's certificate");
        Ok(())
    }

    fn is_ours(&self, client: &WebhookClientConfig) -> bool {
        client.service.as_ref().is_some_and(|service| {
            service.name == self.of.service && service.namespace == self.of.namespace
        })
    }
}

#[cfg(test)]
mod tests;
