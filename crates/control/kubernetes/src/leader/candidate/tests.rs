use super::*;

use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn wall(now: Duration) -> Timestamp {
    Timestamp::UNIX_EPOCH + now
}

/// The lease, as an API server keeps it.
#[derive(Debug, Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn answer(&mut self, action: &Action) -> Answer {
        let version = |lease: &Lease| lease.metadata.resource_version.clone();
        match (action, &self.lease) {
            (Action::Read, Some(lease)) => return Answer::Lease(Box::new(lease.clone())),
            (Action::Read, None) => return Answer::Missing,
            (Action::Create(_), Some(_)) | (Action::Replace(_), None) => return Answer::Conflict,
            (Action::Replace(new), Some(old)) if version(new) != version(old) => {
                return Answer::Conflict;
            }
            _ => {}
        }
        let (Action::Create(lease) | Action::Replace(lease)) = action else {
            return Answer::Failed;
        };
        self.version += 1;
        let mut lease = lease.clone();
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Answer::Lease(Box::new(lease))
    }

    fn holder(&self) -> Option<&String> {
        holder(self.lease.as_ref()?.spec.as_ref()?)
    }
}

fn candidate(name: &str) -> Candidate {
    Candidate::new(name.to_owned(), Timing::USUAL)
}

/// Lets a candidate do all that it wants to do at `now`, at once.
fn act(candidate: &mut Candidate, server: &mut Server, now: Duration) {
    loop {
        let action = candidate.next(now, wall(now));
        if matches!(action, Action::Rest(_) | Action::Done) {
            return;
        }
        let answer = server.answer(&action);
        candidate.answered(&action, now, now, answer);
    }
}

fn leads(candidate: &Candidate, now: Duration) -> bool {
    candidate.leads_until().is_some_and(|until| now < until)
}

#[test]
fn the_first_one_leads_and_renews_and_the_second_waits() {
    let mut server = Server::default();
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    for tick in 0..100 {
        let now = at(f64::from(tick) / 2.0);
        act(&mut a, &mut server, now);
        act(&mut b, &mut server, now);
        assert!(leads(&a, now) && !leads(&b, now));
    }
    let spec = server.lease.unwrap().spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(0));
    assert!(spec.renew_time > spec.acquire_time);
}

#[test]
fn a_lease_that_is_given_back_is_taken_at_the_next_look() {
    let mut server = Server::default();
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    act(&mut a, &mut server, at(0.0));
    act(&mut b, &mut server, at(0.1));
    a.resign(at(0.5));
    assert!(!leads(&a, at(0.5)));
    act(&mut a, &mut server, at(0.5));
    assert_eq!(a.next(at(0.5), wall(at(0.5))), Action::Done);
    assert_eq!(server.holder(), None);
    act(&mut b, &mut server, at(1.1));
    assert!(leads(&b, at(1.1)));
}

#[test]
fn one_that_never_wrote_has_nothing_to_give_back() {
    let mut server = Server::default();
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    act(&mut a, &mut server, at(0.0));
    act(&mut b, &mut server, at(0.0));
    b.resign(at(0.1));
    assert_eq!(b.next(at(0.1), wall(at(0.1))), Action::Done);
    assert_eq!(server.holder().map(String::as_str), Some("a"));
}

#[test]
fn a_leader_whose_renewals_fail_ends_five_seconds_before_another_begins() {
    let mut server = Server::default();
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    act(&mut a, &mut server, at(0.0));
    let (mut lost, mut gained) = (None, None);
    for tick in 1..200 {
        let now = at(f64::from(tick) / 10.0);
        let action = a.next(now, wall(now));
        if !matches!(action, Action::Rest(_)) {
            a.answered(&action, now, now, Answer::Failed);
        }
        act(&mut b, &mut server, now);
        if !leads(&a, now) {
            lost.get_or_insert(now);
        }
        if leads(&b, now) {
            gained.get_or_insert(now);
        }
    }
    assert_eq!(lost, Some(at(10.0)));
    let gained = gained.unwrap();
    assert!(gained >= at(15.0) && gained <= at(16.5), "{gained:?}");
}

