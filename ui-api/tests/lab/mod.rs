//! A small lab behind the APIs: real storage in a temporary directory, a clock that stands still, a few series, streams and
//! traces, and a way to ask.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Request, StatusCode};
use model::{
    Event, Exemplar, KeyValue, LabelSet, LogBatch, MetricKind, MetricMetadata, Resource, SampleBatch, Scope, Span,
    SpanBatch, SpanId, SpanKind, TimestampMs, TimestampNs, TraceId,
};
use query::{Limits, Queries};
use serde_json::Value;
use storage::{Storage, SyncMode};
use tower::ServiceExt;
use ui_api::{About, LogLevel, OwnFamily, ScrapePool, Target, Targets};

/// The lab's clock, seconds: it stands still.
pub const NOW: i64 = 1_761_128_400;

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;

/// Storage with something in it, and the three APIs.
pub struct Lab {
    pub storage: Arc<Storage>,
    pub prometheus: Router,
    pub loki: Router,
    pub tempo: Router,
    pub jaeger: Router,
    _dir: tempfile::TempDir,
}

/// An answer.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Lab {
    /// With nothing stored.
    pub fn empty() -> Lab {
        Lab::with(|_| {})
    }

    /// With other settings.
    pub fn with(change: impl FnOnce(&mut About)) -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let options = storage::Options {
            data_dir: dir.path().to_owned(),
            retention_metrics_ms: 3650 * DAY_NS / 1_000_000,
            retention_logs_ns: 3650 * DAY_NS,
            retention_traces_ns: 3650 * DAY_NS,
            retention_size: None,
            memory_limit: 256 << 20,
            free_disk_reserve: 0,
            wal_sync: SyncMode::Never,
        };
        let clock = Arc::new(|| TimestampNs(NOW * SECOND_NS));
        let logs = storage::LogPolicy {
            deletes: Some(query::log_delete_language()),
            cancel_ns: 3_600 * SECOND_NS,
            ..storage::LogPolicy::default()
        };
        let (storage, _) = Storage::open_with(options, logs, clock).unwrap();
        let storage = Arc::new(storage);
        let options = query::Options {
            timeout: Duration::from_secs(20),
            limits: Limits {
                samples_max: 1_000_000,
                series_max: 100_000,
                bytes_max: 1 << 30,
            },
            threads: 2,
            concurrent_max: 4,
        };
        let queries = Queries::new(storage.clone(), options);
        let mut about = About {
            version: "0.1.0".to_owned(),
            revision: "abc".to_owned(),
            flags: vec![("data-dir".to_owned(), "x".to_owned())],
            retention: "15d".to_owned(),
            start_seconds: NOW as f64 - 60.0,
            promql: ui_api::PromqlOptions::DEFAULT,
            merge_structured_metadata: false,
            log_deletes: true,
            admin_api: false,
            hostname: "lab".to_owned(),
            working_dir: "/lab".to_owned(),
            external_labels: Arc::default(),
            targets: Arc::new(OneTarget),
            rules: Arc::new(ui_api::NoRules),
            log_level: Arc::new(Level(Mutex::new("info".to_owned()))),
            stopping: tokio::sync::watch::channel(false).1,
        };
        change(&mut about);
        Lab {
            prometheus: ui_api::prometheus_router(&queries, &about),
            loki: ui_api::loki_router(&queries, &about),
            tempo: ui_api::tempo_router(&queries, &about),
            jaeger: ui_api::jaeger_router(&queries),
            storage,
            _dir: dir,
        }
    }

    /// With metrics, logs and traces of a shop over the last ten minutes.
    pub async fn filled() -> Lab {
        let lab = Lab::empty();
        lab.fill().await;
        lab
    }

    /// Where it is all stored.
    pub fn dir(&self) -> &std::path::Path {
        self._dir.path()
    }

    /// Stores the shop's signals.
    pub async fn fill(&self) {
        self.fill_metrics().await;
        self.fill_logs().await;
        self.fill_traces().await;
    }

    async fn fill_metrics(&self) {
        let mut batch = SampleBatch::default();
        for (instance, per_step) in [("a:80", 15.0), ("b:80", 30.0)] {
            let mut pairs = vec![
                ("__name__", "http_requests_total"),
                ("job", "shop"),
                ("instance", instance),
            ];
            let series = batch.series(&mut pairs);
            for k in 0..=40 {
                batch.sample(series, ms(NOW - 600 + 15 * k), per_step * k as f64);
            }
            let trace = LabelSet::from_pairs([("trace_id", "4c7d1e90a2b35f6817d0c3e5a9f8b264")]);
            batch.exemplar(
                series,
                Exemplar {
                    labels: trace,
                    value: 0.25,
                    t: ms(NOW - 60),
                },
            );
        }
        let temperature = batch.series(&mut vec![("__name__", "room.temperature"), ("job", "lab")]);
        batch.sample(temperature, ms(NOW - 90), 20.0);
        batch.sample(temperature, ms(NOW - 30), 21.5);
        let metadata = MetricMetadata {
            kind: MetricKind::Counter,
            unit: String::new(),
            help: "Requests \"served\".".to_owned(),
        };
        batch.metadata("http_requests_total", metadata);
        self.storage.append_samples(&batch).await.unwrap();
    }

    async fn fill_logs(&self) {
        let mut batch = LogBatch::default();
        let shop = batch.stream(&mut vec![("service_name", "shop"), ("env", "lab")]);
        for k in 0..10 {
            let trace = format!("{:032x}", 7 + k);
            let line = format!(r#"{{"level":"info","msg":"Request completed","ms":{}}}"#, k * 10);
            let metadata = [("detected_level", "info"), ("trace_id", trace.as_str())];
            batch.entry(shop, ns(NOW - 100 + 10 * k), &line, metadata);
        }
        let errors = batch.stream(&mut vec![("service_name", "shop"), ("env", "prod")]);
        batch.entry(
            errors,
            ns(NOW - 50),
            "level=error msg=\"no <stock> & more\" took=1.5s",
            [("detected_level", "error")],
        );
        let other = batch.stream(&mut vec![("service_name", "bank"), ("env", "lab")]);
        batch.entry(other, ns(NOW - 20), "plain", [("", ""); 0]);
        self.storage.append_logs(&batch).await.unwrap();
    }

    async fn fill_traces(&self) {
        let resource = |service: &str| {
            Arc::new(Resource {
                attributes: vec![KeyValue::new("service.name", service.into())],
                ..Resource::default()
            })
        };
        let (shop, db) = (resource("shop"), resource("db"));
        let scope = Arc::new(Scope {
            name: "lab".to_owned(),
            ..Scope::default()
        });
        let mut spans = Vec::new();
        for k in 0..6 {
            let start = ns(NOW - 300 + 10 * k);
            let root = Span {
                trace_id: TraceId(0x4c7d_1e90 + k as u128),
                span_id: SpanId(1),
                name: "GET /cart".to_owned(),
                kind: SpanKind::Server,
                start,
                end: TimestampNs(start.0 + 200_000_000 * (k + 1)),
                status: if k == 0 {
                    model::StatusCode::Error
                } else {
                    model::StatusCode::Unset
                },
                attributes: vec![KeyValue::new("http.status_code", 200.into())],
                events: vec![Event {
                    t: start,
                    name: "began".to_owned(),
                    ..Event::default()
                }],
                resource: shop.clone(),
                scope: scope.clone(),
                ..Span::default()
            };
            let child = Span {
                span_id: SpanId(2),
                parent_span_id: Some(SpanId(1)),
                name: "SELECT".to_owned(),
                kind: SpanKind::Client,
                end: TimestampNs(start.0 + 1_500_000),
                status: model::StatusCode::Unset,
                attributes: vec![KeyValue::new("db.system", "sqlite".into())],
                events: Vec::new(),
                resource: db.clone(),
                ..root.clone()
            };
            spans.extend([root, child]);
        }
        self.storage.append_spans(SpanBatch { spans }).await.unwrap();
    }
}

