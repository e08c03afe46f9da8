//! Of several operators one acts, and hands over when it goes.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use serde_json::json;

use super::A100_SIZE;
use crate::audit::{self, Audit, Request};
use crate::charts;
use crate::fleet::Fleet;
use crate::operators::{self, LEASE, OPERATOR};
use crate::pools;
use crate::suite::{Outcome, Test};
use crate::wait::{LATER, SOON, until};
use crate::world::{CPUNODE, NAMESPACE, World};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "an_operator_that_goes_hands_over_at_once",
        run: hands_over,
    },
    Test {
        name: "an_operator_that_is_killed_is_followed_and_never_two_act",
        run: followed,
    },
];

/// The goal for a hand-over, in seconds.
const GOAL: f64 = 2.0;

/// What a hand-over may take on a machine that does much else, in seconds.
const LIMIT: f64 = 10.0;

const NODES: usize = 8;

/// Two operators, and a fleet in a pool whose layout is changed without end, so that there is always something to do.
struct Stage<'w> {
    world: &'w World,
    fleet: Fleet<'w>,
    audit: Audit,
    turn: usize,
}

impl<'w> Stage<'w> {
    fn set(world: &'w World) -> anyhow::Result<Self> {
        operators::install(world, &["operator.replicas=2", &charts::only_on(CPUNODE)])?;
        until("two operators to run", LATER, || {
            let pods = operators::all(world)?;
            ensure!(
                pods.len() == 2 && pods.iter().all(crate::pods::Pod::runs),
                "{pods:?}"
            );
            Ok(())
        })?;
        let fleet = Fleet::start(world, NODES, Duration::from_millis(300))?;
        let audit = Audit::from_now_on(world)?;
        pools::ask(
            world,
            "busy",
            &json!({"vmSize": A100_SIZE, "count": NODES, "layouts": "MIG1g", "maxUnavailable": "50%"}),
        )?;
        pools::comes_to_be_ready(world, "busy", NODES as u64, LATER)?;
        Ok(Self {
            world,
            fleet,
            audit,
            turn: 0,
        })
    }

    /// Another layout is asked for.
    fn ask(&mut self) -> Outcome {
        self.turn += 1;
        let layout = ["MIG1g", "MIG2g", "MIG3g"][self.turn % 3];
        pools::change(self.world, "busy", &json!({"layouts": layout}))
    }

    /// All is as asked, and nobody but who held the lease has ever written anything.
    fn end(self) -> Outcome {
        pools::comes_to_be_ready(self.world, "busy", NODES as u64, LATER)?;
        let user = audit::user(NAMESPACE, OPERATOR);
        let requests = self.audit.requests(|whose| whose == user)?;
        let writes = only_leaders_write(&requests)?;
        self.world
            .log(&format!("{writes} writes, each by the leader"));
        self.fleet.end()?;
        Ok(())
    }
}

/// Counts what operators have written, and finds what one has written while another had the lease.
fn only_leaders_write(requests: &[Request]) -> anyhow::Result<usize> {
    let is_lease = |request: &Request| request.resource == "leases" && request.name == LEASE;
    // When which pod has last asked to write the lease, with success; who gives it back writes it too, as its last. Whoever
    // takes it has read what was written before, so that they come in this order. When they are noted as answered may be in
    // another.
    let mut taken: Vec<(i64, &str)> = requests
        .iter()
        .filter(|request| is_lease(request) && request.writes() && request.code < 300)
        .map(|request| (request.received, request.pod.as_str()))
        .collect();
    taken.sort_unstable();
    ensure!(!taken.is_empty(), "nobody has written the lease");
    let mut writes = 0;
    // Events are told afterwards, and the webhook's certificate is everybody's.
    let is_act = |request: &&Request| {
        request.writes()
            && matches!(
                &*request.resource,
                "gpunodes" | "nodepools" | "nodepools/status" | "nodes"
            )
    };
    for write in requests.iter().filter(is_act) {
        let holder = taken.iter().rev().find(|(at, _)| *at < write.received);
        if let Some((_, holder)) = holder {
            ensure!(
                *holder == write.pod,
                "{} by {}, while {holder} had the lease",
                write.line(),
                write.pod
            );
        }
        writes += 1;
    }
    ensure!(writes > 0, "nobody has written anything");
    Ok(writes)
}

