//! From start to stop: bind, replay, open the doors, let time pass, and end cleanly on SIGTERM or SIGINT.

use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ingest::{Ingest, ProxyEnvironment, ScrapeOptions, Scrapes};
use model::TimestampNs;
use notifier::Notifier;
use query::{Limits, Queries};
use storage::{Storage, TickError, Ticked};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use ui_api::{About, LogLevel, Rules, Targets};

use crate::listeners::{self, Door, FACES, Face};
use crate::ruling::Ruling;
use crate::scraping::Scraping;
use crate::settings::{DeletionMode, Settings};
use crate::targets::AllTargets;
use crate::telemetry::Telemetry;
use crate::{machine, routes};

/// How often the life cycle is looked at.
const TICK: Duration = Duration::from_secs(1);

/// How often its own metrics are stored.
const SELF_SCRAPE: Duration = Duration::from_secs(15);

/// How often the receivers keep what they would miss after a crash.
const KEEP: Duration = Duration::from_secs(60);

/// How long a stop waits for a cut or compaction under way.
const LAST_STEP: Duration = Duration::from_secs(3);

/// How long a stop waits for Alertmanagers to take what they have not been told yet.
const LAST_ALERTS: Duration = Duration::from_secs(5);

/// Compaction and retention yield the CPU to ingest and queries.
const BLOCKS_NICENESS: i32 = 10;

/// The default free-disk reserve: at most this many bytes, and at most this fraction of the disk.
const RESERVE_MAX: u64 = 1 << 30;
const RESERVE_SHARE: u64 = 20;

