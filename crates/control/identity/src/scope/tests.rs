use super::*;

use proptest::prelude::*;
use rstest::rstest;

const SUBSCRIPTION: &str = "/subscriptions/11111111-2222-3333-4444-555555555555";

fn scope(text: &str) -> RoleScope {
    text.parse().expect("a scope")
}

fn at(rest: &str) -> String {
    format!("{SUBSCRIPTION}{rest}")
}

fn cluster(group: &str, name: &str) -> String {
    at(&format!(
        "/resourceGroups/{group}/providers/Microsoft.ContainerService/managedClusters/{name}"
    ))
}

#[test]
fn a_scope_covers_itself_and_what_lies_under_it_in_any_case() {
    let subscription = scope(SUBSCRIPTION);
    let group = scope(&at("/resourceGroups/Green"));
    let one = scope(&cluster("Green", "Blue"));
    for path in [
        cluster("green", "blue"),
        cluster("GREEN", "BLUE") + "/agentPools/mignode",
        cluster("green", "blue").replace("resourceGroups", "resourcegroups") + "/",
        cluster("gr%65en", "blue"),
    ] {
        assert!(subscription.covers(&path), "{path}");
        assert!(group.covers(&path), "{path}");
        assert!(one.covers(&path), "{path}");
    }
    assert!(!one.covers(&at("/resourceGroups/green")));
    assert!(!group.covers(SUBSCRIPTION));
}

#[rstest]
#[case::longer_name("/resourceGroups/greener")]
#[case::shorter_name("/resourceGroups/gree")]
#[case::parent("")]
#[case::out_again("/resourceGroups/green/../red")]
#[case::out_again_encoded("/resourceGroups/green/%2e%2E/red")]
#[case::here("/resourceGroups/./green")]
#[case::empty_segment("/resourceGroups//green")]
#[case::empty_segment_behind("/resourceGroups/green//x")]
#[case::slash_encoded("/resourceGroups/green%2Fx")]
#[case::backslash("/resourceGroups/green/x\\y")]
#[case::no_text("/resourceGroups/green/%FF")]
#[case::null("/resourceGroups/green/%00")]
#[case::other_word("/resourceGroup/green")]
fn a_group_covers_nothing_beside_it_nor_what_can_be_read_in_two_ways(#[case] rest: &str) {
    let group = scope(&at("/resourceGroups/green"));
    assert!(!group.covers(&at(rest)), "{rest}");
}

#[test]
fn another_subscription_is_covered_by_none() {
    let path = "/subscriptions/11111111-2222-3333-4444-555555555556/resourceGroups/green";
    assert!(!scope(SUBSCRIPTION).covers(path));
    assert!(!scope(SUBSCRIPTION).covers("/subscriptions"));
    assert!(!scope(SUBSCRIPTION).covers(""));
    assert!(!scope(SUBSCRIPTION).covers("/"));
}

#[rstest]
#[case("")]
#[case("/")]
#[case("/subscriptions")]
#[case("/subscriptions/mine")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/a b")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/dot.")]
#[case("/subscriptions/11111111-2222-3333-4444-555555555555/providers/Microsoft.Compute")]
fn what_is_no_scope_is_refused_with_what_one_looks_like(#[case] text: &str) {
    let error = text.parse::<RoleScope>().expect_err("no scope").to_string();
    assert!(
        error.contains("managedClusters") || error.contains("/subscriptions/ID"),
        "{error}"
    );
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,20}"
}

fn swapped(text: &str) -> String {
    let swap = |letter: char| {
        if letter.is_ascii_lowercase() {
            letter.to_ascii_uppercase()
        } else {
            letter.to_ascii_lowercase()
        }
    };
    text.chars().map(swap).collect()
}

proptest! {
    #[test]
    fn a_scope_is_read_back_as_it_was_written(group in name(), of in name()) {
        for text in [at(""), at(&format!("/resourceGroups/{group}")), cluster(&group, &of)] {
            let scope = scope(&text);
            prop_assert_eq!(scope.to_string(), text.clone());
            let json = serde_json::to_string(&scope).expect("JSON");
            let back: RoleScope = serde_json::from_str(&json).expect("a scope");
            prop_assert_eq!(&back, &scope);
            prop_assert_eq!(self::scope(&swapped(&text)), scope);
        }
    }

    #[test]
    fn what_a_narrow_scope_covers_the_wider_ones_cover(
        group in name(), of in name(), other in name(), rest in "(/[a-zA-Z0-9]{1,8}){0,3}",
    ) {
        let path = cluster(&other, &of) + &rest;
        let wide = [scope(SUBSCRIPTION), scope(&at(&format!("/resourceGroups/{group}"))), scope(&cluster(&group, &of))];
        for pair in wide.windows(2) {
            let [wider, narrower] = pair else { unreachable!("windows of two") };
            prop_assert!(!narrower.covers(&path) || wider.covers(&path));
        }
        // Two groups are the same if their names are, whatever their case, and never else.
        prop_assert_eq!(wide[1].covers(&path), group.eq_ignore_ascii_case(&other));
        prop_assert_eq!(wide[2].covers(&path), group.eq_ignore_ascii_case(&other));
    }

    #[test]
    fn any_path_is_judged_without_a_crash(path in ".{0,200}") {
        let _ = scope(SUBSCRIPTION).covers(&path);
        let _ = path.parse::<RoleScope>();
    }
}
