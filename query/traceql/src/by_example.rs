//! Traces by example, as Jaeger asks for them: one span of the trace shows a service, an operation, tags as text and a
//! duration. A tag is looked for on the span, on its resource and in its events, and fields of the span answer to the
//! names that Jaeger has for them.

use model::{AttributeValue, KeyValue, Span, SpanKind, StatusCode, TimeRangeNs};
use query_exec::ExecError;
use storage_traces::{AttributeScope, Condition, Field as StoredField, Projection, ScanRequest, Test};

use crate::run::Spanset;
use crate::search::Question;
use crate::syntax::{Field, kind_text};
use crate::value::Value;
use crate::view::View;

/// What one span shall show.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanExample {
    /// It starts within.
    pub range: TimeRangeNs,
    /// Its service; empty: any.
    pub service: String,
    /// Its name; empty: any.
    pub operation: String,
    /// Tags and their values as text; all must be there.
    pub tags: Vec<(String, String)>,
    /// It lasts at least this long, ns.
    pub min_duration_ns: Option<u64>,
    /// It lasts at most this long, ns.
    pub max_duration_ns: Option<u64>,
}

impl SpanExample {
    /// What storage may use to leave out traces.
    pub(crate) fn request(&self) -> ScanRequest {
        let text = |field, text: &str| Condition {
            field,
            test: Test::In(vec![AttributeValue::Str(text.to_owned())]),
        };
        let mut conditions = Vec::new();
        if !self.service.is_empty() {
            let service = StoredField::Attribute(AttributeScope::Resource, "service.name".to_owned());
            conditions.push(text(service, &self.service));
        }
        if !self.operation.is_empty() {
            conditions.push(text(StoredField::Name, &self.operation));
        }
        let bound = |test| Condition {
            field: StoredField::Duration,
            test,
        };
        // Rounded outward, because large numbers of ns are no exact floats.
        conditions.extend(
            self.min_duration_ns
                .map(|ns| bound(Test::AtLeast((ns as f64).next_down()))),
        );
        conditions.extend(
            self.max_duration_ns
                .map(|ns| bound(Test::AtMost((ns as f64).next_up()))),
        );
        ScanRequest {
            any_of: if conditions.is_empty() {
                Vec::new()
            } else {
                vec![conditions]
            },
            attributes: if self.tags.is_empty() {
                Projection::Only(Vec::new())
            } else {
                Projection::All
            },
            events: !self.tags.is_empty(),
            links: false,
            lean: false,
        }
    }

    fn is_shown_by(&self, span: &Span) -> bool {
        let duration = span.duration_ns();
        self.range.contains(span.start)
            && (self.operation.is_empty() || span.name == self.operation)
            && (self.service.is_empty() || span.resource.service_name() == self.service)
            && self.min_duration_ns.is_none_or(|min| duration >= min)
            && self.max_duration_ns.is_none_or(|max| duration <= max)
            && self.tags.iter().all(|(key, wanted)| shows(span, key, wanted))
    }
}

impl Question for SpanExample {
    fn ask(&self, view: &View<'_>) -> Result<Vec<Spanset>, ExecError> {
        let spans = view.spans.iter().enumerate();
        let matching: Vec<u32> = spans
            .filter(|(_, span)| self.is_shown_by(span))
            .map(|(at, _)| at as u32)
            .collect();
        if matching.is_empty() {
            return Ok(Vec::new());
        }
        Ok(vec![Spanset {
            spans: matching,
            ..Spanset::default()
        }])
    }

    fn needs_tree(&self) -> bool {
        false
    }

    fn shown(&self) -> &[Field] {
        &[]
    }
}

fn shows(span: &Span, key: &str, wanted: &str) -> bool {
    let field = match key {
        "error" => Some((span.status == StatusCode::Error).to_string()),
        "span.kind" if span.kind != SpanKind::Unspecified => Some(kind_text(span.kind).to_owned()),
        "otel.status_code" => match span.status {
            StatusCode::Unset => None,
            StatusCode::Ok => Some("OK".to_owned()),
            StatusCode::Error => Some("ERROR".to_owned()),
        },
        "otel.status_description" => Some(span.status_message.clone()),
        "otel.scope.name" | "otel.library.name" => Some(span.scope.name.clone()),
        "otel.scope.version" | "otel.library.version" => Some(span.scope.version.clone()),
        "w3c.tracestate" => Some(span.trace_state.clone()),
        _ => None,
    };
    let has = |attributes: &[KeyValue]| {
        attributes
            .iter()
            .any(|kv| kv.key == key && Value::of(&kv.value).to_text() == wanted)
    };
    field.is_some_and(|text| text == wanted)
        || has(&span.attributes)
        || has(&span.resource.attributes)
        || span
            .events
            .iter()
            .any(|event| has(&event.attributes) || (key == "event" && event.name == wanted))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use model::{Event, Resource, TimestampNs};

    use super::*;

    fn span() -> Span {
        Span {
            name: "GET".to_owned(),
            kind: SpanKind::Server,
            status: StatusCode::Error,
            start: TimestampNs(100),
            end: TimestampNs(150),
            attributes: vec![
                KeyValue::new("http.status_code", AttributeValue::Int(500)),
                KeyValue::new("slow", AttributeValue::Bool(true)),
            ],
            events: vec![Event {
                name: "retry".to_owned(),
                attributes: vec![KeyValue::new("try", AttributeValue::Double(1.5))],
                ..Event::default()
            }],
            resource: Arc::new(Resource {
                attributes: vec![
                    KeyValue::new("service.name", "shop".into()),
                    KeyValue::new("host.name", "vm".into()),
                ],
                ..Resource::default()
            }),
            ..Span::default()
        }
    }

    fn check(change: impl FnOnce(&mut SpanExample), want: bool) {
        let mut example = SpanExample {
            range: TimeRangeNs {
                start: TimestampNs(100),
                end: TimestampNs(101),
            },
            service: "shop".to_owned(),
            operation: String::new(),
            tags: Vec::new(),
            min_duration_ns: None,
            max_duration_ns: None,
        };
        change(&mut example);
        assert_eq!(example.is_shown_by(&span()), want, "{example:?}");
    }

    #[test]
    fn all_that_is_asked_must_be_shown() {
        check(|_| {}, true);
        check(|e| e.service = "db".to_owned(), false);
        check(|e| e.service = String::new(), true);
        check(|e| e.operation = "GET".to_owned(), true);
        check(|e| e.operation = "get".to_owned(), false);
        check(|e| e.min_duration_ns = Some(50), true);
        check(|e| e.min_duration_ns = Some(51), false);
        check(|e| e.max_duration_ns = Some(49), false);
        check(|e| e.range.end = TimestampNs(100), false);
    }

    #[test]
    fn tags_are_text_wherever_they_stand() {
        for (key, value, want) in [
            ("http.status_code", "500", true),
            ("http.status_code", "50", false),
            ("slow", "true", true),
            ("host.name", "vm", true),
            ("try", "1.5", true),
            ("event", "retry", true),
            ("error", "true", true),
            ("error", "false", false),
            ("span.kind", "server", true),
            ("otel.status_code", "ERROR", true),
            ("absent", "", false),
        ] {
            check(|e| e.tags.push((key.to_owned(), value.to_owned())), want);
        }
    }
}
