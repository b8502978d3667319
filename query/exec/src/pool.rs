//! CPU threads for queries, apart from the network runtime, so that a heavy query cannot starve ingest.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::Context;

/// CPU threads for queries, apart from the network runtime; cloning shares them.
#[derive(Clone)]
pub struct Pool {
    threads: Arc<rayon::ThreadPool>,
}

/// Bytes of stack of each thread: expressions nest, and so do their evaluators.
const STACK_BYTES: usize = 8 << 20;

impl Pool {
    /// `threads` threads (at least 1), asleep while there is nothing to do. Panics if the system gives no thread at all.
    pub fn new(threads: usize) -> Pool {
        let build = |n: usize| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .stack_size(STACK_BYTES)
                .thread_name(|i| format!("query-{i}"))
                .build()
        };
        match build(threads.max(1)).or_else(|_| build(1)) {
            Ok(threads) => Pool {
                threads: Arc::new(threads),
            },
            Err(e) => panic!("cannot start a thread for queries: {e}"),
        }
    }
    /// Runs `job` on the pool (inside, rayon's parallel iterators use the pool) and awaits it. Dropping the future
    /// cancels `context`. A panic in the job is an `Err` with its message.
    pub async fn run<T: Send + 'static>(
        &self,
        context: &Context,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let (send, receive) = oneshot::channel();
        self.threads.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(job)).map_err(|panic| words_of(&*panic));
            // Nobody may be waiting any more.
            let _ = send.send(result);
        });
        let mut guard = CancelOnDrop(Some(context));
        let result = receive
            .await
            .unwrap_or_else(|_| Err("the query's thread went away".to_owned()));
        guard.0 = None;
        result
    }
}

struct CancelOnDrop<'a>(Option<&'a Context>);

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(context) = self.0 {
            context.cancel();
        }
    }
}

fn words_of(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or(panic.downcast_ref::<&str>().copied())
        .unwrap_or("panic without a message")
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecError, Limits};
    use std::time::Duration;

    fn context() -> Context {
        let limits = Limits {
            samples_max: 1,
            series_max: 1,
            bytes_max: 1,
        };
        Context::new(Duration::from_secs(60), limits)
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_the_pool_lives_on() {
        let pool = Pool::new(1);
        let failed = pool.run(&context(), || panic!("no {}", "luck")).await;
        assert_eq!(failed, Err::<(), _>("no luck".to_owned()));
        assert_eq!(pool.run(&context(), || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn hanging_up_cancels_the_query() {
        let pool = Pool::new(1);
        let shared = context();
        let inside = shared.clone();
        let (done, stopped) = oneshot::channel();
        let job = pool.run(&shared, move || {
            let error = loop {
                if let Err(e) = inside.check("a loop") {
                    break e;
                }
            };
            let _ = done.send(error);
        });
        assert!(tokio::time::timeout(Duration::from_millis(20), job).await.is_err());
        assert_eq!(stopped.await, Ok(ExecError::Cancelled("a loop")));
    }
}
