//! What of lists somebody may see, in the words of the front behind.

use arm::View;
use identity::{Reach, RoleScope};
use pool::{ClusterKey, GroupKey, Scope, SubscriptionId};

/// The view that somebody has whose roles reach so far.
pub(crate) fn view_of(reach: &Reach) -> View {
    match reach {
        Reach::Whole => View::everything(),
        Reach::Parts(scopes) => View::of(scopes.iter().filter_map(scope_of)),
    }
}

/// Where the resources of a scope are kept; none if there can't be any, since nothing can have such a name.
fn scope_of(scope: &RoleScope) -> Option<Scope> {
    let subscription = SubscriptionId::from(scope.subscription_id());
    let Some(group) = scope.resource_group() else {
        return Some(Scope::subscription(&subscription));
    };
    let group = GroupKey {
        subscription,
        group: group.parse().ok()?,
    };
    let Some(cluster) = scope.cluster() else {
        return Some(Scope::group(&group));
    };
    let cluster = cluster.parse().ok()?;
    Some(Scope::cluster(&ClusterKey { group, cluster }))
}

#[cfg(test)]
mod tests {
    use pool::Key;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    const NAMES: &[&str] = &["a", "A", "a-1", "a0", "b", "-b", "b-"];

    fn scopes() -> impl Strategy<Value = RoleScope> {
        let name = || prop::option::weighted(0.8, select(NAMES));
        (0..2u8, name(), name()).prop_map(|(subscription, group, cluster)| {
            let mut scope =
                format!("/subscriptions/00000000-0000-0000-0000-00000000000{subscription}");
            if let Some(group) = group {
                scope += "/resourceGroups/";
                scope += group;
                if let Some(cluster) = cluster {
                    scope += "/providers/Microsoft.ContainerService/managedClusters/";
                    scope += cluster;
                }
            }
            scope.parse().unwrap()
        })
    }

    fn groups() -> impl Strategy<Value = GroupKey> {
        (0..2u8, select(NAMES)).prop_map(|(subscription, group)| GroupKey {
            subscription: format!("00000000-0000-0000-0000-00000000000{subscription}")
                .parse()
                .unwrap(),
            group: group.parse().unwrap(),
        })
    }

    /// Whether a view shows just what the scopes cover, by its own id.
    fn check(scopes: &[RoleScope], key: &impl Key) -> Result<(), TestCaseError> {
        let view = view_of(&Reach::Parts(scopes.to_vec()));
        let id = key.to_string();
        let is_covered = scopes.iter().any(|scope| scope.covers(&id));
        prop_assert_eq!(view.shows(key), is_covered, "{}", id);
        prop_assert!(view_of(&Reach::Whole).shows(key));
        Ok(())
    }

    proptest! {
        #[test]
        fn a_view_shows_just_what_the_scopes_cover(
            scopes in prop::collection::vec(scopes(), 0..4),
            group in groups(),
            cluster in select(vec!["a", "A", "a-1", "a0", "b"]),
        ) {
            check(&scopes, &group)?;
            let cluster = cluster.parse().unwrap();
            check(&scopes, &ClusterKey { group, cluster })?;
        }
    }
}
