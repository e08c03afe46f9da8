//! When the owner does what. Pure: the time is given to it.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use device_plugin::Recovery;

/// The shortest time between two looks, lest a burst of events becomes a burst of snapshots.
const SPACING: Duration = Duration::from_millis(50);

/// How long the same news is not logged again.
const QUIET: Duration = Duration::from_mins(1);

/// Waits that double.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    wait: Duration,
}

impl Backoff {
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            wait: first,
        }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = wait.saturating_mul(2).min(self.longest);
        wait
    }

    /// Begins again with the first.
    pub(crate) fn reset(&mut self) {
        self.wait = self.first;
    }
}

/// What to do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Load the driver anew.
    Reopen,
    /// Bring the GPUs to their layout.
    Partition,
    /// Take a snapshot.
    Look,
    /// Wait for events, at most so long.
    Wait(Duration),
}

/// Decides when the GPUs are looked at, and when the driver is loaded anew because some do not answer: a GPU that
/// fell off the bus and was reset is only seen by who initialises NVML again.
#[derive(Debug)]
pub(crate) struct Schedule {
    interval: Duration,
    /// While some GPUs answer, and while none does.
    some_fail: Backoff,
    all_fail: Backoff,
    /// The GPUs that failed at the last look.
    failed: Vec<u32>,
    reopen: Option<Instant>,
    /// The last look of this session with the driver.
    looked: Option<Instant>,
    wanted: bool,
}

impl Schedule {
    /// Looks every `interval` at least. `reload` is how often the driver is loaded anew when nothing answers.
    pub(crate) fn new(interval: Duration, recovery: Recovery, reload: Backoff) -> Self {
        Self {
            interval,
            some_fail: Backoff::new(recovery.first, recovery.longest),
            all_fail: reload,
            failed: Vec::new(),
            reopen: None,
            looked: None,
            wanted: false,
        }
    }

    /// The driver was loaded.
    pub(crate) fn begin(&mut self) {
        self.reopen = None;
        self.look_at_once();
    }

    /// A look is wanted whatever was seen a moment ago.
    pub(crate) fn look_at_once(&mut self) {
        self.looked = None;
    }

    /// Something happened that is worth a look.
    pub(crate) fn want_look(&mut self) {
        self.wanted = true;
    }

    /// A look was taken: so many GPUs answered, and these failed.
    pub(crate) fn looked(&mut self, answered: usize, failed: Vec<u32>, now: Instant) {
        self.looked = Some(now);
        self.wanted = false;
        if failed != self.failed {
            self.failed = failed;
            self.some_fail.reset();
            self.all_fail.reset();
            self.reopen = None;
        }
        if !self.failed.is_empty() && self.reopen.is_none() {
            let pace = if answered == 0 {
                &mut self.all_fail
            } else {
                &mut self.some_fail
            };
            self.reopen = Some(now + pace.next());
        }
    }

    /// What to do at `now`, given when a fault is to be looked at and when the layout is to be tried.
    pub(crate) fn next(
        &self,
        fault: Option<Instant>,
        layout: Option<Instant>,
        now: Instant,
    ) -> Next {
        let is_due = |due: Option<Instant>| due.is_some_and(|due| due <= now);
        if is_due(self.reopen) {
            return Next::Reopen;
        }
        if is_due(layout) {
            return Next::Partition;
        }
        let Some(looked) = self.looked else {
            return Next::Look;
        };
        let earliest = looked + SPACING;
        let look = [
            Some(looked + self.interval),
            self.wanted.then_some(earliest),
            fault.map(|due| due.max(earliest)),
        ];
        let look = look.into_iter().flatten().min();
        if is_due(look) {
            return Next::Look;
        }
        let soonest = [look, self.reopen, layout].into_iter().flatten().min();
        let wait = soonest.map_or(self.interval, |at| at.saturating_duration_since(now));
        // Whole milliseconds are waited for; one more, lest it is a little too early.
        Next::Wait(wait + Duration::from_millis(1))
    }
}

/// Lets the same news into the log once a minute.
#[derive(Debug)]
pub(crate) struct Quiet<K> {
    last: HashMap<K, (Instant, u32)>,
}

impl<K: Eq + Hash> Quiet<K> {
    pub(crate) fn new() -> Self {
        Self {
            last: HashMap::new(),
        }
    }

