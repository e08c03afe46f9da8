//! What the commands of `migpool azure` change is written down.

use serde_json::{Value, json};

use super::{SUBSCRIPTION, client, environment, managed_identity_token, value, with_front};
use crate::control_plane::ControlPlane;

fn log(plane: &ControlPlane) -> String {
    std::fs::read_to_string(plane.state_dir().join("azure/audit.log")).unwrap()
}

/// The entries of changes, in their order.
fn changes(plane: &ControlPlane) -> Vec<Value> {
    let log = log(plane);
    let entries = log.lines().map(|line| serde_json::from_str(line).unwrap());
    entries
        .filter(|entry: &Value| entry.get("change").is_some())
        .collect()
}

#[test]
fn every_change_is_written_down_with_who_made_it_and_no_secret() {
    let mut plane = with_front();
    let scope = format!("{SUBSCRIPTION}/resourceGroups/g");
    let on = ["--role", "reader", "--scope", &scope];
    let azure = |words: &[&str]| -> Vec<String> {
        let words = ["azure"].iter().chain(words);
        words.map(|word| (*word).to_owned()).collect()
    };
    let with = |words: &[&str], more: &[&str]| azure(&[words, more].concat());
    let run = |plane: &ControlPlane, words: &[String]| {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        plane.run(&words)
    };

    let create = [
        "azure",
        "principal",
        "create",
        "ci",
        on[0],
        on[1],
        on[2],
        on[3],
    ];
    let made = plane.json(&create);
    let id = made["appId"].as_str().unwrap().to_owned();
    let mut secrets = vec![made["password"].as_str().unwrap().to_owned()];
    // The name is taken now.
    plane.fails(&create);
    run(&plane, &with(&["role", "assign", "--assignee", "ci"], &on));
    let removed = ["role", "remove", "--assignee", &id];
    run(&plane, &with(&removed, &["--scope", &scope]));
    let anew = plane.json(&["azure", "principal", "reset-secret", "ci"]);
    secrets.push(anew["password"].as_str().unwrap().to_owned());
    for what in ["signing-key", "certificate", "ca", "identity-header"] {
        run(&plane, &azure(&["rotate", what]));
    }
    secrets.push(value(&environment(&plane), "IDENTITY_HEADER").to_owned());
    secrets.push(managed_identity_token(&plane, &client(&plane)));
    // What only looks changes nothing.
    run(&plane, &azure(&["principal", "list"]));
    run(&plane, &azure(&["role", "list"]));
    run(&plane, &azure(&["ca"]));
    // Without an `up` as well.
    plane.kill();
    let issuer = "https://user:in-the-url@issuer.example";
    run(&plane, &azure(&["trust", issuer, "--audience", "migpool"]));
    secrets.push("in-the-url".to_owned());
    run(&plane, &azure(&["untrust"]));
    run(&plane, &azure(&["principal", "delete", "ci"]));

    let entries = changes(&plane);
    let expected = [
        ("principal create", "allowed", json!("ci"), json!("reader")),
        ("principal create", "failed", json!("ci"), json!("reader")),
        ("role assign", "allowed", json!("ci"), json!("reader")),
        ("role remove", "allowed", json!("ci"), json!("reader")),
        (
            "principal reset-secret",
            "allowed",
            json!("ci"),
            Value::Null,
        ),
        ("rotate signing-key", "allowed", Value::Null, Value::Null),
        ("rotate certificate", "allowed", Value::Null, Value::Null),
        ("rotate ca", "allowed", Value::Null, Value::Null),
        (
            "rotate identity-header",
            "allowed",
            Value::Null,
            Value::Null,
        ),
        ("trust", "allowed", Value::Null, Value::Null),
        ("untrust", "allowed", Value::Null, Value::Null),
        ("principal delete", "allowed", json!("ci"), Value::Null),
    ];
    assert_eq!(entries.len(), expected.len(), "{entries:#?}");
    let uid = rustix::process::getuid().as_raw();
    for (entry, (change, outcome, principal, role)) in entries.iter().zip(expected) {
        assert_eq!(entry["change"], change, "{entry}");
        assert_eq!(entry["outcome"], outcome, "{entry}");
        assert_eq!(entry["principal"], principal, "{entry}");
        assert_eq!(entry["role"], role, "{entry}");
        let about = if role.is_null() {
            Value::Null
        } else {
            json!(scope)
        };
        assert_eq!(entry["scope"], about, "{entry}");
        let is_known = !principal.is_null() && outcome == "allowed";
        let whose = if is_known { json!(id) } else { Value::Null };
        assert_eq!(entry["principalId"], whose, "{entry}");
        assert_eq!(entry["administrator"]["uid"], uid, "{entry}");
    }
    assert_eq!(entries[9]["issuer"], "issuer.example");

    let told = plane.run(&["azure", "audit"]);
    assert!(told.contains("azure role assign ci reader"), "{told}");
    for secret in &secrets {
        assert!(!log(&plane).contains(secret) && !told.contains(secret));
    }
}

#[test]
fn what_cannot_be_written_down_is_not_changed() {
    let mut plane = with_front();
    plane.kill();
    let log = plane.state_dir().join("azure/audit.log");
    std::fs::remove_file(&log).ok();
    std::fs::create_dir(&log).unwrap();
    let before = std::fs::read(plane.state_dir().join("azure/identity.json")).unwrap();
    for words in [
        ["azure", "rotate", "signing-key"].as_slice(),
        &["azure", "untrust"],
        &[
            "azure",
            "principal",
            "create",
            "ci",
            "--role",
            "owner",
            "--scope",
            SUBSCRIPTION,
        ],
    ] {
        let (code, said) = plane.fails(words);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("nothing was changed"), "{said}");
    }
    let after = std::fs::read(plane.state_dir().join("azure/identity.json")).unwrap();
    assert_eq!(before, after);
}
