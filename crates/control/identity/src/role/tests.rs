use super::*;

use rstest::rstest;

#[test]
fn the_table_is_as_documented() {
    use Action::{Act, AdminCredentials, Credentials, Delete, Read, Write};
    let allowed = |role: Role| -> Vec<Action> {
        let all = Action::ALL.into_iter();
        all.filter(|action| role.allows(*action)).collect()
    };
    assert_eq!(allowed(Role::Reader), [Read]);
    assert_eq!(
        allowed(Role::Contributor),
        [Read, Write, Delete, Credentials, Act]
    );
    assert_eq!(
        allowed(Role::Owner),
        [Read, Write, Delete, Credentials, AdminCredentials, Act]
    );
}

#[test]
fn a_role_is_read_back_in_any_case_and_others_are_refused_with_the_choice() {
    for role in Role::ALL {
        assert_eq!(role.to_string().parse(), Ok(role));
        assert_eq!(role.to_string().to_uppercase().parse(), Ok(role));
    }
    let error = "admin".parse::<Role>().expect_err("no role").to_string();
    assert!(error.contains("contributor"), "{error}");
}

#[rstest]
#[case("GET", "/subscriptions/s", Action::Read)]
#[case("HEAD", "/subscriptions/s/resourceGroups/g", Action::Read)]
#[case("PUT", "/x", Action::Write)]
#[case("PATCH", "/x", Action::Write)]
#[case("DELETE", "/x", Action::Delete)]
#[case("POST", "/c/stop", Action::Act)]
#[case("POST", "/c/agentPools/p/deleteMachines", Action::Act)]
#[case("POST", "/c/listClusterUserCredential", Action::Credentials)]
#[case("POST", "/c/listclusterusercredential/", Action::Credentials)]
#[case("POST", "/c/listClusterMonitoringUserCredential", Action::Credentials)]
#[case(
    "POST",
    "/c/accessProfiles/clusterUser/listCredential",
    Action::Credentials
)]
#[case(
    "POST",
    "/c/accessProfiles/clusterAdmin/listCredential",
    Action::AdminCredentials
)]
#[case("POST", "/admin/listClusterUserCredential", Action::Credentials)]
#[case("POST", "/c/listClusterAdminCredential", Action::AdminCredentials)]
#[case("POST", "/c/LISTCLUSTERADMINCREDENTIAL", Action::AdminCredentials)]
#[case("POST", "/c/listCluster%41dminCredential", Action::AdminCredentials)]
#[case("BREW", "/c", Action::Act)]
fn a_request_is_an_action(#[case] method: &str, #[case] path: &str, #[case] action: Action) {
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    assert_eq!(Action::of(&method, path), action);
}
