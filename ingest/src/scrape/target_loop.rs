//! The loop of one target: waits for its tick, asks, stores what it is answered, and says when its series end.
//!
//! Ticks are multiples of the interval plus a phase that only the target and this machine decide, so targets are spread
//! and a restart keeps the rhythm. A sample is stamped with its tick where the loop was no more than 2 ms late, as equal
//! steps take the least room.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};
use model::{SampleBatch, TimestampMs};
use prometheus_config::{NameEscaping, ScrapeConfig, ScrapeProtocol};
use tokio::sync::watch;
use tokio::time::Instant;

use super::exposition::{Dialect, Format};
use super::http::{Ask, AskError, Client, Kept};
use super::rounds::{Measured, Outcome, Shown};
use super::target::ScrapeTarget;
use crate::sink::Sink;

/// Answers without a limit of their own.
const BODY_BYTES_MAX: u64 = 256 << 20;
/// Answers up to this size are taken apart on the thread that read them.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// A tick is the time of its samples if the loop is no later than this, or a hundredth of the interval.
const LATE_NS_MAX: i64 = 2_000_000;

/// How a loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does not.
    Runs,
    /// Its target is gone: its series end.
    Gone,
    /// Somebody else goes on with the target, or the process stops.
    Replaced,
}

/// What the last scrape came to.
#[derive(Clone, Debug, Default)]
pub(super) struct Status {
    pub last_scrape: Option<TimestampMs>,
    pub last_duration: Duration,
    pub last_error: String,
}

/// One loop, as its pool holds it.
pub(super) struct TargetLoop {
    /// Under which configuration it runs.
    pub job: Arc<Job>,
    pub target: Arc<ScrapeTarget>,
    pub shown: Arc<Mutex<Shown>>,
    pub status: Arc<Mutex<Status>>,
    pub fate: watch::Sender<Fate>,
}

/// What loops of one job have in common.
pub(super) struct Job {
    pub config: Arc<ScrapeConfig>,
    pub client: Client,
    pub sink: Arc<dyn Sink>,
    /// What tells the phases on this machine from those on others.
    pub seed: u64,
    /// Why nothing of the job is scraped; empty: it is.
    pub refused: Mutex<String>,
    pub counters: Arc<super::ScrapeCounters>,
}

/// A lock whose holder cannot have left anything half done.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TargetLoop {
    /// Starts to scrape a target; `shown`: what it has shown to a loop before.
    pub fn start(
        job: &Arc<Job>,
        target: Arc<ScrapeTarget>,
        shown: Arc<Mutex<Shown>>,
        still_there: impl Fn(&ScrapeTarget) -> bool + Send + 'static,
    ) -> TargetLoop {
        let (fate, told) = watch::channel(Fate::Runs);
        let status = Arc::new(Mutex::new(Status::default()));
        let running = Running {
            job: job.clone(),
            target: target.clone(),
            shown: shown.clone(),
            status: status.clone(),
            kept: Kept::default(),
        };
        tokio::spawn(running.run(told, still_there));
        TargetLoop {
            job: job.clone(),
            target,
            shown,
            status,
            fate,
        }
    }
}

struct Running {
    job: Arc<Job>,
    target: Arc<ScrapeTarget>,
    shown: Arc<Mutex<Shown>>,
    status: Arc<Mutex<Status>>,
    kept: Kept,
}

impl Running {
    async fn run(mut self, mut fate: watch::Receiver<Fate>, still_there: impl Fn(&ScrapeTarget) -> bool) {
        let interval = i64::try_from(self.target.interval.as_nanos())
            .unwrap_or(i64::MAX)
            .max(1_000_000);
        let phase = ((self.target.hash() ^ self.job.seed) % interval as u64) as i64;
        let mut tick = first_tick(self.job.sink.now().0, interval, phase);
        loop {
            let wait = u64::try_from(tick.saturating_sub(self.job.sink.now().0)).unwrap_or(0);
            tokio::select! {
                () = tokio::time::sleep(Duration::from_nanos(wait)) => {}
                _ = fate.wait_for(|f| *f != Fate::Runs) => break,
            }
            let now = self.job.sink.now().0;
            let is_in_time = (0..=LATE_NS_MAX.min(interval / 100)).contains(&(now - tick));
            let t = if is_in_time { tick } else { now };
            tokio::select! {
                () = self.scrape(TimestampMs(t.div_euclid(1_000_000))) => {}
                // What was asked for and not yet answered is not waited for.
                _ = fate.wait_for(|f| *f != Fate::Runs) => break,
            }
            tick = next_tick(tick, self.job.sink.now().0, interval);
        }
        if *fate.borrow() != Fate::Gone {
            return;
        }
        // The target may come back; until then nothing is said that would have to be taken back.
        let wait = self.target.interval.saturating_mul(2) + self.target.interval / 10;
        let replaced = async {
            // Nobody can replace the loop of a job that is gone.
            if fate.wait_for(|f| *f == Fate::Replaced).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = replaced => return,
        }
        if still_there(&self.target) {
            return;
        }
        let mut batch = SampleBatch::default();
        let t = TimestampMs(tick.div_euclid(1_000_000));
        lock(&self.shown).end(&self.job.config, &self.target.labels, t, &mut batch);
        self.append(&batch).await;
    }

