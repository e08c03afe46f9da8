//! The repository that `cargo xtask charts` makes, as helm sees it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CHARTS, helm, root, run, text};
use crate::charts::pack_all;

fn pack_into(folder: &Path) -> Vec<PathBuf> {
    pack_all(&root().join("charts"), folder).unwrap()
}

/// Serves a folder's files to one client after the other, until the test's process ends.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let mut request = String::new();
            lines.read_line(&mut request).unwrap();
            let mut header = String::new();
            while lines.read_line(&mut header).unwrap() > 2 {
                header.clear();
            }
            let name = request.split(' ').nth(1).unwrap().trim_start_matches('/');
            let body = std::fs::read(folder.join(name)).unwrap_or_default();
            let length = body.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(&body);
        }
    });
    format!("http://{address}")
}

#[test]
fn the_same_charts_are_packed_to_the_same_bytes() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let packages = pack_into(first.path());
    pack_into(second.path());
    assert_eq!(packages.len(), CHARTS.len());
    let names = packages.iter().map(|file| file.file_name().unwrap());
    for name in names.chain(["index.yaml".as_ref()]) {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        let same = read(first.path()) == read(second.path());
        assert!(same, "{}", name.display());
    }
}

#[test]
fn packages_of_before_go() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("migpool-0.0.0.tgz");
    std::fs::write(&old, "").unwrap();
    pack_into(folder.path());
    assert!(!old.exists());
}

#[test]
fn helm_finds_and_pulls_what_was_packed() {
    let Some(helm) = helm() else { return };
    let folder = tempfile::tempdir().unwrap();
    pack_into(folder.path());
    let url = serve(folder.path().to_owned());
    let home = tempfile::tempdir().unwrap();
    let helm = |arguments: &[&str]| {
        let mut command = Command::new(&helm);
        for name in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(name, home.path());
        }
        let output = run(command.args(arguments).current_dir(home.path()));
        let said = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        text(&output.stdout)
    };
    helm(&["repo", "add", "nvdp", &url]);
    helm(&["repo", "add", "nvgfd", &url]);
    helm(&["repo", "update"]);
    let found = helm(&["search", "repo", "nvdp/"]);
    for chart in CHARTS {
        assert!(found.contains(&format!("nvdp/{chart}")), "{found}");
        helm(&["pull", &format!("nvdp/{chart}")]);
    }
    for chart in ["nvdp/nvidia-device-plugin", "nvgfd/gpu-feature-discovery"] {
        let arguments = [
            "template",
            "--generate-name",
            "--set=migStrategy=single",
            "--kube-version=1.37.2",
            chart,
        ];
        assert!(helm(&arguments).contains("kind: DaemonSet"), "{chart}");
    }
}

#[test]
fn a_chart_of_another_version_is_refused() {
    let charts = tempfile::tempdir().unwrap();
    let chart = charts.path().join("migpool");
    std::fs::create_dir(&chart).unwrap();
    let text = std::fs::read_to_string(root().join("charts/migpool/Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let text = text.replace(&format!("\nversion: {version}"), "\nversion: 99.0.0");
    std::fs::write(chart.join("Chart.yaml"), text).unwrap();
    let output = tempfile::tempdir().unwrap();
    let error = pack_all(charts.path(), output.path()).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("version 99.0.0"), "{said}");
    assert!(said.contains("must both be the workspace's"), "{said}");
}
