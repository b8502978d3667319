//! Metrics derived from spans, whatever protocol they came by: span metrics and the service graph, with the names, labels,
//! buckets and pairing of Tempo's metrics generator, so that Grafana's service map finds what it asks for.
//!
//! Spans are *noted* before they are appended, without a lock: labels are encoded and hashed. When they are durable what was
//! noted is *counted*: one hash lookup per span for a known series, nothing allocated. Now and then the totals are
//! *collected* and appended to the metrics engine as any samples (`Ingest::derive`).
//!
//! The totals live in memory, of which they take their share of the budget: a restart is a counter reset, and start timestamps say so. A request that a client repeats
//! because it did not hear the answer counts twice. What would need more series than there may be counts for one series
//! `{metric_overflow="true"}`, as with Tempo, so that totals stay right; how much that is stands in [`DerivedStats`].

mod label_source;
mod protobuf_size;
#[cfg(test)]
mod recorded;
mod series_table;
mod service_graph;
mod span_metrics;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{MetricMetadata, Resource, SampleBatch, Span, TimestampMs, TimestampNs};
use storage::{Budget, Reservation};

use series_table::{Moment, Row, Seen, Shape, Table, bucket_labels};
use service_graph::{Counting, Edges, Half, Sides};
use span_metrics::{Labels, Observed};

/// Which metrics are derived from spans, and within which bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DerivedMetrics {
    /// `traces_spanmetrics_*`.
    pub span_metrics: bool,
    /// Attributes of resource or span that become labels of span metrics.
    pub span_metrics_dimensions: Vec<String>,
    /// `traces_service_graph_*`.
    pub service_graphs: bool,
    /// Attributes that become labels `client_*` and `server_*` of the service graph.
    pub service_graphs_dimensions: Vec<String>,
    /// How long a span waits for its other side; whole seconds.
    pub service_graphs_wait: Duration,
    /// How many spans may wait.
    pub service_graphs_max_items: usize,
    /// How often totals become samples.
    pub interval: Duration,
    /// Most series of all.
    pub max_series: usize,
}

impl Default for DerivedMetrics {
    fn default() -> DerivedMetrics {
        DerivedMetrics {
            span_metrics: true,
            span_metrics_dimensions: Vec::new(),
            service_graphs: true,
            service_graphs_dimensions: vec!["service.namespace".to_owned()],
            service_graphs_wait: Duration::from_secs(10),
            service_graphs_max_items: 10_000,
            interval: Duration::from_secs(15),
            max_series: 100_000,
        }
    }
}

/// Counters since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DerivedStats {
    /// Series whose totals are held.
    pub series: u64,
    /// Spans that wait for their other side.
    pub open_edges: u64,
    /// Spans that ended too long ago, or too far in the future, to be counted.
    pub spans_outside: u64,
    /// Spans and edges counted without their labels because there were too many series, or not counted because a request's
    /// labels were too long.
    pub over_limit: u64,
    /// Edges whose other side stayed away.
    pub unpaired: u64,
    /// Spans whose edges were not opened because too many were waiting.
    pub dropped: u64,
}

/// Spans that ended further from now than this are not counted.
const SLACK_NS: u64 = 30_000_000_000;
/// A series is forgotten when nothing was counted for it for this long.
const IDLE_MS: i64 = 900_000;
/// Bytes of labels that are noted of one request.
const TEXT_BYTES_MAX: usize = 32 << 20;
/// Rows per batch of samples.
const BATCH_ROWS: usize = 200;

/// The totals.
pub(crate) struct Derived {
    labels: Option<Labels>,
    sides: Option<Sides>,
    interval_ms: i64,
    state: Mutex<State>,
    budget: Budget,
}

struct State {
    spans: Table,
    graph: Table,
    edges: Edges,
    /// How many series more there may be.
    room: usize,
    /// The collection before, or the start.
    collected: TimestampMs,
    /// The metadata was collected.
    described: bool,
    outside: u64,
    over_limit: u64,
    /// What all this holds.
    held: Reservation,
}

/// What a batch counts for, once it is durable.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    now: TimestampNs,
    text: Vec<u8>,
    spans: Vec<Observed>,
    halves: Vec<Half>,
    outside: u64,
    over_limit: u64,
    /// The resource of the span before, and the name of its service.
    last: Option<(Arc<Resource>, String)>,
}

impl Noted {
    /// Nothing noted yet of spans that come at a time.
    pub fn at(now: TimestampNs) -> Noted {
        Noted {
            now,
            ..Noted::default()
        }
    }
}

/// Encoded labels in [`Noted::text`], with their hash.
#[derive(Clone, Copy, Debug)]
struct Text {
    start: u32,
    end: u32,
    hash: u64,
}

impl Text {
    fn of(self, text: &[u8]) -> &[u8] {
        &text[self.start as usize..self.end as usize]
    }
}

