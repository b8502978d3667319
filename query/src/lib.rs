//! The face of the room: admission, active queries, and one way to run a question on the CPU pool.
//!
//! A question waits for one of a few places, then runs under a [`Context`] (deadline, cancellation, limits) on threads
//! apart from the network runtime, so that queries cannot starve ingest. Dropping the future cancels it.
//!
//! Not here: the languages (`query-promql`, `query-logql`, `query-traceql`), HTTP (`ui-api`). What `server` needs of a
//! language when it opens the storage it gets here.

mod reading;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use query_exec::Pool;
pub use query_exec::{Context, ExecError, Limits, Usage};
pub use reading::read;
use storage::Storage;
use tokio::sync::Semaphore;

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

/// Which language a question is asked in; the label of its metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// Prometheus'.
    PromQl,
    /// Loki's.
    LogQl,
    /// Tempo's.
    TraceQl,
}

impl Language {
    /// All three.
    pub const ALL: [Language; 3] = [Language::PromQl, Language::LogQl, Language::TraceQl];

    /// `promql`, `logql` or `traceql`.
    pub fn as_str(self) -> &'static str {
        match self {
            Language::PromQl => "promql",
            Language::LogQl => "logql",
            Language::TraceQl => "traceql",
        }
    }
}

/// How the logs engine understands delete requests: as log queries.
pub fn log_delete_language() -> storage::DeleteLanguage {
    Arc::new(|text| query_logql::meant_by_delete(text).map_err(|e| e.to_string()))
}

/// Reads a stream selector, such as `{app="x"}`; the error says what is wrong with it.
pub fn log_selector(text: &str) -> Result<Vec<model::Matcher>, String> {
    query_logql::parse_matchers(text).map_err(|e| e.to_string())
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

/// A query that is running now.
#[derive(Clone, Debug)]
pub struct Active {
    /// Its language.
    pub language: Language,
    /// Its text, cut to a readable length.
    pub text: String,
    /// How long it has been running.
    pub running: Duration,
}

/// Counters since start, for the self-metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    /// Queries run, by [`Language::ALL`].
    pub run: [u64; 3],
    /// Queries that were dropped by their callers or found no place, by [`Language::ALL`].
    pub given_up: [u64; 3],
    /// Seconds spent running, by [`Language::ALL`].
    pub seconds: [f64; 3],
    /// Queries running now.
    pub active: u64,
    /// Samples read in all.
    pub samples: u64,
    /// Bytes decompressed in all.
    pub bytes: u64,
}

/// Runs queries; cloning shares it.
#[derive(Clone)]
pub struct Queries {
    inner: Arc<Inner>,
}

struct Inner {
    storage: Arc<Storage>,
    options: Options,
    pool: Pool,
    places: Semaphore,
    active: Mutex<BTreeMap<u64, (Language, String, Instant)>>,
    next: AtomicU64,
    counters: Mutex<Stats>,
}

/// Longest text kept of an active query, bytes.
const TEXT_BYTES_MAX: usize = 512;

impl Queries {
    /// Over one storage.
    pub fn new(storage: Arc<Storage>, options: Options) -> Queries {
        let pool = Pool::new(options.threads);
        let places = Semaphore::new(options.concurrent_max.max(1));
        let inner = Inner {
            storage,
            options,
            pool,
            places,
            active: Mutex::default(),
            next: AtomicU64::new(0),
            counters: Mutex::default(),
        };
        Queries { inner: Arc::new(inner) }
    }

    /// The storage that is asked.
    pub fn storage(&self) -> &Arc<Storage> {
        &self.inner.storage
    }

    /// Longest run of a query, unless the caller asks for less.
    pub fn timeout(&self) -> Duration {
        self.inner.options.timeout
    }

    /// What runs now, oldest first.
    pub fn active(&self) -> Vec<Active> {
        let active = self.inner.active.lock();
        active
            .values()
            .map(|(language, text, since)| Active {
                language: *language,
                text: text.clone(),
                running: since.elapsed(),
            })
            .collect()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        let mut stats = *self.inner.counters.lock();
        stats.active = self.inner.active.lock().len() as u64;
        stats
    }

    /// Runs `job` on the CPU pool under a fresh [`Context`] (deadline: the smaller of `timeout` and the configured one),
    /// once a place is free. Dropping the future cancels it.
    pub async fn run<T: Send + 'static>(
        &self,
        language: Language,
        text: &str,
        timeout: Option<Duration>,
        job: impl FnOnce(&Context, &Storage) -> T + Send + 'static,
    ) -> Result<T, RunError> {
        let timeout = timeout.map_or(self.inner.options.timeout, |t| t.min(self.inner.options.timeout));
        let since = Instant::now();
        let context = Context::new(timeout, self.inner.options.limits);
        let mut visit = Visit::enter(self.inner.clone(), language, text, since, context.clone());
        let place = tokio::time::timeout(timeout, self.inner.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(RunError::Busy(since.elapsed()));
        };
        let storage = self.inner.storage.clone();
        let inside = context.clone();
        let result = self.inner.pool.run(&context, move || job(&inside, &storage)).await;
        visit.finished = true;
        result.map_err(RunError::Panicked)
    }
}

/// One query among the active ones; leaves on drop, also when the caller hangs up.
struct Visit {
    inner: Arc<Inner>,
    id: u64,
    language: Language,
    since: Instant,
    context: Context,
    finished: bool,
}

impl Visit {
    fn enter(inner: Arc<Inner>, language: Language, text: &str, since: Instant, context: Context) -> Visit {
        let id = inner.next.fetch_add(1, Ordering::Relaxed);
        let mut end = text.len().min(TEXT_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        inner
            .active
            .lock()
            .insert(id, (language, text[..end].to_owned(), since));
        Visit {
            inner,
            id,
            language,
            since,
            context,
            finished: false,
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.inner.active.lock().remove(&self.id);
        let usage = self.context.usage();
        let mut c = self.inner.counters.lock();
        let i = self.language as usize;
        if self.finished {
            c.run[i] += 1;
        } else {
            c.given_up[i] += 1;
        }
        c.seconds[i] += self.since.elapsed().as_secs_f64();
        c.samples += usage.samples_total;
        c.bytes += usage.bytes;
    }
}
