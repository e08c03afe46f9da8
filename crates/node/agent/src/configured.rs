//! An agent whose configuration file may be wrong for a while, and may change.

use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::file_watch::{self, Text};
use crate::run::run_with;
use crate::{AgentConfig, ConfigFile, Error, Settings, lifeline};

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
    let stop = cancel.child_token();
    let _guard = stop.clone().drop_guard();
    let mut texts = file_watch::follow(file.clone(), file_watch::REREAD, stop.clone());
    let (complaint, complaints) = watch::channel(None);
    let mut known = None;
    understand(&texts.borrow_and_update(), &file, &mut known, &complaint);
    let mut has_lifeline = false;
    loop {
        let mut config = match &known {
            Some(settings) => make(Settings::clone(settings)),
            None => AgentConfig {
                partition: None,
                plugin: None,
                discovery: None,
                fail_on_init_error: false,
                ..make(Settings::default())
            },
        };
        // One is enough for however many agents come one after the other.
        if std::mem::take(&mut config.lifeline) && !has_lifeline {
            has_lifeline = true;
            lifeline::watch(stop.clone()).map_err(Error::Thread)?;
        }
        let generation = stop.child_token();
        let mut running = Box::pin(run_with(config, complaints.clone(), generation.clone()));
        loop {
            tokio::select! {
                ended = &mut running => return ended,
                changed = texts.changed() => if changed.is_err() {
                    return running.await;
                }
            }
            if understand(&texts.borrow_and_update(), &file, &mut known, &complaint) {
                tracing::info!(file = %file.display(), "the configuration has changed, starting anew");
                generation.cancel();
                running.await?;
                break;
            }
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
