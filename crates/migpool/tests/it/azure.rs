//! The front for Azure's clients: `migpool up --azure` and the commands around it.

mod changes;
mod https;

use std::fmt::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::control_plane::{ControlPlane, failure, stdout};
use https::Https;

const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000000";
const SUBSCRIPTIONS: &str = "/subscriptions?api-version=2022-12-01";
const RESOURCE: &str = "https%3A%2F%2Fmanagement.migpool.local";

const UP: [&str; 4] = ["up", "--azure", "--azure-listen", "127.0.0.1:0"];

fn with_front() -> ControlPlane {
    ControlPlane::start_with(&UP)
}

/// Where the front says that it answers.
fn url(plane: &ControlPlane) -> String {
    let text = std::fs::read_to_string(plane.state_dir().join("azure/endpoint.json")).unwrap();
    let endpoint: Value = serde_json::from_str(&text).unwrap();
    endpoint["url"].as_str().unwrap().to_owned()
}

fn client(plane: &ControlPlane) -> Https {
    Https::new(&url(plane), &plane.run(&["azure", "ca"]))
}

/// What `azure env` sets, by a shell's own reading. There is no az on the PATH.
fn environment(plane: &ControlPlane) -> Vec<(String, String)> {
    let lines = stdout(plane.command(&["azure", "env"]).env("PATH", "/nowhere"));
    let script = format!("{lines}\nenv -0");
    let output = Command::new("sh")
        .arg("-c")
        .arg(script)
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let pair = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    text.split('\0').filter_map(pair).collect()
}

fn value<'a>(environment: &'a [(String, String)], name: &str) -> &'a str {
    let found = environment.iter().find(|(there, _)| there == name);
    found
        .unwrap_or_else(|| panic!("{name} is not set"))
        .1
        .as_str()
}

/// A token of the managed identity.
fn managed_identity_token(plane: &ControlPlane, client: &Https) -> String {
    let environment = environment(plane);
    let header = format!(
        "X-IDENTITY-HEADER: {}",
        value(&environment, "IDENTITY_HEADER")
    );
    let path = format!("/msi/token?api-version=2019-08-01&resource={RESOURCE}");
    let answer = client.get(&path, &[&header]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["access_token"].as_str().unwrap().to_owned()
}

/// A token for a client id and its secret; the answer's status where there is none.
fn secret_token(client: &Https, id: &str, secret: &str) -> Result<String, u16> {
    let form = format!(
        "grant_type=client_credentials&client_id={id}&client_secret={}&scope={RESOURCE}%2F.default",
        encoded(secret)
    );
    let headers = ["Content-Type: application/x-www-form-urlencoded"];
    let answer = client
        .send("POST", "/adfs/oauth2/token", &headers, &form)
        .unwrap();
    match answer.status {
        200 => Ok(answer.body["access_token"].as_str().unwrap().to_owned()),
        status => Err(status),
    }
}

fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut all, byte| {
        let _ = write!(all, "%{byte:02X}");
        all
    })
}

#[test]
fn only_who_signs_in_is_answered_over_tls() {
    let plane = with_front();
    let client = client(&plane);
    let refused = client.get(SUBSCRIPTIONS, &[]);
    assert_eq!(refused.status, 401, "{refused:?}");
    assert!(
        refused.head.contains("www-authenticate: bearer"),
        "{refused:?}"
    );
    assert!(refused.body["error"]["code"].is_string(), "{refused:?}");
    let forged = client.get_as("eyJhbGciOiJub25lIn0.e30.", SUBSCRIPTIONS);
    assert_eq!(forged.status, 401, "{forged:?}");

    let token = managed_identity_token(&plane, &client);
    let answer = client.get_as(&token, SUBSCRIPTIONS);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["value"][0]["id"], SUBSCRIPTION);
    let wrong = client.get(
        &format!("/msi/token?api-version=2019-08-01&resource={RESOURCE}"),
        &["X-IDENTITY-HEADER: wrong"],
    );
    assert!((400..500).contains(&wrong.status), "{wrong:?}");

    // Nobody who does not know the authority takes the server for the front.
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let stranger = Https::new(&url(&plane), &stranger.cert.pem());
    let error = stranger.send("GET", SUBSCRIPTIONS, &[], "").unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[test]
