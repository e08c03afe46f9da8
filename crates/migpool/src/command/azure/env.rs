//! `migpool azure env`: one line in a shell, and Azure's clients there use migpool.

use std::path::PathBuf;

use clap::Args;
use identity::Identity;

use crate::azure::az::{Az, AzError};
use crate::azure::set_up::{BringError, Client, ConfigDir, Due};
use crate::azure::shell::Shell;
use crate::azure::{AzureFolder, Endpoint, bundle, environment, write_atomically};
use crate::command::azure::keeper::FrontOptions;
use crate::command::nodepool::on_cluster::HEADING;
use crate::failure::Failure;
use crate::output::write_line;

/// Print what a shell needs for az, curl and the SDKs to use migpool: eval "$(migpool azure env)"
///
/// The first time it makes az's settings too, in a folder of their own, and signs az in as the front's managed identity. Your own
/// settings in ~/.azure stay as they are.
#[derive(Debug, Args)]
pub(crate) struct Env {
    #[command(flatten)]
    client: ClientOptions,
    /// The shell that reads what is printed
    #[arg(long, value_enum, default_value = "sh")]
    shell: Shell,
}

/// Where az keeps its settings for migpool.
#[derive(Debug, Args)]
pub(crate) struct ClientOptions {
    #[command(flatten)]
    pub(crate) front: FrontOptions,
    /// Where az keeps its settings for migpool: a new or an empty folder [default: azure/cli in the state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) azure_config_dir: Option<PathBuf>,
    /// Where the front of a cluster is reached: https://HOST:PORT
    #[arg(
        long,
        value_name = "URL",
        requires = "kubernetes_cluster",
        help_heading = HEADING
    )]
    url: Option<String>,
}

impl ClientOptions {
    /// Where the front answers, and what it keeps.
    pub(crate) async fn front(&self) -> Result<(Endpoint, Identity), Failure> {
        let folder = self.front.folder()?;
        if !self.front.is_in_a_cluster()? {
            let endpoint = folder.endpoint()?;
            return Ok((endpoint, self.front.identity().await?));
        }
        let Some(url) = &self.url else {
            return Err(Failure::usage("where is the front of the cluster reached?").with_help(
                "--url https://HOST:PORT; `kubectl port-forward` makes a Service that is reached nowhere else one of this machine",
            ));
        };
        let identity = self.front.identity().await?;
        let endpoint = Endpoint {
            url: url.trim_end_matches('/').to_owned(),
            tenant: identity.tenant().to_string(),
            subscription: identity.subscription().to_string(),
        };
        if !endpoint.accepts() {
            return Err(
                Failure::failed(format!("nobody answers at {url}")).with_help(
                    "it is to be https://HOST:PORT of the front's Service, or of a `kubectl port-forward` to it",
                ),
            );
        }
        // As a front on this machine lays it out.
        let authority = folder.authority();
        folder
            .make()
            .and_then(|()| write_atomically(&authority, identity.authority_pem().as_bytes()))
            .map_err(|error| {
                Failure::failed(format!("cannot write {}: {error}", authority.display()))
            })?;
        Ok((endpoint, identity))
    }

    /// The folder of az's settings.
    pub(crate) fn config_dir(&self, folder: &AzureFolder) -> Result<PathBuf, Failure> {
        match &self.azure_config_dir {
            None => Ok(folder.config_dir()),
            Some(dir) => std::path::absolute(dir).map_err(|error| {
                Failure::usage(format!("{} is not a usable path: {error}", dir.display()))
            }),
        }
    }
}

impl Env {
    /// Sets az up where that is due, and prints.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let variables = prepare(&self.client, None, None, Absent::IsSaid).await?;
        let set = variables
            .iter()
            .map(|(name, value)| self.shell.set(name, value));
        let mut lines = set.collect::<Result<Vec<_>, _>>()?;
        // A shell that was the managed identity's before must not stay it.
        for name in environment::NAMES {
            if !variables.iter().any(|(set, _)| *set == name) {
                lines.push(self.shell.unset(name));
            }
        }
        write_line(&lines.join("\n"))
    }
}

/// What a machine without az means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// A word on standard error: curl and the SDKs need no az.
    IsSaid,
    /// A failure.
    Fails,
}

/// Brings az to use the front, as `wanted` where somebody in particular is to sign in, and gives the variables that a shell needs.
pub(crate) async fn prepare(
    client: &ClientOptions,
    wanted: Option<&Client>,
    secret: Option<&str>,
    absent: Absent,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let folder = client.front.folder()?;
    let config_dir = client.config_dir(&folder)?;
    let (endpoint, identity) = client.front().await?;
    let others = bundle::trusted_anyway();
    bundle::write(
        &folder.bundle(),
        others.as_deref(),
        &identity.authority_pem(),
    )?;
    let mut config = ConfigDir::open(&config_dir, &folder)?;
    let due = config.due(&endpoint, wanted);
    let header = match config.client(&due) {
        Client::ManagedIdentity => Some(identity.managed_identity_header()),
        Client::ServicePrincipal(_) => None,
    };
    let variables =
        environment::variables(&endpoint, &config_dir, &folder.bundle(), header.as_deref())?;
    if due.is_nothing() {
        return Ok(variables);
    }
    let az = Az::new(variables.clone());
    match config.bring(&az, &endpoint, &due, secret) {
        Ok(()) => say(&due, &endpoint.url, &config_dir),
        Err(BringError::Az(AzError::Missing)) if absent == Absent::IsSaid => anstream::eprintln!(
            "az is not on the PATH, so it was not set up. Once it is there, run `migpool azure env` again."
        ),
        Err(error) => return Err(error.into()),
    }
    Ok(variables)
}

fn say(due: &Due, url: &str, config_dir: &std::path::Path) {
    let who = match due.sign_in() {
        None => String::new(),
        Some(Client::ManagedIdentity) => ", signed in as migpool's managed identity".to_owned(),
        Some(Client::ServicePrincipal(id)) => format!(", signed in as service principal {id}"),
    };
    anstream::eprintln!(
        "az uses migpool at {url}{who}. Its settings are in {}; your own stay as they are.",
        config_dir.display()
    );
}