/// Runs until a signal says stop. An error is one line for a person; exit code 1.
pub async fn serve(settings: Settings, log_level: Arc<dyn LogLevel>) -> anyhow::Result<()> {
    let started = Instant::now();
    let start_seconds = machine::now_ns() as f64 / 1e9;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let listeners = listeners::bind(&settings).await?;
    anyhow::ensure!(!listeners.is_empty(), "every listener is off; turn one on");
    let datagrams = listeners::bind_udp(&settings).await?;
    let doors: Vec<Door> = listeners.iter().map(listeners::Listener::door).collect();
    let (stop, stopping) = watch::channel(false);
    let mut serving = JoinSet::new();
    for listener in listeners {
        serving.spawn(listener.serve(stopping.clone()));
    }

    let options = storage_options(&settings);
    let policy = log_policy(&settings);
    let open = move || Storage::open_with(options, policy, Arc::new(|| TimestampNs(machine::now_ns())));
    let (storage, report) = tokio::task::spawn_blocking(open).await??;
    let storage = Arc::new(storage);
    tell(&report);
    let queries = Queries::new(storage.clone(), query_options(&settings));
    let ingest = Ingest::new(
        storage.clone(),
        ingest::Options {
            body_bytes_max: settings.max_body_size.min(1 << 31) as usize,
            otlp_metrics: settings.otlp_metrics.clone(),
            derived_metrics: settings.derived_metrics.clone(),
        },
    );
    let ScrapeOptions { agent, proxies, .. } = scrape_options();
    let notifier = Notifier::new(agent, proxies);
    let ruling = Arc::new(Ruling::new(
        &settings,
        storage.clone(),
        reached_at(&doors),
        Arc::new(notifier.clone()),
    ));
    let scrapes = Scrapes::new(&ingest, scrape_options());
    let scraping = Arc::new(Scraping::new(&settings, scrapes, ruling.clone(), notifier.clone()));
    let telemetry = Arc::new(Telemetry {
        scraping: scraping.clone(),
        start_seconds,
        ready_seconds: started.elapsed().as_secs_f64(),
        instance: instance(&doors),
        doors: doors.clone(),
        udp: datagrams.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
        ingest: ingest.clone(),
        queries: queries.clone(),
        last_scrape: Mutex::default(),
    });
    let targets = Arc::new(AllTargets {
        telemetry: telemetry.clone(),
        scraping: scraping.clone(),
        hostname: machine::hostname(),
        interval: SELF_SCRAPE,
    });
    let mut about = about(
        &settings,
        start_seconds,
        log_level,
        targets,
        ruling.clone(),
        stopping.clone(),
    );
    about.external_labels = scraping.external_labels.clone();
    // Before anyone can ask, so that the first answer knows every scrape pool and rule.
    let starting = (scraping.clone(), settings.prometheus.clone());
    tokio::task::spawn_blocking(move || starting.0.start(&starting.1)).await?;
    for door in &doors {
        door.open(routes::router(door.face, &queries, &ingest, &about, &telemetry));
    }
    for socket in datagrams {
        let (ingest, stopping) = (ingest.clone(), stopping.clone());
        serving.spawn(async move { ingest.serve_jaeger_udp(socket, stopping).await });
    }
    let ready_ms = started.elapsed().as_millis() as u64;
    tracing::info!(ready_ms, "ready");
    summary(&settings, &doors, ready_ms);

    // Two threads, so that a long compaction does not keep heads from being cut.
    let heads = Ticking::start("heads", 0, storage.clone(), Storage::tick_heads)?;
    let blocks = Ticking::start("blocks", BLOCKS_NICENESS, storage.clone(), Storage::tick_blocks)?;
    let feeding = tokio::spawn(feed(telemetry, storage.clone(), stopping.clone()));
    let keeping = tokio::spawn(keep(ingest.clone(), stopping.clone()));
    let deriving = tokio::spawn(derive(ingest.clone(), storage.clone(), stopping.clone()));
    let judging = tokio::spawn(ruling.run(stopping.clone()));
    loop {
        tokio::select! {
            _ = terminate.recv() => {
                tracing::info!("SIGTERM: stopping");
                break;
            }
            _ = interrupt.recv() => {
                tracing::info!("SIGINT: stopping");
                break;
            }
            _ = hangup.recv() => {
                let scraping = scraping.clone();
                // What is wrong is logged there.
                let _ = tokio::task::spawn_blocking(move || scraping.reload()).await;
            }
        }
    }
    scraping.scrapes.stop();
    let _ = stop.send(true);
    while serving.join_next().await.is_some() {}
    let _ = feeding.await;
    let _ = keeping.await;
    let _ = deriving.await;
    let _ = judging.await;
    notifier.stop(LAST_ALERTS).await;
    if let Err(why) = ingest.derive(storage.now(), true).await {
        tracing::warn!(why, "metrics derived from the last spans were not stored");
    }
    let ticking = [heads, blocks].map(Ticking::end);
    let ending = storage.clone();
    tokio::task::spawn_blocking(move || {
        ingest.close();
        ending.sync()
    })
    .await??;
    let last_steps = async {
        for ended in ticking {
            let _ = ended.await;
        }
    };
    if tokio::time::timeout(LAST_STEP, last_steps).await.is_err() {
        // Every step is safe against a crash, and a supervisor that waits would make one of it.
        tracing::info!("a cut or compaction under way is given up; it is done anew after the next start");
    }
    tracing::info!("stopped");
    Ok(())
}

/// What storage is opened with.
pub fn storage_options(settings: &Settings) -> storage::Options {
    let ns = |d: Duration| d.as_nanos().min(i64::MAX as u128) as i64;
    let reserve = settings.free_disk_reserve.unwrap_or_else(|| default_reserve(settings));
    storage::Options {
        data_dir: settings.data_dir.clone(),
        retention_metrics_ms: ns(settings.retention_metrics) / 1_000_000,
        retention_logs_ns: ns(settings.retention_logs),
        retention_traces_ns: ns(settings.retention_traces),
        retention_size: settings.retention_size,
        memory_limit: machine::memory_limit(settings.memory_limit),
        free_disk_reserve: reserve,
        wal_sync: settings.wal_sync,
    }
}

