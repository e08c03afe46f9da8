//! Lists in pages.
//!
//! A page ends at a resource, and the next begins after its key, whatever came and went in the meantime: nothing that stays
//! is left out or shown twice. The link to the next page is the list's own URL with that key in its `$skiptoken`.

use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

use pool::{Scope, Unreadable};

use crate::agent_pool::warn;
use crate::backend::App;
use crate::error::ArmError;
use crate::long_running::Origin;
use crate::types::ResourceList;

const SKIP_TOKEN: &str = "$skiptoken";

#[derive(Deserialize)]
struct Asked {
    #[serde(rename = "$skiptoken")]
    skip_token: Option<String>,
    #[serde(rename = "$top")]
    top: Option<String>,
}

/// Which page of a list is asked for, and where the next one is.
#[derive(Debug)]
pub(crate) struct Paging {
    after: Option<String>,
    top: Option<String>,
    /// The URL of the list, up to where the `$skiptoken` is added.
    list: String,
}

impl<B: Send + Sync> FromRequestParts<App<B>> for Paging {
    type Rejection = ArmError;

    async fn from_request_parts(parts: &mut Parts, app: &App<B>) -> Result<Self, ArmError> {
        let Query(asked) = Query::<Asked>::from_request_parts(parts, app)
            .await
            .map_err(|error| ArmError::bad_path(&error.to_string()))?;
        let origin = Origin::from_request_parts(parts, app).await?;
        let token = asked.skip_token.filter(|token| !token.is_empty());
        Ok(Self {
            after: token.as_deref().map(read_token).transpose()?,
            top: asked.top,
            list: origin.url(&without_token(parts.uri.path(), parts.uri.query())),
        })
    }
}

impl Paging {
    /// The key that the page begins after.
    ///
    /// # Errors
    /// If it is none of the list's.
    pub(crate) fn after(&self, scope: &Scope) -> Result<Option<&str>, ArmError> {
        match self.after.as_deref() {
            Some(after) if !after.starts_with(scope.prefix()) => Err(not_ours()),
            after => Ok(after),
        }
    }

    /// How many resources the page may have, of a list that knows `$top`: no more than `most`.
    ///
    /// # Errors
    /// If `$top` is no number from 1 on.
    pub(crate) fn top(&self, most: usize) -> Result<usize, ArmError> {
        let Some(top) = &self.top else {
            return Ok(most);
        };
        match top.parse::<usize>() {
            Ok(top) if top > 0 => Ok(top.min(most)),
            _ => Err(ArmError::bad_path(&format!(
                "$top is '{top}', and has to be a number from 1 on"
            ))),
        }
    }

    /// The page as an answer. What could not be read is left out, and said so.
    pub(crate) fn answer<T: Serialize>(
        &self,
        value: Vec<T>,
        next: Option<&str>,
        unreadable: &[Unreadable],
    ) -> Response {
        let list = ResourceList {
            value,
            next_link: next.map(|key| self.link_after(key)),
        };
        let mut response = Json(list).into_response();
        let left_out = |it: &Unreadable| {
            format!(
                "{} is left out of this list: this version of migpool can't read its record: {}",
                it.path, it.reason
            )
        };
        let warnings: Vec<String> = unreadable.iter().map(left_out).collect();
        warn(response.headers_mut(), &warnings);
        response
    }

    fn link_after(&self, key: &str) -> String {
        let token = BASE64_URL_SAFE_NO_PAD.encode(key);
        format!("{}{SKIP_TOKEN}={token}", self.list)
    }
}

/// The path and query of a list, ready for a `$skiptoken`.
fn without_token(path: &str, query: Option<&str>) -> String {
    let mut list = format!("{path}?");
    let is_token = |pair: &&str| {
        let name = pair.split('=').next().unwrap_or_default();
        percent_decode_str(name).eq(SKIP_TOKEN.bytes())
    };
    let pairs = query.unwrap_or_default().split('&');
    for pair in pairs.filter(|pair| !pair.is_empty() && !is_token(pair)) {
        list.push_str(pair);
        list.push('&');
    }
    list
}

fn read_token(token: &str) -> Result<String, ArmError> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| not_ours())?;
    String::from_utf8(bytes).map_err(|_| not_ours())
}

fn not_ours() -> ArmError {
    ArmError::bad_path("its $skiptoken is none that this list gave; ask for the list without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_but_the_token_is_kept_for_the_next_page() {
        let query = "api-version=2024-11-01&%24skiptoken=abc&$top=3&&$skiptoken=d&x";
        assert_eq!(
            without_token("/subscriptions/s/resourcegroups", Some(query)),
            "/subscriptions/s/resourcegroups?api-version=2024-11-01&$top=3&x&"
        );
        assert_eq!(without_token("/p", None), "/p?");
    }

    #[test]
    fn a_token_that_is_none_is_refused() {
        for token in ["*", "a", "_w"] {
            assert!(read_token(token).is_err(), "{token}");
        }
        assert_eq!(read_token("cy9n").ok().as_deref(), Some("s/g"));
    }
}
