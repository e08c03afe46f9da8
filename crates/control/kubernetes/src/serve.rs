//! The ARM front of a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arm::{Account, FrontSettings, Scheme};
use gateway::{GatewayConfig, Limits};
use identity::{AuditLog, Identity, IdentityError, Settings, TrustedIssuer};
use kube::Client;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::{self, ClientError, Program};
use crate::credentials::{CredentialsConfig, Kubeconfigs};
use crate::front::Front;
use crate::metrics::Metrics;
use crate::people::PoolClient;
use crate::records::Records;
use crate::secret_storage::SecretStorage;

/// How often it is looked at what others have written, for the deployments that wait for it.
const LOOK: Duration = Duration::from_secs(2);

/// What a front is told.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Its namespace: that of the Secret and of the `ServiceAccount` of kubeconfigs.
    pub namespace: String,
    /// A kubeconfig; that of the pod's service account where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// Answer with TLS here.
    pub listen: SocketAddr,
    /// The Secret in which identities are kept. It has to be there.
    pub secret: String,
    /// The `ConfigMap` in which people find the authority's certificate, as `ca.pem`. It has to be there.
    pub authority: Option<String>,
    /// The names and addresses that the certificate is for. At least one.
    pub names: Vec<String>,
    /// The URL at which clients find the front, where that is not what they say in `Host`.
    pub origin: Option<String>,
    /// The subscription. Node pools that name none are in the one that is all zeros.
    pub subscription: Uuid,
    /// How long tokens are good: an hour at most.
    pub token_life: Duration,
    /// An issuer to trust besides.
    pub issuer: Option<TrustedIssuer>,
    /// Whom kubeconfigs are for; none are handed out without.
    pub credentials: Option<CredentialsConfig>,
}

/// Why a front gave up.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The API server can't be spoken to at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The identities can't be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The address can't be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// It can't answer, or not say who did what.
    #[error("the front can't go on: {0}")]
    Front(#[from] std::io::Error),
}

/// Answers ARM clients over the records of a cluster until `stop`; the audit log is on the standard output, a line of JSON each,
/// and written to its end when this returns.
/// There may be several, behind one Service: they share what the API server has.
///
/// # Errors
/// When there is no way to the API server, the address or the identities can't be used.
pub async fn serve(config: ServeConfig, stop: CancellationToken) -> Result<(), ServeError> {
    let kubeconfig = client::config(config.kubeconfig.as_deref()).await?;
    let authority = kubeconfig.root_cert.as_deref().map(pem);
    let client = client::client(kubeconfig, Program::Front, Metrics::new())?;
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|source| ServeError::Listen {
            address: config.listen,
            source,
        })?;
    let storage = SecretStorage::new(
        client.clone(),
        config.namespace.clone(),
        config.secret.clone(),
        config.authority.clone(),
    );
    let settings = Settings {
        subscription: config.subscription,
        names: config.names.clone(),
        token_life: config.token_life,
        issuer: config.issuer.clone(),
    };
    let identity = Identity::open(storage, settings).await?;
    let account = Account {
        tenant: identity.tenant().0,
        subscription: config.subscription,
        ..Account::local()
    };
    let front = Arc::new(front(&client, &config, authority));
    let inner = arm::Front::new(
        Arc::clone(&front),
        FrontSettings {
            scheme: Scheme::Https,
            account,
        },
    );
    let gateway = GatewayConfig {
        listener,
        limits: Limits::default(),
        origin: config.origin,
        audit: AuditLog::to_stdout()?,
    };
    let deployer = arm::Deployer::new(Arc::clone(&front));
    let deployer = tokio::spawn(deployer.run(stop.clone().cancelled_owned()));
    let looks = tokio::spawn(look(front.records.clone(), stop.clone()));
    tracing::info!(address = %config.listen, "answering ARM clients");
    let served = gateway::serve(gateway, identity, inner, stop.clone()).await;
    stop.cancel();
    // What they leave is done by whoever comes next.
    let _ = tokio::join!(deployer, looks);
    Ok(served?)
}

/// The backend of a front.
fn front(client: &Client, config: &ServeConfig, authority: Option<String>) -> Front {
    let credentials = config.credentials.clone();
    Front {
        records: Records::new(client.clone()),
        people: PoolClient::over(client.clone()),
        kubeconfigs: credentials.map(|credentials| Kubeconfigs {
            client: client.clone(),
            namespace: config.namespace.clone(),
            config: credentials,
            authority,
        }),
    }
}

/// Says now and then that something may have changed: the operator ends operations, and other replicas write, too.
async fn look(records: Records, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => records.may_have_changed(),
        }
    }
}

/// Certificates as text.
fn pem(certificates: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    let mut text = String::new();
    for certificate in certificates {
        let encoded = base64::engine::general_purpose::STANDARD.encode(certificate);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}
