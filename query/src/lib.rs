//! The face of the room: admission, active queries, and one async call per kind of question.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

pub use query_exec::{Context, ExecError, Limits, Usage};
use storage::Storage;

/// How queries run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Longest run of a query.
    pub timeout: Duration,
    /// Limits of one query.
    pub limits: Limits,
    /// CPU threads.
    pub threads: usize,
    /// Queries running at once; more wait in line until their deadline.
    pub concurrent_max: usize,
}

/// Runs queries; cloning shares it.
#[derive(Clone)]
pub struct Queries {
    _inner: Arc<()>,
}

/// Why a query did not run to its end, beside what its language says.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// No place became free before the deadline.
    #[error("too many queries are running; the query waited {0:?} for a place")]
    Busy(Duration),
    /// It panicked: a bug of ours; the process goes on.
    #[error("internal error: {0}")]
    Panicked(String),
}

impl Queries {
    /// Over one storage.
    pub fn new(storage: Arc<Storage>, options: Options) -> Queries {
        let _ = (storage, options);
        todo!()
    }
    /// The storage that is asked.
    pub fn storage(&self) -> &Arc<Storage> {
        todo!()
    }
    /// Longest run of a query, unless the caller asks for less.
    pub fn timeout(&self) -> Duration {
        todo!()
    }
    /// Runs `job` on the CPU pool under a fresh [`Context`] (deadline: the smaller of `timeout` and the configured one),
    /// once a place is free. `label` (language and text) shows it among the active queries. Dropping the future cancels it.
    pub fn run<T: Send + 'static>(
        &self,
        label: &str,
        timeout: Option<Duration>,
        job: impl FnOnce(&Context, &Storage) -> T + Send + 'static,
    ) -> impl Future<Output = Result<T, RunError>> + Send {
        let _ = (label, timeout, job);
        async { todo!() }
    }
}
