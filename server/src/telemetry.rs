//! Its own metrics: gathered from every room on demand, shown at `/metrics`, and fed into the metrics engine as
//! `job="trilobite"`, so that a fresh start already has `up` and its own figures to query.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ingest::Ingest;
use model::{MetricKind, MetricMetadata, SampleBatch, TimestampMs};
use query::{Language, Queries};
use storage::StorageStats;
use ui_api::OwnFamily;

use crate::listeners::Door;
use crate::scraping::Scraping;
use crate::targets::JOB;
use crate::{borrowed_names, machine, notifier_metrics, rule_metrics};

/// Gathers the process' own metrics.
pub struct Telemetry {
    /// When the process started, seconds since the epoch.
    pub start_seconds: f64,
    /// How long start-up took until the doors opened, seconds.
    pub ready_seconds: f64,
    /// What is scraped.
    pub scraping: Arc<Scraping>,
    /// Every door.
    pub doors: Vec<Door>,
    /// The receivers.
    pub ingest: Ingest,
    /// The queries (and through them the storage).
    pub queries: Queries,
    /// Where datagrams come in.
    pub udp: Vec<SocketAddr>,
    /// `instance` of the stored series.
    pub instance: String,
    /// The last time that its own metrics were stored.
    pub last_scrape: Mutex<Option<Scrape>>,
}

/// When its own metrics were gathered, and how long that took.
#[derive(Clone, Copy, Debug)]
pub struct Scrape {
    /// When.
    pub t: TimestampMs,
    /// How long.
    pub took: Duration,
}

/// A metric family with its samples.
pub(crate) struct Family {
    pub name: &'static str,
    pub kind: MetricKind,
    pub help: &'static str,
    /// Labels and value of each series.
    pub samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Telemetry {
    /// The text exposition, version 0.0.4.
    pub fn exposition(&self) -> String {
        let mut out = String::with_capacity(16 << 10);
        for f in self.gather() {
            let _ = writeln!(
                out,
                "# HELP {} {}\n# TYPE {} {}",
                f.name,
                f.help,
                f.name,
                type_word(f.kind)
            );
            for (labels, value) in f.samples {
                out.push_str(f.name);
                for (i, (n, v)) in labels.iter().enumerate() {
                    let v = v.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                    let _ = write!(out, "{}{n}=\"{v}\"", if i == 0 { "{" } else { "," });
                }
                out.push_str(if labels.is_empty() { " " } else { "} " });
                let _ = writeln!(out, "{value}");
            }
        }
        out
    }

    /// One self-scrape: every metric plus `up` and the `scrape_*` series, stamped `t`.
    pub fn batch(&self, t: TimestampMs) -> SampleBatch {
        let since = Instant::now();
        let mut batch = SampleBatch::default();
        let mut count = 0;
        for f in self.gather() {
            let help = f.help.to_owned();
            batch.metadata(
                f.name,
                MetricMetadata {
                    kind: f.kind,
                    unit: String::new(),
                    help,
                },
            );
            for (labels, value) in &f.samples {
                let mut pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
                self.put(&mut batch, f.name, &mut pairs, t, *value);
                count += 1;
            }
        }
        let took = since.elapsed();
        let seconds = took.as_secs_f64();
        if let Ok(mut last) = self.last_scrape.lock() {
            *last = Some(Scrape { t, took });
        }
        for (name, value) in [
            ("up", 1.0),
            ("scrape_samples_scraped", f64::from(count)),
            ("scrape_samples_post_metric_relabeling", f64::from(count)),
            ("scrape_duration_seconds", seconds),
        ] {
            self.put(&mut batch, name, &mut Vec::new(), t, value);
        }
        batch
    }

    /// What is known of each family, by name.
    pub fn metadata(&self) -> Vec<(String, MetricMetadata)> {
        self.families().into_iter().map(|f| (f.name, f.metadata)).collect()
    }

    /// Each family with its values.
    pub fn families(&self) -> Vec<OwnFamily> {
        let families = self.gather().into_iter().map(|f| OwnFamily {
            name: f.name.to_owned(),
            metadata: MetricMetadata {
                kind: f.kind,
                unit: String::new(),
                help: f.help.to_owned(),
            },
            samples: (f.samples.into_iter())
                .map(|(labels, v)| (labels.into_iter().map(|(n, v)| (n.to_owned(), v)).collect(), v))
                .collect(),
        });
        families.collect()
    }

    fn put<'a>(
        &'a self,
        batch: &mut SampleBatch,
        name: &'a str,
        pairs: &mut Vec<(&'a str, &'a str)>,
        t: TimestampMs,
        v: f64,
    ) {
        pairs.extend([("__name__", name), ("job", JOB), ("instance", self.instance.as_str())]);
        let series = batch.series(pairs);
        batch.sample(series, t, v);
    }