fn both_doors_lead_to_the_same_resources() {
    let plane = with_front();
    let client = client(&plane);
    let token = managed_identity_token(&plane, &client);
    let group = format!("{SUBSCRIPTION}/resourcegroups/front?api-version=2024-11-01");
    let headers = [
        &format!("Authorization: Bearer {token}"),
        "Content-Type: application/json",
    ];
    let body = r#"{"location": "southcentralus"}"#;
    let made = client.send("PUT", &group, &headers, body).unwrap();
    assert_eq!(made.status, 201, "{made:?}");
    let groups = plane.run(&["group", "list"]);
    assert!(groups.contains("front"), "{groups}");
    plane.run(&["group", "delete", "--name", "front", "--yes"]);
    assert_eq!(client.get_as(&token, &group).status, 404);
}

#[test]
fn a_principal_that_is_made_while_up_runs_signs_in_at_once_and_is_held_to_its_scope() {
    let plane = with_front();
    let client = client(&plane);
    plane.run(&["group", "create", "--name", "theirs", "--location", "x"]);
    plane.run(&["group", "create", "--name", "others", "--location", "x"]);
    let group = |name: &str| format!("{SUBSCRIPTION}/resourceGroups/{name}");
    let scope = group("theirs");
    let words = [
        "azure",
        "principal",
        "create",
        "ci",
        "--role",
        "reader",
        "--scope",
        &scope,
    ];
    let made = plane.json(&words);
    let (id, secret) = (
        made["appId"].as_str().unwrap(),
        made["password"].as_str().unwrap(),
    );
    assert!(made["tenant"].is_string(), "{made}");

    let token = secret_token(&client, id, secret).unwrap();
    let get = |name: &str| {
        let path = format!("{}?api-version=2024-11-01", group(name));
        client.get_as(&token, &path).status
    };
    assert_eq!((get("theirs"), get("others")), (200, 403));
    let authorization = format!("Authorization: Bearer {token}");
    let path = format!("{}?api-version=2024-11-01", group("theirs"));
    let refused = client.send("DELETE", &path, &[&authorization], "").unwrap();
    assert_eq!(refused.status, 403, "{refused:?}");
    assert_eq!(refused.body["error"]["code"], "AuthorizationFailed");

    // What is kept of the secret cannot be used as one, and no list has it.
    let listed = plane.run(&["azure", "principal", "list", "-o", "json"]);
    assert!(
        listed.contains("\"ci\"") && !listed.contains(secret),
        "{listed}"
    );

    let other = group("others");
    plane.run(&[
        "azure",
        "role",
        "assign",
        "--assignee",
        "ci",
        "--role",
        "reader",
        "--scope",
        &other,
    ]);
    plane.eventually("the new role counts", |_| {
        (get("others") == 200).then_some(())
    });
    let roles = plane.run(&["azure", "role", "list", "--assignee", "ci"]);
    assert_eq!(roles.lines().count(), 3, "{roles}");
    plane.run(&[
        "azure",
        "role",
        "remove",
        "--assignee",
        "ci",
        "--scope",
        &other,
    ]);
    plane.eventually("it counts no more", |_| {
        (get("others") == 403).then_some(())
    });

    let anew = plane.json(&["azure", "principal", "reset-secret", "ci"]);
    let anew = anew["password"].as_str().unwrap();
    plane.eventually("the old secret is no more", |_| {
        secret_token(&client, id, secret).is_err().then_some(())
    });
    secret_token(&client, id, anew).unwrap();
    plane.run(&["azure", "principal", "delete", "ci"]);
    plane.eventually("who was deleted has no token", |_| {
        secret_token(&client, id, anew).is_err().then_some(())
    });
    // Nor does one from before help.
    plane.eventually("nor counts an old one", |_| {
        (get("theirs") != 200).then_some(())
    });
}

