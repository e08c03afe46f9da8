//! Deleting a resource whose record can't be read.

use axum::http::HeaderMap;

use pool::{Key, Kind, Record, Store, StoreError, unread};

use crate::error::ArmError;
use crate::etag;
use crate::resource_group::{ATTEMPTS, gave_up};

/// Takes the resource away if its record is there and can't be read, and says whether it is gone: there is no operation to
/// follow then, and nodes that it had go after the answer. A group or a cluster is not: an empty one takes its place, which is
/// deleted as any other.
pub(crate) async fn removed<R: Record, S: Store>(
    store: &S,
    key: &R::Key,
    headers: &HeaderMap,
) -> Result<bool, ArmError> {
    let path = key.path();
    for _ in 0..ATTEMPTS {
        let Err(StoreError::Unreadable { .. }) = store.get::<R>(key).await else {
            return Ok(false);
        };
        etag::check(headers, store.revision_of(R::KIND, &path).await?)?;
        match unread::remove(store, R::KIND, &path).await {
            Ok(()) => return Ok(!matches!(R::KIND, Kind::Group | Kind::Cluster)),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(key))
}