/// Seconds as an instant.
pub fn ms(seconds: i64) -> TimestampMs {
    TimestampMs(seconds * 1000)
}

/// Seconds as an instant.
pub fn ns(seconds: i64) -> TimestampNs {
    TimestampNs(seconds * SECOND_NS)
}

/// `GET path?query`; the values of `query` are encoded here.
pub async fn get(router: &Router, path: &str, query: &[(&str, &str)]) -> Answer {
    ask(router, Request::get(target(path, query)).body(Body::empty()).unwrap()).await
}

/// `POST` of a form.
pub async fn post(router: &Router, path: &str, form: &[(&str, &str)]) -> Answer {
    let request = Request::post(path).header("content-type", "application/x-www-form-urlencoded");
    ask(router, request.body(Body::from(encode(form))).unwrap()).await
}

/// Any request.
pub async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.unwrap();
    let (head, body) = response.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: axum::body::to_bytes(body, 64 << 20).await.unwrap().to_vec(),
    }
}

/// Path and encoded query.
pub fn target(path: &str, query: &[(&str, &str)]) -> String {
    if query.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", encode(query))
    }
}

fn encode(pairs: &[(&str, &str)]) -> String {
    let escape = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'_' | b'-' => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect()
    };
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(n, v)| format!("{}={}", escape(n), escape(v)))
        .collect();
    pairs.join("&")
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON, of an answer that went well.
    pub fn json(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text());
        serde_json::from_slice(&self.body).unwrap()
    }

    /// A header.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }
}

