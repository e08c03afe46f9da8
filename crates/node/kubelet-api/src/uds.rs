//! gRPC over Unix sockets.
//!
//! A socket's path is limited to 107 bytes by the kernel. Both ends here go through the socket's
//! folder when the path is longer, so that a state folder may lie as deep as it likes.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint};

/// The longest path that fits into a socket address, in bytes.
const MAX_PATH: usize = 107;

/// The HTTP/2 authority that gRPC peers on Unix sockets expect.
const AUTHORITY: &str = "http://localhost";

/// Why a Unix socket could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answers at the socket, or it is not there.
    #[error("cannot connect to the socket {}: {}", path.display(), root_cause(source))]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the transport said.
        source: tonic::transport::Error,
    },
    /// The socket could not be made.
    #[error("cannot listen on the socket {}: {source}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Connects to the gRPC server on a Unix socket.
///
/// # Errors
/// [`Error::Connect`] when nobody answers there.
pub async fn connect(path: &Path) -> Result<Channel, Error> {
    let socket = path.to_path_buf();
    Endpoint::from_static(AUTHORITY)
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { dial(&socket).await.map(TokioIo::new) }
        }))
        .await
        .map_err(|source| Error::Connect {
            path: path.to_path_buf(),
            source,
        })
}

/// Listens on a Unix socket, for `tonic`'s `serve_with_incoming`.
///
/// A socket that a dead process left behind is replaced; one that somebody listens on is an error.
/// The socket's file is removed when the [`Incoming`] is dropped.
///
/// # Errors
/// [`Error::Listen`] when the folder is missing or not writable, or the socket is in use.
pub fn listen(path: &Path) -> Result<Incoming, Error> {
    bind(path).map_err(|source| Error::Listen {
        path: path.to_path_buf(),
        source,
    })
}

/// Removes a socket on which nobody listens any more; `false` when there is none such.
#[must_use]
pub fn remove_abandoned(path: &Path) -> bool {
    is_abandoned(path) && fs::remove_file(path).is_ok()
}

/// The connections that come in on a socket; made by [`listen`].
#[derive(Debug)]
pub struct Incoming {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket's file, to remove no other.
    file: Option<(u64, u64)>,
}

impl Incoming {
    /// The socket's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Stream for Incoming {
    type Item = io::Result<UnixStream>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.listener
            .poll_accept(context)
            .map(|accepted| Some(accepted.map(|(stream, _)| stream)))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // The kubelet may have deleted the file, and someone else may have made it anew.
        if self.file.is_some() && identity(&self.path) == self.file {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn bind(path: &Path) -> io::Result<Incoming> {
    let listener = match within_limit(path, |short| UnixListener::bind(short)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_abandoned(path) => {
            fs::remove_file(path)?;
            within_limit(path, |short| UnixListener::bind(short))?
        }
        other => other?,
    };
    Ok(Incoming {
        listener,
        path: path.to_path_buf(),
        file: identity(path),
    })
}

async fn dial(path: &Path) -> io::Result<UnixStream> {
    if fits(path) {
        return UnixStream::connect(path).await;
    }
    let (folder, short) = through_folder(path)?;
    let stream = UnixStream::connect(short).await;
    drop(folder);
    stream
}

fn within_limit<T>(path: &Path, act: impl Fn(&Path) -> io::Result<T>) -> io::Result<T> {
    if fits(path) {
        return act(path);
    }
    let (folder, short) = through_folder(path)?;
    let result = act(&short);
    drop(folder);
    result
}

fn fits(path: &Path) -> bool {
    path.as_os_str().as_bytes().len() <= MAX_PATH
}

/// A short path to the same socket, valid as long as the returned folder is open.
fn through_folder(path: &Path) -> io::Result<(File, PathBuf)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?,
        _ => File::open(".")?,
    };
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((folder, short))
}

/// A socket file on which nobody listens.
fn is_abandoned(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|meta| meta.file_type().is_socket());
    let probe = within_limit(path, |short| std::os::unix::net::UnixStream::connect(short));
    is_socket && probe.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path)
        .ok()
        .map(|meta| (meta.dev(), meta.ino()))
}

/// The transport's own words are only "transport error"; the cause is at the chain's end.
fn root_cause(error: &tonic::transport::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_plugin::v1beta1::registration_client::RegistrationClient;
    use crate::device_plugin::v1beta1::registration_server::{Registration, RegistrationServer};
    use crate::device_plugin::v1beta1::{Empty, RegisterRequest};
    use tonic::{Request, Response, Status, transport::Server};

    /// Refuses every registration, with the endpoint it was given, so that a test sees it arrive.
    struct Refuses;

    #[tonic::async_trait]
    impl Registration for Refuses {
        async fn register(
            &self,
            request: Request<RegisterRequest>,
        ) -> Result<Response<Empty>, Status> {
            Err(Status::already_exists(request.into_inner().endpoint))
        }
    }

    async fn round_trip(socket: &Path) -> Status {
        let incoming = listen(socket).unwrap();
        tokio::spawn(
            Server::builder()
                .add_service(RegistrationServer::new(Refuses))
                .serve_with_incoming(incoming),
        );
        let mut client = RegistrationClient::new(connect(socket).await.unwrap());
        let request = RegisterRequest {
            endpoint: "a.sock".to_owned(),
            ..Default::default()
        };
        client.register(request).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_call_crosses_a_socket() {
        let folder = tempfile::tempdir().unwrap();
        let status = round_trip(&folder.path().join("k.sock")).await;
        assert_eq!(status.message(), "a.sock");
    }

    #[tokio::test]
    async fn a_path_longer_than_the_kernel_allows_works() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(100)).join("e".repeat(100));
        fs::create_dir_all(&deep).unwrap();
        let status = round_trip(&deep.join("k.sock")).await;
        assert_eq!(status.message(), "a.sock");
    }

    #[tokio::test]
    async fn an_abandoned_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("k.sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let first = listen(&socket).unwrap();
        let error = listen(&socket).unwrap_err();
        assert!(error.to_string().contains("k.sock"), "{error}");
        drop(first);
        assert!(!socket.exists());
    }

    #[tokio::test]
    async fn dropping_does_not_remove_a_socket_made_by_someone_else() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("k.sock");
        let first = listen(&socket).unwrap();
        fs::remove_file(&socket).unwrap();
        let second = listen(&socket).unwrap();
        drop(first);
        assert!(socket.exists());
        drop(second);
    }

    #[tokio::test]
    async fn an_error_names_the_socket_and_the_cause() {
        let error = connect(Path::new("/nowhere/k.sock")).await.unwrap_err();
        assert!(error.to_string().contains("/nowhere/k.sock"), "{error}");
        assert!(error.to_string().contains("No such file"), "{error}");
    }
}
