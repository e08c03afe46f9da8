//! Waiting for what has to become true, with a deadline and a reason at the end of it.

use std::time::Duration;

/// How long what takes seconds is waited for. Generous: a slow machine is not a broken one.
pub(crate) const SOON: Duration = Duration::from_secs(90);

/// How long what takes many seconds is waited for.
pub(crate) const LATER: Duration = Duration::from_mins(4);

/// Looks again and again until `look` is content, and answers with what it found.
///
/// # Errors
/// Still not content after `limit`: `what` was waited for, and what `look` said last.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let found = test_cluster::until(what, limit, || look().map_err(|error| format!("{error:#}")));
    Ok(found?)
}
