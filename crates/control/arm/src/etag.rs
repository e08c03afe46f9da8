//! `ETag`, `If-Match` and `If-None-Match`.

use axum::http::HeaderMap;
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};

use pool::Revision;

use crate::error::ArmError;

/// The `eTag` of a version of a resource.
pub(crate) fn of(revision: Revision) -> String {
    format!("{:016x}", revision.0)
}

/// Holds a request's conditions against the version that is there.
///
/// # Errors
/// If a condition is not met.
pub(crate) fn check(headers: &HeaderMap, current: Option<Revision>) -> Result<(), ArmError> {
    let current = current.map(of);
    if let Some(wanted) = header(headers, &IF_MATCH)
        && !current
            .as_ref()
            .is_some_and(|current| matches(wanted, current))
    {
        let is = current.map_or("the resource is not there".to_owned(), |etag| {
            format!("the resource has {etag}")
        });
        return Err(ArmError::precondition_failed(&format!(
            "The condition If-Match: {wanted} is not met: {is}. Get the resource again, and then change it."
        )));
    }
    if let Some(unwanted) = header(headers, &IF_NONE_MATCH)
        && current
            .as_ref()
            .is_some_and(|current| matches(unwanted, current))
    {
        return Err(ArmError::precondition_failed(&format!(
            "The condition If-None-Match: {unwanted} is not met: the resource is there."
        )));
    }
    Ok(())
}

fn header<'a>(headers: &'a HeaderMap, name: &axum::http::HeaderName) -> Option<&'a str> {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .filter(|text| !text.trim().is_empty())
}

/// A list of entity tags, with or without quotes; `*` is any.
fn matches(list: &str, etag: &str) -> bool {
    list.split(',')
        .map(|item| item.trim().trim_matches('"'))
        .any(|item| item == "*" || item == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_match_quoted_or_not_and_a_star_matches_any() {
        assert!(matches("\"abc\"", "abc"));
        assert!(matches("abc", "abc"));
        assert!(matches("\"x\", \"abc\"", "abc"));
        assert!(matches("*", "abc"));
        assert!(!matches("ab", "abc"));
    }
}
