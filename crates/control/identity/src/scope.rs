//! Scopes: a subscription, a resource group in it, or a cluster in that.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The namespace and type of clusters.
const NAMESPACE: &str = "Microsoft.ContainerService";
const CLUSTERS: &str = "managedClusters";

/// Longest names, as Azure Resource Manager has them.
const LONGEST_GROUP: usize = 90;
const LONGEST_CLUSTER: usize = 63;

/// Where a role holds: on the resource that it names and on everything under it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleScope {
    subscription: Uuid,
    within: Within,
}

#[derive(Clone, Debug)]
enum Within {
    Subscription,
    Group(String),
    Cluster { group: String, cluster: String },
}

impl RoleScope {
    /// All of a subscription.
    #[must_use]
    pub fn subscription(subscription: Uuid) -> Self {
        Self {
            subscription,
            within: Within::Subscription,
        }
    }

    /// The subscription that it is or lies in.
    #[must_use]
    pub fn subscription_id(&self) -> Uuid {
        self.subscription
    }

    /// The resource group that it is or lies in; none for all of a subscription.
    #[must_use]
    pub fn resource_group(&self) -> Option<&str> {
        match &self.within {
            Within::Subscription => None,
            Within::Group(group) | Within::Cluster { group, .. } => Some(group),
        }
    }

    /// The cluster that it is, if it is one.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        match &self.within {
            Within::Subscription | Within::Group(_) => None,
            Within::Cluster { cluster, .. } => Some(cluster),
        }
    }

    /// Whether the resource at `path` is the scope's own or lies under it. Whole segments count, and their case does not. A path
    /// that can be read in two ways (empty segments, `.` and `..`, encoded slashes) lies under none.
    #[must_use]
    pub fn covers(&self, path: &str) -> bool {
        segments(path).is_some_and(|segments| self.covers_segments(&segments))
    }

    pub(crate) fn covers_segments(&self, path: &[Cow<'_, str>]) -> bool {
        let [word, subscription, rest @ ..] = path else {
            return false;
        };
        let same = |a: &Cow<'_, str>, b: &str| a.eq_ignore_ascii_case(b);
        if !same(word, "subscriptions") || !is_id(subscription, self.subscription) {
            return false;
        }
        match &self.within {
            Within::Subscription => true,
            Within::Group(group) => matches!(
                rest,
                [word, name, ..] if same(word, "resourceGroups") && same(name, group)
            ),
            Within::Cluster { group, cluster } => matches!(
                rest,
                [word, name, providers, namespace, clusters, of, ..]
                    if same(word, "resourceGroups") && same(name, group)
                        && same(providers, "providers") && same(namespace, NAMESPACE)
                        && same(clusters, CLUSTERS) && same(of, cluster)
            ),
        }
    }
}

pub(crate) fn is_id(text: &str, id: Uuid) -> bool {
    Uuid::try_parse(text).is_ok_and(|text| text == id)
}

/// As many segments as the path of a node pool's part has.
const USUAL: usize = 12;

/// The segments of a path, decoded; none when the path can be read in two ways. One slash at the end changes nothing.
pub(crate) fn segments(path: &str) -> Option<Vec<Cow<'_, str>>> {
    let path = path.strip_prefix('/')?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments = Vec::with_capacity(USUAL);
    for segment in path.split('/') {
        if is_plain(segment) {
            segments.push(Cow::Borrowed(segment));
            continue;
        }
        let segment = percent_decode_str(segment).decode_utf8().ok()?;
        let odd = matches!(&*segment, "" | "." | "..")
            || segment.contains(['/', '\\'])
            || segment.chars().any(char::is_control);
        if odd {
            return None;
        }
        segments.push(segment);
    }
    Some(segments)
}

/// Whether a segment is of letters, digits, hyphens and full stops, and not of full stops alone: there is nothing to decode and
/// nothing odd in it.
fn is_plain(segment: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    segment.bytes().all(is_plain) && segment.bytes().any(|byte| byte != b'.')
}

impl fmt::Display for RoleScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/subscriptions/{}", self.subscription)?;
        match &self.within {
            Within::Subscription => Ok(()),
            Within::Group(group) => write!(f, "/resourceGroups/{group}"),
            Within::Cluster { group, cluster } => write!(
                f,
                "/resourceGroups/{group}/providers/{NAMESPACE}/{CLUSTERS}/{cluster}"
            ),
        }
    }
}

impl PartialEq for RoleScope {
    fn eq(&self, other: &Self) -> bool {
        self.to_string().eq_ignore_ascii_case(&other.to_string())
    }
}

impl Eq for RoleScope {}

impl FromStr for RoleScope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let invalid = |reason| InvalidScope {
            text: text.to_owned(),
            reason,
        };
        let all = segments(text).ok_or_else(|| invalid("it is no path"))?;
        let same = |a: &Cow<'_, str>, b: &str| a.eq_ignore_ascii_case(b);
        let [word, subscription, rest @ ..] = all.as_slice() else {
            return Err(invalid("it names no subscription"));
        };
        if !same(word, "subscriptions") {
            return Err(invalid("it names no subscription"));
        }
        let subscription = Uuid::try_parse(subscription)
            .map_err(|_| invalid("the subscription's id is no UUID"))?;
        let group = |name: &str| {
            let whole = is_name(name, LONGEST_GROUP, "-_.()") && !name.ends_with('.');
            let name = whole.then(|| name.to_owned());
            name.ok_or_else(|| invalid("that is no name of a resource group"))
        };
        let within = match rest {
            [] => Within::Subscription,
            [word, name] if same(word, "resourceGroups") => Within::Group(group(name)?),
            [word, name, providers, namespace, clusters, cluster]
                if same(word, "resourceGroups")
                    && same(providers, "providers")
                    && same(namespace, NAMESPACE)
                    && same(clusters, CLUSTERS) =>
            {
                if !is_name(cluster, LONGEST_CLUSTER, "-_") {
                    return Err(invalid("that is no name of a cluster"));
                }
                Within::Cluster {
                    group: group(name)?,
                    cluster: cluster.clone().into_owned(),
                }
            }
            _ => return Err(invalid("roles are given on these three only")),
        };
        Ok(Self {
            subscription,
            within,
        })
    }
}

fn is_name(text: &str, longest: usize, also: &str) -> bool {
    let fits = |letter: char| letter.is_ascii_alphanumeric() || also.contains(letter);
    (1..=longest).contains(&text.len()) && text.chars().all(fits)
}

impl TryFrom<String> for RoleScope {
    type Error = InvalidScope;

    fn try_from(text: String) -> Result<Self, InvalidScope> {
        text.parse()
    }
}

impl From<RoleScope> for String {
    fn from(scope: RoleScope) -> Self {
        scope.to_string()
    }
}

/// Text that is no scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no scope, since {reason}: write /subscriptions/ID, with /resourceGroups/NAME behind it for one group, and \
     /providers/Microsoft.ContainerService/managedClusters/NAME behind that for one cluster"
)]
pub struct InvalidScope {
    text: String,
    reason: &'static str,
}

#[cfg(test)]
mod tests;
