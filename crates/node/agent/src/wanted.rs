//! Which layout is wanted, as told on the command line or by a file that may change.

use std::path::PathBuf;

use mig::NodeLayout;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::file_watch::{self, Text};

/// Where the wanted layout is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutSource {
    /// It is this one for as long as the agent runs.
    Fixed(NodeLayout),
    /// In this file, which is watched. An empty one leaves the GPUs alone; one that cannot be read or understood
    /// changes nothing, and the agent is not ready until it can.
    File(PathBuf),
}

/// What is wanted now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The layout that was told last; `None` where the GPUs are to be left alone, or nothing was understood yet.
    pub(crate) layout: Option<NodeLayout>,
    /// Why what is told now cannot be followed.
    pub(crate) complaint: Option<String>,
}

impl Wanted {
    pub(crate) const fn fixed(layout: NodeLayout) -> Self {
        Self {
            layout: Some(layout),
            complaint: None,
        }
    }

    /// What is wanted after a file has this text, given what was wanted before.
    fn after(self, text: &Text, file: &std::path::Path) -> Self {
        let complain = |before: Self, reason: String| {
            let kept = match &before.layout {
                Some(layout) => format!("{layout} stays wanted"),
                None => "the GPUs are left as they are".to_owned(),
            };
            Self {
                layout: before.layout,
                complaint: Some(format!("the wanted layout is unknown, {kept}: {reason}")),
            }
        };
        match text.as_deref().map(parse) {
            Ok(Ok(layout)) => Self {
                layout,
                complaint: None,
            },
            Ok(Err(reason)) => complain(self, format!("{}: {reason}", file.display())),
            Err(reason) => complain(self, reason.clone()),
        }
    }
}

/// A file's layout; none when it is empty. White space around it is passed over.
fn parse(text: &str) -> Result<Option<NodeLayout>, String> {
    match text.trim() {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|error: mig::ParseNodeLayoutError| error.to_string()),
    }
}

/// Publishes what is wanted until `stop`.
pub(crate) fn follow(source: LayoutSource, stop: CancellationToken) -> watch::Receiver<Wanted> {
    let file = match source {
        LayoutSource::Fixed(layout) => return watch::channel(Wanted::fixed(layout)).1,
        LayoutSource::File(file) => file,
    };
    let mut texts = file_watch::follow(file.clone(), file_watch::REREAD, stop);
    let first = Wanted::default().after(&texts.borrow_and_update(), &file);
    let (sender, wanted) = watch::channel(first);
    tokio::spawn(async move {
        while texts.changed().await.is_ok() {
            let text = texts.borrow_and_update().clone();
            sender.send_if_modified(|now| {
                let next = now.clone().after(&text, &file);
                let changed = next != *now;
                *now = next;
                changed
            });
        }
    });
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn after(before: Wanted, text: &str) -> Wanted {
        before.after(&Ok(text.to_owned()), Path::new("/etc/migpool/layout"))
    }

    #[test]
    fn a_file_has_a_layout_or_leaves_the_gpus_alone() {
        let wanted = after(Wanted::default(), "MIG1g\n");
        assert_eq!(wanted, Wanted::fixed("MIG1g".parse().unwrap()));
        assert_eq!(after(wanted, " \n"), Wanted::default());
    }

    #[test]
    fn what_cannot_be_understood_changes_nothing_and_is_told() {
        let before = Wanted::fixed("MIG1g".parse().unwrap());
        let wrong = after(before.clone(), "MIG1g,oops");
        assert_eq!(wrong.layout, before.layout);
        let complaint = wrong.complaint.clone().unwrap();
        assert!(
            complaint.starts_with(
                "the wanted layout is unknown, MIG1g stays wanted: /etc/migpool/layout: "
            ),
            "{complaint}"
        );
        assert_eq!(after(wrong, "MIG1g"), before);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let gone = Err("cannot read /etc/migpool/layout: gone".to_owned());
        let wanted = Wanted::default().after(&gone, Path::new("/etc/migpool/layout"));
        assert_eq!(wanted.layout, None);
        assert_eq!(
            wanted.complaint.as_deref(),
            Some(
                "the wanted layout is unknown, the GPUs are left as they are: cannot read /etc/migpool/layout: gone"
            )
        );
    }
}
