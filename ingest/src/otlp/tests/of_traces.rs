//! Which spans come out.

use super::*;

#[tokio::test]
async fn the_corpus_sample() {
    use model::{AttributeValue, SpanKind, StatusCode as Outcome};
    let Some(json) = corpus("otlp_traces.json") else { return };
    let (router, shelf) = http();
    let (status, _, body) = post(&router, "/v1/traces", &[JSON], json).await;
    assert_eq!((status, &body[..]), (StatusCode::OK, &b"{}"[..]));
    let spans = shelf.spans.lock();
    assert_eq!(spans.len(), 4);
    assert!(
        spans
            .iter()
            .all(|s| s.trace_id.to_string() == "4c7d1e90a2b35f6817d0c3e5a9f8b264")
    );
    let flask = &spans[1];
    assert_eq!((flask.kind, flask.status), (SpanKind::Server, Outcome::Error));
    assert_eq!(flask.status_message, "database is locked");
    assert_eq!(flask.start.0, 1_761_128_130_020_000_000);
    assert_eq!(flask.parent_span_id.unwrap().to_string(), "11aa22bb33cc44dd");
    assert_eq!((flask.events.len(), flask.events[0].name.as_str()), (1, "exception"));
    assert_eq!(flask.links[0].span_id.to_string(), "0a1b2c3d4e5f6071");
    assert_eq!(flask.resource.schema_url, "https://opentelemetry.io/schemas/1.21.0");
    assert_eq!(flask.scope.name, "opentelemetry.instrumentation.flask");
    assert!(Arc::ptr_eq(&spans[1].resource, &spans[3].resource));
    let tags = spans[2].attributes.iter().find(|a| a.key == "task.tags").unwrap();
    assert_eq!(tags.value, AttributeValue::Array(vec!["a".into(), "b".into()]));
    assert_eq!(spans[0].flags, 257);
}
