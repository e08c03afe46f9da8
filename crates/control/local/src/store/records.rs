//! Groups, clusters, node pools and operations: [`pool::Store`] over SQLite.

use pool::{Change, Changed, Expected, Kind, Page, RawRecord, Revision, Scope, Store, StoreError};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use tokio::sync::{broadcast, watch};

use super::{Database, DatabaseError, Durability, Failure};

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Store for Database {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        let path = path.to_owned();
        let found: Option<Written> = self
            .reading(move |connection| {
                connection
                    .prepare_cached(
                        "SELECT path, revision, body FROM record WHERE kind = ?1 AND path = ?2",
                    )?
                    .query_row(params![kind.as_str(), path], written)
                    .optional()
            })
            .await?;
        found.map(|it| raw(kind, it)).transpose()
    }

    async fn revision_of(&self, kind: Kind, path: &str) -> Result<Option<Revision>, StoreError> {
        let path = path.to_owned();
        let found: Option<i64> = self
            .reading(move |connection| {
                connection
                    .prepare_cached("SELECT revision FROM record WHERE kind = ?1 AND path = ?2")?
                    .query_row(params![kind.as_str(), path], |row| row.get(0))
                    .optional()
            })
            .await?;
        Ok(found.map(|it| Revision(it.cast_unsigned())))
    }

    async fn page(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<RawRecord>, StoreError> {
        let (rows, next) = self.rows_of(kind, scope, after, limit).await?;
        let page = Page {
            records: rows,
            unreadable: Vec::new(),
            next,
        };
        page.read(|it| raw(kind, it))
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        let writes = changes
            .iter()
            .filter(|change| !matches!(change, Change::Check { .. }));
        let touched: Vec<_> = writes
            .map(|change| {
                let (kind, path) = change.subject();
                (kind, path.to_owned())
            })
            .collect();
        let (counted, told) = (self.changes.clone(), self.changed.clone());
        self.transaction_then(
            Durability::Power,
            move |tx| changes.iter().map(|change| apply(tx, change)).collect(),
            // Not by who asked: a client that hangs up takes its request along, and what was
            // committed must be seen all the same.
            move || {
                if !touched.is_empty() {
                    // Nobody may listen.
                    let _ = told.send(touched.into());
                    counted.send_modify(|count| *count = count.wrapping_add(1));
                }
            },
        )
        .await
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn generation(&self) -> Option<u64> {
        // Nobody else writes: whoever opens the database has it to itself.
        Some(*self.changes.borrow())
    }

    fn record_changes(&self) -> Option<broadcast::Receiver<Changed>> {
        Some(self.changed.subscribe())
    }
}

impl Database {
    /// Rows of a [page](Store::page), and the path after which the next begins.
    async fn rows_of(
        &self,
        kind: Kind,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Written>, Option<String>), DatabaseError> {
        let from = after.unwrap_or_default().max(scope.prefix()).to_owned();
        let to = scope.end();
        // One more tells whether there is another page.
        let rows = i64::try_from(limit).map_or(-1, |limit| limit.saturating_add(1));
        let mut rows: Vec<Written> = self
            .reading(move |connection| {
                let mut statement = connection.prepare_cached(
                    "SELECT path, revision, body FROM record
                     WHERE kind = ?1 AND path > ?2 AND path < ifnull(?3, x'') ORDER BY path LIMIT ?4",
                )?;
                let rows = statement.query_map(params![kind.as_str(), from, to, rows], written)?;
                rows.collect()
            })
            .await?;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|row| row.path.clone());
        Ok((rows, next))
    }
}

/// A row of a record. Its JSON is not read by the thread of the database, which others wait for.
struct Written {
    path: String,
    revision: i64,
    body: String,
}

fn written(row: &Row<'_>) -> rusqlite::Result<Written> {
    Ok(Written {
        path: row.get(0)?,
        revision: row.get(1)?,
        body: row.get(2)?,
    })
}

fn raw(kind: Kind, row: Written) -> Result<RawRecord, StoreError> {
    match serde_json::from_str(&row.body) {
        Ok(body) => Ok(RawRecord {
            kind,
            path: row.path,
            revision: Revision(row.revision.cast_unsigned()),
            body,
        }),
        Err(error) => Err(StoreError::Unreadable {
            kind,
            path: row.path,
            reason: error.to_string(),
        }),
    }
}

fn apply(tx: &Transaction<'_>, change: &Change) -> Result<Option<Revision>, Failure<StoreError>> {
    let (kind, path) = change.subject();
    let expected = match change {
        Change::Put { expected, .. } | Change::Check { expected, .. } => *expected,
        Change::Delete { expected, .. } => Expected::Revision(*expected),
    };
    let found: Option<i64> = tx
        .prepare_cached("SELECT revision FROM record WHERE kind = ?1 AND path = ?2")?
        .query_row(params![kind.as_str(), path], |row| row.get(0))
        .optional()?;
    let as_expected = match expected {
        Expected::Absent => found.is_none(),
        Expected::Revision(Revision(revision)) => found.map(i64::cast_unsigned) == Some(revision),
    };
    if !as_expected {
        return Err(Failure::Other(StoreError::Conflict {
            kind,
            path: path.to_owned(),
        }));
    }
    match change {
        Change::Check { .. } => Ok(None),
        Change::Delete { .. } => {
            tx.prepare_cached("DELETE FROM record WHERE kind = ?1 AND path = ?2")?
                .execute(params![kind.as_str(), path])?;
            Ok(None)
        }
        Change::Put { body, .. } => {
            let next: i64 = tx
                .prepare_cached("UPDATE revision SET last = last + 1 RETURNING last")?
                .query_row([], |row| row.get(0))?;
            tx.prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![kind.as_str(), path, next, body.to_string()])?;
            Ok(Some(Revision(next.cast_unsigned())))
        }
    }
}
