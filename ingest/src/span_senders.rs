//! What the receivers of Zipkin's and Jaeger's spans share: the answer over HTTP, and instrumentation scopes that are told
//! in tags.

use std::collections::HashMap;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use model::Scope;

use crate::counters::Row;
use crate::refusal::Refusal;
use crate::report::Report;

/// 202 for what was stored, also in part; `status` says how the protocol answers a refusal. Both are counted.
pub(crate) fn answer(
    row: &Row,
    result: Result<Report, Refusal>,
    status: impl FnOnce(&Refusal) -> StatusCode,
) -> Response {
    match result {
        Ok(report) => {
            row.ok(report.accepted(), report.rejected);
            if report.rejected > 0 {
                tracing::debug!(rejected = report.rejected, why = report.message(), "spans refused");
            }
            StatusCode::ACCEPTED.into_response()
        }
        Err(refusal) => {
            row.refused(&refusal);
            refusal.in_words(status(&refusal))
        }
    }
}

/// The scopes of one request, each made once.
#[derive(Default)]
pub(crate) struct Scopes {
    known: HashMap<(String, String), Arc<Scope>>,
}

impl Scopes {
    /// The scope that tags tell in OpenTelemetry's keys for other formats, the newer ones first; `take` removes the
    /// text tag of a key.
    pub fn told(&mut self, mut take: impl FnMut(&str) -> Option<String>) -> Arc<Scope> {
        let mut either = |new: &str, old: &str| {
            let old = take(old);
            take(new).or(old).unwrap_or_default()
        };
        let name = either("otel.scope.name", "otel.library.name");
        let version = either("otel.scope.version", "otel.library.version");
        let scope = self.known.entry((name, version)).or_insert_with_key(|(name, version)| {
            Arc::new(Scope {
                name: name.clone(),
                version: version.clone(),
                ..Scope::default()
            })
        });
        scope.clone()
    }
}
