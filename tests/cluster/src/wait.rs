//! Waiting for something to come true.

use std::time::{Duration, Instant};

/// What was waited for did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("waited {waited:?} for {what}; last seen: {last}")]
pub struct TimedOut {
    /// What was waited for.
    pub what: String,
    /// How long.
    pub waited: Duration,
    /// What the last look saw instead.
    pub last: String,
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
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => {
                return Err(TimedOut {
                    what: what.to_owned(),
                    waited: limit,
                    last: last.to_string(),
                });
            }
            Err(_) => {}
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
    fn a_time_out_tells_what_was_seen_last() {
        let error = until("a pod", Duration::ZERO, || Err::<(), _>("0 of 1 pods")).unwrap_err();
        assert!(
            error.to_string().contains("a pod; last seen: 0 of 1 pods"),
            "{error}"
        );
    }
}