/// How long log streams are kept, and how entries are deleted from them.
pub fn log_policy(settings: &Settings) -> storage::LogPolicy {
    storage::LogPolicy {
        keep: settings.retention_stream.clone(),
        deletes: Some(query::log_delete_language()),
        cancel_ns: match settings.deletion_mode {
            DeletionMode::FilterOnly => i64::MAX,
            DeletionMode::Disabled | DeletionMode::FilterAndDelete => {
                settings.delete_request_cancel_period.as_nanos().min(i64::MAX as u128) as i64
            }
        },
    }
}

/// 1 GiB or 5% of the disk that holds the data directory (or will: then of its nearest parent), the smaller.
fn default_reserve(settings: &Settings) -> u64 {
    let dir = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    let total = dir
        .ancestors()
        .find_map(|d| rustix::fs::statvfs(d).ok())
        .map(|s| s.f_blocks * s.f_frsize);
    total.map_or(RESERVE_MAX, |t| (t / RESERVE_SHARE).min(RESERVE_MAX))
}

fn scrape_options() -> ScrapeOptions {
    let variable = |name: &str| {
        let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_lowercase()));
        value.ok().filter(|value| !value.is_empty())
    };
    ScrapeOptions {
        hostname: machine::hostname(),
        agent: format!("Trilobite/{}", env!("CARGO_PKG_VERSION")),
        proxies: ProxyEnvironment {
            http: variable("HTTP_PROXY"),
            https: variable("HTTPS_PROXY"),
            no_proxy: variable("NO_PROXY").unwrap_or_default(),
        },
    }
}

fn query_options(settings: &Settings) -> query::Options {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    query::Options {
        timeout: settings.query_timeout,
        limits: Limits {
            samples_max: 50_000_000,
            series_max: 200_000,
            bytes_max: 32 << 30,
        },
        threads: if settings.query_threads == 0 {
            cores
        } else {
            settings.query_threads
        },
        concurrent_max: 20,
    }
}

fn about(
    settings: &Settings,
    start_seconds: f64,
    log_level: Arc<dyn LogLevel>,
    targets: Arc<dyn Targets>,
    rules: Arc<dyn Rules>,
    stopping: watch::Receiver<bool>,
) -> About {
    About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("TRILOBITE_REVISION").unwrap_or("").to_owned(),
        flags: settings.as_text.clone(),
        retention: settings.text("retention-metrics").to_owned(),
        start_seconds,
        promql: settings.promql,
        merge_structured_metadata: settings.loki_merge_structured_metadata,
        log_deletes: settings.deletion_mode != DeletionMode::Disabled,
        admin_api: settings.enable_admin_api,
        hostname: machine::hostname(),
        working_dir: std::env::current_dir().map_or_else(|_| String::new(), |d| d.display().to_string()),
        external_labels: Arc::default(),
        targets,
        rules,
        log_level,
        stopping,
    }
}

/// Where people find the Prometheus pages if nobody says otherwise; by the machine's name, as Prometheus does.
fn reached_at(doors: &[Door]) -> String {
    let door = doors.iter().find(|d| d.face == Face::Prometheus);
    let port = door.map_or(9090, |d| d.addr.port());
    format!("http://{}:{port}", machine::hostname())
}

/// The `instance` of its own series: where its Prometheus door is, or the first door.
fn instance(doors: &[Door]) -> String {
    let door = doors.iter().find(|d| d.face == Face::Prometheus).or(doors.first());
    door.map_or_else(String::new, |d| format!("localhost:{}", d.addr.port()))
}

