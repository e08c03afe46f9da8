//! Groups, clusters, node pools and operations: [`pool::Store`] over SQLite.

use pool::{Change, Expected, Kind, RawRecord, Revision, Scope, Store, StoreError};
use rusqlite::{OptionalExtension, Transaction, params};
use tokio::sync::watch;

use super::{Database, DatabaseError, Durability, Failure};

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Store for Database {
    async fn read(&self, kind: Kind, path: &str) -> Result<Option<RawRecord>, StoreError> {
        let path = path.to_owned();
        self.transaction(Durability::Process, move |tx| {
            let row = tx
                .query_row(
                    "SELECT revision, body FROM record WHERE kind = ?1 AND path = ?2",
                    params![kind.as_str(), path],
                    |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)),
                )
                .optional()?;
            row.map(|(revision, body)| raw(kind, path, revision, &body))
                .transpose()
        })
        .await
    }

    async fn scan(&self, kind: Kind, scope: &Scope) -> Result<Vec<RawRecord>, StoreError> {
        let prefix = scope.prefix().to_owned();
        self.transaction(Durability::Process, move |tx| {
            let mut statement = tx.prepare_cached(
                "SELECT path, revision, body FROM record
                 WHERE kind = ?1 AND substr(path, 1, length(?2)) = ?2 ORDER BY path",
            )?;
            let mut rows = statement.query(params![kind.as_str(), prefix])?;
            let mut records = Vec::new();
            while let Some(row) = rows.next()? {
                let body: String = row.get(2)?;
                records.push(raw(kind, row.get(0)?, row.get(1)?, &body)?);
            }
            Ok(records)
        })
        .await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<Vec<Option<Revision>>, StoreError> {
        let writes = changes
            .iter()
            .any(|change| !matches!(change, Change::Check { .. }));
        let told = self.changes.clone();
        self.transaction_then(
            Durability::Power,
            move |tx| changes.iter().map(|change| apply(tx, change)).collect(),
            // Not by who asked: a client that hangs up takes its request along, and what was
            // committed must be seen all the same.
            move || {
                if writes {
                    told.send_modify(|count| *count = count.wrapping_add(1));
                }
            },
        )
        .await
    }

    fn store_changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

fn raw(
    kind: Kind,
    path: String,
    revision: i64,
    body: &str,
) -> Result<RawRecord, Failure<StoreError>> {
    match serde_json::from_str(body) {
        Ok(body) => Ok(RawRecord {
            kind,
            path,
            revision: Revision(revision.cast_unsigned()),
            body,
        }),
        Err(error) => Err(Failure::Other(StoreError::Unreadable {
            kind,
            path,
            reason: error.to_string(),
        })),
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
