//! `$filter`: the little of `OData` that clients of resource lists send: comparisons for equality, joined by `and`.

use std::collections::BTreeMap;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde::Deserialize;

use crate::error::ArmError;

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "$filter")]
    filter: Option<String>,
}

/// What the resources of a list are to be like: values by the names of fields, which are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter(BTreeMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Filter {
    type Rejection = ArmError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ArmError> {
        let Query(asked) = Query::<Asked>::from_request_parts(parts, state)
            .await
            .map_err(|error| ArmError::bad_path(&error.to_string()))?;
        asked
            .filter
            .as_deref()
            .map_or_else(|| Ok(Self::default()), Self::parse)
    }
}

impl Filter {
    fn parse(text: &str) -> Result<Self, ArmError> {
        let mut fields = BTreeMap::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            let (field, value, after) = comparison(rest).ok_or_else(|| {
                ArmError::invalid_filter(
                    text,
                    "use comparisons such as tagName eq 'a', joined by and",
                )
            })?;
            if fields.insert(field.to_ascii_lowercase(), value).is_some() {
                return Err(ArmError::invalid_filter(text, "a field is named twice"));
            }
            rest = match after.trim_start() {
                "" => "",
                more => word(more, "and")
                    .filter(|more| !more.trim().is_empty())
                    .ok_or_else(|| {
                        ArmError::invalid_filter(text, "comparisons can only be joined by and")
                    })?,
            }
            .trim_start();
        }
        Ok(Self(fields))
    }

    /// The filter, if it names no other fields than these.
    ///
    /// # Errors
    /// If it does.
    pub(crate) fn only(&self, fields: &[&str]) -> Result<&Self, ArmError> {
        let known = |name: &&String| fields.iter().any(|field| name.eq_ignore_ascii_case(field));
        match self.0.keys().find(|name| !known(name)) {
            None => Ok(self),
            Some(name) => Err(ArmError::invalid_filter(
                name,
                &format!(
                    "resources of this list can be chosen by {}",
                    fields.join(", ")
                ),
            )),
        }
    }

    /// The value that a field is to have.
    pub(crate) fn get(&self, field: &str) -> Option<&str> {
        self.0.get(&field.to_ascii_lowercase()).map(String::as_str)
    }

    /// Whether a field may have this value, which compares without case.
    pub(crate) fn allows(&self, field: &str, value: &str) -> bool {
        self.get(field)
            .is_none_or(|asked| asked.eq_ignore_ascii_case(value))
    }

    /// Whether these tags are as `tagName` and `tagValue` say.
    pub(crate) fn allows_tags(&self, tags: &BTreeMap<String, String>) -> bool {
        let name = self.get("tagName");
        let value = self.get("tagValue");
        if name.is_none() && value.is_none() {
            return true;
        }
        tags.iter().any(|(key, is)| {
            name.is_none_or(|name| name.eq_ignore_ascii_case(key))
                && value.is_none_or(|value| value == is)
        })
    }
}

/// `field eq 'value'`, and what comes after it. A quote within the value is written twice.
fn comparison(text: &str) -> Option<(&str, String, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '/')?;
    let (field, rest) = text
        .split_at_checked(end)
        .filter(|(field, _)| !field.is_empty())?;
    let rest = word(rest.trim_start(), "eq")?.trim_start();
    let mut rest = rest.strip_prefix('\'')?;
    let mut value = String::new();
    loop {
        let (before, after) = rest.split_once('\'')?;
        value.push_str(before);
        match after.strip_prefix('\'') {
            Some(more) => {
                value.push('\'');
                rest = more;
            }
            None => return Some((field, value, after)),
        }
    }
}

/// What comes after a word.
fn word<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (found, rest) = text.split_at_checked(word.len())?;
    let ends = rest.starts_with(|c: char| c.is_whitespace() || c == '\'');
    (found.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn comparisons_are_read_however_they_are_spaced_and_cased() {
        let filter = Filter::parse("tagname eq 'it''s' AND  tagValue  eq  'b and c'").unwrap();
        assert_eq!(filter.get("tagName"), Some("it's"));
        assert_eq!(filter.get("tagValue"), Some("b and c"));
        assert_eq!(Filter::parse(" ").unwrap(), Filter::default());
    }

    #[rstest]
    #[case("tagName")]
    #[case("tagName eq a")]
    #[case("tagName eq 'a")]
    #[case("tagName ne 'a'")]
    #[case("tagName eq 'a' or tagValue eq 'b'")]
    #[case("tagName eq 'a' and")]
    #[case("name eq 'a' and name eq 'b'")]
    #[case("substringof('a', name)")]
    fn anything_else_is_refused(#[case] text: &str) {
        let error = Filter::parse(text).unwrap_err();
        assert!(error.message().contains("$filter"), "{error}");
    }

    #[test]
    fn a_field_that_the_list_does_not_know_is_named() {
        let filter = Filter::parse("kind eq 'a'").unwrap();
        let error = filter.only(&["tagName"]).unwrap_err();
        assert!(error.message().contains("'kind'"), "{error}");
    }
}
