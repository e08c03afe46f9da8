//! What Azure's clients need of this machine: the folder of the front that answers them ([`AzureFolder`]), where it answers
//! ([`Endpoint`]), whom they trust ([`bundle`]), what a shell has to know ([`environment`]), and how az is brought to use it
//! ([`az`], [`set_up`]).

pub(crate) mod az;
pub(crate) mod bundle;
pub(crate) mod environment;
pub(crate) mod set_up;
pub(crate) mod shell;

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::failure::Failure;

/// How long a front on this machine may take to accept a connection.
const ACCEPT: Duration = Duration::from_secs(2);

/// The front's folder in the state folder of `migpool up`.
#[derive(Debug, Clone)]
pub(crate) struct AzureFolder(PathBuf);

impl AzureFolder {
    /// The front's folder in this state folder.
    pub(crate) fn of(state_dir: &Path) -> Self {
        Self(state_dir.join("azure"))
    }

    /// Where what az needs for a front in a cluster is kept, apart from what it needs for the one here.
    pub(crate) fn for_cluster(&self) -> Self {
        Self(self.0.join("cluster"))
    }

    /// Makes it (mode 0700) where it is missing.
    pub(crate) fn make(&self) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
    }

    /// The folder itself, where `identity` keeps what it knows.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Who did what, a JSON line each.
    pub(crate) fn audit_log(&self) -> PathBuf {
        self.0.join("audit.log")
    }

    /// The certificates that clients trust: the system's, and the front's authority.
    pub(crate) fn bundle(&self) -> PathBuf {
        self.0.join("ca-bundle.pem")
    }

    /// The certificate of the front's authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// Where az keeps its settings, unless another folder is asked for.
    pub(crate) fn config_dir(&self) -> PathBuf {
        self.0.join("cli")
    }

    /// Where the front answers, if it does.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, Failure> {
        let path = self.endpoint_file();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.silent()),
            Err(error) => {
                return Err(Failure::failed(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        };
        let endpoint: Endpoint = serde_json::from_slice(&text).map_err(|error| {
            Failure::failed(format!("{} cannot be read: {error}", path.display()))
                .with_help("start `migpool up --azure` anew: it writes the file")
        })?;
        // An `up` that was killed leaves its file behind.
        if endpoint.accepts() {
            Ok(endpoint)
        } else {
            Err(self.silent())
        }
    }

    /// Says where the front answers.
    pub(crate) fn announce(&self, endpoint: &Endpoint) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(endpoint)?;
        write_atomically(&self.endpoint_file(), &text)
    }

    /// Takes back where the front answered.
    pub(crate) fn withdraw(&self) -> io::Result<()> {
        match std::fs::remove_file(self.endpoint_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn endpoint_file(&self) -> PathBuf {
        self.0.join("endpoint.json")
    }

    fn silent(&self) -> Failure {
        let state_dir = self.0.parent().unwrap_or(&self.0);
        Failure::failed(format!(
            "no migpool answers Azure's clients for {}",
            state_dir.display()
        ))
        .with_help(
            "start it with `migpool up --azure` in another terminal, or name its state folder with --state-dir or \
             MIGPOOL_STATE_DIR",
        )
    }
}

/// Where a front answers, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// The beginning of every URL: `https://127.0.0.1:8443`, without a slash at its end.
    pub(crate) url: String,
    /// The tenant's id.
    pub(crate) tenant: String,
    /// The subscription's id.
    pub(crate) subscription: String,
}

impl Endpoint {
    /// Where managed identities get their tokens.
    pub(crate) fn managed_identity(&self) -> String {
        format!("{}/msi/token", self.url)
    }

    /// The authority that signs service principals in; its last segment makes clients keep the port and ask nobody else.
    pub(crate) fn authority(&self) -> String {
        format!("{}/adfs", self.url)
    }

    /// Whether somebody listens there.
    pub(crate) fn accepts(&self) -> bool {
        let Some(address) = self.url.strip_prefix("https://") else {
            return false;
        };
        address
            .to_socket_addrs()
            .is_ok_and(|mut all| all.any(|one| TcpStream::connect_timeout(&one, ACCEPT).is_ok()))
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub(crate) fn write_atomically(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(text)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_endpoint_is_there_only_while_somebody_listens_on_it() {
        let state = tempfile::tempdir().unwrap();
        let folder = AzureFolder::of(state.path());
        std::fs::create_dir(folder.path()).unwrap();
        let silent = |folder: &AzureFolder| folder.endpoint().unwrap_err().to_string();
        assert!(silent(&folder).contains("no migpool answers Azure's clients"));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = Endpoint {
            url: format!("https://{}", listener.local_addr().unwrap()),
            tenant: "t".to_owned(),
            subscription: "s".to_owned(),
        };
        folder.announce(&endpoint).unwrap();
        assert_eq!(folder.endpoint().unwrap(), endpoint);
        drop(listener);
        assert!(silent(&folder).contains("no migpool answers Azure's clients"));

        std::fs::write(folder.endpoint_file(), "{").unwrap();
        assert!(silent(&folder).contains("cannot be read"));
        folder.withdraw().unwrap();
        folder.withdraw().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
