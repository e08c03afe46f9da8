//! The control plane as a whole: its socket, its lock, its end.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use common::program;
use migpool_local::state_folder::StateFolderError;
use migpool_local::{UpConfig, UpError, up};
use pool::NodeProvider;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn config(state_dir: &Path, ready: Option<watch::Sender<bool>>) -> UpConfig {
    UpConfig {
        state_dir: state_dir.to_owned(),
        real_gpus: false,
        agent_program: program(),
        ready,
    }
}

#[tokio::test]
async fn it_answers_on_a_private_socket_refuses_a_second_and_ends_when_told() {
    let dir = tempfile::tempdir().expect("tempdir");
    // What a killed control plane leaves behind.
    std::os::unix::net::UnixListener::bind(dir.path().join("api.sock")).expect("bound");
    std::fs::write(dir.path().join("version"), "1\n").expect("written");
    let (ready, mut is_ready) = watch::channel(false);
    let cancel = CancellationToken::new();
    let first = tokio::spawn(up(config(dir.path(), Some(ready)), cancel.clone()));
    is_ready.wait_for(|ready| *ready).await.expect("it starts");

    let socket = dir.path().join("api.sock");
    let mode = std::fs::metadata(&socket)
        .expect("socket")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut client = UnixStream::connect(&socket).await.expect("connects");
    let request = "GET /subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups?api-version=2024-11-01 \
                   HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(r#"{"value":[]}"#), "{answer}");

    let second = up(config(dir.path(), None), CancellationToken::new()).await;
    let Err(UpError::StateFolder(StateFolderError::InUse { pid, .. })) = second else {
        panic!("a second control plane was let in: {second:?}");
    };
    assert_eq!(pid, std::process::id().to_string());

    cancel.cancel();
    first.await.expect("no panic").expect("a good end");
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_store_that_is_none_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("tempdir");
    std::fs::write(dir.path().join("version"), "1\n").expect("written");
    std::fs::write(dir.path().join("migpool.db"), "x".repeat(5000)).expect("written");
    let error = up(config(dir.path(), None), CancellationToken::new())
        .await
        .expect_err("refused");
    assert!(error.to_string().contains("migpool.db"), "{error}");
}

#[tokio::test]
async fn what_failed_changes_nothing_and_so_is_not_told_as_a_change() {
    let dir = tempfile::tempdir().expect("tempdir");
    let plane = common::Plane::start(dir.path()).await;
    let changes = plane.backend.node_changes();
    let update = pool::Action::UpdateNode(common::model::node());
    plane.backend.apply(update).await.expect_err("no such node");
    // Told otherwise, a controller would try again at once, and for ever.
    assert!(!changes.has_changed().expect("open"));
    plane.stop().await;
}
