//! Waiting for something to come true.

use std::time::{Duration, Instant};

/// What was waited for did not come in time, or cannot come any more.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:.1?} for {what}; last seen: {last}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What the last look saw instead.
    pub last: String,
}

/// What a look saw instead of what is waited for.
#[derive(Debug)]
pub(crate) enum Not {
    /// It may still come.
    Yet(String),
    /// It cannot come any more: nothing is to be waited for.
    Ever(String),
}

/// Looks until `look` gives a value. Its error says what it sees instead, and is what a time-out reports.
///
/// # Errors
/// When `limit` has passed.
pub fn until<T, E: std::fmt::Display>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, E>,
) -> Result<T, TimedOut> {
    until_or_never(what, limit, || {
        look().map_err(|last| Not::Yet(last.to_string()))
    })
}

/// [`until`], ending at once when the look says that it cannot come any more.
pub(crate) fn until_or_never<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<T, Not>,
) -> Result<T, TimedOut> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        let last = match look() {
            Ok(value) => return Ok(value),
            Err(Not::Yet(last)) if start.elapsed() >= limit => Some(last),
            Err(Not::Ever(last)) => Some(last),
            Err(Not::Yet(_)) => None,
        };
        if let Some(last) = last {
            return Err(TimedOut {
                what: what.to_owned(),
                waited: start.elapsed(),
                last,
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_again_until_it_is_there() {
        let mut looks = 0;
        let seen = until("three looks", Duration::from_mins(1), || {
            looks += 1;
            if looks == 3 {
                Ok(looks)
            } else {
                Err("not yet")
            }
        });
        assert_eq!(seen.unwrap(), 3);
    }

    #[test]
    fn what_cannot_come_any_more_is_not_waited_for() {
        let mut looks = 0;
        let error = until_or_never("a service", Duration::from_mins(10), || {
            looks += 1;
            Err::<(), _>(Not::Ever("it ended".to_owned()))
        })
        .unwrap_err();
        assert_eq!((looks, error.last.as_str()), (1, "it ended"));
    }

    #[test]
    fn a_time_out_tells_what_was_seen_last() {
        let error = until("a pod", Duration::ZERO, || Err::<(), _>("0 of 1 pods")).unwrap_err();
        assert!(
            error.to_string().contains("a pod; last seen: 0 of 1 pods"),
            "{error}"
        );
    }
}
