//! The shared state file: what it refuses, and that a refusal leaves it as it was.
#![cfg(feature = "host")]
#![allow(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it should be"
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use migpool_nvml_sim::store::{STATE_FILE, StoreError, UpdateError};
use migpool_nvml_sim::{Driver, DriverRoot, Return, Store};
use tempfile::TempDir;

fn machine() -> (TempDir, DriverRoot) {
    let folder = tempfile::tempdir().unwrap();
    let board = mig::board("A30").unwrap();
    let root = DriverRoot::create(folder.path(), &[(board, 1)]).unwrap();
    (folder, root)
}

fn overwrite(root: &Path, at: usize, bytes: &[u8]) {
    let file = root.join(STATE_FILE);
    let mut content = std::fs::read(&file).unwrap();
    content[at..at + bytes.len()].copy_from_slice(bytes);
    std::fs::write(file, content).unwrap();
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_the_old_one_stays() {
    let (_folder, root) = machine();
    let store = root.driver().store();
    let before = store.read_with_generation().unwrap();
    let refused = store.update(|state| {
        state.gpus[0].serial = "x".repeat(2 << 20);
        Ok(())
    });
    assert!(matches!(
        refused,
        Err(UpdateError::Store(StoreError::TooLarge { .. }))
    ));
    assert_eq!(Return::from(refused.unwrap_err()), Return::MEMORY);
    assert_eq!(store.read_with_generation().unwrap(), before);
}

#[test]
fn a_refused_or_empty_change_writes_nothing() {
    let (_folder, root) = machine();
    let store = root.driver().store();
    let before = store.generation();
    let refused = store.update(|state| {
        state.boots = 99;
        Err::<(), _>(Return::IN_USE)
    });
    assert!(matches!(refused, Err(UpdateError::Refused(Return::IN_USE))));
    store.update(|_| Ok(())).unwrap();
    assert_eq!(store.generation(), before);
    assert_eq!(store.read().unwrap().boots, 1);
    assert!(!store.wait_change(before, Duration::from_millis(1)));
}

#[test]
fn every_open_store_sees_a_change_at_once() {
    let (folder, root) = machine();
    let other = Store::open(folder.path()).unwrap();
    let known = other.generation();
    assert_eq!(other.read().unwrap().boots, 1);
    root.reboot().unwrap();
    assert!(other.wait_change(known, Duration::ZERO) || other.generation() != known);
    assert_eq!(other.read().unwrap().boots, 2);
}

/// What makes a getter cheap: it takes in the state only when that has changed.
#[test]
fn an_unchanged_state_is_not_decoded_again() {
    let (folder, root) = machine();
    let store = Store::open(folder.path()).unwrap();
    let first = store.read().unwrap();
    assert!(Arc::ptr_eq(&first, &store.read().unwrap()));
    root.reboot().unwrap();
    let second = store.read().unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert!(Arc::ptr_eq(&second, &store.read().unwrap()));
}

#[test]
fn a_state_of_another_version_is_refused_with_both_versions() {
    let (folder, root) = machine();
    drop(root);
    overwrite(folder.path(), 8, &77_u32.to_le_bytes());
    let error = Store::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("77") && error.contains("version"), "{error}");
    assert_eq!(
        Driver::open(folder.path()).unwrap_err(),
        Return::LIB_RM_VERSION_MISMATCH
    );
}

#[test]
fn a_file_that_is_no_state_or_is_damaged_is_refused() {
    let (folder, root) = machine();
    drop(root);
    // Both slots, behind their headers.
    for slot in [4096, 4096 + 24 + (1 << 20)] {
        overwrite(folder.path(), slot + 24, &[0xFF; 64]);
    }
    let damaged = Store::open(folder.path()).unwrap().read();
    assert!(matches!(damaged, Err(StoreError::Damaged { .. })));
    std::fs::write(folder.path().join(STATE_FILE), "something else").unwrap();
    assert!(matches!(
        Store::open(folder.path()),
        Err(StoreError::NotAState { .. })
    ));
    std::fs::remove_file(folder.path().join(STATE_FILE)).unwrap();
    assert_eq!(
        Driver::open(folder.path()).unwrap_err(),
        Return::DRIVER_NOT_LOADED
    );
}
