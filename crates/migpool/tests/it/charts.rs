//! The article's step 5, as far as it needs no cluster: helm finds the charts in what `migpool up` serves.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::control_plane::{ControlPlane, migpool, output, stdout};

/// The first helm of: `MIGPOOL_HELM`, the PATH, the test cluster's parts; without one the test is skipped, aloud, and in
/// CI it fails.
fn helm() -> Option<PathBuf> {
    let named = std::env::var_os("MIGPOOL_HELM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).map(|dir| dir.join("helm"));
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let parts = cache.and_then(|dir| std::fs::read_dir(dir.join("migpool/parts")).ok());
    let in_parts = parts
        .into_iter()
        .flatten()
        .flatten()
        .map(|part| part.path().join("helm"));
    let found = named.into_iter().chain(in_path).chain(in_parts);
    let found = found.into_iter().find(|file| file.is_file());
    if found.is_none() {
        let missing =
            "no helm: not in MIGPOOL_HELM, nor in the PATH, nor among the test cluster's parts";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        eprintln!("SKIPPED: {missing}");
    }
    found
}

struct Helm<'a> {
    program: &'a Path,
    home: &'a Path,
}

impl Helm<'_> {
    fn run(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(self.program);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, self.home.join(name));
        }
        stdout(command.args(arguments).current_dir(self.home))
    }
}

#[test]
fn helm_finds_the_articles_charts_where_up_serves_them() {
    let Some(program) = helm() else { return };
    let home = tempfile::tempdir().unwrap();
    let helm = Helm {
        program: &program,
        home: home.path(),
    };
    let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts");
    let repository = home.path().join("repository");
    let destination = format!("--destination={}", repository.display());
    for chart in ["nvidia-device-plugin", "gpu-feature-discovery"] {
        let chart = charts.join(chart).display().to_string();
        helm.run(&["package", &chart, &destination]);
    }
    helm.run(&["repo", "index", &repository.display().to_string()]);

    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let folder = repository.display().to_string();
    let words = [
        "up",
        "--chart-repository",
        &folder,
        "--chart-address",
        &address,
    ];
    let _plane = ControlPlane::start_with(&words);
    let url = format!("http://{address}");
    helm.run(&["repo", "add", "nvdp", &url]);
    helm.run(&["repo", "add", "nvgfd", &url]);
    helm.run(&["repo", "update"]);
    for chart in ["nvdp/nvidia-device-plugin", "nvgfd/gpu-feature-discovery"] {
        let found = helm.run(&["search", "repo", chart]);
        assert!(found.contains(env!("CARGO_PKG_VERSION")), "{found}");
        let arguments = [
            "template",
            "--generate-name",
            "--set=migStrategy=mixed",
            "--kube-version=1.37.2",
            chart,
        ];
        let rendered = helm.run(&arguments);
        assert!(rendered.contains("kind: DaemonSet"), "{rendered}");
        assert!(rendered.contains("value: \"mixed\""), "{rendered}");
    }
}

#[test]
fn a_folder_that_is_no_chart_repository_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut up = migpool();
    up.arg("up").arg("--chart-repository").arg(dir.path());
    let up = output(up.env("MIGPOOL_STATE_DIR", dir.path().join("s")));
    let said = String::from_utf8_lossy(&up.stderr);
    assert_eq!(up.status.code(), Some(1), "{said}");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("chart repository: its index.yaml"), "{said}");
}

/// Variables that are for something else than the container's own command.
const OTHERS: [&str; 4] = [
    // The log, of every command.
    "RUST_LOG",
    // NVIDIA's container runtime, where a chart is told of one.
    "NVIDIA_VISIBLE_DEVICES",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_MIG_MONITOR_DEVICES",
];

/// What a command of the program says of itself and of its flags.
fn help_of(words: &[&str]) -> String {
    let help = stdout(migpool().args(words).arg("--help"));
    help.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The flags and variables that a rendered container sets and its command does not know.
fn unknown(container: &serde_json::Value) -> Vec<String> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let arguments: Vec<_> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(text)
        .collect();
    let (flags, words): (Vec<_>, Vec<_>) = arguments
        .iter()
        .map(String::as_str)
        .partition(|word| word.starts_with('-'));
    let help = help_of(&words);
    // Commands that people run in the pod find their way by its variables.
    let by_hand = help_of(&["node", "map"]) + &help_of(&["partition", "export"]);
    let flags = flags
        .iter()
        .map(|flag| flag.split('=').next().unwrap_or(flag));
    let missing_flags = flags.filter(|flag| !help.contains(&format!("{flag} ")));
    let variables = container["env"].as_array();
    let names = variables
        .into_iter()
        .flatten()
        .map(|variable| text(&variable["name"]));
    let missing_names = names.filter(|name| {
        let said = format!("[env: {name}");
        !OTHERS.contains(&name.as_str()) && !help.contains(&said) && !by_hand.contains(&said)
    });
    missing_flags
        .map(str::to_owned)
        .chain(missing_names)
        .collect()
}

#[test]
fn the_charts_set_only_what_the_program_knows() {
    let Some(program) = helm() else { return };
    let charts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../charts");
    let everything: [(&str, &[&str]); 4] = [
        (
            "migpool",
            &[
                "--set=replaceAll=true",
                "--set=nvidiaDevRoot=/x,cdi.nvidiaHookPath=/x",
                "--set=healthChecks.disable=all,healthChecks.enable=1",
                "--set=operator.clusterAPI=true",
                "--set=arm.enabled=true,arm.origin=https://arm.example",
                "--set=arm.credentials.server=https://api.example",
                "--set=arm.issuer.url=https://issuer.example,arm.issuer.audience=x,arm.issuer.rolesClaim=y",
            ],
        ),
        (
            "nvidia-device-plugin",
            &[
                "--set=migStrategy=single,failOnInitError=true,deviceIDStrategy=index",
                "--set=nvidiaDevRoot=/x,cdi.nvidiaHookPath=/x,compatWithCPUManager=true",
                "--set=healthChecks.disable=all,healthChecks.enable=1",
                "--set-string=config.map.default=version: v1",
                "--set=gfd.enabled=true,gfd.noTimestamp=true,gfd.sleepInterval=60s",
            ],
        ),
        ("gpu-feature-discovery", &[]),
        (
            "nvml-sim",
            &["--set=allNodes=true,replace=true,passThrough=true"],
        ),
    ];
    let mut wrong = Vec::new();
    for (chart, values) in everything {
        let mut template = Command::new(&program);
        template.args(["template", "r", "--kube-version=1.37.2"]);
        let rendered = stdout(template.arg(charts.join(chart)).args(values));
        for document in rendered.split("\n---\n") {
            let object: serde_json::Value =
                serde_saphyr::from_str(document.trim_start_matches("---\n")).unwrap();
            let container = &object["spec"]["template"]["spec"]["containers"][0];
            if !container.is_null() {
                let unknown = unknown(container);
                if !unknown.is_empty() {
                    wrong.push(format!("{chart}, {}: {unknown:?}", container["name"]));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