#[test]
fn bad_names_roles_and_scopes_are_refused_before_anything_is_made() {
    let plane = with_front();
    let refused = |words: &[&str], part: &str| {
        let (code, said) = plane.fails(&[&["azure", "principal"], words].concat());
        assert!(code != 0 && said.contains(part), "{words:?}: {said}");
    };
    let scope = "/subscriptions/elsewhere";
    refused(
        &["create", "ci", "--role", "reader", "--scope", scope],
        "elsewhere",
    );
    refused(
        &["create", "ci", "--role", "king", "--scope", SUBSCRIPTION],
        "contributor",
    );
    refused(&["delete", "nobody"], "nobody");
    refused(&["reset-secret", "nobody"], "nobody");
    let listed = plane.json(&["azure", "principal", "list"]);
    assert_eq!(
        listed.as_array().unwrap().len(),
        1,
        "only the managed identity: {listed}"
    );
}

#[test]
fn a_restart_keeps_the_authority_the_tokens_and_the_principals() {
    let mut plane = with_front();
    let words = [
        "azure",
        "principal",
        "create",
        "ci",
        "--role",
        "reader",
        "--scope",
        SUBSCRIPTION,
    ];
    let made = plane.json(&words);
    let before = client(&plane);
    let token = managed_identity_token(&plane, &before);
    let authority = plane.run(&["azure", "ca"]);
    plane.kill();
    let (code, said) = plane.fails(&["azure", "env"]);
    assert_eq!(code, 1);
    assert!(
        said.contains("start it with `migpool up --azure`"),
        "{said}"
    );
    plane.up_with(&UP);
    assert_eq!(plane.run(&["azure", "ca"]), authority);
    let after = Https::new(&url(&plane), &authority);
    assert_eq!(after.get_as(&token, SUBSCRIPTIONS).status, 200);
    let (id, secret) = (
        made["appId"].as_str().unwrap(),
        made["password"].as_str().unwrap(),
    );
    secret_token(&after, id, secret).unwrap();
}

#[test]
fn what_is_rotated_while_up_runs_counts_at_once() {
    let plane = with_front();
    let old = client(&plane);
    let token = managed_identity_token(&plane, &old);
    environment(&plane);
    let bundle = plane.state_dir().join("azure/ca-bundle.pem");
    let before = plane.run(&["azure", "ca"]);
    assert!(
        std::fs::read_to_string(&bundle)
            .unwrap()
            .contains(before.trim())
    );

    plane.run(&["azure", "rotate", "signing-key"]);
    plane.run(&["azure", "rotate", "certificate"]);
    assert_eq!(
        old.get_as(&token, SUBSCRIPTIONS).status,
        200,
        "the key before counts on"
    );

    plane.run(&["azure", "rotate", "ca"]);
    let after = plane.run(&["azure", "ca"]);
    assert_ne!(after, before);
    // Shells that are set up already read the bundle.
    assert!(
        std::fs::read_to_string(&bundle)
            .unwrap()
            .contains(after.trim())
    );
    plane.eventually(
        "the server shows a certificate of the new authority",
        |plane| {
            let new = Https::new(&url(plane), &after);
            new.send("GET", "/healthz", &[], "").is_ok().then_some(())
        },
    );
}

#[test]
fn what_was_done_is_told_without_tokens_and_secrets() {
    let plane = with_front();
    let client = client(&plane);
    let token = managed_identity_token(&plane, &client);
    client.get_as(&token, SUBSCRIPTIONS);
    client.get(SUBSCRIPTIONS, &[]);
    let told = plane.run(&["azure", "audit"]);
    let of_strangers = plane.run(&["azure", "audit", "--strangers"]);
    for told in [&told, &of_strangers] {
        assert_eq!(told.matches("/subscriptions").count(), 1, "{told}");
    }
    assert!(told.contains("migpool") && told.contains("GET"), "{told}");
    let lines = std::fs::read_to_string(plane.state_dir().join("azure/audit.log")).unwrap();
    let environment = environment(&plane);
    for secret in [token.as_str(), value(&environment, "IDENTITY_HEADER")] {
        assert!(
            !lines.contains(secret) && !told.contains(secret) && !of_strangers.contains(secret)
        );
    }
    for line in plane.run(&["azure", "audit", "-o", "json"]).lines() {
        let _: Value = serde_json::from_str(line).unwrap();
    }
}