/// Totals on the way to the storage, a part at a time.
pub(crate) struct Collection {
    moment: Moment,
    described: bool,
    parts: [(&'static Shape, Vec<String>, std::vec::IntoIter<Row>); 2],
    /// The rows are copies, until all are appended.
    _held: Reservation,
}

impl Derived {
    /// Nothing counted yet. What is held is taken from the budget, also beyond it: how much that may be is bounded by the
    /// options, and the receivers take nothing more in while there is none left.
    pub fn new(options: &DerivedMetrics, now: TimestampNs, budget: &Budget) -> Derived {
        let wait_s = i64::try_from(options.service_graphs_wait.as_secs()).unwrap_or(i64::MAX);
        Derived {
            labels: options
                .span_metrics
                .then(|| Labels::new(&options.span_metrics_dimensions)),
            sides: options
                .service_graphs
                .then(|| Sides::new(&options.service_graphs_dimensions)),
            interval_ms: i64::try_from(options.interval.as_millis()).unwrap_or(i64::MAX),
            state: Mutex::new(State {
                spans: Table::new(&span_metrics::SHAPE),
                graph: Table::new(&service_graph::SHAPE),
                edges: Edges::new(wait_s, options.service_graphs_max_items),
                room: options.max_series,
                collected: now.floor_ms(),
                described: false,
                outside: 0,
                over_limit: 0,
                held: budget.take(0),
            }),
            budget: budget.clone(),
        }
    }

    /// What a span counts for.
    pub fn note(&self, noted: &mut Noted, span: &Span) {
        if self.labels.is_none() && self.sides.is_none() {
            return;
        }
        if span.end.0.abs_diff(noted.now.0) > SLACK_NS {
            noted.outside += 1;
            return;
        }
        if noted.text.len() > TEXT_BYTES_MAX {
            noted.over_limit += 1;
            return;
        }
        let known = noted
            .last
            .as_ref()
            .is_some_and(|(resource, _)| Arc::ptr_eq(resource, &span.resource));
        if !known {
            noted.last = Some((span.resource.clone(), span.resource.service_name().to_owned()));
        }
        let service = noted.last.as_ref().map_or("", |(_, service)| service);
        if let Some(labels) = &self.labels {
            noted.spans.push(labels.note(span, service, &mut noted.text));
        }
        if let Some(sides) = &self.sides {
            noted.halves.extend(sides.note(span, service, &mut noted.text));
        }
    }

    /// Counts what was noted.
    pub fn count(&self, noted: &Noted) {
        let now = noted.now.floor_ms();
        let state = &mut *self.state();
        state.outside += noted.outside;
        state.over_limit += noted.over_limit;
        for span in &noted.spans {
            let labels = span.labels.of(&noted.text);
            match state.spans.row(labels, span.labels.hash, now, &mut state.room) {
                Some((row, is_own)) => {
                    span.count(row);
                    state.over_limit += u64::from(!is_own);
                }
                None => state.over_limit += 1,
            }
        }
        let mut counting = Counting {
            table: &mut state.graph,
            room: &mut state.room,
            now,
        };
        for half in &noted.halves {
            state.edges.add(half, &noted.text, &mut counting);
        }
        state.hold();
    }

    /// Lets edges expire; then, if the interval has passed or `all` is asked for, what there is to append.
    pub fn collect(&self, now: TimestampNs, all: bool) -> Option<Collection> {
        let t = now.floor_ms();
        let state = &mut *self.state();
        let mut counting = Counting {
            table: &mut state.graph,
            room: &mut state.room,
            now: t,
        };
        state.edges.expire(&mut counting);
        state.hold();
        // A clock that was set back is the new time.
        state.collected = state.collected.min(t);
        let passed = t.0.saturating_sub(state.collected.0);
        if passed == 0 || (passed < self.interval_ms && !all) {
            return None;
        }
        state.edges.forget_nodes();
        let minute = t.0.div_euclid(60_000).saturating_mul(60_000);
        let moment = Moment {
            t,
            zero: TimestampMs(
                minute
                    .saturating_sub(1)
                    .max(state.collected.0.saturating_add(1))
                    .min(t.0 - 1),
            ),
            idle: TimestampMs(t.0.saturating_sub(IDLE_MS)),
        };
        state.collected = t;
        let copies = self.budget.take((state.spans.bytes() + state.graph.bytes()) as u64);
        let spans = state.spans.collect(moment, &mut state.room);
        let graph = state.graph.collect(moment, &mut state.room);
        state.hold();
        if spans.is_empty() && graph.is_empty() {
            return None;
        }
        let part = |shape: &'static Shape, rows: Vec<Row>| (shape, bucket_labels(shape.bounds), rows.into_iter());
        Some(Collection {
            moment,
            described: std::mem::replace(&mut state.described, true),
            parts: [part(&span_metrics::SHAPE, spans), part(&service_graph::SHAPE, graph)],
            _held: copies,
        })
    }

    /// Counters.
    pub fn stats(&self) -> DerivedStats {
        let state = self.state();
        DerivedStats {
            series: (state.spans.series() + state.graph.series()) as u64,
            open_edges: state.edges.open() as u64,
            spans_outside: state.outside,
            over_limit: state.over_limit + state.edges.over_limit,
            unpaired: state.edges.unpaired,
            dropped: state.edges.dropped,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hold(&mut self) {
        let bytes = self.spans.bytes() + self.graph.bytes() + self.edges.bytes();
        self.held.resize(bytes as u64);
    }
}

impl Iterator for Collection {
    type Item = SampleBatch;

    fn next(&mut self) -> Option<SampleBatch> {
        let mut batch = SampleBatch::default();
        if !std::mem::replace(&mut self.described, true) {
            for (family, kind) in self.parts.iter().flat_map(|(shape, _, _)| shape.families()) {
                let metadata = MetricMetadata {
                    kind,
                    unit: String::new(),
                    help: family.help.to_owned(),
                };
                batch.metadata(family.name, metadata);
            }
        }
        for (shape, bucket_labels, rows) in &mut self.parts {
            for row in rows.take(BATCH_ROWS) {
                row.write(shape, bucket_labels, self.moment, &mut batch);
            }
        }
        (!batch.is_empty()).then_some(batch)
    }
}

fn seen(span: &Span) -> Seen {
    Seen {
        trace: span.trace_id,
        t: span.end.floor_ms(),
    }
}
