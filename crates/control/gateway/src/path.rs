//! A request's path, such that whoever looks at it sees the same resource.
//!
//! Authorization and routing both get [`ResourcePath::as_str`]. What two readers might understand differently is refused: empty
//! segments (but for the one behind a provider's name, which az sends and which is left out), `.` and `..`, separators and control characters that hide behind percent signs, percent signs that hide behind
//! percent signs, and what is not UTF-8.

use std::str::FromStr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Everything but what RFC 3986 calls unreserved, and the parentheses that names of resource groups may have.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'(')
    .remove(b')');

/// A path that has one meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResourcePath(String);

/// Why a path has none, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PathError {
    /// Such as `*`, or that of CONNECT.
    #[error("its path does not begin with '/'")]
    NoSlash,
    /// `//`.
    #[error("its path has an empty segment")]
    Empty,
    /// `.` or `..`.
    #[error("its path has a segment '.' or '..'")]
    Dots,
    /// `%` without two hexadecimal digits.
    #[error("its path has a '%' without two hexadecimal digits")]
    Percent,
    /// A slash, a backslash, a percent sign or a control character.
    #[error("its path has a slash, backslash, percent sign or control character in a segment")]
    Hidden,
    /// Bytes that are no text.
    #[error("its path is not UTF-8")]
    NotText,
}

impl ResourcePath {
    /// The path: each segment percent-encoded in the one way, without a slash at the end.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments in lower case, for comparison with words.
    pub(crate) fn words(&self) -> Vec<String> {
        let segments = self.0.split('/').skip(1).filter(|word| !word.is_empty());
        segments.map(str::to_ascii_lowercase).collect()
    }
}

impl FromStr for ResourcePath {
    type Err = PathError;

    fn from_str(path: &str) -> Result<Self, PathError> {
        let rest = path.strip_prefix('/').ok_or(PathError::NoSlash)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut whole = String::with_capacity(path.len());
        let mut before = ["", ""];
        for segment in rest.split('/') {
            if segment.is_empty() && !rest.is_empty() {
                // Where az means that a resource is in no other one it says so with nothing: PROVIDER//TYPE/NAME.
                if before[0].eq_ignore_ascii_case("providers") {
                    continue;
                }
                return Err(PathError::Empty);
            }
            before = [before[1], segment];
            whole.push('/');
            if is_plain(segment) {
                whole.push_str(segment);
            } else {
                whole.extend(utf8_percent_encode(&decode(segment)?, ENCODED));
            }
        }
        // The root alone: `/` and `//` are not the same.
        if rest.is_empty() && path.len() > 1 {
            return Err(PathError::Empty);
        }
        Ok(Self(whole))
    }
}

/// Whether a segment stays as it is, decoded and encoded: none of its characters is in [`ENCODED`], and it is not of dots alone.
fn is_plain(segment: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~()".contains(&byte);
    segment.bytes().all(is_plain) && segment.bytes().any(|byte| byte != b'.')
}