#[test]
fn nothing_listens_beyond_this_machine() {
    let plane = with_front();
    let listening = listening(plane.pid());
    assert_eq!(listening.len(), 1, "{listening:?}");
    let port = url(&plane)
        .rsplit_once(':')
        .unwrap()
        .1
        .parse::<u16>()
        .unwrap();
    // As /proc/net/tcp writes 127.0.0.1.
    assert_eq!(listening, [format!("0100007F:{port:04X}")]);

    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("s");
    let mut other = plane.command(&["up", "--azure", "--azure-listen", "0.0.0.0:0"]);
    let (code, said) = failure(other.env("MIGPOOL_STATE_DIR", &state_dir));
    assert_eq!(code, 1);
    assert!(said.contains("--azure-allow-remote"), "{said}");
    assert!(!state_dir.exists(), "nothing is made before it is refused");
}

/// The TCP addresses on which a process listens, as the kernel writes them.
fn listening(pid: u32) -> Vec<String> {
    let open = |entry: std::io::Result<std::fs::DirEntry>| {
        let target = std::fs::read_link(entry.ok()?.path()).ok()?;
        let inode = target
            .to_str()?
            .strip_prefix("socket:[")?
            .strip_suffix(']')?
            .to_owned();
        Some(inode)
    };
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let sockets: Vec<String> = files.filter_map(open).collect();
    let of = |table: &str| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let line = |line: &str| {
            let fields: Vec<_> = line.split_whitespace().collect();
            // 0A is LISTEN.
            let ours = *fields.get(3)? == "0A" && sockets.iter().any(|inode| inode == fields[9]);
            ours.then(|| fields[1].to_owned())
        };
        text.lines().skip(1).filter_map(line).collect::<Vec<_>>()
    };
    [of("tcp"), of("tcp6")].concat()
}

#[test]
fn an_address_that_is_taken_is_named_with_the_option_that_chooses_another() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut up = crate::control_plane::migpool();
    up.args(["up", "--azure", "--azure-listen", &address]);
    let (code, said) = failure(up.env("MIGPOOL_STATE_DIR", folder.path().join("s")));
    assert_eq!(code, 1);
    assert!(
        said.contains(&address) && said.contains("chooses another address"),
        "{said}"
    );
}

#[test]
fn a_shell_is_told_everything_and_teardown_takes_it_back() {
    let plane = with_front();
    let environment = environment(&plane);
    let folder = plane.state_dir().join("azure");
    let path = |name: &str| folder.join(name).display().to_string();
    assert_eq!(value(&environment, "AZURE_CONFIG_DIR"), path("cli"));
    assert_eq!(value(&environment, "AZURE_CORE_COLLECT_TELEMETRY"), "0");
    assert_eq!(
        value(&environment, "REQUESTS_CA_BUNDLE"),
        path("ca-bundle.pem")
    );
    assert_eq!(value(&environment, "CURL_CA_BUNDLE"), path("ca-bundle.pem"));
    let front = url(&plane);
    assert_eq!(
        value(&environment, "IDENTITY_ENDPOINT"),
        format!("{front}/msi/token")
    );
    assert_eq!(value(&environment, "MIGPOOL_AZURE_ENDPOINT"), front);
    // The bundle is enough to trust the front.
    let bundle = std::fs::read_to_string(path("ca-bundle.pem")).unwrap();
    let authority = plane.run(&["azure", "ca"]);
    assert!(bundle.contains(authority.trim()));

    let words = plane.run(&["azure", "teardown"]);
    for (name, _) in &environment {
        let ours = ["AZURE_", "IDENTITY_", "MIGPOOL_", "REQUESTS_", "CURL_"];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            assert!(
                words.lines().any(|line| line == format!("unset {name}")),
                "{name}: {words}"
            );
        }
    }
    assert!(!folder.join("cli").exists() && !folder.join("ca-bundle.pem").exists());
    plane.run(&["azure", "teardown"]);
    client(&plane).get("/healthz", &[]);
}

