//! Jaeger's three doors: gRPC (api_v2), Thrift over HTTP, and Thrift over UDP as its agent took it.
//!
//! Whatever the encoding, a request becomes [`Batch`]es (`thrift_batch.rs`, `protobuf.rs`), which `translate.rs` makes into
//! OTLP's spans; the doors are `routes.rs`, `grpc.rs` and `udp.rs`. `sampling.rs` tells old SDKs to sample everything.

pub(crate) mod grpc;
mod protobuf;
pub(crate) mod routes;
mod sampling;
#[cfg(test)]
mod tests;
mod thrift_batch;
mod translate;
pub(crate) mod udp;

pub(crate) use translate::span_kind;

use std::sync::Arc;

use model::{Event, KeyValue, Resource, TimestampNs};

/// A request may unfold to this many times the largest body before it is refused.
const UNFOLD_MAX: usize = 4;

/// Most tags, references and logs of one span, and fields of one log; the rest counts as dropped.
const PARTS_MAX: usize = 1000;

/// Who sent spans: `service.name` and tags.
#[derive(Clone, Debug, Default, PartialEq)]
struct Process {
    service: String,
    tags: Vec<KeyValue>,
}

/// How a span points at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    ChildOf,
    FollowsFrom,
}

/// A pointer at another span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reference {
    relation: Relation,
    trace_id: u128,
    span_id: u64,
}

/// A span as Jaeger has it, except that its resource is ready.
#[derive(Debug, Default)]
struct JaegerSpan {
    trace_id: u128,
    span_id: u64,
    /// 0: none.
    parent_id: u64,
    name: String,
    references: Vec<Reference>,
    start: TimestampNs,
    duration_ns: i64,
    tags: Vec<KeyValue>,
    dropped_tags: u32,
    /// The name is still among the attributes.
    logs: Vec<Event>,
    dropped_logs: u32,
    resource: Arc<Resource>,
}

/// Adds an item unless there are too many; then counts it as dropped.
fn push_bounded<T>(items: &mut Vec<T>, dropped: &mut u32, item: T) {
    if items.len() < PARTS_MAX {
        items.push(item);
    } else {
        *dropped = dropped.saturating_add(1);
    }
}

/// Jaeger counts in microseconds.
fn micros(us: i64) -> i64 {
    us.saturating_mul(1000)
}
