//! Blocks of spans read by a program that knows nothing of Trilobite.

use std::process::Command;

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use prost::Message;
use serde_json::json;
use trilobite_tests::{Trilobite, python, repository, request};

use crate::senders::{self, ITEMS};

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue {
            value: Some(Value::StringValue(value.to_owned())),
        }),
        ..KeyValue::default()
    }
}

#[test]
fn duckdb_counts_spans_by_service() {
    const RUN: u64 = 9;
    let dir = tempfile::tempdir().unwrap();
    let server = Trilobite::start(dir.path(), &["--enable-admin-api"]).unwrap();
    let now = senders::now_ns() - 60_000_000_000;
    // Three traces of one service, two of another, one of them sent twice and in a block of its own the second time.
    for (n, service) in [
        (0, "cart"),
        (1, "cart"),
        (2, "cart"),
        (3, "shop"),
        (4, "shop"),
        (4, "shop"),
    ] {
        let mut batch = senders::spans(RUN, n, now);
        let group = &mut batch.resource_spans[0];
        group.resource.as_mut().unwrap().attributes = vec![text("service.name", service)];
        // One span in a hundred is too few for a column of its own.
        if n == 0 {
            group.scope_spans[0].spans[1].attributes = vec![text("note", "rare, \"quoted\"")];
        }
        let sent = request(
            server.otlp_http(),
            "POST",
            "/v1/traces",
            &[("Content-Type", "application/x-protobuf")],
            &batch.encode_to_vec(),
        );
        assert_eq!(sent.unwrap().status, 200);
        if n >= 3 {
            let flushed = request(server.prometheus(), "POST", "/api/v1/admin/flush", &[], b"").unwrap();
            assert_eq!(flushed.status, 204, "{}", flushed.text());
        }
    }
    let output = Command::new(python().unwrap())
        .arg(repository().join("tests/clients/sql_over_blocks.py"))
        .arg(dir.path())
        .arg(repository().join("storage/traces/SCHEMA.md"))
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{err}");
    let told: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let ids: Vec<_> = (0..5)
        .map(|n| json!([senders::trace_id(RUN, n).to_uppercase(), ITEMS]))
        .collect();
    let want = json!({
        "by_service": {"cart": 3 * ITEMS, "shop": 2 * ITEMS},
        "roots": 5,
        "ids": ids,
        "below_root": 5 * (ITEMS - 1),
        "longest_ns": 500_000,
        "years": [[true]],
        "notes": [["rare, \"quoted\""]],
    });
    assert_eq!(told, want);
}
