//! What a cluster could leave behind on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use test_cluster::Config;

/// A look at the machine.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The cluster's processes, each as its command line.
    pub(crate) processes: BTreeSet<String>,
    mounts: BTreeSet<String>,
    networks: BTreeSet<String>,
    cgroups: BTreeSet<String>,
    /// Folders and files where programs like to leave some.
    files: BTreeSet<String>,
    settings: BTreeSet<String>,
}

impl Machine {
    pub(crate) fn look(config: &Config) -> Self {
        let state = format!("MIGPOOL_CLUSTER_STATE={}", config.state_dir.display());
        Self {
            processes: processes(&state),
            mounts: lines("/proc/self/mounts"),
            networks: names("/sys/class/net"),
            cgroups: cgroups(&config.cgroup()),
            files: files(config),
            settings: [
                "vm/overcommit_memory",
                "vm/panic_on_oom",
                "kernel/panic",
                "kernel/panic_on_oops",
            ]
            .into_iter()
            .chain(["kernel/keys/root_maxkeys", "net/ipv4/ip_forward"])
            .flat_map(|name| {
                lines(&format!("/proc/sys/{name}"))
                    .into_iter()
                    .map(move |value| format!("{name}={value}"))
            })
            .collect(),
        }
    }

    /// Names what is there now and was not, or the other way round.
    pub(crate) fn same_as(&self, before: &Self) -> Result<(), String> {
        let mut differences = Vec::new();
        for (what, now, then) in [
            ("process", &self.processes, &before.processes),
            ("mount", &self.mounts, &before.mounts),
            ("network", &self.networks, &before.networks),
            ("cgroup", &self.cgroups, &before.cgroups),
            ("file", &self.files, &before.files),
            ("setting", &self.settings, &before.settings),
        ] {
            differences.extend(
                now.difference(then)
                    .map(|name| format!("{what} {name} stayed")),
            );
            differences.extend(
                then.difference(now)
                    .map(|name| format!("{what} {name} is gone")),
            );
        }
        if differences.is_empty() {
            Ok(())
        } else {
            Err(differences.join("\n"))
        }
    }
}

fn processes(mark: &str) -> BTreeSet<String> {
    names("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|letter| letter.is_ascii_digit()))
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|&byte| byte == 0)
                .any(|word| word == mark.as_bytes())
        })
        .map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!(
                "{pid} {}",
                String::from_utf8_lossy(&line).replace('\0', " ")
            )
        })
        .collect()
}

/// The cluster's cgroups; others come and go by themselves.
fn cgroups(name: &str) -> BTreeSet<String> {
    names("/sys/fs/cgroup")
        .into_iter()
        .map(|hierarchy| format!("/sys/fs/cgroup/{hierarchy}"))
        .chain(["/sys/fs/cgroup".to_owned()])
        .flat_map(|path| {
            names(&path)
                .into_iter()
                .map(move |name| format!("{path}/{name}"))
        })
        .filter(|path| path.ends_with(name) || path.ends_with("/kubepods"))
        .collect()
}

fn files(config: &Config) -> BTreeSet<String> {
    let folders = [
        "/run",
        "/run/netns",
        "/opt",
        "/opt/cni",
        "/etc",
        "/etc/cni",
        "/etc/cdi",
        "/var/lib",
        "/var/lib/cni",
        "/var/log",
        "/var/log/pods",
        "/usr/libexec",
    ];
    let state = config
        .state_dir
        .exists()
        .then(|| config.state_dir.display().to_string());
    folders
        .into_iter()
        .filter(|folder| Path::new(folder).exists())
        .flat_map(|folder| {
            names(folder)
                .into_iter()
                .map(move |name| format!("{folder}/{name}"))
        })
        .chain(state)
        .collect()
}

fn names(folder: &str) -> BTreeSet<String> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn lines(path: &str) -> BTreeSet<String> {
    fs::read_to_string(path)
        .unwrap_or_default()
        .lines()
        .map(str::to_owned)
        .collect()
}
