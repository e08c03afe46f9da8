//! Deleting a resource whose record can't be read.

use axum::http::HeaderMap;

use pool::{Key, Record, Store, StoreError, unread};

use crate::error::ArmError;
use crate::etag;
use crate::resource_group::{ATTEMPTS, gave_up};

/// Takes the resource away if its record is there and can't be read, with what is in it, and says whether it did. One that
/// can be read is deleted in its own way. There is no operation to follow: nodes that it had go after the answer.
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
            Ok(()) => return Ok(true),
            Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(gave_up(key))
}
