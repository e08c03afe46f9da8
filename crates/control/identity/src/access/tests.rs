use super::*;

use proptest::prelude::*;
use rstest::rstest;

use crate::principal::PrincipalKind;

const SUBSCRIPTION: &str = "/subscriptions/11111111-2222-3333-4444-555555555555";

fn somebody() -> Principal {
    Principal {
        id: PrincipalId(Uuid::nil()),
        name: "ci".to_owned(),
        kind: PrincipalKind::ServicePrincipal,
        grants: Vec::new(),
    }
}

fn ask(grants: &[(Role, &str)], action: Action, path: &str) -> Result<(), Denied> {
    let grants: Vec<(Role, RoleScope)> = grants
        .iter()
        .map(|(role, scope)| (*role, scope.parse().expect("a scope")))
        .collect();
    let grants = grants.iter().map(|(role, scope)| (*role, scope));
    decide(&grants, &somebody(), action, path)
}

fn in_group(rest: &str) -> String {
    format!("{SUBSCRIPTION}/resourceGroups/green{rest}")
}

#[test]
fn a_role_counts_where_it_was_given_and_nowhere_else() {
    let green = in_group("");
    let grants = [
        (Role::Contributor, green.as_str()),
        (Role::Reader, SUBSCRIPTION),
    ];
    let cluster = "/providers/Microsoft.ContainerService/managedClusters/c";
    let red = format!("{SUBSCRIPTION}/resourceGroups/red{cluster}");
    assert_eq!(ask(&grants, Action::Write, &in_group(cluster)), Ok(()));
    assert_eq!(ask(&grants, Action::Read, &red), Ok(()));
    assert!(ask(&grants, Action::Write, &red).is_err());
    assert!(ask(&grants, Action::AdminCredentials, &in_group(cluster)).is_err());
}

#[rstest]
#[case("/subscriptions")]
#[case("/subscriptions/")]
#[case("/tenants")]
#[case("/providers/Microsoft.ContainerService/operations")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/locations")]
#[case("/Subscriptions/11111111-2222-3333-4444-555555555555/Providers")]
#[case(
    "/subscriptions/11111111-2222-3333-4444-555555555555/providers/Microsoft.ContainerService/locations/global/operations/x"
)]
fn what_everybody_may_read_needs_some_role_and_is_only_read(#[case] path: &str) {
    let group = in_group("");
    let grants = [(Role::Owner, group.as_str())];
    assert_eq!(ask(&grants, Action::Read, path), Ok(()));
    assert!(ask(&grants, Action::Write, path).is_err());
    assert!(ask(&grants, Action::Act, path).is_err());
    assert!(ask(&[], Action::Read, path).is_err());
}

#[rstest]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/resources")]
#[case(
    "/subscriptions/11111111-2222-3333-4444-555555555555/providers/Microsoft.ContainerService/managedClusters"
)]
#[case("/subscriptions/11111111-2222-3333-4444-555555555556")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/locations/../resourceGroups/red")]
#[case("/nodes")]
#[case("")]
fn who_has_a_group_sees_nothing_else(#[case] path: &str) {
    let group = in_group("");
    assert!(ask(&[(Role::Owner, &group)], Action::Read, path).is_err());
}

#[rstest]
#[case(
    Action::Write,
    "/providers/Microsoft.ContainerService/managedClusters/c",
    "Microsoft.ContainerService/managedClusters/write"
)]
#[case(
    Action::Delete,
    "/providers/Microsoft.ContainerService/managedClusters/c/agentPools/p",
    "Microsoft.ContainerService/managedClusters/agentPools/delete"
)]
#[case(
    Action::Act,
    "/providers/Microsoft.ContainerService/managedClusters/c/stop",
    "Microsoft.ContainerService/managedClusters/stop/action"
)]
#[case(
    Action::Read,
    "",
    "Microsoft.Resources/subscriptions/resourceGroups/read"
)]
fn a_refusal_is_arms_sentence(#[case] action: Action, #[case] rest: &str, #[case] name: &str) {
    let denied = ask(&[], action, &in_group(rest)).expect_err("denied");
    assert_eq!(denied.code(), "AuthorizationFailed");
    assert_eq!(
        denied.to_string(),
        format!(
            "The client 'ci' with object id '00000000-0000-0000-0000-000000000000' does not have authorization to perform action '{name}' over scope '{}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
            in_group(rest)
        )
    );
}

fn role() -> impl Strategy<Value = Role> {
    prop::sample::select(Role::ALL.to_vec())
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(Action::ALL.to_vec())
}

proptest! {
    #[test]
    fn inside_a_scope_the_table_decides(role in role(), action in action(), rest in "(/[a-z]{1,8}){0,4}") {
        let group = in_group("");
        let answer = ask(&[(role, &group)], action, &in_group(&rest));
        prop_assert_eq!(answer.is_ok(), role.allows(action));
    }

    #[test]
    fn more_roles_never_allow_less(one in role(), two in role(), action in action(), rest in "(/[a-z]{1,8}){0,4}") {
        let group = in_group("");
        let path = in_group(&rest);
        let alone = ask(&[(one, &group)], action, &path).is_ok();
        let both = ask(&[(one, &group), (two, SUBSCRIPTION)], action, &path).is_ok();
        prop_assert!(!alone || both);
    }

    #[test]
    fn who_has_no_role_may_do_nothing(action in action(), path in "(/[a-zA-Z.]{0,12}){0,6}") {
        prop_assert!(ask(&[], action, &path).is_err());
    }
}
