//! `migpool up --azure`: the front for Azure's clients, beside the Unix socket.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arm::{Account, FrontSettings, Scheme};
use clap::Args;
use gateway::{GatewayConfig, Limits};
use identity::{AuditLog, Folder, Identity, Settings};
use local::BesideError;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::azure::{AzureFolder, Endpoint};

/// How long a token is good.
const TOKEN_LIFE: Duration = Duration::from_hours(1);

/// The options of the front for Azure's clients.
#[derive(Debug, Clone, Args)]
pub(crate) struct AzureOptions {
    /// Answer Azure's clients (az, curl, the SDKs) too: by TLS, and only those who sign in. `migpool azure env` sets a shell up
    #[arg(long)]
    azure: bool,
    /// Where Azure's clients are answered: an address of this machine's own
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:8443",
        requires = "azure"
    )]
    azure_listen: SocketAddr,
    /// A further name or address by which clients reach it, for its certificate; may be given again
    #[arg(long, value_name = "NAME", requires = "azure")]
    azure_name: Vec<String>,
    /// Let other machines in where --azure-listen is an address that they can reach
    #[arg(long, requires = "azure")]
    azure_allow_remote: bool,
}

/// Why Azure's clients cannot be answered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Other machines could reach the address.
    #[error(
        "Azure's clients are answered on this machine's own addresses only, and {0} is none: choose 127.0.0.1 or [::1], or let \
         other machines in with --azure-allow-remote"
    )]
    NotLoopback(SocketAddr),
    /// Nobody could say where to connect to.
    #[error(
        "{0} is every address of this machine: say by which name or address clients reach it, with --azure-name"
    )]
    NoName(SocketAddr),
    /// The address cannot be used.
    #[error(
        "Azure's clients cannot be answered on {address}: {source}; --azure-listen chooses another address"
    )]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

impl AzureOptions {
    /// Takes the address, if Azure's clients are to be answered; port 0 is any that is free.
    pub(crate) async fn open(&self) -> Result<Option<AzureFront>, Error> {
        if !self.azure {
            return Ok(None);
        }
        let address = self.azure_listen;
        if !address.ip().is_loopback() && !self.azure_allow_remote {
            return Err(Error::NotLoopback(address));
        }
        let host = match (address.ip(), self.azure_name.first()) {
            (ip, _) if ip.is_loopback() => ip.to_string(),
            (_, Some(name)) => name.clone(),
            (ip, None) if ip.is_unspecified() => return Err(Error::NoName(address)),
            (ip, None) => ip.to_string(),
        };
        let failed = |source| Error::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        Ok(Some(AzureFront {
            listener,
            url: url(&host, port),
            names: self.names(),
        }))
    }

    /// What the server's certificate is for.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).into();
        let ip = self.azure_listen.ip();
        let listened = (!ip.is_unspecified()).then(|| ip.to_string());
        for name in self.azure_name.iter().cloned().chain(listened) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

fn url(host: &str, port: u16) -> String {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("https://[{ip}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

/// A front that is about to answer.
#[derive(Debug)]
pub(crate) struct AzureFront {
    listener: TcpListener,
    url: String,
    names: Vec<String>,
}

impl AzureFront {
    /// The beginning of its URLs.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Answers over `backend` until cancelled, and tells `ready` when it begins to.
    pub(crate) async fn serve<B: arm::Backend>(
        self,
        folder: &AzureFolder,
        backend: B,
        ready: oneshot::Sender<()>,
        cancel: CancellationToken,
    ) -> Result<(), BesideError> {
        let account = Account::local();
        let settings = Settings {
            subscription: account.subscription,
            names: self.names,
            token_life: TOKEN_LIFE,
            issuer: None,
        };
        let identity = Identity::open(Folder::new(folder.path()), settings).await?;
        let tenant = identity.tenant();
        let endpoint = Endpoint {
            url: self.url,
            tenant: tenant.to_string(),
            subscription: account.subscription.to_string(),
        };
        let inner = arm::Front::new(
            Arc::new(backend),
            FrontSettings {
                scheme: Scheme::Https,
                account: Account {
                    tenant: tenant.0,
                    ..account
                },
            },
        );
        let config = GatewayConfig {
            listener: self.listener,
            limits: Limits::default(),
            origin: None,
            audit: AuditLog::to_file(folder.audit_log())?,
        };
        // Whoever connects from here on waits to be accepted.
        folder.announce(&endpoint)?;
        // Nobody waits for the announcement any more when `up` is on its way out.
        let _ = ready.send(());
        let served = gateway::serve(config, identity, inner, cancel).await;
        folder.withdraw()?;
        Ok(served?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Up {
        #[command(flatten)]
        azure: AzureOptions,
    }

    fn options(words: &[&str]) -> AzureOptions {
        let words = [&["up", "--azure"], words].concat();
        Up::parse_from(words).azure
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused_unless_it_is_allowed() {
        let words = ["--azure-listen", "0.0.0.0:0"];
        let error = options(&words).open().await.unwrap_err();
        assert!(matches!(error, Error::NotLoopback(_)), "{error}");
        assert!(
            error.to_string().contains("--azure-allow-remote"),
            "{error}"
        );
        let words = ["--azure-listen", "0.0.0.0:0", "--azure-allow-remote"];
        let error = options(&words).open().await.unwrap_err();
        assert!(matches!(error, Error::NoName(_)), "{error}");
        let words = [&words[..], &["--azure-name", "gpu.example"]].concat();
        let front = options(&words).open().await.unwrap().unwrap();
        assert!(front.url.starts_with("https://gpu.example:"), "{front:?}");
    }

    #[tokio::test]
    async fn the_certificate_is_for_this_machines_own_names_and_those_that_were_added() {
        let own = ["localhost", "127.0.0.1", "::1"];
        assert_eq!(options(&[]).names(), own);
        let words = ["--azure-name", "a.example", "--azure-name", "localhost"];
        assert_eq!(options(&words).names()[3..], ["a.example"]);
        let words = ["--azure-listen", "127.0.0.7:0"];
        let front = options(&words).open().await.unwrap().unwrap();
        assert_eq!(front.names[3..], ["127.0.0.7"]);
        assert!(front.url.starts_with("https://127.0.0.7:"), "{front:?}");
        let words = ["--azure-listen", "[::1]:8443"];
        assert_eq!(url("::1", 8443), "https://[::1]:8443");
        assert_eq!(options(&words).names(), own);
    }

    #[test]
    fn the_other_options_need_azure() {
        let refused = Up::try_parse_from(["up", "--azure-name", "x"]).unwrap_err();
        assert!(refused.to_string().contains("--azure"), "{refused}");
        Up::try_parse_from(["up"]).unwrap();
    }
}
