//! Several processes change one folder, and any of them may be killed at any instruction. The children are this very test program.
#![allow(
    clippy::expect_used,
    reason = "a test that cannot go on says where it stood"
)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use migpool_identity::{Folder, Identity, PrincipalId, Role, RoleScope, Settings};
use uuid::Uuid;

const FOLDER: &str = "IDENTITY_TEST_FOLDER";
const NAME: &str = "IDENTITY_TEST_NAME";

/// What a child prints once a change is kept.
const KEPT: &str = "kept ";

fn start(test: &str, folder: &Path, name: &str) -> Child {
    let program = std::env::current_exe().expect("this program");
    Command::new(program)
        .args([
            "--exact",
            test,
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(FOLDER, folder)
        .env(NAME, name)
        .stdout(Stdio::piped())
        .spawn()
        .expect("started")
}

fn kept(child: &mut Child) -> impl Iterator<Item = u128> {
    let out = child.stdout.take().expect("piped");
    let lines = BufReader::new(out).lines().map_while(Result::ok);
    // The test harness may have begun the first line.
    lines.filter_map(|line| line.split_once(KEPT)?.1.parse().ok())
}

fn runtime() -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().expect("a runtime")
}

fn settings() -> Settings {
    Settings {
        subscription: Uuid::nil(),
        names: vec!["localhost".to_owned()],
        token_life: Duration::from_hours(1),
        issuer: None,
    }
}

async fn open(folder: &Path) -> Identity {
    Identity::open(Folder::new(folder), settings())
        .await
        .expect("opens")
}

fn given() -> (std::path::PathBuf, u128) {
    let var = |name| std::env::var(name).expect("the parent sets it");
    (var(FOLDER).into(), var(NAME).parse().expect("a number"))
}

#[test]
#[ignore = "a child of `a_killed_process_leaves_the_old_or_the_new_document`"]
fn assigns_without_end() {
    let (folder, first) = given();
    runtime().block_on(async {
        let identity = open(&folder).await;
        for number in first.. {
            let principal = PrincipalId(Uuid::from_u128(number));
            let scope = RoleScope::subscription(Uuid::nil());
            identity
                .assign(principal, Role::Reader, scope)
                .await
                .expect("kept");
            println!("{KEPT}{number}");
        }
    });
}

#[test]
fn a_killed_process_leaves_the_old_or_the_new_document() {
    let dir = tempfile::tempdir().expect("tempdir");
    let folder = dir.path().join("azure");
    // Killed in the middle of the first start, too.
    for microseconds in [0, 500, 2000, 8000, 20_000] {
        let mut child = start("assigns_without_end", &folder, "1");
        std::thread::sleep(Duration::from_micros(microseconds));
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
    let mut next = 1_000_000;
    for round in 0..12 {
        let mut child = start("assigns_without_end", &folder, &next.to_string());
        let mut last = next;
        for number in kept(&mut child).take(3 + round % 4) {
            last = number;
        }
        // Somewhere in the next write.
        std::thread::sleep(Duration::from_micros(fastrand::u64(0..4000)));
        child.kill().expect("killed");
        child.wait().expect("ended");
        let found = runtime().block_on(async { open(&folder).await.assignments() });
        for number in next..=last {
            let id = PrincipalId(Uuid::from_u128(number));
            assert!(
                found.iter().any(|assigned| assigned.principal == id),
                "{number} is lost"
            );
        }
        next = last + 1000;
    }
}

#[test]
#[ignore = "a child of `processes_that_create_principals_at_once_lose_none`"]
fn creates_some_principals() {
    let (folder, first) = given();
    runtime().block_on(async {
        let identity = Identity::attach(Folder::new(folder))
            .await
            .expect("attaches");
        for number in first..first + 5 {
            let scope = RoleScope::subscription(Uuid::nil());
            let name = number.to_string();
            let made = identity
                .create_service_principal(&name, Role::Reader, scope)
                .await;
            made.expect("kept");
            println!("{KEPT}{number}");
        }
    });
}

#[test]
fn processes_that_create_principals_at_once_lose_none() {
    let dir = tempfile::tempdir().expect("tempdir");
    let folder = dir.path().join("azure");
    runtime().block_on(open(&folder));
    let firsts = [100, 200, 300];
    let start = |first: u128| start("creates_some_principals", &folder, &first.to_string());
    for mut child in firsts.map(start) {
        assert_eq!(kept(&mut child).count(), 5);
        assert!(child.wait().expect("ended").success());
    }
    let identity = runtime().block_on(open(&folder));
    let names: Vec<String> = identity
        .principals()
        .into_iter()
        .map(|one| one.name)
        .collect();
    for first in firsts {
        for number in first..first + 5 {
            assert!(names.contains(&number.to_string()), "{number} is lost");
        }
    }
    assert_eq!(names.len(), 16);
    assert_eq!(identity.assignments().len(), 16);
}