#[test]
fn a_process_that_starts_again_takes_its_own_lease_at_once_and_ends_the_old_one() {
    let mut server = Server::default();
    let (mut old, mut new) = (candidate("a"), candidate("a"));
    act(&mut old, &mut server, at(0.0));
    act(&mut new, &mut server, at(1.0));
    assert!(leads(&new, at(1.0)));
    let renewal = old.next(at(2.5), wall(at(2.5)));
    let answer = server.answer(&renewal);
    assert_eq!(answer, Answer::Conflict);
    old.answered(&renewal, at(2.5), at(2.5), answer);
    let read = old.next(at(2.5), wall(at(2.5)));
    let answer = server.answer(&read);
    old.answered(&read, at(2.5), at(2.5), answer);
    assert!(!leads(&old, at(2.5)));
}

#[test]
fn a_lease_that_somebody_deleted_is_not_taken_before_its_leader_has_noticed() {
    let mut server = Server::default();
    let (mut a, mut b) = (candidate("a"), candidate("b"));
    act(&mut a, &mut server, at(0.0));
    act(&mut b, &mut server, at(0.5));
    server.lease = None;
    act(&mut b, &mut server, at(1.6));
    assert!(server.lease.is_none() && !leads(&b, at(1.6)));
    act(&mut a, &mut server, at(2.0));
    // Nor at once by that one: it may be about to be told to end.
    assert!(server.lease.is_none() && !leads(&a, at(2.0)));
    act(&mut a, &mut server, at(7.1));
    assert!(leads(&a, at(7.1)));
    server.lease = None;
    let mut now = at(8.0);
    while now < at(24.0) {
        act(&mut b, &mut server, now);
        now += SECOND;
    }
    assert!(leads(&b, now));
}

#[test]
fn what_somebody_else_wrote_into_the_lease_stays() {
    let mut server = Server::default();
    let mut a = candidate("a");
    let mut lease = Lease::default();
    lease.metadata.labels = Some([("helm".to_owned(), "yes".to_owned())].into());
    server.answer(&Action::Create(lease));
    act(&mut a, &mut server, at(0.0));
    assert!(leads(&a, at(0.0)));
    let is_marked = |server: &Server| {
        let labels = server
            .lease
            .as_ref()
            .and_then(|lease| lease.metadata.labels.as_ref());
        labels.is_some_and(|labels| labels.get("helm").is_some_and(|value| value == "yes"))
    };
    assert!(is_marked(&server));
    // One that takes its place can be taken over by the release that it was of.
    server.lease = None;
    act(&mut a, &mut server, at(2.0));
    act(&mut a, &mut server, at(7.1));
    assert!(leads(&a, at(7.1)) && is_marked(&server));
}

#[test]
fn a_duration_that_nobody_can_mean_is_waited_for_five_minutes_and_not_for_ever() {
    let mut server = Server::default();
    let spec = LeaseSpec {
        holder_identity: Some("gone".to_owned()),
        lease_duration_seconds: Some(i32::MAX),
        ..LeaseSpec::default()
    };
    server.answer(&Action::Create(Lease {
        spec: Some(spec),
        ..Lease::default()
    }));
    let mut a = candidate("a");
    act(&mut a, &mut server, at(0.0));
    act(&mut a, &mut server, at(299.0));
    assert!(!leads(&a, at(299.0)));
    act(&mut a, &mut server, at(300.5));
    assert!(leads(&a, at(300.5)));
}

/// A process: a candidate, its clock, and a request that is under way.
struct Process {
    candidate: Candidate,
    rate: f64,
    flight: Option<Flight>,
    asleep_until: f64,
    cut_off_until: f64,
    name: usize,
}

#[derive(Clone)]
struct Flight {
    action: Action,
    sent: Duration,
    gives_up: Duration,
    number: usize,
}

/// A request on its way to the server, or an answer on its way back.
struct Message {
    due: f64,
    number: usize,
    kind: Kind,
}

enum Kind {
    Request(Box<Action>, Option<f64>),
    Answer(Answer),
}

struct World {
    random: fastrand::Rng,
    server: Server,
    processes: Vec<Process>,
    messages: Vec<Message>,
    numbers: usize,
    now: f64,
}

/// How fast clocks run. They differ by a little less than the half that the timing allows.
const RATES: [f64; 3] = [0.82, 1.0, 1.22];

/// Faults end here, in seconds.
const QUIET: f64 = 300.0;
const STEP: f64 = 0.05;

