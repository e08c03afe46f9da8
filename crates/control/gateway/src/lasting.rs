//! Work that goes on when nobody waits for it any more.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::runtime::Handle;

type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A future that is polled by who waits for it, and becomes a task of its own when that one goes before it is done.
///
/// A task from the start would be done to its end as well, and cost every request a turn of the scheduler.
pub(crate) struct Lasting<T: Send + 'static>(Option<Work<T>>);

impl<T: Send + 'static> Lasting<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> Future for Lasting<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Taken out meanwhile: what panics must not be polled again.
        let Some(mut work) = self.0.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.0 = Some(work);
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Lasting<T> {
    fn drop(&mut self) {
        // Without a runtime everything ends.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_gives_what_it_gives() {
        let work = Lasting::new(async {
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(work.await, 7);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_done_all_the_same() {
        let (go, gone) = oneshot::channel::<()>();
        let (done, is_done) = oneshot::channel();
        let work = Lasting::new(async move {
            let _ = gone.await;
            let _ = done.send(());
        });
        let waited = timeout(Duration::from_millis(1), work).await;
        assert!(waited.is_err(), "it can't be done yet");
        go.send(()).unwrap();
        is_done.await.unwrap();
    }

    #[tokio::test]
    async fn what_panics_is_not_begun_again() {
        let task = tokio::spawn(Lasting::new(async { panic!("on purpose") }));
        assert!(task.await.is_err_and(|error| error.is_panic()));
    }
}
