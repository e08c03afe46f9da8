//! The identities of a front in a Secret, and what clients are to trust in a `ConfigMap`.
//!
//! The chart brings both empty, so that nobody needs the right to create any: whoever may create Secrets may have a token of
//! every `ServiceAccount` of the namespace.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use identity::{Kept, Storage, StorageError, Version};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

use crate::client::{self, ClientError, Program, causes};
use crate::metrics::Metrics;

/// Where in the Secret the identities are.
const DOCUMENT: &str = "identities";

/// Where in the `ConfigMap` the authority's certificate is.
const AUTHORITY: &str = "ca.pem";

/// Identities in a Secret.
#[derive(Clone)]
pub struct SecretStorage {
    client: Client,
    namespace: String,
    secret: String,
    authority: Option<String>,
}

impl std::fmt::Debug for SecretStorage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretStorage")
            .field("namespace", &self.namespace)
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

/// What went wrong with a Secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Trouble(String);

impl SecretStorage {
    /// The Secret of this name, and the `ConfigMap` in which people find the authority, if there is to be one.
    #[must_use]
    pub fn new(
        client: Client,
        namespace: String,
        secret: String,
        authority: Option<String>,
    ) -> Self {
        Self {
            client,
            namespace,
            secret,
            authority,
        }
    }

    /// The same for a person's command, by what a kubeconfig says, or without one by what the cluster tells its pods.
    ///
    /// # Errors
    /// If the file, or the pod's service account, can't be read or used.
    pub async fn connect(
        kubeconfig: Option<&Path>,
        namespace: String,
        secret: String,
        authority: Option<String>,
    ) -> Result<Self, ClientError> {
        let config = client::config(kubeconfig).await?;
        let client = client::client(config, Program::Command, Metrics::new())?;
        Ok(Self::new(client, namespace, secret, authority))
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn unusable(&self, reason: String) -> StorageError {
        StorageError::Unusable {
            place: self.place(),
            source: Box::new(Trouble(reason)),
        }
    }

    async fn secret(&self) -> Result<Secret, StorageError> {
        let found = self.secrets().get_opt(&self.secret).await;
        let found = found.map_err(|error| self.unusable(causes(&error)))?;
        found.ok_or_else(|| {
            self.unusable("there is no such Secret; the chart brings it, empty".to_owned())
        })
    }
}

impl Storage for SecretStorage {
    fn place(&self) -> String {
        format!("Secret {}/{}", self.namespace, self.secret)
    }

    async fn load(&self) -> Result<Option<Kept>, StorageError> {
        Ok(kept(&self.secret().await?))
    }

    async fn save(
        &self,
        document: &[u8],
        expected: Option<&Version>,
    ) -> Result<Version, StorageError> {
        let version = if let Some(version) = expected {
            version.0.clone()
        } else {
            let found = self.secret().await?;
            if kept(&found).is_some() {
                return Err(StorageError::Conflict);
            }
            found.resource_version().unwrap_or_default()
        };
        let patch = json!({
            "metadata": {"resourceVersion": version},
            "data": {DOCUMENT: STANDARD.encode(document)},
        });
        let parameters = PatchParams::default();
        let written = self
            .secrets()
            .patch(&self.secret, &parameters, &Patch::Merge(patch))
            .await;
        match written {
            Ok(secret) => Ok(Version(secret.resource_version().unwrap_or_default())),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(StorageError::Conflict),
            Err(error) => Err(self.unusable(causes(&error))),
        }
    }

    async fn publish(&self, authority: &str) -> Result<(), StorageError> {
        let Some(name) = &self.authority else {
            return Ok(());
        };
        let shown = Api::<ConfigMap>::namespaced(self.client.clone(), &self.namespace);
        let patch = Patch::Merge(json!({"data": {AUTHORITY: authority}}));
        let written = shown.patch(name, &PatchParams::default(), &patch).await;
        written.map(drop).map_err(|error| {
            self.unusable(format!(
                "the authority can't be laid out in ConfigMap {name}: {}",
                causes(&error)
            ))
        })
    }
}

/// The identities of a Secret; none in one that is new.
fn kept(secret: &Secret) -> Option<Kept> {
    let document = secret.data.as_ref()?.get(DOCUMENT)?;
    Some(Kept {
        document: document.0.clone(),
        version: Version(secret.resource_version().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_api::FakeApi;

    const SECRET: &str = "/api/v1/namespaces/migpool/secrets/arm";
    const SHOWN: &str = "/api/v1/namespaces/migpool/configmaps/arm-ca";

    fn storage(api: &FakeApi) -> SecretStorage {
        let text = str::to_owned;
        SecretStorage::new(
            api.client(),
            text("migpool"),
            text("arm"),
            Some(text("arm-ca")),
        )
    }

    #[tokio::test]
    async fn of_two_that_write_over_one_version_one_is_told_so() {
        let api = FakeApi::start().await;
        let storage = storage(&api);
        let missing = storage.load().await.unwrap_err();
        assert!(
            missing.to_string().contains("Secret migpool/arm"),
            "{missing}"
        );
        api.put(SECRET, json!({"metadata": {"name": "arm"}}));
        assert!(storage.load().await.unwrap().is_none());

        let first = storage.save(b"one", None).await.unwrap();
        let again = storage.save(b"two", None).await;
        assert!(matches!(again, Err(StorageError::Conflict)));
        let kept = storage.load().await.unwrap().unwrap();
        assert_eq!(
            (kept.document.as_slice(), &kept.version),
            (b"one".as_slice(), &first)
        );

        storage.save(b"three", Some(&first)).await.unwrap();
        let late = storage.save(b"four", Some(&first)).await;
        assert!(matches!(late, Err(StorageError::Conflict)));
        assert_eq!(storage.load().await.unwrap().unwrap().document, b"three");
    }

    #[tokio::test]
    async fn the_authority_is_laid_out_for_everybody() {
        let api = FakeApi::start().await;
        api.put(SHOWN, json!({"metadata": {"name": "arm-ca"}}));
        storage(&api).publish("a certificate").await.unwrap();
        assert_eq!(api.get(SHOWN).unwrap()["data"]["ca.pem"], "a certificate");
    }
}
