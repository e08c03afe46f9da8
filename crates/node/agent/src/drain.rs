//! What to do next on the way to a layout, given who uses what has to go. Pure.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use device_plugin::Location;
use partition::{InUse, Plan};
use serde::{Deserialize, Serialize};

/// How long after slices were held back the kubelet may still be about to tell of a pod that got one of them just
/// before: it tells of a pod only when all that the pod asked for was allocated.
pub(crate) const SETTLE: Duration = Duration::from_secs(1);

/// What is done about those who use slices that a new layout has no room for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drain {
    /// Nothing: the layout is refused while they are there.
    Never,
    /// Their slices are held back, so that nobody else gets them, and their end is waited for.
    #[default]
    Wait,
    /// As well, and pods are evicted, as far as their `PodDisruptionBudget`s allow.
    Evict,
}

/// A text that is no [`Drain`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` says nothing of draining; it is never, wait or evict")]
pub struct ParseDrainError {
    /// The text as it was given.
    pub text: String,
}

impl FromStr for Drain {
    type Err = ParseDrainError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "never" => Ok(Self::Never),
            "wait" => Ok(Self::Wait),
            "evict" => Ok(Self::Evict),
            _ => Err(ParseDrainError {
                text: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Never => "never",
            Self::Wait => "wait",
            Self::Evict => "evict",
        })
    }
}

/// How it stands.
#[derive(Debug)]
pub(crate) struct Situation<'a> {
    /// What is to be done, whoever is in the way.
    pub(crate) plan: &'a Plan,
    /// Who is in the way.
    pub(crate) in_use: &'a [InUse],
    pub(crate) drain: Drain,
    /// What is held back, so that nobody new gets it.
    pub(crate) held: &'a BTreeSet<Location>,
    /// For how long all of that has been held back.
    pub(crate) held_for: Duration,
    /// Slices may have been given away since the agent started.
    pub(crate) advertised: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the change, or, where there is nothing to change, say that it is done.
    Apply,
    /// Hold this back, and decide again soon.
    HoldBack(BTreeSet<Location>),
    /// Hold this back, and decide again when somebody has left; evict pods or not.
    Drain {
        hold: BTreeSet<Location>,
        evict: bool,
    },
    /// Hold nothing back, and change nothing.
    Refuse,
}

/// The next step. Nothing is ever changed while somebody uses what has to go, nor before it has been held back for
/// [`SETTLE`] if it was advertised.
pub(crate) fn next(now: &Situation<'_>) -> Step {
    let taken = taken(now.plan);
    if taken.is_empty() {
        return Step::Apply;
    }
    if !now.in_use.is_empty() {
        return match now.drain {
            Drain::Never => Step::Refuse,
            Drain::Wait | Drain::Evict => Step::Drain {
                hold: taken,
                evict: now.drain == Drain::Evict,
            },
        };
    }
    let is_quiet = taken.is_subset(now.held) && now.held_for >= SETTLE;
    if is_quiet || !now.advertised {
        Step::Apply
    } else {
        Step::HoldBack(taken)
    }
}

