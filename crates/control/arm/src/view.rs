//! What of lists somebody may see.
//!
//! Who asks is nothing that this front knows. Who stands before it and does know may put a [`View`] into a request's
//! extensions; the lists of groups, clusters, resources and subscriptions then show what lies in it and tell of nothing else:
//! only what is shown is read, so neither a page's length nor the key that the next page begins after says anything of the rest.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use pool::{Cluster, Group, Key, Page, Record, Scope, Store, StoreError, Stored, Unreadable};

/// What of lists somebody may see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View(Option<Arc<[Scope]>>);

impl View {
    /// Everything.
    #[must_use]
    pub fn everything() -> Self {
        Self(None)
    }

    /// What is in these scopes, and the resource group or cluster that each itself is.
    #[must_use]
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut all: Vec<Scope> = scopes.into_iter().collect();
        all.sort_by(|a, b| a.prefix().cmp(b.prefix()));
        // In this order whatever lies in a scope comes right after it.
        all.dedup_by(|inner, outer| inner.prefix().starts_with(outer.prefix()));
        Self(Some(all.into()))
    }

    /// Whether a resource may be seen.
    #[must_use]
    pub fn shows(&self, key: &impl Key) -> bool {
        self.shows_path(&key.path())
    }

    fn shows_path(&self, path: &str) -> bool {
        let path = format!("{path}/");
        let within = |scope: &Scope| path.starts_with(scope.prefix());
        self.0.as_ref().is_none_or(|all| all.iter().any(within))
    }

    /// Whether anything of a scope may be seen.
    pub(crate) fn shows_some_of(&self, scope: &Scope) -> bool {
        let meets = |seen: &Scope| {
            seen.prefix().starts_with(scope.prefix()) || scope.prefix().starts_with(seen.prefix())
        };
        self.0.as_ref().is_none_or(|all| all.iter().any(meets))
    }

    /// Where the records of a list are that may be seen, in their order.
    fn spans<R: Listed>(&self, list: &Scope) -> Vec<Span> {
        let Some(all) = &self.0 else {
            return vec![Span::Within(list.clone())];
        };
        let span = |scope: &Scope| {
            let prefix = scope.prefix();
            if list.prefix().starts_with(prefix) {
                return Some(Span::Within(list.clone()));
            }
            let itself = prefix.strip_suffix('/')?;
            match prefix.matches('/').count() {
                _ if !prefix.starts_with(list.prefix()) => None,
                names if names < R::NAMES => Some(Span::Within(scope.clone())),
                names if names == R::NAMES => Some(Span::One(itself.to_owned())),
                _ => None,
            }
        };
        let mut spans: Vec<Span> = all.iter().filter_map(span).collect();
        spans.sort_by(|a, b| a.start().cmp(b.start()));
        spans
    }

    /// A page of a list: the first records that may be seen and whose paths come after `after`, and at most `limit` of them.
    pub(crate) async fn page<R: Listed, S: Store>(
        &self,
        store: &S,
        list: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Stored<R>>, StoreError> {
        let mut page = Page {
            records: Vec::new(),
            unreadable: Vec::new(),
            next: None,
        };
        let mut end = None;
        for span in self.spans::<R>(list) {
            let room = limit.saturating_sub(page.records.len() + page.unreadable.len());
            let more = span.page::<R, S>(store, after, room.max(1)).await;
            let more = more.map_err(|error| self.untold(error))?;
            let Some(ends) = last_of(&more) else {
                continue;
            };
            // There is a next page only if something is on it.
            if room == 0 {
                page.next = end;
                break;
            }
            page.records.extend(more.records);
            page.unreadable.extend(more.unreadable);
            if more.next.is_some() {
                page.next = more.next;
                break;
            }
            end = Some(ends);
        }
        Ok(page)
    }

    /// An error that names nothing that may not be seen.
    fn untold(&self, error: StoreError) -> StoreError {
        match error {
            StoreError::Unreadable { ref path, .. } if !self.shows_path(path) => {
                StoreError::Unavailable("a record can't be read".to_owned())
            }
            error => error,
        }
    }
}

/// Records that are listed across scopes. The lists of all others are of one resource, and whoever may see that may see them.
pub(crate) trait Listed: Record {
    /// How many names the path of one has.
    const NAMES: usize;
}

impl Listed for Group {
    const NAMES: usize = 2;
}

impl Listed for Cluster {
    const NAMES: usize = 3;
}

/// A part of a list.
#[derive(Debug, PartialEq, Eq)]
enum Span {
    Within(Scope),
    One(String),
}

impl Span {
    /// No path of the span comes before it, and of two spans the one with the lesser start has the lesser paths.
    fn start(&self) -> &str {
        match self {
            Self::Within(scope) => scope.prefix(),
            Self::One(path) => path,
        }
    }

    async fn page<R: Listed, S: Store>(
        &self,
        store: &S,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<Stored<R>>, StoreError> {
        let path = match self {
            Self::Within(scope) => return store.list_page::<R>(scope, after, limit).await,
            Self::One(path) => path,
        };
        let mut page = Page {
            records: Vec::new(),
            unreadable: Vec::new(),
            next: None,
        };
        if after.is_some_and(|after| path.as_str() <= after) {
            return Ok(page);
        }
        match store.get_at::<R>(path).await {
            Ok(found) => page.records.extend(found),
            Err(StoreError::Unreadable { path, reason, .. }) => {
                page.unreadable.push(Unreadable { path, reason });
            }
            Err(error) => return Err(error),
        }
        Ok(page)
    }
}

/// The path that a page ends at; none if nothing is on it.
fn last_of<R: Record>(page: &Page<Stored<R>>) -> Option<String> {
    let read = page.records.last().map(|stored| stored.record.key().path());
    let unread = page.unreadable.iter().map(|it| it.path.clone()).max();
    read.max(unread)
}

impl<S: Send + Sync> FromRequestParts<S> for View {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests;
