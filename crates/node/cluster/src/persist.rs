//! Trying until it works.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::Error;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);

/// The pauses between tries: from a second to a minute, each twice the one before, each longer by a random part of
/// itself so that a cluster's nodes don't come back all at once; they never end.
pub fn backoff() -> impl Iterator<Item = Duration> + Send {
    ExponentialBuilder::new()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_factor(2.0)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Tries until it works, whatever the error: a right that is missing may be given, a node may be registered later.
/// `told` hears of each failure and of the pause that follows. Dropping the future ends it.
pub async fn persist<T, F>(operation: impl FnMut() -> F, told: impl FnMut(&Error, Duration)) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    persist_with(backoff(), operation, told).await
}

async fn persist_with<T, F>(
    mut pauses: impl Iterator<Item = Duration>,
    mut operation: impl FnMut() -> F,
    mut told: impl FnMut(&Error, Duration),
) -> T
where
    F: Future<Output = Result<T, Error>>,
{
    loop {
        match operation().await {
            Ok(done) => return done,
            Err(error) => {
                let pause = pauses.next().unwrap_or(LONGEST);
                told(&error, pause);
                tokio::time::sleep(pause).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute_or_two_and_never_end() {
        let pauses: Vec<_> = backoff().take(200).collect();
        assert_eq!(pauses.len(), 200);
        let is_jittered_from =
            |pause: &Duration, base: Duration| *pause >= base && *pause <= base * 2;
        assert!(is_jittered_from(&pauses[0], FIRST), "{:?}", pauses[0]);
        for pause in &pauses[10..] {
            assert!(is_jittered_from(pause, LONGEST), "{pause:?}");
        }
    }

    #[tokio::test]
    async fn it_tries_until_it_works_and_tells_of_each_failure() {
        let mut tries = 0;
        let mut heard = Vec::new();
        let pauses = (1..).map(Duration::from_millis);
        let done = persist_with(
            pauses,
            || {
                tries += 1;
                std::future::ready(if tries < 5 {
                    Err(Error::NoNodeFeatureResource)
                } else {
                    Ok(tries)
                })
            },
            |_, pause| heard.push(pause.as_millis()),
        )
        .await;
        assert_eq!((done, heard), (5, vec![1, 2, 3, 4]));
    }
}
