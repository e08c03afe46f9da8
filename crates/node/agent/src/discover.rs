//! Writes the node's labels whenever they change.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use discovery::{GpuMode, Labels};
use nvml::Inventory;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::label_target::Target;
use crate::observation::{Driver, Observation};
use crate::schedule::Backoff;
use crate::{Discovery, DiscoveryStatus, Error, LabelsError};

/// The first wait after labels that could not be written, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// What was written.
struct Written {
    labels: Labels,
    at: Instant,
    /// What of it was left out.
    left_out: Vec<String>,
}

/// Runs until `stop`, or, one-shot, until the labels are written once.
pub(crate) async fn run(
    config: Discovery,
    connection: Option<Connection>,
    mut inventory: watch::Receiver<Arc<Inventory>>,
    mut observation: watch::Receiver<Observation>,
    status: watch::Sender<DiscoveryStatus>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let once = config.oneshot;
    // Nothing is known of the node while its driver fails: no reason to take away what an earlier agent knew.
    let known = observation.wait_for(|now| match now.driver {
        Driver::Missing(_) => true,
        Driver::Failed(_) => once || now.seen,
        Driver::Unknown | Driver::Loaded => now.seen,
    });
    let first = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        known = known => known.map_err(|_| Error::OwnerDied)?.driver.clone(),
    };
    let timestamp = config.timestamp.then(now);
    let mut target = Target::new(config.output.clone(), connection);
    if once {
        if let Driver::Failed(reason) = first
            && config.fail_on_init_error
        {
            return Err(Error::Driver(reason));
        }
        let (labels, odd) = labels(&config, &inventory.borrow(), timestamp);
        let count = labels.len();
        let left_out = target.write(labels).await?;
        report(&status, count, [odd, left_out].concat(), None);
        return Ok(());
    }
    let mut written: Option<Written> = None;
    let mut retries = Backoff::new(RETRY.0, RETRY.1);
    while !stop.is_cancelled() {
        let fails = matches!(observation.borrow_and_update().driver, Driver::Failed(_));
        let current = inventory.borrow_and_update().clone();
        let mut retry = None;
        if !fails && is_telling(&current) {
            let (labels, odd) = labels(&config, &current, timestamp);
            let count = labels.len();
            let is_written = |written: &&Written| {
                written.labels == labels && target.is_there(written.at, config.interval)
            };
            if let Some(written) = written.as_ref().filter(is_written) {
                report(
                    &status,
                    count,
                    [odd, written.left_out.clone()].concat(),
                    None,
                );
            } else {
                let result = tokio::select! {
                    () = stop.cancelled() => break,
                    result = target.write(labels.clone()) => result,
                };
                match result {
                    Ok(left_out) => {
                        report(&status, count, [odd, left_out.clone()].concat(), None);
                        retries.reset();
                        written = Some(Written {
                            labels,
                            at: Instant::now(),
                            left_out,
                        });
                    }
                    Err(error) => {
                        report(&status, count, odd, Some(&error));
                        retry = Some(retries.next());
                        written = None;
                    }
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            // Who does not take them is not hurried by changes.
            changed = inventory.changed(), if retry.is_none() => changed.map_err(|_| Error::OwnerDied)?,
            changed = observation.changed(), if retry.is_none() => changed.map_err(|_| Error::OwnerDied)?,
            () = pause(retry.or(config.interval)) => {}
        }
    }
    Ok(target.remove().await?)
}

/// False while there are GPUs and none of them answers.
fn is_telling(inventory: &Inventory) -> bool {
    inventory.failed.is_empty() || !inventory.gpus.is_empty()
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

async fn pause(interval: Option<Duration>) {
    match interval {
        Some(interval) => tokio::time::sleep(interval).await,
        None => std::future::pending().await,
    }
}

/// The labels, and what is odd about the node.
fn labels(
    config: &Discovery,
    inventory: &Inventory,
    timestamp: Option<u64>,
) -> (Labels, Vec<String>) {
    let options = discovery::Options {
        mig_strategy: config.mig_strategy,
        machine_type: discovery::machine_type(&config.machine_type_file),
        timestamp,
        mode: GpuMode::detect(inventory, &config.sysfs),
    };
    let odd = discovery::warnings(inventory, &options);
    // A node of a cluster that has no GPU needs no label that says when that was found.
    let is_bare = config.output.is_in_cluster() && inventory.gpus.is_empty();
    let labels = if is_bare {
        Labels::new()
    } else {
        discovery::labels(inventory, &options)
    };
    (labels, odd)
}

/// Publishes how it stands, and logs what is newly odd.
fn report(
    status: &watch::Sender<DiscoveryStatus>,
    labels: usize,
    warnings: Vec<String>,
    error: Option<&LabelsError>,
) {
    let next = DiscoveryStatus {
        labels,
        error: error.map(ToString::to_string),
        blocked: error.is_some_and(LabelsError::is_blocking),
        warnings,
    };
    status.send_if_modified(|now| {
        let changed = next != *now;
        for warning in &next.warnings {
            if !now.warnings.contains(warning) {
                tracing::warn!("{warning}");
            }
        }
        *now = next;
        changed
    });
}
