//! az's settings for the front, in a folder of their own that is migpool's to fill and to remove.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::azure::az::{Az, AzError};
use crate::azure::{AzureFolder, Endpoint, write_atomically};
use crate::failure::Failure;

/// The file that makes a folder migpool's: what was done in it.
const DONE: &str = "migpool.json";

/// Held while az is set up: two shells may start at once.
const LOCK: &str = "migpool.lock";

/// Who az signs in as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Client {
    /// The front's managed identity.
    ManagedIdentity,
    /// A service principal, by its client id.
    ServicePrincipal(String),
}

/// Who has signed in, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SignedIn {
    tenant: String,
    client: Client,
}

/// What was done in a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Done {
    /// The URL of the front that the cloud is registered with.
    registered: Option<String>,
    signed_in: Option<SignedIn>,
}

/// What is still to be done in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    register: bool,
    sign_in: Option<Client>,
}

impl Due {
    /// Whether there is nothing to do.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.register && self.sign_in.is_none()
    }

    /// Who is to sign in.
    pub(crate) fn sign_in(&self) -> Option<&Client> {
        self.sign_in.as_ref()
    }
}

impl Done {
    /// What is due for `endpoint`, for `wanted` or, without that, for who signed in before.
    fn due(&self, endpoint: &Endpoint, wanted: Option<&Client>) -> Due {
        let before = self.signed_in.as_ref();
        let client = wanted
            .or_else(|| before.map(|signed_in| &signed_in.client))
            .unwrap_or(&Client::ManagedIdentity);
        let signed_in = before.is_some_and(|signed_in| {
            signed_in.tenant == endpoint.tenant && signed_in.client == *client
        });
        Due {
            register: self.registered.as_ref() != Some(&endpoint.url),
            sign_in: (!signed_in).then(|| client.clone()),
        }
    }
}

/// A folder of az's settings, for as long as this process works on it.
#[derive(Debug)]
pub(crate) struct ConfigDir {
    path: PathBuf,
    done: Done,
    _lock: File,
}

impl ConfigDir {
    /// Opens the folder, making it (mode 0700) where it is missing. One that has anybody else's settings is left alone.
    pub(crate) fn open(path: &Path, folder: &AzureFolder) -> Result<Self, Failure> {
        check_ours(path, folder)?;
        let unusable = |error: io::Error| {
            Failure::failed(format!(
                "cannot keep az's settings in {}: {error}",
                path.display()
            ))
            .with_help("--azure-config-dir chooses another folder")
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(unusable)?;
        let lock = File::create(path.join(LOCK)).map_err(unusable)?;
        lock.lock().map_err(unusable)?;
        let done = read(path).map_err(unusable)?;
        let this = Self {
            path: path.to_owned(),
            done: done.unwrap_or_default(),
            _lock: lock,
        };
        // From here on the folder is migpool's, whenever this process ends.
        this.keep()?;
        Ok(this)
    }

    /// What is still to be done in it for `endpoint`.
    pub(crate) fn due(&self, endpoint: &Endpoint, wanted: Option<&Client>) -> Due {
        self.done.due(endpoint, wanted)
    }

    /// Who has signed in, or will when what is due is done.
    pub(crate) fn client(&self, due: &Due) -> Client {
        let before = self.done.signed_in.as_ref();
        due.sign_in
            .as_ref()
            .or_else(|| before.map(|signed_in| &signed_in.client))
            .cloned()
            .unwrap_or(Client::ManagedIdentity)
    }

    /// Does what is due. A service principal signs in with `secret`.
    pub(crate) fn bring(
        &mut self,
        az: &Az,
        endpoint: &Endpoint,
        due: &Due,
        secret: Option<&str>,
    ) -> Result<(), BringError> {
        if due.register {
            az.use_cloud(endpoint)?;
            self.done.registered = Some(endpoint.url.clone());
            self.keep().map_err(BringError::Other)?;
        }
        if let Some(client) = &due.sign_in {
            match client {
                Client::ManagedIdentity => az.run(&["login", "--identity"])?,
                Client::ServicePrincipal(id) => {
                    let Some(secret) = secret else {
                        return Err(BringError::Other(needs_secret(id)));
                    };
                    let words = [
                        "login",
                        "--service-principal",
                        "--username",
                        id,
                        "--tenant",
                        &endpoint.tenant,
                        // From standard input: everybody on the machine can read a command line.
                        "--password=@-",
                    ];
                    // az would take a token that it has kept for proof of any secret.
                    az.run(&["account", "clear"])?;
                    az.run_with_input(&words, secret)?;
                }
            }
            self.done.signed_in = Some(SignedIn {
                tenant: endpoint.tenant.clone(),
                client: client.clone(),
            });
            self.keep().map_err(BringError::Other)?;
        }
        Ok(())
    }

    fn keep(&self) -> Result<(), Failure> {
        let file = self.path.join(DONE);
        let text = serde_json::to_vec_pretty(&self.done).map_err(Failure::of)?;
        write_atomically(&file, &text)
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", file.display())))
    }

    /// Removes the folder with everything in it; says whether there was one.
    pub(crate) fn remove(path: &Path, folder: &AzureFolder) -> Result<bool, Failure> {
        check_ours(path, folder)?;
        match fs::remove_dir_all(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::failed(format!(
                "cannot remove {}: {error}",
                path.display()
            ))),
        }
    }
}

