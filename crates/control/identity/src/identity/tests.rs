mod following;
mod principals;
mod seen;
mod start;

use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use super::Identity;
use crate::{Folder, RoleScope, Settings};

fn settings() -> Settings {
    Settings {
        subscription: Uuid::nil(),
        names: vec!["localhost".to_owned()],
        token_life: Duration::from_hours(1),
        issuer: None,
    }
}

async fn open(dir: &TempDir) -> Identity {
    let folder = Folder::new(dir.path().join("azure"));
    Identity::open(folder, settings()).await.expect("opens")
}

async fn attach(dir: &TempDir) -> Identity {
    let folder = Folder::new(dir.path().join("azure"));
    Identity::attach(folder).await.expect("attaches")
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("tempdir")
}

fn subscription() -> RoleScope {
    RoleScope::subscription(Uuid::nil())
}