    fn gather(&self) -> Vec<Family> {
        let mut out = Vec::new();
        self.process(&mut out);
        self.http(&mut out);
        self.ingest(&mut out);
        let storage = self.queries.storage().stats();
        storage_families(&storage, &mut out);
        scrape_families(&self.scraping, &mut out);
        rule_metrics::families(&self.scraping.ruling.ruler, &mut out);
        notifier_metrics::families(&self.scraping.notifier, &mut out);
        self.queries(&mut out);
        borrowed_names::families(&storage, &self.ingest.stats(), &mut out);
        out
    }

    fn process(&self, out: &mut Vec<Family>) {
        let p = machine::process();
        out.push(Family {
            name: "trilobite_build_info",
            kind: MetricKind::Gauge,
            help: "Constant 1, labelled with the version.",
            samples: vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)],
        });
        out.push(gauge(
            "trilobite_ready_seconds",
            "Time from start until requests were let in.",
            self.ready_seconds,
        ));
        out.push(counter(
            "process_cpu_seconds_total",
            "CPU time, user and system.",
            p.cpu_seconds,
        ));
        out.push(gauge(
            "process_resident_memory_bytes",
            "Resident memory.",
            p.resident_bytes as f64,
        ));
        out.push(gauge(
            "process_virtual_memory_bytes",
            "Virtual memory.",
            p.virtual_bytes as f64,
        ));
        out.push(gauge("process_open_fds", "Open file descriptors.", p.open_fds as f64));
        out.push(gauge("process_threads", "Threads.", p.threads as f64));
        out.push(gauge(
            "process_start_time_seconds",
            "Start time since the epoch.",
            self.start_seconds,
        ));
    }

    fn http(&self, out: &mut Vec<Family>) {
        let per_door = |name, kind, help, value: &dyn Fn(&Door) -> f64| Family {
            name,
            kind,
            help,
            samples: self
                .doors
                .iter()
                .map(|d| (vec![("listener", d.name.to_owned())], value(d)))
                .collect(),
        };
        let responses = self.doors.iter().flat_map(|d| {
            d.counters().responses.iter().enumerate().map(|(class, n)| {
                let labels = vec![("listener", d.name.to_owned()), ("code", format!("{}xx", class + 1))];
                (labels, n.load(Ordering::Relaxed) as f64)
            })
        });
        out.push(Family {
            name: "trilobite_http_responses_total",
            kind: MetricKind::Counter,
            help: "Responses by listener and status class.",
            samples: responses.collect(),
        });
        out.push(per_door(
            "trilobite_http_seconds_total",
            MetricKind::Counter,
            "Time until response heads were ready.",
            &|d| d.counters().micros.load(Ordering::Relaxed) as f64 / 1e6,
        ));
        out.push(per_door(
            "trilobite_http_in_flight",
            MetricKind::Gauge,
            "Requests being answered.",
            &|d| d.counters().in_flight.load(Ordering::Relaxed) as f64,
        ));
    }

    fn ingest(&self, out: &mut Vec<Family>) {
        let stats = self.ingest.stats();
        let labels =
            |r: &ingest::ReceiverStats| vec![("protocol", r.protocol.to_owned()), ("signal", r.signal.to_owned())];
        let per = |name, help, value: &dyn Fn(&ingest::ReceiverStats) -> u64| Family {
            name,
            kind: MetricKind::Counter,
            help,
            samples: stats.receivers.iter().map(|r| (labels(r), value(r) as f64)).collect(),
        };
        let requests = stats.receivers.iter().flat_map(|r| {
            [
                ("ok", r.requests_ok),
                ("bad", r.requests_bad),
                ("refused", r.requests_refused),
            ]
            .map(|(result, n)| {
                let mut l = labels(r);
                l.push(("result", result.to_owned()));
                (l, n as f64)
            })
        });
        out.push(Family {
            name: "trilobite_ingest_requests_total",
            kind: MetricKind::Counter,
            help: "Requests by result: ok, bad (the client's fault), refused (for now).",
            samples: requests.collect(),
        });
        out.push(per(
            "trilobite_ingest_wire_bytes_total",
            "Bytes received, as sent.",
            &|r| r.wire_bytes,
        ));
        out.push(per(
            "trilobite_ingest_bytes_total",
            "Bytes received, decompressed.",
            &|r| r.decoded_bytes,
        ));
        out.push(per(
            "trilobite_ingest_accepted_total",
            "Samples, entries or spans stored.",
            &|r| r.items_accepted,
        ));
        out.push(per(
            "trilobite_ingest_rejected_total",
            "Samples, entries or spans refused.",
            &|r| r.items_rejected,
        ));
        out.push(gauge(
            "trilobite_otlp_delta_streams",
            "OTLP streams of delta temporality whose totals are held.",
            stats.delta_streams as f64,
        ));
        derived_families(&stats.derived, out);
        let drops = self.udp.iter().filter_map(|addr| {
            let drops = machine::udp_drops(*addr)?;
            Some((vec![("addr", addr.to_string())], drops as f64))
        });
        let drops: Vec<_> = drops.collect();
        if !drops.is_empty() {
            out.push(Family {
                name: "trilobite_udp_dropped_total",
                kind: MetricKind::Counter,
                help: "Datagrams that the kernel dropped because they were not read in time.",
                samples: drops,
            });
        }
    }

    fn queries(&self, out: &mut Vec<Family>) {
        let s = self.queries.stats();
        let per = |name, help, values: [f64; 3]| Family {
            name,
            kind: MetricKind::Counter,
            help,
            samples: Language::ALL
                .iter()
                .zip(values)
                .map(|(l, v)| (vec![("language", l.as_str().to_owned())], v))
                .collect(),
        };
        out.push(per("trilobite_queries_total", "Queries run.", s.run.map(|n| n as f64)));
        out.push(per(
            "trilobite_queries_given_up_total",
            "Queries dropped by callers or for want of a place.",
            s.given_up.map(|n| n as f64),
        ));
        out.push(per(
            "trilobite_query_seconds_total",
            "Time spent on queries, waiting included.",
            s.seconds,
        ));
        out.push(gauge("trilobite_queries_active", "Queries running.", s.active as f64));
        out.push(counter(
            "trilobite_query_samples_total",
            "Samples read by queries.",
            s.samples as f64,
        ));
        out.push(counter(
            "trilobite_query_bytes_total",
            "Bytes decompressed by queries.",
            s.bytes as f64,
        ));
    }
}