/// Why what was due could not be done.
#[derive(Debug)]
pub(crate) enum BringError {
    /// az did not do it.
    Az(AzError),
    /// Anything else.
    Other(Failure),
}

impl From<AzError> for BringError {
    fn from(error: AzError) -> Self {
        Self::Az(error)
    }
}

impl From<BringError> for Failure {
    fn from(error: BringError) -> Self {
        match error {
            BringError::Az(AzError::Missing) => {
                Self::of(AzError::Missing).with_help("install azure-cli, or put its az on the PATH")
            }
            BringError::Az(error) => Self::of(error),
            BringError::Other(failure) => failure,
        }
    }
}

fn needs_secret(id: &str) -> Failure {
    Failure::failed(format!(
        "the service principal {id} has to sign in again, and its secret is not known here"
    ))
    .with_help(
        "AZURE_CLIENT_SECRET=... migpool azure setup --apply --service-principal NAME; or `migpool azure teardown` first, to \
         sign in as the managed identity",
    )
}

fn read(path: &Path) -> io::Result<Option<Done>> {
    match fs::read(path.join(DONE)) {
        // What a later migpool wrote there is done again.
        Ok(text) => Ok(Some(serde_json::from_slice(&text).unwrap_or_default())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Refuses a folder that has somebody's own settings.
fn check_ours(path: &Path, folder: &AzureFolder) -> Result<(), Failure> {
    let empty = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    if empty || path == folder.config_dir() || path.join(DONE).is_file() {
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{} has settings that are not migpool's, and they are left as they are",
        path.display()
    ))
    .with_help("name a new or an empty folder with --azure-config-dir"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(url: &str, tenant: &str) -> Endpoint {
        Endpoint {
            url: url.to_owned(),
            tenant: tenant.to_owned(),
            subscription: "s".to_owned(),
        }
    }

    fn done(url: &str, tenant: &str, client: Client) -> Done {
        Done {
            registered: Some(url.to_owned()),
            signed_in: Some(SignedIn {
                tenant: tenant.to_owned(),
                client,
            }),
        }
    }

    #[test]
    fn only_what_changed_is_done_again() {
        let there = endpoint("u", "t");
        let managed = Client::ManagedIdentity;
        let due = |done: &Done| done.due(&there, None);
        let both = Due {
            register: true,
            sign_in: Some(managed.clone()),
        };
        assert_eq!(due(&Done::default()), both);
        assert!(due(&done("u", "t", managed.clone())).is_nothing());
        // Another port; the tokens are the same front's.
        let moved = due(&done("v", "t", managed.clone()));
        assert!(moved.register && moved.sign_in.is_none());
        // Another identity at the same address.
        let anew = due(&done("u", "other", managed.clone()));
        assert_eq!((anew.register, anew.sign_in), (false, Some(managed)));
    }

    #[test]
    fn a_shell_of_a_service_principal_never_becomes_the_managed_identitys_by_itself() {
        let principal = Client::ServicePrincipal("id".to_owned());
        let there = endpoint("u", "t");
        let due = done("u", "other", principal.clone()).due(&there, None);
        assert_eq!(due.sign_in, Some(principal.clone()));
        assert!(
            done("u", "t", principal.clone())
                .due(&there, None)
                .is_nothing()
        );
        let asked = done("u", "t", principal).due(&there, Some(&Client::ManagedIdentity));
        assert_eq!(asked.sign_in, Some(Client::ManagedIdentity));
    }

    #[test]
    fn somebodys_own_settings_are_neither_used_nor_removed() {
        let home = tempfile::tempdir().unwrap();
        let folder = AzureFolder::of(home.path());
        let own = home.path().join(".azure");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("azureProfile.json"), "{}").unwrap();
        let said = ConfigDir::open(&own, &folder).unwrap_err().to_string();
        assert!(said.contains("not migpool's"), "{said}");
        ConfigDir::remove(&own, &folder).unwrap_err();
        assert_eq!(fs::read_dir(&own).unwrap().count(), 1);

        let new = home.path().join("new");
        assert!(!ConfigDir::remove(&new, &folder).unwrap());
        drop(ConfigDir::open(&new, &folder).unwrap());
        fs::write(new.join("azureProfile.json"), "{}").unwrap();
        drop(ConfigDir::open(&new, &folder).unwrap());
        assert!(ConfigDir::remove(&new, &folder).unwrap());
        assert!(!new.exists());
    }
}