fn tell(report: &storage::OpenReport) {
    if let Some(why) = &report.catalogue.rebuilt {
        tracing::warn!(why, "the catalogue was rebuilt from blocks and WAL");
    }
    if report.catalogue.removed_dirs > 0 {
        tracing::info!(
            directories = report.catalogue.removed_dirs,
            "unfinished blocks of an earlier run were removed"
        );
    }
    for (path, why) in &report.catalogue.unreadable {
        tracing::error!(path = %path.display(), why, "unreadable block set aside");
    }
    for (signal, replay) in &report.replays {
        for (segment, offset) in &replay.skipped {
            tracing::error!(signal, segment = %segment.display(), offset, "bad WAL record skipped");
        }
        if replay.torn_bytes > 0 {
            tracing::warn!(signal, bytes = replay.torn_bytes, "torn WAL tail cut");
        }
        if replay.records > 0 {
            tracing::info!(signal, records = replay.records, bytes = replay.bytes, "WAL replayed");
        }
    }
}

#[allow(clippy::print_stdout)] // the start-up summary is for the person at the terminal
fn summary(settings: &Settings, doors: &[Door], ready_ms: u64) {
    println!(
        "Trilobite {} is ready ({ready_ms} ms), data in {}",
        env!("CARGO_PKG_VERSION"),
        settings.data_dir.display()
    );
    for (face, name, what) in FACES {
        match doors.iter().find(|d| d.face == face) {
            Some(door) => println!("  {what:<30} {}", door.addr),
            None if face.is_extra() => {}
            None => println!("  {what:<30} off (--{}-addr)", name.replace('_', "-")),
        }
    }
    println!(
        "  keeps metrics {}, logs {}, traces {}; stop with Ctrl-C",
        settings.text("retention-metrics"),
        settings.text("retention-logs"),
        settings.text("retention-traces")
    );
}

/// A half of the life cycle: lets time pass once a second, on a thread of its own.
type Tick = fn(&Storage, TimestampNs) -> (Ticked, Vec<TickError>);

/// A thread that ticks.
struct Ticking {
    end: std::sync::mpsc::Sender<()>,
    ended: oneshot::Receiver<()>,
}

impl Ticking {
    fn start(name: &str, niceness: i32, storage: Arc<Storage>, tick: Tick) -> std::io::Result<Ticking> {
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let (running, ended) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Linux applies this to the calling thread alone. Where it may not be done, the thread runs as any other.
            if niceness > 0 {
                let _ = rustix::process::setpriority_process(None, niceness);
            }
            while ends.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let (_, errors) = tick(&storage, storage.now());
                for e in errors {
                    tracing::error!(error = %e, "will be tried again");
                }
            }
            drop(running);
        })?;
        Ok(Ticking { end, ended })
    }

    /// Tells the thread to end; what is returned becomes ready when it has.
    fn end(self) -> oneshot::Receiver<()> {
        drop(self.end);
        self.ended
    }
}

/// Stores its own metrics every 15 s, the first time at once.
async fn feed(telemetry: Arc<Telemetry>, storage: Arc<Storage>, mut stopping: watch::Receiver<bool>) {
    loop {
        let batch = telemetry.batch(storage.now().floor_ms());
        if let Err(e) = storage.append_samples(&batch).await {
            tracing::warn!(error = %e, "own metrics were not stored");
        }
        tokio::select! {
            () = tokio::time::sleep(SELF_SCRAPE) => {}
            _ = stopping.wait_for(|s| *s) => return,
        }
    }
}

/// Lets time pass, once a second, for the metrics that are derived from spans.
async fn derive(ingest: Ingest, storage: Arc<Storage>, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            _ = stopping.wait_for(|s| *s) => return,
        }
        if let Err(why) = ingest.derive(storage.now(), false).await {
            tracing::warn!(why, "metrics derived from spans were not stored");
        }
    }
}

/// Lets the receivers keep, once a minute, what they would miss after a crash.
async fn keep(ingest: Ingest, mut stopping: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(KEEP) => {}
            _ = stopping.wait_for(|s| *s) => return,
        }
        let ingest = ingest.clone();
        let _ = tokio::task::spawn_blocking(move || ingest.keep()).await;
    }
}