fn hands_over(world: &World) -> Outcome {
    let mut stage = Stage::set(world)?;
    let mut took = Vec::new();
    for _ in 0..3 {
        stage.ask()?;
        thread::sleep(Duration::from_millis(700));
        let old = operators::leader(world)?;
        let asked = SystemTime::now().duration_since(UNIX_EPOCH)?;
        world.kubectl(&["delete", "pod", &old.name, "--wait=false"])?;
        let new = until("another operator to lead", SOON, || {
            let new = operators::leader(world)?;
            ensure!(new.uid != old.uid, "{}", new.line());
            Ok(new)
        })?;
        // By the API server's clock, which is this machine's.
        let user = audit::user(NAMESPACE, OPERATOR);
        let requests = stage.audit.requests(|whose| whose == user)?;
        let asked = i64::try_from(asked.as_micros())?;
        let first = requests
            .iter()
            .filter(|it| it.resource == "leases" && it.writes() && it.code < 300)
            .filter(|it| it.pod == new.name && it.answered > asked)
            .map(|it| it.answered)
            .min()
            .context("the lease was not written")?;
        let micros = u32::try_from(first - asked).context("it took more than an hour")?;
        took.push(f64::from(micros) / 1e6);
        operators::acts(world)?;
        until("two operators to run", LATER, || {
            let pods = operators::all(world)?;
            ensure!(
                pods.len() == 2 && pods.iter().all(crate::pods::Pod::runs),
                "{pods:?}"
            );
            Ok(())
        })?;
    }
    let line = format!("hand-overs took {took:.2?} s, goal {GOAL} s");
    println!("{line}");
    world.log(&line);
    ensure!(took.iter().all(|took| *took < LIMIT), "{line}");
    stage.end()
}

fn followed(world: &World) -> Outcome {
    let mut stage = Stage::set(world)?;
    let mut random = world.random("followed");
    for _ in 0..3 {
        stage.ask()?;
        thread::sleep(Duration::from_millis(random.u64(100..1500)));
        let old = operators::leader(world)?;
        let killed = Instant::now();
        operators::kill(world, &old)?;
        until("another operator to lead", SOON, || {
            let new = operators::leader(world)?;
            ensure!(new.uid != old.uid, "{}", new.line());
            Ok(())
        })?;
        world.log(&format!(
            "another leads after {:.1} s",
            killed.elapsed().as_secs_f64()
        ));
        stage.ask()?;
        pools::comes_to_be_ready(world, "busy", NODES as u64, LATER)?;
    }
    stage.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(at: i64, pod: &str, resource: &str) -> Request {
        Request {
            program: String::new(),
            user: String::new(),
            pod: pod.to_owned(),
            verb: "patch".to_owned(),
            group: String::new(),
            resource: resource.to_owned(),
            name: LEASE.to_owned(),
            path: format!("/{resource}"),
            code: 200,
            received: at,
            answered: at + 1,
        }
    }

    #[test]
    fn a_write_of_one_who_does_not_lead_is_found() {
        let mut requests = vec![
            request(0, "a", "leases"),
            request(5, "a", "nodes"),
            request(10, "b", "leases"),
            request(15, "b", "gpunodes"),
        ];
        assert_eq!(only_leaders_write(&requests).unwrap(), 2);
        requests.push(request(20, "a", "nodes"));
        let error = only_leaders_write(&requests).unwrap_err().to_string();
        assert_eq!(error, "patch /nodes (): 200 by a, while b had the lease");
        assert!(only_leaders_write(&requests[..1]).is_err());
    }
}