    /// Whether to log it now: then, how often it was passed over since the last time.
    pub(crate) fn admit(&mut self, news: K, now: Instant) -> Option<u32> {
        if let Some((last, passed_over)) = self.last.get_mut(&news)
            && now.saturating_duration_since(*last) < QUIET
        {
            *passed_over = passed_over.saturating_add(1);
            return None;
        }
        let before = self.last.insert(news, (now, 0));
        // What is old and was never repeated is of no use any more.
        self.last.retain(|_, (last, passed_over)| {
            *passed_over > 0 || now.saturating_duration_since(*last) < QUIET
        });
        Some(before.map_or(0, |(_, passed_over)| passed_over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule() -> Schedule {
        let recovery = Recovery {
            first: SECOND * 30,
            longest: SECOND * 100,
        };
        let mut schedule = Schedule::new(SECOND * 5, recovery, Backoff::new(SECOND, SECOND * 4));
        schedule.begin();
        schedule
    }

    fn waits(next: &Next) -> Duration {
        match next {
            Next::Wait(wait) => wait.saturating_sub(Duration::from_millis(1)),
            other => panic!("{other:?} is no wait"),
        }
    }

    #[test]
    fn a_session_begins_with_the_layout_and_then_a_look() {
        let now = Instant::now();
        let mut schedule = schedule();
        assert_eq!(schedule.next(None, Some(now), now), Next::Partition);
        assert_eq!(schedule.next(None, None, now), Next::Look);
        schedule.looked(8, Vec::new(), now);
        assert_eq!(waits(&schedule.next(None, None, now)), SECOND * 5);
    }

    #[test]
    fn events_that_want_no_look_do_not_put_the_next_one_off() {
        let start = Instant::now();
        let mut schedule = schedule();
        schedule.looked(8, Vec::new(), start);
        for seconds in 1..5 {
            let now = start + SECOND * seconds;
            let left = SECOND * (5 - seconds);
            assert_eq!(waits(&schedule.next(None, None, now)), left);
        }
        assert_eq!(schedule.next(None, None, start + SECOND * 5), Next::Look);
    }

    #[test]
    fn a_burst_of_events_is_one_look() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.looked(8, Vec::new(), now);
        schedule.want_look();
        assert_eq!(waits(&schedule.next(None, None, now)), SPACING);
        assert_eq!(schedule.next(None, None, now + SPACING), Next::Look);
    }

    #[test]
    fn a_fault_is_looked_at_when_it_is_due() {
        let now = Instant::now();
        let mut schedule = schedule();
        schedule.looked(8, Vec::new(), now);
        let due = Some(now + SECOND);
        assert_eq!(waits(&schedule.next(due, None, now)), SECOND);
        assert_eq!(schedule.next(due, None, now + SECOND), Next::Look);
    }

    /// The waits before the driver is loaded anew, while these GPUs fail.
    fn reopenings(schedule: &mut Schedule, answered: usize, failed: &[u32]) -> Vec<u64> {
        let now = Instant::now();
        (0..4)
            .map(|_| {
                schedule.begin();
                schedule.looked(answered, failed.to_vec(), now);
                let at = schedule.reopen.unwrap();
                assert_eq!(schedule.next(None, None, at), Next::Reopen);
                (at - now).as_secs()
            })
            .collect()
    }

    #[test]
    fn the_driver_is_loaded_anew_while_gpus_fail_and_soon_while_all_do() {
        let mut schedule = schedule();
        assert_eq!(reopenings(&mut schedule, 7, &[3]), [30, 60, 100, 100]);
        assert_eq!(reopenings(&mut schedule, 0, &[0, 1]), [1, 2, 4, 4]);
        schedule.looked(8, Vec::new(), Instant::now());
        assert_eq!(schedule.reopen, None);
        assert_eq!(reopenings(&mut schedule, 7, &[3]), [30, 60, 100, 100]);
    }

    #[test]
    fn the_same_news_is_logged_once_a_minute_with_how_often_it_came() {
        let now = Instant::now();
        let mut quiet = Quiet::new();
        assert_eq!(quiet.admit(31, now), Some(0));
        assert_eq!(quiet.admit(31, now + SECOND), None);
        assert_eq!(quiet.admit(31, now + SECOND * 2), None);
        assert_eq!(quiet.admit(13, now + SECOND * 2), Some(0));
        assert_eq!(quiet.admit(31, now + QUIET), Some(2));
    }
}
