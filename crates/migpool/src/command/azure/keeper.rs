//! The identities that the commands of `migpool azure` look at and change, whether a front runs over them or not.

use clap::Args;
use identity::{Folder, Identity, IdentityError, Principal, PrincipalId, RoleScope};
use kubernetes::SecretStorage;

use crate::arguments::StateDir;
use crate::azure::AzureFolder;
use crate::command::nodepool::on_cluster::{HEADING, KubernetesCluster};
use crate::failure::Failure;

/// Whose identities are meant: those of the front on this machine, or of one in a Kubernetes cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct FrontOptions {
    #[command(flatten)]
    state: StateDir,
    #[command(flatten)]
    cluster: KubernetesCluster,
    /// The namespace of the front there
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "NAMESPACE",
        default_value = "migpool",
        help_heading = HEADING
    )]
    namespace: String,
    /// The Secret in which the front there keeps its identities
    #[arg(
        long = "front-secret",
        value_name = "NAME",
        env = "MIGPOOL_ARM_SECRET",
        default_value = "migpool-arm",
        help_heading = HEADING
    )]
    front_secret: String,
    /// The ConfigMap in which it shows its authority [default: the Secret's name and -authority]
    #[arg(
        long = "front-ca",
        value_name = "NAME",
        env = "MIGPOOL_ARM_CA",
        help_heading = HEADING
    )]
    front_ca: Option<String>,
}

impl FrontOptions {
    /// The folder of what is kept on this machine: all of the front, or what az needs for one in a cluster.
    pub(crate) fn folder(&self) -> Result<AzureFolder, Failure> {
        let folder = AzureFolder::of(&self.state.path()?);
        Ok(if self.cluster.reach()?.is_some() {
            folder.for_cluster()
        } else {
            folder
        })
    }

    /// Whether the front is in a cluster.
    pub(crate) fn is_in_a_cluster(&self) -> Result<bool, Failure> {
        Ok(self.cluster.reach()?.is_some())
    }

    /// What the front keeps.
    pub(crate) async fn identity(&self) -> Result<Identity, Failure> {
        let opened = match self.cluster.reach()? {
            None => Identity::attach(Folder::new(self.folder()?.path())).await,
            Some(reach) => {
                let authority = self.front_ca.clone();
                let authority =
                    authority.unwrap_or_else(|| format!("{}-authority", self.front_secret));
                let storage = SecretStorage::connect(
                    reach.kubeconfig(),
                    self.namespace.clone(),
                    self.front_secret.clone(),
                    Some(authority),
                );
                Identity::attach(storage.await.map_err(Failure::of)?).await
            }
        };
        opened.map_err(failure)
    }
}

/// An error of identities as what a person is told.
pub(crate) fn failure(error: IdentityError) -> Failure {
    let missing = matches!(error, IdentityError::Missing { .. });
    let failure = Failure::of(error);
    if missing {
        failure.with_help(
            "on this machine `migpool up --azure` starts it, and --state-dir or MIGPOOL_STATE_DIR names its state folder; on a \
             cluster migpool's chart does, with arm.enabled=true",
        )
    } else {
        failure
    }
}

/// The principal of this name or id.
pub(crate) fn principal(identity: &Identity, name: &str) -> Result<Principal, Failure> {
    let all = identity.principals();
    let id = name.parse::<PrincipalId>().ok();
    let found = all
        .iter()
        .find(|principal| principal.name == name || Some(principal.id) == id);
    found.cloned().ok_or_else(|| {
        let names: Vec<_> = all
            .iter()
            .map(|principal| principal.name.as_str())
            .collect();
        Failure::failed(format!(
            "there is no principal called {name}; there are: {}",
            names.join(", ")
        ))
        .with_help("`migpool azure principal create` makes one")
    })
}

/// A scope that means something here.
pub(crate) fn scope(identity: &Identity, scope: &RoleScope) -> Result<RoleScope, Failure> {
    if scope.subscription_id() == identity.subscription() {
        return Ok(scope.clone());
    }
    Err(Failure::usage(format!(
        "{scope} is in another subscription than this front's, which is /subscriptions/{}",
        identity.subscription()
    )))
}
