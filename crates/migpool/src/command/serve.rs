//! `migpool serve`: the front for Azure's clients, in a Kubernetes cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use identity::TrustedIssuer;
use kubernetes::{CredentialsConfig, ServeConfig};
use uuid::Uuid;

use crate::failure::Failure;
use crate::runtime::{cancelled_by_signals, start_log};

/// Answer Azure's clients (az, curl, the SDKs) over a Kubernetes cluster's node pools. The operator does the work
///
/// It needs the operator beside it, with --arm. Who did what is written to standard output, a line of JSON each.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// The namespace of the front: of its Secret, and of the ServiceAccount of kubeconfigs
    #[arg(long, value_name = "NAMESPACE", env = "NAMESPACE")]
    namespace: String,
    /// Reach the API server by this kubeconfig instead of the pod's own token
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Where Azure's clients are answered
    #[arg(long, value_name = "ADDRESS:PORT", env = "MIGPOOL_ARM_LISTEN")]
    listen: SocketAddr,
    /// The Secret in which identities are kept; it has to be there, and may be empty
    #[arg(long, value_name = "NAME", env = "MIGPOOL_ARM_SECRET")]
    front_secret: String,
    /// The ConfigMap in which people find the authority's certificate, as ca.pem; it has to be there
    #[arg(long, value_name = "NAME", env = "MIGPOOL_ARM_CA")]
    front_ca: Option<String>,
    /// A name or address by which clients reach the front, for its certificate; may be given again
    #[arg(long = "name", value_name = "NAME", required = true)]
    names: Vec<String>,
    /// The URL at which clients reach it, where that is not what each says in `Host`
    #[arg(long, value_name = "URL")]
    origin: Option<String>,
    /// The subscription
    #[arg(
        long,
        value_name = "ID",
        default_value = "00000000-0000-0000-0000-000000000000"
    )]
    subscription: Uuid,
    /// How long a token is good, an hour at most
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    token_life: Duration,
    /// Trust the tokens of this OpenID Connect issuer too: its https URL
    #[arg(long, value_name = "URL", requires = "issuer_audience")]
    issuer: Option<String>,
    /// The audience that its tokens must be for
    #[arg(long, value_name = "AUDIENCE", requires = "issuer")]
    issuer_audience: Option<String>,
    /// The claim that has a principal's roles
    #[arg(long, value_name = "CLAIM", requires = "issuer")]
    issuer_roles_claim: Option<String>,
    /// The authorities (PEM) that the issuer's certificate must be signed by [default: the system's]
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_authority: Option<PathBuf>,
    /// Hand out kubeconfigs with the rights of this ServiceAccount; none are handed out without it
    #[arg(long, value_name = "NAME")]
    credentials_service_account: Option<String>,
    /// How long a kubeconfig is good
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "8h",
        value_parser = humantime::parse_duration,
        requires = "credentials_service_account"
    )]
    credentials_life: Duration,
    /// The API server's URL in kubeconfigs, as people reach it [default: what kubeadm left in kube-public]
    #[arg(long, value_name = "URL", requires = "credentials_service_account")]
    credentials_server: Option<String>,
}

impl Serve {
    /// Runs until it is interrupted.
    pub(crate) async fn run(self) -> Result<(), Failure> {
        start_log();
        let cancel = cancelled_by_signals()?;
        kubernetes::serve(self.config(), cancel)
            .await
            .map_err(Failure::of)
    }

    fn config(self) -> ServeConfig {
        let (roles_claim, authority) = (self.issuer_roles_claim, self.issuer_authority);
        let issuer = self.issuer.zip(self.issuer_audience);
        let issuer = issuer.map(|(issuer, audience)| TrustedIssuer {
            issuer,
            audience,
            roles_claim,
            authority,
        });
        let (life, server) = (self.credentials_life, self.credentials_server);
        let credentials =
            self.credentials_service_account
                .map(|service_account| CredentialsConfig {
                    service_account,
                    life,
                    server,
                });
        ServeConfig {
            namespace: self.namespace,
            kubeconfig: self.kubeconfig,
            listen: self.listen,
            secret: self.front_secret,
            authority: self.front_ca,
            names: self.names,
            origin: self.origin,
            subscription: self.subscription,
            token_life: self.token_life,
            issuer,
            credentials,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        serve: Serve,
    }

    const LEAST: [&str; 9] = [
        "serve",
        "--namespace",
        "migpool",
        "--listen",
        "0.0.0.0:8443",
        "--front-secret",
        "arm",
        "--name",
        "arm.migpool.svc",
    ];

    fn parsed(more: &[&str]) -> Result<ServeConfig, clap::Error> {
        let words = [&LEAST[..], more].concat();
        Program::try_parse_from(words).map(|program| program.serve.config())
    }

    #[test]
    fn nothing_is_handed_out_and_nobody_else_is_trusted_unless_that_is_asked_for() {
        let config = parsed(&[]).unwrap();
        assert!(config.credentials.is_none() && config.issuer.is_none());
        assert_eq!(config.subscription, Uuid::nil());
        let account = ["--credentials-service-account", "people"];
        let config = parsed(&account).unwrap();
        assert_eq!(config.credentials.unwrap().service_account, "people");
        let issuer = [
            "--issuer",
            "https://issuer.example",
            "--issuer-audience",
            "migpool",
        ];
        assert_eq!(parsed(&issuer).unwrap().issuer.unwrap().audience, "migpool");
        parsed(&issuer[..2]).unwrap_err();
        parsed(&["--credentials-server", "https://api.example"]).unwrap_err();
    }
}
