//! One Alertmanager: what waits for it, and the loop that posts it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ingest::{Ask, AskError, Client, Kept};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::payload::payload;
use crate::queue::Queue;
use crate::{Alert, AlertmanagerStats, QUEUE_MAX, lock};

/// Alerts of one request.
const BATCH_MAX: usize = 256;
/// The first wait after a failure; each further one is twice as long.
const RETRY_MIN: Duration = Duration::from_secs(1);
/// The longest wait between two tries.
const RETRY_MAX: Duration = Duration::from_secs(15);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// Requests whose durations quantiles are taken of.
const RECENT_MAX: usize = 256;

/// How long an Alertmanager took to answer, over all requests that succeeded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Latency {
    /// Requests.
    pub count: u64,
    /// All of them together, seconds.
    pub sum_s: f64,
    /// Requests that took no longer than 0.01, 0.1, 1 and 10 seconds.
    pub within: [u64; 4],
    recent: VecDeque<f64>,
}

impl Latency {
    /// Upper bounds of [`Latency::within`], seconds.
    pub const BOUNDS_S: [f64; 4] = [0.01, 0.1, 1.0, 10.0];

    /// Of the last requests; NaN if there were none.
    pub fn quantile(&self, q: f64) -> f64 {
        let mut sorted: Vec<f64> = self.recent.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let at = (q * sorted.len() as f64).ceil() as usize;
        sorted.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    fn note(&mut self, seconds: f64) {
        self.count += 1;
        self.sum_s += seconds;
        for (n, bound) in self.within.iter_mut().zip(Latency::BOUNDS_S) {
            *n += u64::from(seconds <= bound);
        }
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(seconds);
    }

    pub(crate) fn join(&mut self, other: &Latency) {
        self.count += other.count;
        self.sum_s += other.sum_s;
        for (n, more) in self.within.iter_mut().zip(other.within) {
            *n += more;
        }
        self.recent.extend(&other.recent);
    }
}

/// One Alertmanager that is told.
pub(crate) struct SendLoop {
    pub url: String,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    waiting: Mutex<Waiting>,
    work: Notify,
    /// What is queued is sent, and then nothing any more.
    is_closing: AtomicBool,
    closed: Mutex<Vec<oneshot::Sender<()>>>,
    sent: AtomicU64,
    errors: AtomicU64,
    dropped: AtomicU64,
    latency: Mutex<Latency>,
}

#[derive(Default)]
struct Waiting {
    queue: Queue,
    /// The batch that is being sent. Whoever ends the loop meanwhile sends it again: told twice is better than not at all.
    under_way: Vec<Arc<Alert>>,
}

/// Why a batch was not taken.
enum Failed {
    /// It may be taken another time.
    Passing(String),
    /// It will never be.
    Lasting(String),
}

impl SendLoop {
    /// Begins to send what is queued.
    pub fn start(url: String, client: Arc<Client>, timeout: Duration, queue: Queue) -> SendLoop {
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Waiting {
                queue,
                under_way: Vec::new(),
            }),
            work: Notify::new(),
            is_closing: AtomicBool::new(false),
            closed: Mutex::default(),
            sent: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            latency: Mutex::default(),
        });
        let task = tokio::spawn(run(url.clone(), shared.clone(), client, timeout));
        SendLoop {
            url,
            shared,
            task: Mutex::new(Some(task)),
        }
    }

    /// Queues alerts.
    pub fn add(&self, alerts: &[Arc<Alert>]) {
        let mut dropped = 0;
        {
            let mut waiting = lock(&self.shared.waiting);
            for alert in alerts {
                dropped += waiting.queue.push(alert.clone(), QUEUE_MAX);
            }
        }
        if dropped > 0 {
            self.shared.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
            tracing::warn!(
                alertmanager = self.url,
                dropped,
                "more alerts wait than there is room for; the oldest are dropped"
            );
        }
        self.shared.work.notify_one();
    }

    /// Sends what is queued and then ends; the receiver learns when.
    pub fn drain(&self) -> oneshot::Receiver<()> {
        let (done, closed) = oneshot::channel();
        lock(&self.shared.closed).push(done);
        self.shared.is_closing.store(true, Ordering::Release);
        self.shared.work.notify_one();
        closed
    }

    /// Ends at once and hands over what waits.
    pub fn end(&self) -> Queue {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
        let mut waiting = lock(&self.shared.waiting);
        let under_way = std::mem::take(&mut waiting.under_way);
        waiting.queue.put_back(under_way, QUEUE_MAX);
        std::mem::take(&mut waiting.queue)
    }

    pub fn stats(&self) -> AlertmanagerStats {
        let s = &self.shared;
        AlertmanagerStats {
            url: self.url.clone(),
            sent: s.sent.load(Ordering::Relaxed),
            errors: s.errors.load(Ordering::Relaxed),
            dropped: s.dropped.load(Ordering::Relaxed),
            queued: lock(&s.waiting).queue.len() as u64,
            latency: lock(&s.latency).clone(),
        }
    }
}