fn storage_families(s: &StorageStats, out: &mut Vec<Family>) {
    let (m, l, t) = (&s.metrics, &s.logs, &s.traces);
    let per = |name, kind, help, values: [u64; 3]| Family {
        name,
        kind,
        help,
        samples: ["metrics", "logs", "traces"]
            .into_iter()
            .zip(values)
            .map(|(signal, v)| (vec![("signal", signal.to_owned())], v as f64))
            .collect(),
    };
    let wal =
        |value: &dyn Fn(&storage::WalStats) -> f64| [value(&m.wal), value(&l.wal), value(&t.wal)].map(|v| v as u64);
    use MetricKind::{Counter, Gauge};
    out.push(per(
        "trilobite_appended_total",
        Counter,
        "Samples, entries, spans stored.",
        [m.appended, l.appended, t.appended],
    ));
    out.push(per(
        "trilobite_head_items",
        Gauge,
        "Samples, entries, spans in the head.",
        [m.head_samples, l.head_entries, t.head_spans],
    ));
    out.push(per(
        "trilobite_head_keys",
        Gauge,
        "Series, streams, traces in the head.",
        [m.head_series, l.head_streams, t.head_traces],
    ));
    out.push(per(
        "trilobite_head_bytes",
        Gauge,
        "Memory of the head.",
        [m.head_bytes, l.head_bytes, t.head_bytes],
    ));
    out.push(per(
        "trilobite_blocks",
        Gauge,
        "Blocks on disk.",
        [m.blocks, l.blocks, t.blocks],
    ));
    out.push(per(
        "trilobite_block_bytes",
        Gauge,
        "Bytes of blocks on disk.",
        [m.block_bytes, l.block_bytes, t.block_bytes],
    ));
    out.push(per(
        "trilobite_cuts_total",
        Counter,
        "Heads cut into blocks.",
        [m.cuts, l.cuts, t.cuts],
    ));
    out.push(per(
        "trilobite_compactions_total",
        Counter,
        "Compactions done.",
        [m.compactions, l.compactions, t.compactions],
    ));
    out.push(per(
        "trilobite_corrupt_chunks_total",
        Counter,
        "Chunks that failed their checksum and were skipped.",
        [m.corrupt_chunks, l.corrupt_chunks, t.corrupt_chunks],
    ));
    out.push(gauge(
        "trilobite_damaged_blocks",
        "Blocks of logs that compaction leaves alone because some of them is damaged.",
        l.damaged_blocks as f64,
    ));
    out.push(gauge(
        "trilobite_log_deletes_pending",
        "Delete requests that wait to be carried out.",
        l.deletes_pending as f64,
    ));
    out.push(per(
        "trilobite_wal_bytes",
        Gauge,
        "Bytes of WAL segments on disk.",
        wal(&|w| w.disk_bytes as f64),
    ));
    out.push(per(
        "trilobite_wal_segments",
        Gauge,
        "WAL segments on disk.",
        wal(&|w| w.segments as f64),
    ));
    out.push(per(
        "trilobite_wal_records_total",
        Counter,
        "WAL records appended.",
        wal(&|w| w.records as f64),
    ));
    out.push(per(
        "trilobite_wal_syncs_total",
        Counter,
        "WAL syncs; records divided by syncs is the size of commit groups.",
        wal(&|w| w.syncs as f64),
    ));
    out.push(per(
        "trilobite_wal_failures_total",
        Counter,
        "WAL appends and syncs that failed.",
        wal(&|w| w.failures as f64),
    ));
    out.push(Family {
        name: "trilobite_wal_sync_seconds_total",
        kind: Counter,
        help: "Time spent in WAL syncs.",
        samples: [
            ("metrics", m.wal.sync_seconds),
            ("logs", l.wal.sync_seconds),
            ("traces", t.wal.sync_seconds),
        ]
        .into_iter()
        .map(|(signal, v)| (vec![("signal", signal.to_owned())], v))
        .collect(),
    });
    out.push(gauge(
        "trilobite_memory_budget_used_bytes",
        "Memory accounted to heads and requests.",
        s.budget_used as f64,
    ));
    out.push(gauge(
        "trilobite_memory_budget_limit_bytes",
        "Memory allowed (--memory-limit).",
        s.budget_limit as f64,
    ));
    out.push(gauge(
        "trilobite_catalogue_bytes",
        "Bytes of the catalogue's database.",
        s.catalogue_bytes as f64,
    ));
    out.push(gauge(
        "trilobite_disk_full",
        "1 while ingest is refused for lack of disk space.",
        f64::from(u8::from(s.disk_full)),
    ));
    if let Some(space) = s.space {
        out.push(gauge(
            "trilobite_disk_free_bytes",
            "Free space where the data lies.",
            space.free as f64,
        ));
    }
}