    async fn scrape(&mut self, t: TimestampMs) {
        let started = Instant::now();
        let refused = lock(&self.job.refused).clone();
        let answer = if refused.is_empty() {
            self.ask().await
        } else {
            Err((refused, None))
        };
        let (answer, body_bytes, fault) = match answer {
            Ok((body, format)) => {
                let len = body.len() as u64;
                (Some((body, format)), Some(len), String::new())
            }
            Err((why, bytes)) => (None, bytes, why),
        };
        let (mut batch, mut outcome) = self.take(answer, t).await;
        if !fault.is_empty() {
            outcome.error = fault;
        }
        let took = started.elapsed();
        let measured = Measured { took, body_bytes };
        let config = &self.job.config;
        let of = (&outcome, measured);
        lock(&self.shown).report(config, &self.target.labels, of, (t, self.target.timeout), &mut batch);
        let appended = self.append(&batch).await;
        self.job.counters.note(&outcome);
        self.tell(&outcome);
        let mut status = lock(&self.status);
        *status = Status {
            last_scrape: Some(t),
            last_duration: took,
            last_error: if outcome.error.is_empty() {
                appended
            } else {
                outcome.error
            },
        };
    }

    fn tell(&self, outcome: &Outcome) {
        let (job, url) = (&self.job.config.job_name, &self.target.url);
        if !outcome.error.is_empty() {
            tracing::debug!(job, url, error = outcome.error, "scrape failed");
        }
        if outcome.duplicates > 0 {
            let n = outcome.duplicates;
            tracing::warn!(
                job,
                url,
                n,
                "samples of a scrape were dropped: their series is there twice"
            );
        }
        if outcome.too_new > 0 {
            let n = outcome.too_new;
            tracing::warn!(
                job,
                url,
                n,
                "samples of a scrape were dropped: their time is too far ahead"
            );
        }
    }

    /// An answer as a batch, large ones off the network's threads.
    async fn take(&self, answer: Option<(Bytes, Format)>, t: TimestampMs) -> (SampleBatch, Outcome) {
        let (config, target, shown) = (self.job.config.clone(), self.target.clone(), self.shown.clone());
        let is_large = answer.as_ref().is_some_and(|(body, _)| body.len() > INLINE_BYTES_MAX);
        let work = move || {
            let mut batch = SampleBatch::default();
            let mut shown = lock(&shown);
            let outcome = match &answer {
                Some((body, format)) => shown.take(&config, &target, (body, *format), t, &mut batch),
                None => {
                    shown.miss(t, &mut batch);
                    Outcome::default()
                }
            };
            (batch, outcome)
        };
        if !is_large {
            return work();
        }
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(e) => {
                let error = format!("the answer could not be read: {e}");
                (
                    SampleBatch::default(),
                    Outcome {
                        error,
                        ..Outcome::default()
                    },
                )
            }
        }
    }

    /// Stores a batch; a word on what was not stored, empty if all was.
    async fn append(&self, batch: &SampleBatch) -> String {
        if batch.is_empty() {
            return String::new();
        }
        match self.job.sink.append_samples(batch).await {
            Ok(taken) if taken.refused() > 0 => {
                let (job, url) = (&self.job.config.job_name, &self.target.url);
                let why = taken.words();
                tracing::warn!(job, url, why, "samples of a scrape were not stored");
                String::new()
            }
            Ok(_) => String::new(),
            Err(e) => {
                let (job, url) = (&self.job.config.job_name, &self.target.url);
                tracing::warn!(job, url, error = %e, "a scrape was not stored");
                format!("not stored: {e}")
            }
        }
    }

    /// The answer and its format; else why there is none, and how many bytes it had.
    async fn ask(&mut self) -> Result<(Bytes, Format), (String, Option<u64>)> {
        let config = &self.job.config;
        let accept = accept(config);
        let seconds = self.target.timeout.as_secs_f64().to_string();
        let limit = config.limits.body_size;
        let headers = [
            (ACCEPT, accept.as_str()),
            (
                ACCEPT_ENCODING,
                if config.enable_compression { "gzip" } else { "identity" },
            ),
            (HeaderName::from_static("x-prometheus-scrape-timeout-seconds"), &seconds),
        ];
        let ask = Ask {
            url: &self.target.url,
            socket: self.target.socket.as_deref(),
            headers: &headers,
            bytes_max: if limit == 0 { BODY_BYTES_MAX } else { limit },
            post: None,
        };
        let asking = self.job.client.ask(&ask, &mut self.kept);
        let answered = match tokio::time::timeout(self.target.timeout, asking).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(e @ AskError::TooLarge)) => return Err((e.to_string(), None)),
            Ok(Err(e)) => return Err((e.to_string(), Some(0))),
            Err(_) => return Err((format!("Get {:?}: context deadline exceeded", self.target.url), Some(0))),
        };
        if answered.status.as_u16() != 200 {
            return Err((
                format!("server returned HTTP status {}", answered.status_words()),
                Some(0),
            ));
        }
        let bytes = Some(answered.body.len() as u64);
        let format = match format(config, answered.content_type()) {
            Ok(format) => format,
            // There is nothing in it that would have a format.
            Err(_) if answered.body.is_empty() => Format::Text(Dialect::Prometheus),
            Err(why) => return Err((why, bytes)),
        };
        Ok((answered.body, format))
    }
}