/// What a plan takes away from whoever has it or might get it.
pub(crate) fn taken(plan: &Plan) -> BTreeSet<Location> {
    let mut taken = BTreeSet::new();
    for gpu in &plan.gpus {
        if gpu.changes_mode() {
            taken.insert(Location::gpu(gpu.uuid.clone()));
            continue;
        }
        taken.extend(
            gpu.destroyed_compute_instances()
                .map(|(gi, ci)| Location::slice(gpu.uuid.clone(), gi, ci)),
        );
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;
    use nvml::GpuUuid;
    use partition::{Action, GpuPlan, Holder};
    use proptest::prelude::*;

    /// A node of two GPUs with four slices each. A plan destroys some of them.
    #[derive(Debug, Clone)]
    struct Node {
        plan: Plan,
        doomed: BTreeSet<(usize, u32)>,
        /// Who holds which slice.
        holders: BTreeSet<(usize, u32)>,
        held: BTreeSet<Location>,
        held_for: Duration,
        drain: Drain,
        changed: bool,
    }

    fn gpu(at: usize) -> GpuUuid {
        format!("GPU-{at}").parse().unwrap()
    }

    fn slice(at: usize, gi: u32) -> Location {
        Location::slice(gpu(at), gi, 0)
    }

    impl Node {
        fn new(
            doomed: BTreeSet<(usize, u32)>,
            holders: BTreeSet<(usize, u32)>,
            drain: Drain,
        ) -> Self {
            let plan_of = |at: usize| GpuPlan {
                index: u32::try_from(at).unwrap(),
                uuid: gpu(at),
                name: String::new(),
                kept: 0,
                actions: doomed
                    .iter()
                    .filter(|(gpu, _)| *gpu == at)
                    .map(|(_, gi)| Action::DestroyComputeInstance {
                        gpu_instance: *gi,
                        compute_instance: 0,
                    })
                    .collect(),
            };
            Self {
                plan: Plan {
                    gpus: (0..2).map(plan_of).collect(),
                    skipped: Vec::new(),
                },
                doomed,
                holders,
                held: BTreeSet::new(),
                held_for: Duration::ZERO,
                drain,
                changed: false,
            }
        }

        fn in_use(&self) -> Vec<InUse> {
            self.holders
                .intersection(&self.doomed)
                .map(|(at, gi)| InUse {
                    index: u32::try_from(*at).unwrap(),
                    uuid: gpu(*at),
                    what: format!("GPU instance {gi}"),
                    holders: vec![Holder::of_device("MIG-x", "pod default/train")],
                })
                .collect()
        }

        /// Decides and does it. Time passes.
        fn step(&mut self) -> Step {
            let in_use = self.in_use();
            let step = next(&Situation {
                plan: &self.plan,
                in_use: &in_use,
                drain: self.drain,
                held: &self.held,
                held_for: self.held_for,
                advertised: true,
            });
            let hold = match &step {
                Step::HoldBack(hold) | Step::Drain { hold, .. } => hold.clone(),
                Step::Apply => {
                    self.changed = true;
                    BTreeSet::new()
                }
                Step::Refuse => BTreeSet::new(),
            };
            self.held_for = if hold.is_subset(&self.held) {
                self.held_for + SETTLE / 2
            } else {
                Duration::ZERO
            };
            self.held = hold;
            step
        }

        /// Somebody wants a slice, and gets it if it is neither taken nor held back.
        fn admit(&mut self, at: usize, gi: u32) {
            if !self.held.contains(&slice(at, gi)) {
                self.holders.insert((at, gi));
            }
        }
    }

    fn slices() -> impl Strategy<Value = BTreeSet<(usize, u32)>> {
        prop::collection::btree_set((0..2_usize, 1..5_u32), 0..8)
    }

    fn drains() -> impl Strategy<Value = Drain> {
        prop::sample::select(vec![Drain::Never, Drain::Wait, Drain::Evict])
    }

    proptest! {
        #[test]
        fn a_slice_in_use_is_never_destroyed(
            doomed in slices(),
            holders in slices(),
            drain in drains(),
            arrivals in prop::collection::vec((0..2_usize, 1..5_u32), 0..20),
        ) {
            let mut node = Node::new(doomed, holders, drain);
            for (at, gi) in arrivals {
                let in_use = node.in_use();
                let step = node.step();
                prop_assert!(step != Step::Apply || in_use.is_empty());
                if node.changed {
                    break;
                }
                node.admit(at, gi);
            }
        }

        #[test]
        fn it_comes_to_an_end_when_the_holders_leave_though_others_want_in(
            doomed in slices(),
            holders in slices(),
            drain in prop::sample::select(vec![Drain::Wait, Drain::Evict]),
            wanted in slices(),
        ) {
            let mut node = Node::new(doomed, holders, drain);
            let mut steps = 0;
            while !node.changed {
                node.step();
                for (at, gi) in &wanted {
                    node.admit(*at, *gi);
                }
                let leaving = node.holders.intersection(&node.doomed).next().copied();
                leaving.map(|leaving| node.holders.remove(&leaving));
                steps += 1;
                prop_assert!(steps < 20, "{node:?}");
            }
        }

        #[test]
        fn only_what_has_to_go_is_held_back(
            doomed in slices(),
            holders in slices(),
            drain in drains(),
        ) {
            let mut node = Node::new(doomed.clone(), holders, drain);
            for _ in 0..5 {
                node.step();
                let has_to_go =
                    |at: &_| doomed.iter().any(|(gpu, gi)| slice(*gpu, *gi) == *at);
                prop_assert!(node.held.iter().all(has_to_go));
            }
        }

        #[test]
        fn the_next_step_is_a_drain_exactly_when_somebody_is_in_the_way(
            doomed in slices(),
            holders in slices(),
            drain in drains(),
        ) {
            let mut node = Node::new(doomed, holders, drain);
            let is_blocked = !node.in_use().is_empty();
            let step = node.step();
            match drain {
                Drain::Never => prop_assert_eq!(step == Step::Refuse, is_blocked),
                Drain::Wait => {
                    prop_assert_eq!(matches!(step, Step::Drain { evict: false, .. }), is_blocked);
                }
                Drain::Evict => {
                    prop_assert_eq!(matches!(step, Step::Drain { evict: true, .. }), is_blocked);
                }
            }
        }
    }

    #[test]
    fn nothing_was_given_away_yet_so_nothing_has_to_settle() {
        let node = Node::new([(0, 1)].into(), BTreeSet::new(), Drain::Wait);
        let now = |advertised| {
            next(&Situation {
                plan: &node.plan,
                in_use: &[],
                drain: Drain::Wait,
                held: &BTreeSet::new(),
                held_for: Duration::ZERO,
                advertised,
            })
        };
        assert_eq!(now(false), Step::Apply);
        assert_eq!(now(true), Step::HoldBack([slice(0, 1)].into()));
    }

    #[test]
    fn a_change_of_mode_takes_the_whole_gpu() {
        let mut node = Node::new(BTreeSet::new(), BTreeSet::new(), Drain::Wait);
        node.plan.gpus[1].actions.push(Action::DisableMig);
        assert_eq!(taken(&node.plan), [Location::gpu(gpu(1))].into());
    }

    #[test]
    fn every_word_is_read_as_it_is_written() {
        for drain in [Drain::Never, Drain::Wait, Drain::Evict] {
            assert_eq!(drain.to_string().parse(), Ok(drain));
        }
        let error = "delete".parse::<Drain>().unwrap_err();
        assert!(error.to_string().contains("never, wait or evict"));
    }
}
