use super::*;

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use uuid::Uuid;

use crate::principal::PrincipalKind;

fn entry(path: &str) -> AuditEntry {
    AuditEntry {
        time: "2026-03-01T12:00:00Z".parse().expect("a time"),
        request_id: Uuid::from_u128(1),
        correlation_id: Uuid::from_u128(2),
        peer: "127.0.0.1:5000".to_owned(),
        principal_id: None,
        principal: None,
        method: "GET".to_owned(),
        path: path.to_owned(),
        requests: None,
        action: Some(Action::Read),
        outcome: Outcome::Denied,
        status: 403,
        duration: Duration::from_millis(2),
    }
}

fn somebody() -> Principal {
    Principal {
        id: PrincipalId(Uuid::nil()),
        name: "ci\n{\"evil\":1}".to_owned(),
        kind: PrincipalKind::ServicePrincipal,
        grants: Vec::new(),
    }
}

fn lines(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("there");
    let parse = |line: &str| serde_json::from_str(line).expect("JSON");
    text.lines().map(parse).collect()
}

#[tokio::test]
async fn each_request_is_a_line_that_says_who_did_what_and_what_came_of_it() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::to_file(&path).expect("opens");
    log.record(entry("/subscriptions?access_token=SECRET").by(Some(&somebody())))
        .await;
    log.record(entry("/x?access_token=SECRET").by(None)).await;
    let strangers = dir.path().join("audit-strangers.jsonl");
    for path in [&path, &strangers] {
        assert_eq!(fs::metadata(path).expect("there").mode() & 0o777, 0o600);
    }
    let lines = lines(&path);
    assert_eq!(
        lines[0],
        serde_json::json!({
            "time": "2026-03-01T12:00:00Z", "requestId": "00000000-0000-0000-0000-000000000001",
            "correlationId": "00000000-0000-0000-0000-000000000002", "peer": "127.0.0.1:5000",
            "principalId": "00000000-0000-0000-0000-000000000000", "principal": "ci\n{\"evil\":1}",
            "method": "GET", "path": "/subscriptions", "action": "read", "outcome": "denied", "status": 403,
            "durationMicroseconds": 2000,
        })
    );
    assert_eq!(lines.len(), 1, "no name breaks a line");
    let lines = self::lines(&strangers);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["path"], "/x");
    assert!(lines[0].get("principal").is_none());
}

#[tokio::test]
async fn however_many_strangers_come_what_principals_did_stays_where_it_is() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.log");
    let log = AuditLog::to_file(&path).expect("opens");
    log.record(entry("/mine").by(Some(&somebody()))).await;
    let mut change = ChangeLog::open(&path).expect("opens");
    let administrator = Administrator {
        uid: 1000,
        user: None,
        login_uid: None,
    };
    let entry_of_change = ChangeEntry::new(administrator, Changed::RotateCa);
    change.record(&entry_of_change).expect("written");
    let before = fs::read(&path).expect("there");
    // As much as would turn over every file of what principals did, if it went there as it comes.
    let path_of_theirs = format!("/{}", "a".repeat(LONGEST_PATH));
    let all = u64::from(PRINCIPALS.kept + 1) * PRINCIPALS.largest;
    for _ in 0..all / 2048 {
        log.record(entry(&path_of_theirs)).await;
    }
    assert_eq!(fs::read(&path).expect("there"), before);
    let mut sizes = Vec::new();
    for file in fs::read_dir(dir.path()).expect("list") {
        let file = file.expect("listed");
        if file.path() != path {
            let name = file.file_name().into_string().expect("text");
            assert!(name.starts_with("audit-strangers.log"), "{name}");
            sizes.push(file.metadata().expect("there").len());
        }
    }
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= STRANGERS.largest));
    let lines = lines(&dir.path().join("audit-strangers.log"));
    let written = lines[0]["path"].as_str().map(str::len);
    assert_eq!(written, Some(LONGEST_PATH_OF_STRANGERS));
}

#[tokio::test]
async fn an_entry_is_in_the_file_as_soon_as_it_is_recorded() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::to_file(&path).expect("opens");
    let strangers = AuditLog::of_strangers(&path);
    for number in 1..=100 {
        log.record(entry("/x").by(Some(&somebody()))).await;
        log.record(entry("/x")).await;
        assert_eq!(lines(&path).len(), number);
        assert_eq!(lines(&strangers).len(), number);
    }
}

#[tokio::test]
async fn a_path_without_end_is_cut() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::to_file(&path).expect("opens");
    let endless = entry(&"/ü".repeat(100_000));
    log.record(endless.clone().by(Some(&somebody()))).await;
    log.record(endless).await;
    for (path, longest) in [
        (path.clone(), LONGEST_PATH),
        (AuditLog::of_strangers(&path), LONGEST_PATH_OF_STRANGERS),
    ] {
        let written = lines(&path)[0]["path"].as_str().map(str::len);
        assert!(written.is_some_and(|length| length <= longest && length > longest - 2));
    }
}

#[tokio::test]
async fn what_was_there_before_stays() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    for _ in 0..2 {
        let log = AuditLog::to_file(&path).expect("opens");
        log.record(entry("/x").by(Some(&somebody()))).await;
    }
    assert_eq!(lines(&path).len(), 2);
}

#[tokio::test]
async fn a_file_that_was_taken_away_is_begun_anew_and_one_that_is_there_goes_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let strangers = AuditLog::of_strangers(&path);
    let log = AuditLog::to_file(&path).expect("opens");
    for taken in [None, Some(&path), Some(&strangers)] {
        log.record(entry("/x").by(Some(&somebody()))).await;
        log.record(entry("/x")).await;
        if let Some(taken) = taken {
            fs::remove_file(taken).expect("removed");
        }
        log.look();
    }
    log.record(entry("/x").by(Some(&somebody()))).await;
    log.record(entry("/x")).await;
    assert_eq!((lines(&path).len(), lines(&strangers).len()), (2, 1));
}

#[test]
fn a_file_that_cannot_be_written_is_refused_at_once() {
    let dir = tempfile::tempdir().expect("tempdir");
    AuditLog::to_file(dir.path().join("none").join("audit.jsonl")).expect_err("no folder");
}

#[tokio::test]
async fn all_that_many_record_at_once_is_written() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("audit.jsonl");
    let log = AuditLog::to_file(&path).expect("opens");
    let mut all = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let log = log.clone();
        all.spawn(async move {
            for _ in 0..200 {
                log.record(entry("/x").by(Some(&somebody()))).await;
            }
        });
    }
    all.join_all().await;
    assert_eq!(lines(&path).len(), 4000);
}