/// An az that notes its arguments and what of its environment counts, and succeeds.
fn noting_az(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join("az");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {0}/calls\nenv >> {0}/environment\ncase \"$*\" in *@-*) cat >> {0}/input;; esac\n",
        folder.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn az_is_set_up_once_in_a_folder_of_its_own() {
    let plane = with_front();
    let home = tempfile::tempdir().unwrap();
    noting_az(home.path());
    let calls = || std::fs::read_to_string(home.path().join("calls")).unwrap_or_default();
    let run = |words: &[&str]| {
        let path = format!("{}:/usr/bin:/bin", home.path().display());
        let mut command = plane.command(words);
        stdout(command.env("PATH", path).env("HOME", home.path()))
    };
    run(&["azure", "env"]);
    let first = calls();
    let front = url(&plane);
    assert_eq!(
        first,
        format!(
            "cloud register --name migpool --endpoint-resource-manager {front} --endpoint-active-directory {front}/adfs \
             --endpoint-active-directory-resource-id https://management.migpool.local --skip-endpoint-discovery\n\
             cloud set --name migpool\n\
             login --identity\n"
        )
    );
    run(&["azure", "env"]);
    assert_eq!(calls(), first, "it was set up already");
    let seen = std::fs::read_to_string(home.path().join("environment")).unwrap();
    let config_dir = plane.state_dir().join("azure/cli");
    assert!(
        seen.contains(&format!("AZURE_CONFIG_DIR={}", config_dir.display())),
        "{seen}"
    );
    assert!(!home.path().join(".azure").exists());

    let scope = SUBSCRIPTION;
    let made = plane.json(&[
        "azure",
        "principal",
        "create",
        "ci",
        "--role",
        "reader",
        "--scope",
        scope,
    ]);
    let secret = made["password"].as_str().unwrap();
    let words = ["azure", "setup", "--apply", "--service-principal", "ci"];
    let mut apply = plane.command(&words);
    let path = format!("{}:/usr/bin:/bin", home.path().display());
    let (code, said) = failure(apply.env("PATH", &path));
    assert_eq!(code, 2);
    assert!(said.contains("AZURE_CLIENT_SECRET"), "{said}");
    stdout(apply.env("AZURE_CLIENT_SECRET", secret));
    let login = format!(
        "login --service-principal --username {}",
        made["appId"].as_str().unwrap()
    );
    assert!(
        calls().contains(&login) && !calls().contains(secret),
        "{}",
        calls()
    );
    let input = std::fs::read_to_string(home.path().join("input")).unwrap();
    assert_eq!(input, secret);
    // A shell for the service principal is not handed the managed identity's secret.
    let lines = run(&["azure", "env"]);
    assert!(lines.contains("unset IDENTITY_HEADER") && !lines.contains("export IDENTITY_HEADER"));

    let own = home.path().join(".azure");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("config"), "").unwrap();
    let (code, said) = plane.fails(&["azure", "env", "--azure-config-dir", own.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(said.contains("not migpool's"), "{said}");
}

#[test]
fn without_a_front_every_command_says_how_to_get_one() {
    let plane = ControlPlane::start();
    for words in [
        ["azure", "env"].as_slice(),
        &["azure", "setup"],
        &["azure", "ca"],
        &["azure", "principal", "list"],
    ] {
        let (code, said) = plane.fails(words);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains("migpool up --azure"), "{said}");
    }
    assert!(!plane.state_dir().join("azure").exists());
}
