//! The identities that the commands of `migpool azure` look at and change, whether a front runs over them or not.

use clap::Args;
use identity::{Folder, Identity, IdentityError, Principal, PrincipalId, RoleScope};

use crate::arguments::StateDir;
use crate::azure::AzureFolder;
use crate::failure::Failure;

/// Whose identities are meant.
#[derive(Debug, Clone, Args)]
pub(crate) struct FrontOptions {
    #[command(flatten)]
    state: StateDir,
}

impl FrontOptions {
    /// The folder of the front on this machine.
    pub(crate) fn folder(&self) -> Result<AzureFolder, Failure> {
        Ok(AzureFolder::of(&self.state.path()?))
    }

    /// What the front keeps.
    pub(crate) async fn identity(&self) -> Result<Identity, Failure> {
        let folder = self.folder()?;
        Identity::attach(Folder::new(folder.path()))
            .await
            .map_err(failure)
    }
}

/// An error of identities as what a person is told.
pub(crate) fn failure(error: IdentityError) -> Failure {
    let missing = matches!(error, IdentityError::Missing { .. });
    let failure = Failure::of(error);
    if missing {
        failure.with_help("`migpool up --azure` is what starts it; --state-dir or MIGPOOL_STATE_DIR names its state folder")
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