/// A single target, scraped a minute ago.
struct OneTarget;

impl Targets for OneTarget {
    fn pools(&self) -> Vec<ScrapePool> {
        vec![ScrapePool {
            name: "shop".to_owned(),
            yaml: "job_name: shop\n".to_owned(),
        }]
    }
    fn active(&self) -> Vec<Target> {
        vec![Target {
            pool: "shop".to_owned(),
            discovered: LabelSet::from_pairs([("__address__", "a:80"), ("job", "shop")]),
            labels: LabelSet::from_pairs([("instance", "a:80"), ("job", "shop")]),
            url: "http://a:80/metrics".to_owned(),
            global_url: "http://a.lab:80/metrics".to_owned(),
            last_error: String::new(),
            last_scrape: Some(ms(NOW - 60)),
            last_duration: Duration::from_micros(1500),
            interval: Duration::from_secs(15),
            timeout: Duration::from_secs(10),
        }]
    }
    fn metadata(&self, _: &Target) -> Vec<(String, MetricMetadata)> {
        let metadata = MetricMetadata {
            kind: MetricKind::Counter,
            unit: String::new(),
            help: "Requests.".to_owned(),
        };
        ["http_requests_total", "other_total"]
            .map(|name| (name.to_owned(), metadata.clone()))
            .to_vec()
    }
    fn own(&self) -> Vec<OwnFamily> {
        vec![OwnFamily {
            name: "lab_runs_total".to_owned(),
            metadata: MetricMetadata {
                kind: MetricKind::Counter,
                unit: String::new(),
                help: "Runs.".to_owned(),
            },
            samples: vec![
                (vec![("result".to_owned(), "good".to_owned())], 3.0),
                (Vec::new(), f64::NAN),
            ],
        }]
    }
}

/// A log level that nothing is logged by.
struct Level(Mutex<String>);

impl LogLevel for Level {
    fn get(&self) -> String {
        self.0.lock().unwrap().clone()
    }
    fn set(&self, level: &str) -> Result<(), String> {
        if level == "loud" {
            return Err("unrecognized log level".to_owned());
        }
        *self.0.lock().unwrap() = level.to_owned();
        Ok(())
    }
}
