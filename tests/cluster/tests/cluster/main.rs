//! The test cluster itself: what suites build on, and that nothing of it stays.
//!
//! Needs root, the parts in the cache (`cluster parts` builds them) and the images busybox and pause
//! (`cargo xtask images busybox pause`); where one is missing it is skipped aloud, but not where CI is set.
#![forbid(unsafe_code)]

mod machine;
mod promises;
mod serving;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use test_cluster::{Cluster, Config, Lifetime, Parts};

use crate::machine::Machine;

/// The variable that makes this program start a cluster and wait to be killed.
const OWNER: &str = "CLUSTER_TEST_OWNER";

fn main() -> ExitCode {
    if std::env::var_os(OWNER).is_some() {
        return own_until_killed();
    }
    let arguments = libtest_mimic::Arguments {
        test_threads: Some(1),
        ..libtest_mimic::Arguments::from_args()
    };
    if let Err(reason) = possible()
        && std::env::var_os("CI").is_none()
    {
        eprintln!("\nSKIPPED: the test cluster was not tried: {reason}\n");
        let skipped = vec![Trial::test("cluster", || Ok(())).with_ignored_flag(true)];
        return libtest_mimic::run(&arguments, skipped).exit_code();
    }
    if arguments.list {
        return libtest_mimic::run(&arguments, trials(&Arc::default())).exit_code();
    }

    if let Err(error) = Cluster::stop_at(&config().state_dir) {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    let before = Machine::look(&config());
    let cluster = match start(&config()) {
        Ok(cluster) => Arc::new(Mutex::new(Some(cluster))),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mut trials = trials(&cluster);
    let stopped = Arc::clone(&cluster);
    trials.push(Trial::test(
        "nothing_of_a_stopped_cluster_stays",
        move || {
            let cluster = stopped.lock()?.take().ok_or("it was stopped before")?;
            cluster.stop()?;
            Ok(Machine::look(&config()).same_as(&before)?)
        },
    ));
    let shared = Arc::clone(&cluster);
    trials.push(Trial::test(
        "a_cluster_ends_with_its_owner_and_the_next_start_sweeps_up",
        move || {
            // It has the same folder.
            if let Some(cluster) = shared.lock()?.take() {
                cluster.stop()?;
            }
            killed_owner().map_err(Failed::from)
        },
    ));
    let conclusion = libtest_mimic::run(&arguments, trials);
    // A filter may have left out the trial that stops it.
    if let Some(cluster) = cluster.lock().ok().and_then(|mut cluster| cluster.take())
        && let Err(error) = cluster.stop()
    {
        eprintln!("error: {error}");
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trials(cluster: &Arc<Mutex<Option<Cluster>>>) -> Vec<Trial> {
    promises::ALL
        .iter()
        .chain(&serving::ALL)
        .map(|&(name, promise)| {
            let cluster = Arc::clone(cluster);
            Trial::test(name, move || {
                let guard = cluster.lock()?;
                let cluster = guard.as_ref().ok_or("the cluster was stopped")?;
                promise(cluster)
                    .map_err(|error| Failed::from(format!("{error}\n{}", cluster.logs())))
            })
        })
        .collect()
}

/// A cluster beside the one that a person may have up.
fn config() -> Config {
    Config {
        audit: true,
        ..Config::new("cluster-test", Lifetime::WithOwner)
    }
}

fn start(config: &Config) -> Result<Cluster, Box<dyn std::error::Error>> {
    Ok(Cluster::start(&Parts::ensure()?, config)?)
}

fn possible() -> Result<(), String> {
    test_cluster::possible().map_err(|error| error.to_string())?;
    if !Parts::cached().map_err(|error| error.to_string())? {
        return Err(
            "its parts are not built yet: `cargo xtask cluster parts` does that".to_owned(),
        );
    }
    for image in ["busybox.tar", "pause.tar"] {
        if !config().images.iter().any(|path| path.ends_with(image)) {
            return Err(format!(
                "target/images lacks {image}: `cargo xtask images` makes it"
            ));
        }
    }
    Ok(())
}

fn own_until_killed() -> ExitCode {
    let mut config = config();
    config.nodes.truncate(1);
    match start(&config) {
        Ok(_cluster) => {
            println!("up");
            std::thread::sleep(Duration::MAX);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn killed_owner() -> Result<(), Box<dyn std::error::Error>> {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    let before = Machine::look(&config());
    let mut owner = Command::new(std::env::current_exe()?)
        .env(OWNER, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let mut said = String::new();
    if let Some(stdout) = owner.stdout.take() {
        BufReader::new(stdout).read_line(&mut said)?;
    }
    owner.kill()?;
    owner.wait()?;
    if said != "up\n" {
        return Err(format!("the owner's cluster did not start: it said `{said}`").into());
    }
    test_cluster::until(
        "the end of all its processes",
        Duration::from_secs(30),
        || {
            let left = Machine::look(&config()).processes;
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        },
    )?;
    if !config().state_dir.exists() {
        return Err("there is nothing left to be swept up".into());
    }
    let mut one_node = config();
    one_node.nodes.truncate(1);
    start(&one_node)?.stop()?;
    Machine::look(&config()).same_as(&before)?;

    // So it is after `cargo clean`.
    let cluster = start(&one_node)?;
    let gone = one_node.state_dir.with_added_extension("gone");
    std::fs::rename(&one_node.state_dir, &gone)?;
    Cluster::stop_at(&one_node.state_dir)?;
    std::fs::remove_dir_all(&gone)?;
    drop(cluster);
    Ok(Machine::look(&config()).same_as(&before)?)
}
