//! `ETag`, `If-Match` and `If-None-Match`.

use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName};

use pool::Revision;

use crate::error::ArmError;

/// The `eTag` of a version of a resource.
pub(crate) fn of(revision: Revision) -> String {
    format!("{:016x}", revision.0)
}

/// Holds a request's conditions against the version that is there.
///
/// # Errors
/// If a condition is not met, or can't be read: then nobody knows whether it is.
pub(crate) fn check(headers: &HeaderMap, current: Option<Revision>) -> Result<(), ArmError> {
    let current = current.map(of);
    if let Some(wanted) = Condition::of(headers, &IF_MATCH)? {
        // What changes is compared strictly: a weak tag only says that two versions are good for the same.
        let is_met = |etag: &String| wanted.names(etag, |tag| !tag.is_weak);
        if !current.as_ref().is_some_and(is_met) {
            let is = current.map_or("the resource is not there".to_owned(), |etag| {
                format!("the resource has {etag}")
            });
            return Err(ArmError::precondition_failed(&format!(
                "The condition If-Match: {} is not met: {is}. Get the resource again, and then change it.",
                wanted.text
            )));
        }
    }
    if let Some(unwanted) = Condition::of(headers, &IF_NONE_MATCH)? {
        let is_there = |etag: &String| unwanted.names(etag, |_| true);
        if current.as_ref().is_some_and(is_there) {
            return Err(ArmError::precondition_failed(&format!(
                "The condition If-None-Match: {} is not met: the resource is there.",
                unwanted.text
            )));
        }
    }
    Ok(())
}

/// What all the lines of a header say.
struct Condition {
    text: String,
    tags: Vec<Tag>,
}

/// An entity tag without its quotes.
#[derive(Debug, PartialEq, Eq)]
struct Tag {
    is_weak: bool,
    /// `*` without quotes: whatever is there.
    is_any: bool,
    text: String,
}

impl Condition {
    /// None if the header is not there. One that is there and names nothing is a condition: no version meets it.
    fn of(headers: &HeaderMap, name: &HeaderName) -> Result<Option<Self>, ArmError> {
        let lines = headers.get_all(name).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        if lines.is_empty() {
            return Ok(None);
        }
        let text = lines.join(", ");
        // Elsewhere the text is only shown: what is no text may not become a tag.
        let is_text = !text.contains(char::REPLACEMENT_CHARACTER);
        match tags(&text) {
            Some(tags) if is_text => Ok(Some(Self { text, tags })),
            _ => Err(ArmError::precondition_failed(&format!(
                "The condition {name}: {text} can't be read. Send the eTag of the resource in quotes, several of them with commas in between, or *."
            ))),
        }
    }

    fn names(&self, etag: &str, counts: impl Fn(&Tag) -> bool) -> bool {
        let is = |tag: &Tag| tag.is_any || tag.text == etag && counts(tag);
        self.tags.iter().any(is)
    }
}

/// The entity tags of a list, with or without quotes.
fn tags(list: &str) -> Option<Vec<Tag>> {
    let mut tags = Vec::new();
    let mut rest = list;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return Some(tags);
        }
        let strong = rest.strip_prefix("W/");
        let is_weak = strong.is_some();
        let tag = strong.unwrap_or(rest);
        let (text, after) = match tag.strip_prefix('"') {
            // A comma within quotes is the tag's own.
            Some(quoted) => quoted.split_once('"')?,
            None => tag.split_at(tag.find(',').unwrap_or(tag.len())),
        };
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
        let is_quoted = tag.starts_with('"');
        let text = if is_quoted { text } else { text.trim_end() };
        if !is_quoted && text.contains('"') {
            return None;
        }
        tags.push(Tag {
            is_weak,
            is_any: !is_quoted && !is_weak && text == "*",
            text: text.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn is_met(name: &HeaderName, lines: &[&[u8]], current: Option<u64>) -> bool {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_bytes(line).unwrap());
        }
        check(&headers, current.map(Revision)).is_ok()
    }

    const TEN: &str = "000000000000000a";

    #[test]
    fn a_version_is_named_with_or_without_quotes_alone_or_among_others_or_by_a_star() {
        for text in ["T", "\"T\"", " T ", "\"x\", \"T\"", "x,T", ",\"T\",", "*"] {
            let text = text.replace('T', TEN);
            assert!(is_met(&IF_MATCH, &[text.as_bytes()], Some(10)), "{text}");
            assert!(
                !is_met(&IF_NONE_MATCH, &[text.as_bytes()], Some(10)),
                "{text}"
            );
            assert!(!is_met(&IF_MATCH, &[text.as_bytes()], None), "{text}");
            assert!(is_met(&IF_NONE_MATCH, &[text.as_bytes()], None), "{text}");
        }
        for text in [
            "\"T \"",
            "\"x,T,y\"",
            "\"*\"",
            "T0",
            "\"\"",
            "w/\"T\"",
            "",
            " ",
            ",",
        ] {
            let text = text.replace('T', TEN);
            assert!(!is_met(&IF_MATCH, &[text.as_bytes()], Some(10)), "{text}");
        }
    }

    #[test]
    fn all_lines_of_a_header_are_one_list() {
        let lines: [&[u8]; 2] = [b"\"x\"", b"\"000000000000000a\""];
        assert!(is_met(&IF_MATCH, &lines, Some(10)));
        assert!(!is_met(&IF_NONE_MATCH, &lines, Some(10)));
        assert!(!is_met(&IF_MATCH, &lines, Some(11)));
        assert!(is_met(&IF_NONE_MATCH, &lines, Some(11)));
    }

    #[test]
    fn a_weak_tag_lets_nobody_change_anything_and_still_says_what_is_not_to_be_there() {
        for text in ["W/\"000000000000000a\"", "W/000000000000000a", "W/*"] {
            assert!(!is_met(&IF_MATCH, &[text.as_bytes()], Some(10)), "{text}");
        }
        assert!(!is_met(
            &IF_NONE_MATCH,
            &[b"W/\"000000000000000a\""],
            Some(10)
        ));
    }

    #[test]
    fn a_condition_that_cannot_be_read_is_not_met() {
        for line in [
            b"\xff".as_slice(),
            b"\"000000000000000a\", \"\xe9\"",
            b"\"000000000000000a",
            b"\"000000000000000a\"b",
            b"000000000000000a\"",
            b"\"a\" \"000000000000000a\"",
        ] {
            for name in [&IF_MATCH, &IF_NONE_MATCH] {
                for current in [Some(10), Some(11), None] {
                    assert!(!is_met(name, &[line], current), "{name}: {line:?}");
                }
            }
        }
    }
}