/// The first tick after `now`.
fn first_tick(now: i64, interval: i64, phase: i64) -> i64 {
    let behind = (now - phase).rem_euclid(interval);
    now.saturating_add(interval - behind)
}

/// The tick after `tick`; those that have passed meanwhile are left out. Where the clock was set back, ticks begin anew.
fn next_tick(tick: i64, now: i64, interval: i64) -> i64 {
    if now < tick.saturating_sub(interval) {
        return first_tick(now, interval, tick.rem_euclid(interval));
    }
    let missed = (now - tick).max(0) / interval;
    tick.saturating_add((missed + 1).saturating_mul(interval))
}

fn format(config: &ScrapeConfig, content_type: &str) -> Result<Format, String> {
    if let Some(format) = Format::of(content_type) {
        return Ok(format);
    }
    match config.fallback_protocol {
        Some(ScrapeProtocol::PrometheusProto) => Ok(Format::Protobuf),
        Some(ScrapeProtocol::OpenMetricsText001 | ScrapeProtocol::OpenMetricsText100) => {
            Ok(Format::Text(Dialect::OpenMetrics))
        }
        Some(_) => Ok(Format::Text(Dialect::Prometheus)),
        None if content_type.is_empty() => Err(
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target"
                .to_owned(),
        ),
        None => Err(format!(
            "received unsupported Content-Type {content_type:?} and no fallback_scrape_protocol specified for target"
        )),
    }
}

/// The formats of a job, the best first.
pub(super) fn accept(config: &ScrapeConfig) -> String {
    let escaping = match config.escaping {
        // Where only legacy names are taken, nothing is said, and none but those are written.
        NameEscaping::AllowUtf8 if config.names == prometheus_config::NameScheme::Legacy => String::new(),
        escaping => format!(";escaping={}", escaping.as_str()),
    };
    let mut out = String::new();
    let mut weight = ScrapeProtocol::ALL.len() + 1;
    for protocol in &config.protocols {
        let (media_type, with_escaping) = match protocol {
            ScrapeProtocol::PrometheusProto => (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
                true,
            ),
            ScrapeProtocol::PrometheusText004 => ("text/plain;version=0.0.4", false),
            ScrapeProtocol::PrometheusText100 => ("text/plain;version=1.0.0", true),
            ScrapeProtocol::OpenMetricsText001 => ("application/openmetrics-text;version=0.0.1", false),
            ScrapeProtocol::OpenMetricsText100 => ("application/openmetrics-text;version=1.0.0", true),
        };
        let escaping = if with_escaping { escaping.as_str() } else { "" };
        out.push_str(&format!("{media_type}{escaping};q=0.{weight},"));
        weight -= 1;
    }
    out.push_str(&format!("*/*;q=0.{weight}"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_keep_their_phase() {
        assert_eq!(first_tick(100, 15, 3), 108);
        assert_eq!(first_tick(108, 15, 3), 123);
        assert_eq!(next_tick(108, 109, 15), 123);
        assert_eq!(next_tick(108, 140, 15), 153);
        assert_eq!(next_tick(108, 20, 15), 33);
        assert!((0..1000).all(|now| (first_tick(now, 15, 3) - 3) % 15 == 0 && first_tick(now, 15, 3) > now));
    }
}
