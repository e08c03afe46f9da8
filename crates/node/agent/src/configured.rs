//! An agent whose configuration may change: a file that may be wrong for a while, and what the node's `GpuNode` wants.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::drain::SETTLE;
use crate::file_watch::{self, Text};
use crate::gpu_node::Link;
use crate::parts::Surroundings;
use crate::reporter::changed;
use crate::run::run_parts;
use crate::wish::{Followed, Wish};
use crate::{AgentConfig, ClusterConfig, ConfigFile, Error, Settings, Status, lifeline};

/// Runs an agent by a configuration file until `cancel`. `make` puts what the file sets behind what was set elsewhere.
///
/// While the file cannot be read or understood the agent stays up and is not ready: with no parts at first, and with
/// what it understood last later on. When the file sets something else the agent starts anew with it.
///
/// # Errors
/// As [`run`](crate::run).
pub async fn run_configured(
    file: PathBuf,
    make: impl Fn(Settings) -> AgentConfig,
    cancel: CancellationToken,
) -> Result<(), Error> {
    supervise(Some(file), make, cancel).await
}

/// Runs an agent by a configuration file, if there is one, and by what the node's `GpuNode` wants, if that is followed.
pub(crate) async fn supervise(
    file: Option<PathBuf>,
    make: impl Fn(Settings) -> AgentConfig,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let stop = cancel.child_token();
    let _guard = stop.clone().drop_guard();
    let config = make(Settings::default());
    // One is enough for however many agents come one after the other.
    if config.lifeline {
        lifeline::watch(stop.clone()).map_err(Error::Thread)?;
    }
    let status = watch::Sender::new(Arc::default());
    let connection = Connection::shared(config.reachable(), &stop).await;
    let mut link = connection
        .clone()
        .filter(|_| config.gpu_node)
        .map(|connection| Link::start(connection, config.partition.as_ref(), &status));
    if let Some(link) = &mut link {
        tokio::select! {
            () = stop.cancelled() => {}
            () = link.first_word() => {}
        }
    }
    let source = Source::new(file, make, &stop);
    let result = Supervisor {
        source,
        cluster: config.cluster,
        connection,
        status,
        stop: stop.clone(),
    }
    .run(link.as_mut())
    .await;
    if let Some(link) = link {
        link.end().await;
    }
    result
}

/// Starts the parts anew whenever their configuration changes.
struct Supervisor<M> {
    source: Source<M>,
    /// Whom the connection leads to.
    cluster: Option<ClusterConfig>,
    connection: Option<Connection>,
    status: watch::Sender<Arc<Status>>,
    stop: CancellationToken,
}

impl<M: Fn(Settings) -> AgentConfig> Supervisor<M> {
    async fn run(mut self, mut link: Option<&mut Link>) -> Result<(), Error> {
        loop {
            let wish = link.as_deref_mut().and_then(Link::wish);
            let config = self.source.config(wish.as_ref());
            let followed = Followed::by(&config);
            let reachable = config.reachable();
            if reachable.is_some() && (self.connection.is_none() || self.cluster != config.cluster)
            {
                self.connection = Connection::shared(reachable, &self.stop).await;
                self.cluster.clone_from(&config.cluster);
            }
            // The parts hear of what they can follow as they are, and of all else when they are started anew.
            let wishes = link.is_some().then(|| watch::Sender::new(wish));
            let around = Surroundings {
                complaints: self.source.complaints(),
                connection: self.connection.clone(),
                wishes: wishes.as_ref().map(watch::Sender::subscribe),
                gpu_node: link.as_deref().map(Link::state),
                status: self.status.clone(),
            };
            let had_slices = config.partition.is_some() && config.plugin.is_some();
            let generation = self.stop.child_token();
            let mut running = Box::pin(run_parts(config, around, generation.clone()));
            loop {
                tokio::select! {
                    ended = &mut running => return ended,
                    () = self.source.changed() => if self.source.take_in() {
                        tracing::info!("the configuration has changed, starting anew");
                        break;
                    },
                    () = changed_wish(link.as_deref_mut()) => {
                        let wish = link.as_deref_mut().and_then(Link::wish);
                        if Followed::by(&self.source.config(wish.as_ref())) != followed {
                            tracing::info!("the GpuNode wants other settings, starting anew");
                            break;
                        }
                        if let Some(wishes) = &wishes {
                            wishes.send_replace(wish);
                        }
                    }
                }
            }
            generation.cancel();
            running.await?;
            if had_slices {
                // The kubelet may be about to tell of a pod that got a slice just before.
                tokio::select! {
                    () = self.stop.cancelled() => return Ok(()),
                    () = tokio::time::sleep(SETTLE) => {}
                }
            }
        }
    }
}

