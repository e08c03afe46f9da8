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

fn ask(grants: &[(Role, &str)], action: Action, path: &str) -> Result<Reach, Denied> {
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
    assert_eq!(
        ask(&grants, Action::Write, &in_group(cluster)),
        Ok(Reach::Whole)
    );
    assert_eq!(ask(&grants, Action::Read, &red), Ok(Reach::Whole));
    assert!(ask(&grants, Action::Write, &red).is_err());
    assert!(ask(&grants, Action::AdminCredentials, &in_group(cluster)).is_err());
}

#[rstest]
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
    assert_eq!(ask(&grants, Action::Read, path), Ok(Reach::Whole));
    assert!(ask(&grants, Action::Write, path).is_err());
    assert!(ask(&grants, Action::Act, path).is_err());
    assert!(ask(&[], Action::Read, path).is_err());
}

#[rstest]
#[case("/subscriptions/11111111-2222-3333-4444-555555555556")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555556/resourceGroups")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555556/resources")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/red")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/red/resources")]
#[case(
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/red/providers/Microsoft.ContainerService/managedClusters"
)]
#[case(
    "/subscriptions/11111111-2222-3333-4444-555555555555/providers/Microsoft.Compute/managedClusters"
)]
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

#[test]
fn a_list_is_let_through_as_far_as_roles_on_what_is_in_it_reach_and_only_to_be_read() {
    let group = in_group("");
    let cluster = in_group("/providers/Microsoft.ContainerService/managedClusters/c");
    let elsewhere = SUBSCRIPTION.replace('1', "9");
    let grants = [
        (Role::Owner, group.as_str()),
        (Role::Reader, cluster.as_str()),
        (Role::Owner, elsewhere.as_str()),
    ];
    let scope = |text: &str| text.parse::<RoleScope>().expect("a scope");
    let all: Vec<_> = grants.iter().map(|(_, text)| scope(text)).collect();
    assert_eq!(
        ask(&grants, Action::Read, "/Subscriptions/"),
        Ok(Reach::Parts(all.clone()))
    );
    for list in [
        "resourceGroups",
        "RESOURCES",
        "providers/Microsoft.ContainerService/managedClusters",
        "providers/microsoft.containerservice/Snapshots",
    ] {
        let path = format!("{SUBSCRIPTION}/{list}");
        let here = Reach::Parts(all.iter().take(2).cloned().collect());
        assert_eq!(ask(&grants, Action::Read, &path), Ok(here), "{path}");
        for action in Action::ALL.into_iter().filter(|it| *it != Action::Read) {
            assert!(ask(&grants, action, &path).is_err(), "{action:?} {path}");
        }
        let whole = [(Role::Reader, SUBSCRIPTION), (Role::Owner, &group)];
        assert_eq!(ask(&whole, Action::Read, &path), Ok(Reach::Whole));
    }
    let cluster_alone = [(Role::Reader, cluster.as_str())];
    for list in [
        "/resources",
        "/providers/Microsoft.ContainerService/managedClusters",
    ] {
        assert_eq!(
            ask(&grants, Action::Read, &in_group(list)),
            Ok(Reach::Whole)
        );
        assert_eq!(
            ask(&cluster_alone, Action::Read, &in_group(list)),
            Ok(Reach::Parts(vec![scope(&cluster)]))
        );
    }
    for path in [
        "",
        "/providers/Microsoft.ContainerService/managedClusters/d",
        "/providers/Microsoft.ContainerService/managedClusters/d/agentPools",
        "/providers/Microsoft.Resources/deployments",
        "/exportTemplate",
    ] {
        assert!(ask(&cluster_alone, Action::Read, &in_group(path)).is_err());
    }
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

    /// Of a list, whatever lies in the parts that may be shown may be read by itself, and nothing else of it.
    #[test]
    fn a_list_reaches_as_far_as_what_is_on_it_may_be_read_by_itself(
        roles in prop::collection::vec((role(), scope()), 0..4),
        resources in prop::collection::vec(resource(), 1..12),
        list in list(),
    ) {
        let grants: Vec<_> = roles.iter().map(|(role, scope)| (*role, scope.as_str())).collect();
        let is_on_it = |path: &&String| path.to_ascii_lowercase().starts_with(&list.within);
        for path in resources.iter().filter(is_on_it) {
            let by_itself = ask(&grants, Action::Read, path).is_ok();
            let listed = match ask(&grants, Action::Read, &list.path) {
                Ok(Reach::Whole) => true,
                Ok(Reach::Parts(parts)) => parts.iter().any(|part| part.covers(path)),
                Err(_) => false,
            };
            prop_assert_eq!(by_itself, listed, "{} on {}", path, &list.path);
        }
    }
}

#[derive(Clone, Debug)]
struct AList {
    path: String,
    /// What the paths of all that can be on it begin with, in lower case.
    within: String,
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["green", "Green", "green2", "red"])
}

/// A resource group or a cluster.
fn resource() -> impl Strategy<Value = String> {
    (name(), prop::option::of(name())).prop_map(|(group, cluster)| {
        let cluster = cluster
            .map(|name| format!("/providers/Microsoft.ContainerService/managedClusters/{name}"));
        let cluster = cluster.unwrap_or_default();
        format!("{SUBSCRIPTION}/resourceGroups/{group}{cluster}")
    })
}

fn scope() -> impl Strategy<Value = String> {
    prop_oneof![1 => Just(SUBSCRIPTION.to_owned()), 6 => resource()]
}

fn list() -> impl Strategy<Value = AList> {
    let clusters = "providers/Microsoft.ContainerService/managedClusters";
    let of_all = prop::sample::select(vec!["resourceGroups", "resources", clusters]);
    let of_group = prop::sample::select(vec!["resources", clusters]);
    let in_all = format!("{SUBSCRIPTION}/resourcegroups/");
    prop_oneof![
        of_all.prop_map(move |list| AList {
            path: format!("{SUBSCRIPTION}/{list}"),
            within: in_all.clone(),
        }),
        (name(), of_group).prop_map(|(group, list)| {
            let group = format!("{SUBSCRIPTION}/resourceGroups/{group}");
            AList {
                path: format!("{group}/{list}"),
                within: format!("{group}/").to_ascii_lowercase(),
            }
        }),
    ]
}
