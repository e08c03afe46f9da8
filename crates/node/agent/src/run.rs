//! The agent as a whole.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::configured::supervise;
use crate::observation::Driver;
use crate::parts::{self, Ended, Parts, Surroundings};
use crate::pulse::Pulse;
use crate::reporter::Reporter;
use crate::{AgentConfig, LabelsError, http};

/// Why the agent gave up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address for health and metrics cannot be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// The device plugin gave up.
    #[error(transparent)]
    Plugin(#[from] device_plugin::Error),
    /// The labels could not be written, and were asked for only once, or not be removed.
    #[error(transparent)]
    Labels(#[from] LabelsError),
    /// There is no driver, or it does not work, and the agent was told to give up then.
    #[error("{0}")]
    Driver(String),
    /// The status file cannot be written.
    #[error("cannot write the status file {}: {source}", path.display())]
    StatusFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The thread that holds NVML ended by itself, which is an error in migpool.
    #[error("the thread that watches the GPUs ended unexpectedly; this is a bug in migpool")]
    OwnerDied,
}

/// Runs the parts that are asked for until `cancel`, or the lifeline ends, or nothing is left to do.
///
/// # Errors
/// When a part cannot do what it was asked for and trying again would not help.
pub async fn run(config: AgentConfig, cancel: CancellationToken) -> Result<(), Error> {
    supervise(None, move |_| config.clone(), cancel).await
}

/// The parts of one configuration, in surroundings that outlive them.
pub(crate) async fn run_parts(
    config: AgentConfig,
    around: Surroundings,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let stop = cancel.child_token();
    // Whatever ends this function ends every part.
    let _guard = stop.clone().drop_guard();
    let listener = match config.listen {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .map_err(|source| Error::Listen { address, source })?,
        ),
    };
    let must_work = config.fail_on_init_error;
    let alone = config.is_one_shot_discovery();
    let pulse = Arc::new(Pulse::new());
    let (mut parts, mut reporter) = parts::start(config, around, &pulse, &stop)?;
    reporter.publish()?;
    let server = listener.map(|listener| {
        let status = reporter.status.subscribe();
        tokio::spawn(http::serve(listener, status, pulse, stop.clone()))
    });

    let mut result = attend(&mut parts, &mut reporter, must_work, alone, &stop).await;
    stop.cancel();
    while let Some(ended) = parts.running.join_next().await {
        if let (Ok(()), Ok(Err(error))) = (&result, ended) {
            result = Err(error);
        }
    }
    if let Some(server) = server {
        // Its address is free when this returns, whoever still holds a connection open.
        server.abort();
        let _ = server.await;
    }
    reporter.farewell(result.as_ref().err());
    result
}

/// Keeps the status up to date until `stop`, or until a part gives up, or the only one is done.
async fn attend(
    parts: &mut Parts,
    reporter: &mut Reporter,
    // Only what holds at the start counts.
    mut must_work: bool,
    alone: bool,
    stop: &CancellationToken,
) -> Result<(), Error> {
    loop {
        if must_work {
            match reporter.driver() {
                Driver::Missing(reason) | Driver::Failed(reason) => {
                    return Err(Error::Driver(reason));
                }
                Driver::Loaded => must_work = false,
                Driver::Unknown => {}
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = reporter.changed() => {
                if !changed {
                    return Err(Error::OwnerDied);
                }
                let again = reporter.unsaved;
                if let Err(error) = reporter.publish()
                    && !again
                {
                    tracing::error!(%error, "the status is not up to date");
                }
            }
            Some(ended) = parts.running.join_next() => match ended {
                Ok(Ok(Ended::Discovery)) if alone => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                // Only a panic ends up here, and was reported where it happened.
                Err(_) => return Err(Error::OwnerDied),
            },
        }
    }
}