fn decode(segment: &str) -> Result<String, PathError> {
    let mut parts = segment.split('%');
    parts.next();
    let two_digits = |part: &str| {
        let digits = part.as_bytes().get(..2);
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !parts.all(two_digits) {
        return Err(PathError::Percent);
    }
    let text = percent_decode_str(segment).decode_utf8();
    let text = text.map_err(|_| PathError::NotText)?;
    if text == "." || text == ".." {
        return Err(PathError::Dots);
    }
    if text.contains(|c: char| matches!(c, '/' | '\\' | '%') || c.is_control()) {
        return Err(PathError::Hidden);
    }
    Ok(text.into_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arm::{Account, Front, FrontSettings, Scheme};
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use identity::RoleScope;
    use pool::memory::MemoryBackend;
    use proptest::prelude::*;
    use proptest::sample::select;
    use rstest::rstest;
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;

    #[rstest]
    #[case("/", "/")]
    #[case("/subscriptions/S", "/subscriptions/S")]
    #[case("/subscriptions/S/", "/subscriptions/S")]
    #[case("/s/resource%47roups/a%2Db", "/s/resourceGroups/a-b")]
    #[case("/s/a.b_(c)~d", "/s/a.b_(c)~d")]
    #[case("/s/a b;c", "/s/a%20b%3Bc")]
    #[case("/s/%c3%a4", "/s/%C3%A4")]
    #[case("/s/...", "/s/...")]
    #[case("/s/Providers/N.S//types/x", "/s/Providers/N.S/types/x")]
    fn a_path_has_one_spelling(#[case] path: &str, #[case] one: &str) {
        assert_eq!(path.parse::<ResourcePath>().unwrap().as_str(), one);
    }

    #[rstest]
    #[case("", PathError::NoSlash)]
    #[case("*", PathError::NoSlash)]
    #[case("//", PathError::Empty)]
    #[case("//a", PathError::Empty)]
    #[case("/a//b", PathError::Empty)]
    #[case("/providers//N.S/types/x", PathError::Empty)]
    #[case("/providers/N.S/types//x", PathError::Empty)]
    #[case("/a//", PathError::Empty)]
    #[case("/a/./b", PathError::Dots)]
    #[case("/a/..", PathError::Dots)]
    #[case("/a/%2e%2E/b", PathError::Dots)]
    #[case("/a/.%2e/b", PathError::Dots)]
    #[case("/a%2fb", PathError::Hidden)]
    #[case("/a%5Cb", PathError::Hidden)]
    #[case("/a\\b", PathError::Hidden)]
    #[case("/a%252fb", PathError::Hidden)]
    #[case("/a%00", PathError::Hidden)]
    #[case("/a%0d%0ab", PathError::Hidden)]
    #[case("/a%c2%85", PathError::Hidden)]
    #[case("/a%", PathError::Percent)]
    #[case("/a%4", PathError::Percent)]
    #[case("/a%zz", PathError::Percent)]
    #[case("/a%ff", PathError::NotText)]
    #[case("/a%c0%af", PathError::NotText)]
    fn what_could_be_read_in_two_ways_is_refused(#[case] path: &str, #[case] why: PathError) {
        assert_eq!(path.parse::<ResourcePath>(), Err(why));
    }

    const SUBSCRIPTION: &str = "00000000-0000-0000-0000-000000000000";

    /// What the front gives back, if it gives back anything.
    async fn resource(front: &Front, method: &str, path: &str) -> Option<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{path}?api-version=2024-11-01"))
            .header("host", "localhost")
            .body(Body::from(r#"{"location": "southcentralus"}"#))
            .ok()?;
        let answer = front.clone().oneshot(request).await.unwrap();
        if !answer.status().is_success() {
            return None;
        }
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).ok()
    }

    async fn front() -> Front {
        let settings = FrontSettings {
            scheme: Scheme::Https,
            account: Account::local(),
        };
        let front = Front::new(Arc::new(MemoryBackend::new()), settings);
        for group in ["g", "g2"] {
            let path = format!("/subscriptions/{SUBSCRIPTION}/resourcegroups/{group}");
            let made = resource(&front, "PUT", &path).await;
            assert_eq!(made.unwrap()["name"], group);
        }
        front
    }

    proptest! {
        #[test]
        fn what_lies_within_a_scope_is_routed_within_it(
            parts in prop::collection::vec(
                select(vec![
                    "subscriptions", "SUBSCRIPTIONS", SUBSCRIPTION, "resourceGroups", "resource%47roups",
                    "resourcegroups", "g", "G", "g2", "%67", "%672", "g%32", "g;", "..", ".", "%2e%2e", "",
                    "g%2f..%2fg2", "%252e", "providers",
                ]),
                0..7,
            ),
            is_near in any::<bool>(),
            has_slash in any::<bool>(),
        ) {
            let start = if is_near {
                format!("/subscriptions/{SUBSCRIPTION}/resourceGroups")
            } else {
                String::new()
            };
            let slash = if has_slash { "/" } else { "" };
            let path = format!("{start}/{}{slash}", parts.join("/"));
            let Ok(path) = path.parse::<ResourcePath>() else {
                return Ok(());
            };
            let scope = format!("/subscriptions/{SUBSCRIPTION}/resourceGroups/g");
            let scope: RoleScope = scope.parse().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let found = runtime.block_on(async {
                resource(&front().await, "GET", path.as_str()).await
            });
            if let Some(name) = found.as_ref().and_then(|found| found["name"].as_str()) {
                let is_within = name.eq_ignore_ascii_case("g");
                prop_assert_eq!(scope.covers(path.as_str()), is_within, "{}", path.as_str());
            }
        }
    }

    proptest! {
        #[test]
        fn reading_a_path_again_changes_nothing(path in "/[a-zA-Z%./\\\\0-9é ;-]{0,40}") {
            if let Ok(once) = path.parse::<ResourcePath>() {
                let again = once.as_str().parse::<ResourcePath>();
                prop_assert_eq!(again.as_ref(), Ok(&once));
            }
        }

        #[test]
        fn decoding_a_path_names_neither_more_nor_fewer_segments(path in "/[a-z%./25eEfF]{0,40}") {
            if let Ok(one) = path.parse::<ResourcePath>() {
                let decoded = percent_decode_str(one.as_str()).decode_utf8().unwrap();
                prop_assert_eq!(decoded.split('/').count(), one.as_str().split('/').count());
                let dots = |segment: &str| segment == "." || segment == "..";
                prop_assert!(!decoded.split('/').any(dots));
            }
        }
    }
}