fn scrape_families(scraping: &Scraping, out: &mut Vec<Family>) {
    let s = scraping.stats();
    if let Some(reload) = scraping.last_reload() {
        out.push(gauge(
            "prometheus_config_last_reload_successful",
            "1 if the last reading of --prometheus-config succeeded.",
            f64::from(u8::from(reload.success)),
        ));
        out.push(gauge(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "When a reading of --prometheus-config last succeeded.",
            reload.last_success.0 as f64 / 1000.0,
        ));
    }
    for (name, help, n) in [
        ("trilobite_scrape_jobs", "Jobs of --prometheus-config.", s.jobs),
        ("trilobite_scrape_targets", "Targets that are scraped.", s.targets),
    ] {
        out.push(gauge(name, help, n as f64));
    }
    for (name, help, n) in [
        ("trilobite_scrapes_total", "Scrapes done.", s.scrapes),
        ("trilobite_scrapes_failed_total", "Scrapes that failed.", s.failed),
        (
            "trilobite_scrape_samples_total",
            "Samples that scrapes have kept.",
            s.samples,
        ),
        (
            "trilobite_scrape_duplicates_total",
            "Samples dropped because their series was there twice in an answer.",
            s.duplicates,
        ),
        (
            "trilobite_scrape_too_new_total",
            "Samples dropped because their time was too far ahead.",
            s.too_new,
        ),
        (
            "trilobite_discovery_failures_total",
            "Times that a source of targets could not be asked.",
            s.discovery_failures,
        ),
    ] {
        out.push(counter(name, help, n as f64));
    }
}

