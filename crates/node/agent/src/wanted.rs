//! Which layout is wanted, as told by the node's pool, on the command line or by a file that may change.

use std::path::{Path, PathBuf};

use mig::{NodeLayout, ParseNodeLayoutError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Asked;
use crate::file_watch::{self, Text};
use crate::reporter::changed;
use crate::wish::Wish;

/// Where the wanted layout is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayoutSource {
    /// Nowhere: the GPUs are left alone, unless a pool has the node.
    Unset,
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
    /// The node's `GpuNode` when that was so.
    pub(crate) asked: Option<Asked>,
}

impl Wanted {
    pub(crate) const fn fixed(layout: NodeLayout) -> Self {
        Self {
            layout: Some(layout),
            complaint: None,
            asked: None,
        }
    }

    /// What is wanted after a file has this text, given what was wanted before.
    fn after(self, text: &Text, file: &Path) -> Self {
        match text.as_deref().map(parse) {
            Ok(Ok(layout)) => Self {
                layout,
                ..Self::default()
            },
            Ok(Err(reason)) => self.refused(&format!("{}: {reason}", file.display())),
            Err(reason) => self.refused(reason),
        }
    }

    /// What is wanted where a `GpuNode` wants this, given what is configured and what was wanted before.
    fn wished(self, wish: Option<&Wish>, configured: &Self) -> Self {
        let Some(wish) = wish else {
            return configured.clone();
        };
        let wanted = match (&wish.pool, wish.layout.as_deref()) {
            (Some(pool), Some(text)) => match text.parse() {
                Ok(layout) => Self::fixed(layout),
                Err(error) => {
                    let error: ParseNodeLayoutError = error;
                    self.refused(&format!("node pool {pool} wants `{text}`: {error}"))
                }
            },
            _ => configured.clone(),
        };
        Self {
            asked: wish.asked(),
            ..wanted
        }
    }

    /// What was wanted before, and why it still is.
    fn refused(self, reason: &str) -> Self {
        let kept = match &self.layout {
            Some(layout) => format!("{layout} stays wanted"),
            None => "the GPUs are left as they are".to_owned(),
        };
        Self {
            layout: self.layout,
            complaint: Some(format!("the wanted layout is unknown, {kept}: {reason}")),
            asked: None,
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
            .map_err(|error: ParseNodeLayoutError| error.to_string()),
    }
}

/// Publishes what is wanted until `stop`.
pub(crate) fn follow(
    source: LayoutSource,
    mut wishes: Option<watch::Receiver<Option<Wish>>>,
    stop: CancellationToken,
) -> watch::Receiver<Wanted> {
    let mut texts = None;
    let mut configured = match source {
        LayoutSource::Unset => Wanted::default(),
        LayoutSource::Fixed(layout) => Wanted::fixed(layout),
        LayoutSource::File(file) => {
            let mut of_file = file_watch::follow(file.clone(), file_watch::REREAD, stop.clone());
            let first = Wanted::default().after(&of_file.borrow_and_update(), &file);
            texts = Some((of_file, file));
            first
        }
    };
    let wish = latest(wishes.as_mut());
    let first = Wanted::default().wished(wish.as_ref(), &configured);
    let (sender, wanted) = watch::channel(first);
    if texts.is_none() && wishes.is_none() {
        return wanted;
    }
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = changed(texts.as_mut().map(|(texts, _)| texts)) => {}
                () = changed(wishes.as_mut()) => {}
            }
            if let Some((texts, file)) = &mut texts {
                configured = configured.after(&texts.borrow_and_update(), file);
            }
            let wish = latest(wishes.as_mut());
            sender.send_if_modified(|now| {
                let next = now.clone().wished(wish.as_ref(), &configured);
                let changed = next != *now;
                *now = next;
                changed
            });
        }
    });
    wanted
}

fn latest(wishes: Option<&mut watch::Receiver<Option<Wish>>>) -> Option<Wish> {
    wishes.and_then(|wishes| wishes.borrow_and_update().clone())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn pooled(layout: Option<&str>) -> Wish {
        Wish {
            generation: Some(3),
            pool: Some("training".to_owned()),
            layout: layout.map(ToOwned::to_owned),
            ..Wish::default()
        }
    }

    #[test]
    fn a_pool_goes_before_what_is_configured_until_it_lets_go() {
        let configured = Wanted::fixed("MIG1g".parse().unwrap());
        let with = |wish: &Wish| Wanted::default().wished(Some(wish), &configured);
        let wanted = with(&pooled(Some("MIG3g")));
        assert_eq!(wanted.layout, Some("MIG3g".parse().unwrap()));
        assert_eq!(wanted.asked.unwrap().generation, 3);
        let let_go = Wish {
            generation: Some(4),
            ..Wish::default()
        };
        for (wish, generation) in [(pooled(None), 3), (let_go, 4)] {
            assert_eq!(with(&wish).layout, configured.layout);
            assert_eq!(with(&wish).asked.unwrap().generation, generation);
        }
        let unknown = Wanted::default().wished(None, &configured);
        assert_eq!(unknown, configured);
    }

    #[test]
    fn a_pools_layout_that_is_none_changes_nothing_and_is_told() {
        let configured = Wanted::default();
        let before = Wanted::default().wished(Some(&pooled(Some("MIG3g"))), &configured);
        let wish = Wish {
            generation: Some(4),
            ..pooled(Some("oops"))
        };
        let wanted = before.clone().wished(Some(&wish), &configured);
        assert_eq!(wanted.layout, before.layout);
        assert_eq!(wanted.asked.unwrap().generation, 4);
        let said = wanted.complaint.unwrap();
        assert!(
            said.starts_with("the wanted layout is unknown, MIG3g stays wanted: node pool training wants `oops`: "),
            "{said}"
        );
    }
}
