//! How it answers: the Prometheus, Loki, Tempo and Jaeger HTTP APIs, and pages for people.

mod form;
mod jaeger;
mod loki;
mod number;
mod otlp_trace;
mod prometheus;
mod ruled;
mod scraped;
mod shared_ids;
mod tempo;
mod web;

pub use jaeger::router as jaeger_router;
pub use loki::router as loki_router;
pub use prometheus::router as prometheus_router;
pub use query_promql::Options as PromqlOptions;
pub use ruled::{NoRules, Rules};
pub use scraped::{DroppedTarget, OwnFamily, RelabelStep, Reload, ScrapePool, Target, Targets};
pub use tempo::router as tempo_router;

use std::sync::{Arc, PoisonError, RwLock};

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::LabelSet;
use query::Queries;
use tokio::sync::watch;

/// How much the process logs; filled by the server.
pub trait LogLevel: Send + Sync {
    /// The level in force: `error`, `warn`, `info`, `debug` or `trace`; or the directives, where there are more.
    fn get(&self) -> String;
    /// Another level from now on; the error says what is wrong with it.
    fn set(&self, level: &str) -> Result<(), String>;
}

/// What the APIs say of the process; filled by the server.
#[derive(Clone)]
pub struct About {
    /// Trilobite's version.
    pub version: String,
    /// Revision it was built from, possibly empty.
    pub revision: String,
    /// Flags and settings as `status/flags` and `status/config` show them: name and value.
    pub flags: Vec<(String, String)>,
    /// Retention of metrics as text (`15d`).
    pub retention: String,
    /// When the process started, seconds since the epoch.
    pub start_seconds: f64,
    /// How PromQL is evaluated when a request does not say otherwise.
    pub promql: PromqlOptions,
    /// Whether structured metadata is merged into the stream labels of Loki results for callers that do not ask for
    /// categorized labels (as Loki 3 does).
    pub merge_structured_metadata: bool,
    /// Whether log entries can be deleted.
    pub log_deletes: bool,
    /// Whether `/api/v1/admin/*` answers.
    pub admin_api: bool,
    /// The machine's name.
    pub hostname: String,
    /// The directory the process was started in.
    pub working_dir: String,
    /// Labels that tell this server from others where its data leave it (`/federate`, remote read).
    pub external_labels: Arc<RwLock<LabelSet>>,
    /// Who is scraped.
    pub targets: Arc<dyn Targets>,
    /// Rules and alerts.
    pub rules: Arc<dyn Rules>,
    /// How much the process logs.
    pub log_level: Arc<dyn LogLevel>,
    /// True when the process is to stop: answers without an end of their own end then. Never, if the sender is gone.
    pub stopping: watch::Receiver<bool>,
}

impl About {
    /// What tells this server from others, at this moment.
    pub(crate) fn external_labels(&self) -> LabelSet {
        self.external_labels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The Prometheus configuration if there is one, else the settings.
    pub(crate) fn config_yaml(&self) -> String {
        self.targets.config_yaml().unwrap_or_else(|| self.settings_yaml())
    }

    /// The settings as YAML, one to a line.
    pub(crate) fn settings_yaml(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.flags {
            out.push_str(name);
            out.push_str(": ");
            // JSON strings are YAML strings.
            number::push_json(&mut out, value);
            out.push('\n');
        }
        out
    }
}

/// Cuts all three heads: 204 when their blocks are in the catalogue, `failed` and the reason when they could not be
/// written.
pub async fn flush(queries: &Queries, failed: StatusCode) -> Response {
    let storage = queries.storage().clone();
    match tokio::task::spawn_blocking(move || storage.flush()).await {
        Ok(Ok(_)) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(e)) => (failed, format!("{e}\n")).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "flush panicked\n").into_response(),
    }
}