async fn changed_wish(link: Option<&mut Link>) {
    match link {
        Some(link) => link.changed().await,
        None => std::future::pending().await,
    }
}

/// Where the configuration comes from, but for what the node's `GpuNode` wants.
struct Source<M> {
    make: M,
    file: Option<(PathBuf, watch::Receiver<Text>)>,
    /// What the file said when it was understood last.
    known: Option<Settings>,
    complaint: watch::Sender<Option<String>>,
}

impl<M: Fn(Settings) -> AgentConfig> Source<M> {
    fn new(file: Option<PathBuf>, make: M, stop: &CancellationToken) -> Self {
        let file = file.map(|file| {
            let texts = file_watch::follow(file.clone(), file_watch::REREAD, stop.clone());
            (file, texts)
        });
        let mut source = Self {
            make,
            known: file.is_none().then(Settings::default),
            file,
            complaint: watch::Sender::new(None),
        };
        source.take_in();
        source
    }

    /// Why the file cannot be followed.
    fn complaints(&self) -> watch::Receiver<Option<String>> {
        self.complaint.subscribe()
    }

    /// Waits until the file has another text; for ever, when there is none.
    async fn changed(&mut self) {
        changed(self.file.as_mut().map(|(_, texts)| texts)).await;
    }

    /// Takes in the file's text; `true` when it sets something else than was known.
    fn take_in(&mut self) -> bool {
        let Some((file, texts)) = &mut self.file else {
            return false;
        };
        let text = texts.borrow_and_update().clone();
        understand(&text, file, &mut self.known, &self.complaint)
    }

    /// The configuration, with what is wanted otherwise.
    fn config(&self, wish: Option<&Wish>) -> AgentConfig {
        let config = match &self.known {
            Some(settings) => (self.make)(Settings::clone(settings)),
            None => AgentConfig {
                partition: None,
                plugin: None,
                discovery: None,
                fail_on_init_error: false,
                ..(self.make)(Settings::default())
            },
        };
        match wish {
            Some(wish) => wish.put_into(config),
            None => config,
        }
    }
}

/// Takes in a text of the file; `true` when it sets something else than was known.
fn understand(
    text: &Text,
    file: &Path,
    known: &mut Option<Settings>,
    complaint: &watch::Sender<Option<String>>,
) -> bool {
    let settings = text.clone().and_then(|text| {
        ConfigFile::parse(&text)
            .map(ConfigFile::into_settings)
            .map_err(|error| format!("{}: {error}", file.display()))
    });
    let reason = settings.as_ref().err().map(|reason| {
        let kept = if known.is_some() {
            "what it said before still holds"
        } else {
            "nothing is done until it is right"
        };
        format!("the configuration file cannot be used, {kept}: {reason}")
    });
    complaint.send_if_modified(|now| {
        let changed = *now != reason;
        *now = reason;
        changed
    });
    match settings {
        Ok(settings) if known.as_ref() != Some(&settings) => {
            *known = Some(settings);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_wrong_changes_nothing_and_one_that_says_the_same_neither() {
        let file = Path::new("/config/config.yaml");
        let (complaint, complaints) = watch::channel(None);
        let mut known = None;
        let mut take = |text: &str| understand(&Ok(text.to_owned()), file, &mut known, &complaint);
        assert!(!take("version: v2"));
        let said = complaints.borrow().clone().unwrap();
        assert!(
            said.starts_with(
                "the configuration file cannot be used, nothing is done until it is right: /config/config.yaml: line 1"
            ),
            "{said}"
        );
        assert!(take("version: v1\nflags: {migStrategy: single}"));
        assert_eq!(*complaints.borrow(), None);
        assert!(!take("version: v1\nflags:\n  migStrategy: single\n"));
        assert!(!take("version: v1\nflags: ["));
        assert!(
            complaints
                .borrow()
                .as_ref()
                .unwrap()
                .contains("still holds")
        );
        assert!(take("version: v1"));
    }
}
