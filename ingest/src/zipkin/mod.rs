//! Zipkin: version 2 in JSON and protobuf, version 1 in JSON and Thrift.
//!
//! Each encoding becomes [`ZipkinSpan`]s (`json.rs`, `protobuf.rs`, `version1.rs`), which `translate.rs` makes into OTLP's
//! spans. A span that cannot be used is refused alone; Zipkin's clients hear only of requests that are refused as a whole.

mod json;
mod protobuf;
pub(crate) mod routes;
#[cfg(test)]
mod tests;
pub(crate) mod translate;
pub(crate) mod version1;

use std::net::IpAddr;

/// A request may unfold to this many times the largest body before it is refused.
const UNFOLD_MAX: usize = 4;

/// Most tags, and most annotations, of one span; the rest counts as dropped.
const PARTS_MAX: usize = 1000;

/// Which side of a call a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Client,
    Server,
    Producer,
    Consumer,
}

/// One side of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Possibly empty.
    pub service: String,
    pub ipv4: Option<IpAddr>,
    pub ipv6: Option<IpAddr>,
    /// 0: not known.
    pub port: u16,
}

/// A span as version 2 has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ZipkinSpan {
    pub trace_id: u128,
    pub id: u64,
    pub parent: Option<u64>,
    pub kind: Option<Kind>,
    pub name: String,
    /// µs since the epoch; `None`: the sender did not know.
    pub timestamp: Option<u64>,
    /// µs.
    pub duration: u64,
    pub local: Endpoint,
    pub remote: Endpoint,
    /// µs since the epoch, and what happened.
    pub annotations: Vec<(u64, String)>,
    pub dropped_annotations: u32,
    pub tags: Vec<(String, String)>,
    pub dropped_tags: u32,
}

impl ZipkinSpan {
    /// Adds a tag, unless there are too many.
    fn tag(&mut self, key: String, value: String) {
        if self.tags.len() < PARTS_MAX {
            self.tags.push((key, value));
        } else {
            self.dropped_tags = self.dropped_tags.saturating_add(1);
        }
    }

    /// Adds an annotation, unless there are too many.
    fn annotate(&mut self, timestamp: u64, value: String) {
        if self.annotations.len() < PARTS_MAX {
            self.annotations.push((timestamp, value));
        } else {
            self.dropped_annotations = self.dropped_annotations.saturating_add(1);
        }
    }
}

/// About how many bytes tags and annotations take as attributes and events.
fn text_bytes(tags: &[(String, String)], annotations: &[(u64, String)]) -> usize {
    let tags: usize = tags.iter().map(|(k, v)| 64 + k.len() + v.len()).sum();
    let annotations: usize = annotations.iter().map(|(_, v)| 128 + v.len()).sum();
    tags + annotations
}
