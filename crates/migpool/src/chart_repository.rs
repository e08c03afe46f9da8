//! A folder of packed charts, served to helm over loopback HTTP.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::services::ServeDir;

/// Why charts cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The folder is not a chart repository.
    #[error(
        "{} is not a chart repository: its index.yaml cannot be read ({source}); `cargo xtask charts` makes one in target/charts",
        folder.display()
    )]
    NoIndex {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anybody who can reach the address could read the folder.
    #[error(
        "charts are served on this machine's own addresses only, and {0} is none: choose 127.0.0.1 or [::1]"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be used.
    #[error("charts cannot be served on {address}: {source}; --chart-address chooses another")]
    Address {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// A repository that is about to be served.
#[derive(Debug)]
pub(crate) struct ChartRepository {
    folder: PathBuf,
    listener: TcpListener,
    address: SocketAddr,
}

impl ChartRepository {
    /// Checks the folder and takes the address; port 0 is any that is free.
    pub(crate) async fn open(folder: &Path, address: SocketAddr) -> Result<Self, Error> {
        let index = std::fs::File::open(folder.join("index.yaml"));
        index.map_err(|source| Error::NoIndex {
            folder: folder.to_owned(),
            source,
        })?;
        if !address.ip().is_loopback() {
            return Err(Error::NotLoopback(address));
        }
        let failed = |source| Error::Address { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            folder: folder.to_owned(),
            listener,
            address,
        })
    }

    /// What `helm repo add` takes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Serves the folder, to be read only, until cancelled.
    pub(crate) fn serve(
        self,
        cancel: CancellationToken,
    ) -> impl Future<Output = io::Result<()>> + Send {
        let router = Router::new().fallback_service(ServeDir::new(self.folder));
        axum::serve(self.listener, router)
            .with_graceful_shutdown(cancel.cancelled_owned())
            .into_future()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    const ANY: &str = "127.0.0.1:0";

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn a_folder_is_served_to_be_read_and_nothing_outside_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("charts");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("index.yaml"), "apiVersion: v1\n").unwrap();
        std::fs::write(dir.path().join("secret"), "secret\n").unwrap();
        let repository = ChartRepository::open(&folder, ANY.parse().unwrap()).await;
        let repository = repository.unwrap();
        let address = repository.address;
        let cancel = CancellationToken::new();
        let served = tokio::spawn(repository.serve(cancel.clone()));
        let answers = tokio::task::spawn_blocking(move || {
            let request = |line: &str| format!("{line} HTTP/1.0\r\nHost: x\r\n\r\n");
            [
                "GET /index.yaml",
                "GET /../secret",
                "GET /%2e%2e/secret",
                "PUT /index.yaml",
            ]
            .map(|line| ask(address, &request(line)))
        });
        let [index, outside, encoded, put] = answers.await.unwrap();
        assert!(
            index.contains("200 OK") && index.ends_with("apiVersion: v1\n"),
            "{index}"
        );
        assert!(!outside.contains("secret\n"), "{outside}");
        assert!(!encoded.contains("secret\n"), "{encoded}");
        assert!(put.contains("405"), "{put}");
        cancel.cancel();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_folder_without_an_index_is_refused_in_words() {
        let dir = tempfile::tempdir().unwrap();
        let error = ChartRepository::open(dir.path(), ANY.parse().unwrap()).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains("is not a chart repository"), "{text}");
        assert!(text.contains("cargo xtask charts"), "{text}");
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("index.yaml"), "apiVersion: v1\n").unwrap();
        let error = ChartRepository::open(dir.path(), "0.0.0.0:0".parse().unwrap()).await;
        assert!(matches!(error, Err(Error::NotLoopback(_))));
    }
}