fn derived_families(s: &ingest::DerivedStats, out: &mut Vec<Family>) {
    out.push(gauge(
        "trilobite_derived_series",
        "Series derived from spans whose totals are held.",
        s.series as f64,
    ));
    out.push(gauge(
        "trilobite_service_graph_open_edges",
        "Spans that wait for their other side.",
        s.open_edges as f64,
    ));
    for (name, help, n) in [
        (
            "trilobite_derived_outside_spans_total",
            "Spans not counted because they ended more than 30 s from when they came.",
            s.spans_outside,
        ),
        (
            "trilobite_derived_over_limit_total",
            "Spans and edges not counted for want of room (--derived-metrics-max-series).",
            s.over_limit,
        ),
        (
            "traces_service_graph_unpaired_spans_total",
            "Spans whose other side stayed away.",
            s.unpaired,
        ),
        (
            "traces_service_graph_dropped_spans_total",
            "Spans not paired because too many were waiting (--service-graphs-max-items).",
            s.dropped,
        ),
    ] {
        out.push(counter(name, help, n as f64));
    }
}

pub(crate) fn gauge(name: &'static str, help: &'static str, value: f64) -> Family {
    Family {
        name,
        kind: MetricKind::Gauge,
        help,
        samples: vec![(Vec::new(), value)],
    }
}

pub(crate) fn counter(name: &'static str, help: &'static str, value: f64) -> Family {
    Family {
        name,
        kind: MetricKind::Counter,
        help,
        samples: vec![(Vec::new(), value)],
    }
}

/// The text format knows fewer kinds than we do.
fn type_word(kind: MetricKind) -> &'static str {
    match kind {
        MetricKind::Counter => "counter",
        _ => "gauge",
    }
}
