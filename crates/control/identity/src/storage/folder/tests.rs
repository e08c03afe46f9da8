use super::*;

use tempfile::TempDir;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").mode() & 0o777
}

fn make() -> (TempDir, Folder) {
    let dir = tempfile::tempdir().expect("tempdir");
    let folder = Folder::new(dir.path().join("deep").join("azure"));
    (dir, folder)
}

#[tokio::test]
async fn what_was_saved_is_loaded_and_only_its_owner_can_read_it() {
    let (_dir, folder) = make();
    assert_eq!(folder.load().await.expect("empty"), None);
    let version = folder.save(b"one", None).await.expect("saved");
    folder.publish("certificate").await.expect("published");
    let kept = folder.load().await.expect("loads").expect("there");
    assert_eq!(
        (kept.document.as_slice(), kept.version),
        (&b"one"[..], version)
    );
    assert_eq!(mode(folder.path()), 0o700);
    for entry in fs::read_dir(folder.path()).expect("list") {
        let path = entry.expect("entry").path();
        let wanted = if path == folder.authority() {
            0o644
        } else {
            0o600
        };
        assert_eq!(mode(&path), wanted, "{}", path.display());
    }
}

#[tokio::test]
async fn a_save_over_another_version_changes_nothing() {
    let (_dir, folder) = make();
    let one = folder.save(b"one", None).await.expect("saved");
    let two = folder.save(b"two", Some(&one)).await.expect("saved");
    for stale in [None, Some(&one)] {
        let error = folder.save(b"three", stale).await.expect_err("stale");
        assert!(matches!(error, StorageError::Conflict), "{error}");
    }
    let kept = folder.load().await.expect("loads").expect("there");
    assert_eq!((kept.document.as_slice(), kept.version), (&b"two"[..], two));
}

#[tokio::test]
async fn what_others_can_read_is_refused_with_what_to_do() {
    let (_dir, folder) = make();
    folder.save(b"one", None).await.expect("saved");
    let file = folder.path().join(DOCUMENT);
    for (path, open, closed) in [(folder.path(), 0o750, 0o700), (&file, 0o604, 0o600)] {
        fs::set_permissions(path, Permissions::from_mode(open)).expect("chmod");
        let error = folder.load().await.expect_err("exposed").to_string();
        assert!(error.contains(&format!("chmod {closed:o}")), "{error}");
        assert!(error.contains(&path.display().to_string()), "{error}");
        fs::set_permissions(path, Permissions::from_mode(closed)).expect("chmod");
    }
    folder.load().await.expect("closed again");
}

#[tokio::test]
async fn a_folder_that_others_can_write_is_not_written_either() {
    let (_dir, folder) = make();
    fs::create_dir_all(folder.path()).expect("mkdir");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("chmod");
    let error = folder.save(b"one", None).await.expect_err("exposed");
    assert!(matches!(error, StorageError::Exposed { .. }), "{error}");
    assert!(!folder.path().join(DOCUMENT).exists());
}

#[tokio::test]
async fn of_many_who_save_over_one_version_one_wins() {
    let (_dir, folder) = make();
    let first = folder.save(b"0", None).await.expect("saved");
    let mut all = tokio::task::JoinSet::new();
    for number in 1..=20 {
        let (folder, first) = (folder.clone(), first.clone());
        all.spawn(async move {
            let document = number.to_string();
            folder.save(document.as_bytes(), Some(&first)).await.is_ok()
        });
    }
    let won = all.join_all().await.into_iter().filter(|won| *won).count();
    assert_eq!(won, 1);
}
