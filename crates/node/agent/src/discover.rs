//! Writes the node's labels whenever they change.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use discovery::{GpuMode, Labels};
use nvml::Inventory;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::observation::{Driver, Observation};
use crate::{Discovery, DiscoveryStatus, Error, LabelsOutput};

/// Runs until `stop`, or, one-shot, until the labels are written once.
pub(crate) async fn run(
    config: Discovery,
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
    if config.oneshot {
        if let Driver::Failed(reason) = first
            && config.fail_on_init_error
        {
            return Err(Error::Driver(reason));
        }
        let labels = labels(&config, &inventory.borrow(), timestamp, &status);
        return write(config.output, labels).await;
    }
    let mut written: Option<Labels> = None;
    while !stop.is_cancelled() {
        let fails = matches!(observation.borrow_and_update().driver, Driver::Failed(_));
        let current = inventory.borrow_and_update().clone();
        if !fails && is_telling(&current) {
            let labels = labels(&config, &current, timestamp, &status);
            if written.as_ref() != Some(&labels) || !is_there(&config.output) {
                let result = write(config.output.clone(), labels.clone()).await;
                report(&status, labels.len(), result.as_ref().err());
                written = result.is_ok().then_some(labels);
            }
        }
        tokio::select! {
            () = stop.cancelled() => {}
            changed = inventory.changed() => changed.map_err(|_| Error::OwnerDied)?,
            changed = observation.changed() => changed.map_err(|_| Error::OwnerDied)?,
            () = pause(config.interval) => {}
        }
    }
    if let LabelsOutput::File(path) = &config.output {
        discovery::remove_file(path)?;
    }
    Ok(())
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

fn labels(
    config: &Discovery,
    inventory: &Inventory,
    timestamp: Option<u64>,
    status: &watch::Sender<DiscoveryStatus>,
) -> Labels {
    let options = discovery::Options {
        mig_strategy: config.mig_strategy,
        machine_type: discovery::machine_type(&config.machine_type_file),
        timestamp,
        mode: GpuMode::detect(inventory, &config.sysfs),
    };
    let warnings = discovery::warnings(inventory, &options);
    status.send_if_modified(|status| {
        let changed = status.warnings != warnings;
        for warning in warnings
            .iter()
            .filter(|warning| !status.warnings.contains(warning))
        {
            tracing::warn!("{warning}");
        }
        status.warnings = warnings;
        changed
    });
    discovery::labels(inventory, &options)
}

fn is_there(output: &LabelsOutput) -> bool {
    match output {
        LabelsOutput::File(path) => path.exists(),
        LabelsOutput::Stdout => true,
    }
}

/// Off the thread that answers the kubelet: a disk may take its time.
async fn write(output: LabelsOutput, labels: Labels) -> Result<(), Error> {
    let written = tokio::task::spawn_blocking(move || match output {
        LabelsOutput::File(path) => Ok(discovery::write_file(&path, &labels)?),
        LabelsOutput::Stdout => io::stdout()
            .lock()
            .write_all(discovery::to_text(&labels).as_bytes())
            .map_err(Error::Stdout),
    });
    // Only a panic ends up here, and was reported where it happened.
    written.await.unwrap_or(Err(Error::OwnerDied))
}

fn report(status: &watch::Sender<DiscoveryStatus>, labels: usize, error: Option<&Error>) {
    status.send_if_modified(|status| {
        let error = error.map(ToString::to_string);
        if let Some(error) = error
            .as_ref()
            .filter(|error| status.error.as_ref() != Some(error))
        {
            tracing::error!(%error, "the labels were not written");
        }
        let next = DiscoveryStatus {
            labels,
            error,
            ..status.clone()
        };
        let changed = next != *status;
        *status = next;
        changed
    });
}
