//! When an event that repeats is said again, and when it is counted instead. Pure: the time is given.

use std::time::{Duration, Instant};

/// How long an event has to be quiet to be a new one.
const QUIET: Duration = Duration::from_mins(6);

/// How often the count of one that repeats is written.
const PACE: Duration = Duration::from_secs(30);

/// How many different events are remembered.
const MOST: usize = 32;

/// What makes two events the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) warning: bool,
    pub(crate) reason: String,
    pub(crate) note: String,
}

/// What to do with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Say it.
    Say,
    /// Write how often the event of this name was seen.
    Count {
        /// Its object's name.
        name: String,
        /// How often, this time included.
        count: u32,
    },
    /// It was counted; that is enough for now.
    Nothing,
}

#[derive(Debug)]
struct Said {
    key: Key,
    name: String,
    count: u32,
    seen: Instant,
    written: Instant,
}

/// The events that were said lately.
#[derive(Debug, Default)]
pub(crate) struct Series {
    said: Vec<Said>,
}

impl Series {
    /// What to do with an event that is seen now.
    pub(crate) fn see(&mut self, key: &Key, now: Instant) -> Step {
        self.said
            .retain(|said| now.saturating_duration_since(said.seen) < QUIET);
        let Some(said) = self.said.iter_mut().find(|said| said.key == *key) else {
            return Step::Say;
        };
        said.count = said.count.saturating_add(1);
        said.seen = now;
        if now.saturating_duration_since(said.written) < PACE {
            return Step::Nothing;
        }
        Step::Count {
            name: said.name.clone(),
            count: said.count,
        }
    }

    /// An event was said, under this name.
    pub(crate) fn said(&mut self, key: Key, name: String, now: Instant) {
        self.forget(&key);
        if self.said.len() >= MOST {
            let oldest = self
                .said
                .iter()
                .enumerate()
                .min_by_key(|(_, said)| said.seen);
            if let Some((oldest, _)) = oldest {
                self.said.swap_remove(oldest);
            }
        }
        self.said.push(Said {
            key,
            name,
            count: 1,
            seen: now,
            written: now,
        });
    }

    /// Its count was written.
    pub(crate) fn counted(&mut self, key: &Key, now: Instant) {
        if let Some(said) = self.said.iter_mut().find(|said| said.key == *key) {
            said.written = now;
        }
    }

    /// Its object is gone: the server keeps events for an hour.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.said.retain(|said| said.key != *key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(note: &str) -> Key {
        Key {
            warning: true,
            reason: "GPULost".into(),
            note: note.into(),
        }
    }

    #[test]
    fn a_flood_is_one_event_with_a_count() {
        let (mut series, start) = (Series::default(), Instant::now());
        assert_eq!(series.see(&key("GPU 3"), start), Step::Say);
        series.said(key("GPU 3"), "n.1".into(), start);
        let mut writes = 0;
        for second in 1..=120 {
            let now = start + Duration::from_secs(second);
            match series.see(&key("GPU 3"), now) {
                Step::Say => panic!("said again"),
                Step::Nothing => {}
                Step::Count { name, count } => {
                    assert_eq!((name.as_str(), u64::from(count)), ("n.1", second + 1));
                    series.counted(&key("GPU 3"), now);
                    writes += 1;
                }
            }
        }
        assert_eq!(writes, 4);
        assert_eq!(series.see(&key("GPU 4"), start), Step::Say, "another event");
    }

    #[test]
    fn after_a_while_of_quiet_it_is_said_again() {
        let (mut series, start) = (Series::default(), Instant::now());
        series.said(key("GPU 3"), "n.1".into(), start);
        assert_eq!(series.see(&key("GPU 3"), start + QUIET), Step::Say);
    }

    #[test]
    fn an_event_that_was_not_said_is_said_the_next_time() {
        let (mut series, start) = (Series::default(), Instant::now());
        assert_eq!(series.see(&key("a"), start), Step::Say);
        assert_eq!(series.see(&key("a"), start), Step::Say, "the first failed");
        series.said(key("a"), "n.1".into(), start);
        series.forget(&key("a"));
        assert_eq!(series.see(&key("a"), start), Step::Say);
    }

    #[test]
    fn not_more_than_so_many_are_remembered_the_newest_among_them() {
        let (mut series, start) = (Series::default(), Instant::now());
        for n in 0..100u32 {
            let now = start + Duration::from_millis(u64::from(n));
            series.said(key(&n.to_string()), n.to_string(), now);
        }
        assert_eq!(series.said.len(), MOST);
        let now = start + Duration::from_secs(1);
        assert_eq!(series.see(&key("99"), now), Step::Nothing);
        assert_eq!(series.see(&key("0"), now), Step::Say);
    }
}