async fn run(url: String, shared: Arc<Shared>, client: Arc<Client>, timeout: Duration) {
    let mut kept = Kept::default();
    let mut wait = RETRY_MIN;
    let mut last_fault = String::new();
    loop {
        let batch = {
            let mut waiting = lock(&shared.waiting);
            waiting.under_way = waiting.queue.take(BATCH_MAX);
            waiting.under_way.clone()
        };
        if batch.is_empty() {
            if shared.is_closing.load(Ordering::Acquire) {
                break;
            }
            shared.work.notified().await;
            continue;
        }
        let n = batch.len() as u64;
        let began = Instant::now();
        let sent = tokio::time::timeout(timeout, post(&url, &client, &batch, &mut kept)).await;
        let sent = sent.unwrap_or_else(|_| Err(Failed::Passing("no answer in time".to_owned())));
        match sent {
            Ok(()) => {
                lock(&shared.waiting).under_way.clear();
                shared.sent.fetch_add(n, Ordering::Relaxed);
                lock(&shared.latency).note(began.elapsed().as_secs_f64());
                wait = RETRY_MIN;
                if !last_fault.is_empty() {
                    tracing::info!(alertmanager = url, "takes alerts again");
                    last_fault.clear();
                }
            }
            Err(Failed::Lasting(why)) => {
                lock(&shared.waiting).under_way.clear();
                shared.errors.fetch_add(n, Ordering::Relaxed);
                shared.dropped.fetch_add(n, Ordering::Relaxed);
                tracing::error!(alertmanager = url, alerts = n, why, "alerts are refused, and dropped");
            }
            Err(Failed::Passing(why)) => {
                shared.errors.fetch_add(n, Ordering::Relaxed);
                {
                    let mut waiting = lock(&shared.waiting);
                    let batch = std::mem::take(&mut waiting.under_way);
                    let dropped = waiting.queue.put_back(batch, QUEUE_MAX);
                    shared.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
                }
                // Told when it changes, not each time.
                if why != last_fault {
                    tracing::warn!(
                        alertmanager = url,
                        alerts = n,
                        why,
                        "alerts could not be sent; they wait"
                    );
                    last_fault = why;
                }
                if shared.is_closing.load(Ordering::Acquire) {
                    break;
                }
                pause(&shared, wait).await;
                wait = (wait * 2).min(RETRY_MAX);
            }
        }
    }
    for closed in lock(&shared.closed).drain(..) {
        let _ = closed.send(());
    }
}

/// Waits before the next try; new alerts do not shorten it, closing does.
async fn pause(shared: &Shared, wait: Duration) {
    let until = Instant::now() + wait;
    while !shared.is_closing.load(Ordering::Acquire) {
        let woken = tokio::time::timeout_at(until, shared.work.notified()).await;
        if woken.is_err() {
            return;
        }
    }
}

async fn post(url: &str, client: &Client, batch: &[Arc<Alert>], kept: &mut Kept) -> Result<(), Failed> {
    let body = payload(batch);
    let ask = Ask {
        url,
        bytes_max: ANSWER_BYTES_MAX,
        post: Some(("application/json", &body)),
        ..Ask::default()
    };
    let answered = match client.ask(&ask, kept).await {
        Ok(answered) => answered,
        Err(e @ AskError::TooLarge) => return Err(Failed::Lasting(e.to_string())),
        Err(e @ AskError::Failed(_)) => return Err(Failed::Passing(e.to_string())),
    };
    let status = answered.status;
    if status.is_success() {
        return Ok(());
    }
    let why = format!("bad response status {}", answered.status_words());
    match status.as_u16() {
        // What the request says is wrong, and will be.
        400 | 413 | 415 | 422 => Err(Failed::Lasting(why)),
        _ => Err(Failed::Passing(why)),
    }
}
