use super::*;

use crate::fake_api::FakeApi;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/migpool/leases/migpool-operator";

fn seek(api: &FakeApi, identity: &str) -> (Candidacy, CancellationToken) {
    let leadership = Leadership {
        identity: identity.to_owned(),
        namespace: "migpool".to_owned(),
        lease: "migpool-operator".to_owned(),
    };
    let stop = CancellationToken::new();
    (leadership.seek(api.client(), stop.clone()), stop)
}

#[tokio::test]
async fn leadership_is_handed_over_within_two_seconds() {
    let api = FakeApi::start().await;
    let (first, stop) = seek(&api, "a");
    let mut mandate = first.mandate();
    mandate.gained().await;
    let (second, second_stop) = seek(&api, "b");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(mandate.holds() && !second.mandate().holds());

    let begin = Instant::now();
    stop.cancel();
    first.ended().await;
    mandate.lost().await;
    assert!(!mandate.holds());
    second.mandate().gained().await;
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    let lease = api.get(LEASE).unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "b");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);

    second_stop.cancel();
    second.ended().await;
    assert_eq!(api.get(LEASE).unwrap()["spec"]["holderIdentity"], "");
}

#[tokio::test]
async fn a_leader_ends_when_its_lease_is_anothers() {
    let api = FakeApi::start().await;
    let (candidacy, stop) = seek(&api, "a");
    let mut mandate = candidacy.mandate();
    mandate.gained().await;
    let mut lease = api.get(LEASE).unwrap();
    lease["spec"]["holderIdentity"] = "somebody".into();
    api.put(LEASE, lease);
    let lost = timeout(Duration::from_secs(4), mandate.lost()).await;
    assert!(lost.is_ok());
    stop.cancel();
    candidacy.ended().await;
    // What is not its own it does not give back.
    assert_eq!(
        api.get(LEASE).unwrap()["spec"]["holderIdentity"],
        "somebody"
    );
}

#[tokio::test]
async fn one_without_rights_waits_and_stops_when_it_is_told() {
    let api = FakeApi::start().await;
    api.forbid(Some("leases"));
    let (candidacy, stop) = seek(&api, "a");
    let mut mandate = candidacy.mandate();
    assert!(
        timeout(Duration::from_millis(300), mandate.gained())
            .await
            .is_err()
    );
    api.forbid(None);
    assert!(
        timeout(Duration::from_secs(3), mandate.gained())
            .await
            .is_ok()
    );
    api.set_away(true);
    stop.cancel();
    mandate.lost().await;
    api.set_away(false);
    candidacy.ended().await;
    assert_eq!(api.get(LEASE).unwrap()["spec"]["holderIdentity"], "");
}

#[tokio::test(start_paused = true)]
async fn a_mandate_that_nobody_renews_ends_by_itself() {
    let (until, receiver) = watch::channel(Some(Instant::now() + Duration::from_secs(10)));
    let mut mandate = Mandate(receiver);
    let begin = Instant::now();
    assert!(mandate.holds());
    mandate.gained().await;
    mandate.lost().await;
    assert_eq!(begin.elapsed().as_secs(), 10);
    assert!(!mandate.holds());
    drop(until);
    mandate.lost().await;
}