impl World {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let processes = (0..3)
            .map(|name| Process {
                candidate: candidate(&name.to_string()),
                rate: *random.choice(&RATES).unwrap_or(&1.0),
                flight: None,
                asleep_until: 0.0,
                cut_off_until: 0.0,
                name,
            })
            .collect();
        Self {
            random,
            server: Server::default(),
            processes,
            messages: Vec::new(),
            numbers: 0,
            now: 0.0,
        }
    }

    /// Mostly little, and sometimes longer than a client waits, or than a lease lasts.
    fn delay(&mut self) -> f64 {
        match self.random.u8(..) {
            _ if self.now > QUIET => 0.02,
            0..8 => 40.0 * self.random.f64(),
            8..40 => 4.0 * self.random.f64(),
            _ => 0.1 * self.random.f64(),
        }
    }

    fn faults(&mut self) {
        if self.now > QUIET {
            return;
        }
        let odds = (STEP / 40.0, STEP / 80.0);
        for index in 0..self.processes.len() {
            if self.random.f64() < odds.0 {
                self.processes[index].cut_off_until = self.now + 40.0 * self.random.f64();
            }
            if self.random.f64() < odds.0 {
                self.processes[index].asleep_until = self.now + 30.0 * self.random.f64();
            }
            if self.random.f64() < odds.1 {
                let local = self.local(index);
                let process = &mut self.processes[index];
                process.candidate.resign(local);
            }
            if self.random.f64() < odds.1 {
                let process = &mut self.processes[index];
                if self.random.bool() {
                    process.name += 100;
                }
                process.candidate = candidate(&process.name.to_string());
                process.flight = None;
            }
        }
    }

    fn local(&self, index: usize) -> Duration {
        at(self.now * self.processes[index].rate)
    }

    fn deliver(&mut self) {
        let now = self.now;
        let (due, rest) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|message| message.due <= now);
        self.messages = rest;
        for message in due {
            let number = message.number;
            match message.kind {
                Kind::Request(action, back) => {
                    let answer = self.server.answer(&action);
                    self.messages.extend(back.map(|back| Message {
                        due: now + back,
                        number,
                        kind: Kind::Answer(answer),
                    }));
                }
                Kind::Answer(answer) => self.arrive(number, answer),
            }
        }
    }

    fn arrive(&mut self, number: usize, answer: Answer) {
        let found = self.processes.iter().position(|process| {
            process
                .flight
                .as_ref()
                .is_some_and(|it| it.number == number)
                && process.asleep_until < self.now
        });
        if let Some(index) = found {
            let local = self.local(index);
            let process = &mut self.processes[index];
            if let Some(flight) = process.flight.take() {
                let candidate = &mut process.candidate;
                candidate.answered(&flight.action, flight.sent, local, answer);
            }
        }
    }

    fn act(&mut self, index: usize) {
        let local = self.local(index);
        let process = &mut self.processes[index];
        if process.asleep_until > self.now {
            return;
        }
        if let Some(flight) = process.flight.clone() {
            if local >= flight.gives_up {
                process.flight = None;
                process
                    .candidate
                    .answered(&flight.action, flight.sent, local, Answer::Failed);
            }
            return;
        }
        let action = process.candidate.next(local, wall(local));
        match action {
            Action::Rest(_) => {}
            Action::Done => process.candidate = candidate(&process.name.to_string()),
            action => {
                self.numbers += 1;
                let number = self.numbers;
                process.flight = Some(Flight {
                    action: action.clone(),
                    sent: local,
                    gives_up: local + 3 * SECOND,
                    number,
                });
                let cut_off = process.cut_off_until > self.now;
                // What is cut off may still come through, much later.
                let lost = cut_off && self.random.u8(..) < 245;
                let more = if cut_off { 20.0 } else { 0.0 };
                if !lost {
                    let due = self.now + self.delay() + more * self.random.f64();
                    let back = (!cut_off).then(|| self.delay());
                    self.messages.push(Message {
                        due,
                        number,
                        kind: Kind::Request(Box::new(action), back),
                    });
                }
            }
        }
    }

    fn leaders(&self) -> Vec<usize> {
        (0..self.processes.len())
            .filter(|index| leads(&self.processes[*index].candidate, self.local(*index)))
            .collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever messages are lost, late or doubled, however processes die, sleep and start again, and although no clock runs right.
    #[test]
    fn there_are_never_two_leaders_and_in_the_end_there_is_one(seed: u64) {
        let mut world = World::new(seed);
        while world.now < QUIET + 90.0 {
            world.now += STEP;
            world.faults();
            world.deliver();
            for index in 0..world.processes.len() {
                world.act(index);
            }
            let leaders = world.leaders();
            prop_assert!(leaders.len() < 2, "at {}: {leaders:?}", world.now);
        }
        prop_assert_eq!(world.leaders().len(), 1);
    }
}
