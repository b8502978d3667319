//! Exemplars of OTLP data points: `trace_id` and `span_id` always, the filtered attributes if there is room for them.

use std::borrow::Cow;

use model::{Exemplar, LabelSet, TimestampMs};

use super::any_value::{BadValue, read_pair};
use super::metric_labels::Pair;
use super::metrics::ms_of;
use crate::wire::Fields;

/// Characters of an exemplar's label set, names and values.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// Reads an exemplar of a sample at `sample_t`. The ids come first and always; the filtered attributes only if all of it
/// stays within the bound.
pub(crate) fn read_exemplar(message: &[u8], sample_t: TimestampMs) -> Result<Exemplar, BadValue> {
    let (mut t, mut value) = (TimestampMs(0), 0.0);
    let (mut span_id, mut trace_id): (&[u8], &[u8]) = (&[], &[]);
    let mut labels: Vec<Pair<'_>> = Vec::new();
    for field in Fields::new(message) {
        let field = field?;
        match field.number {
            2 => t = ms_of(field.fixed64()?),
            3 => value = field.double()?,
            6 => value = field.fixed64()? as i64 as f64,
            4 => span_id = field.bytes()?,
            5 => trace_id = field.bytes()?,
            7 if labels.len() < EXEMPLAR_CHARS_MAX => {
                let (key, value) = read_pair(field.bytes()?)?;
                labels.push((key, value.into_text()?));
            }
            _ => {}
        }
    }
    let mut ids: Vec<Pair<'_>> = Vec::new();
    if let Some(id) = model::TraceId::from_wire(trace_id) {
        ids.push((Cow::Borrowed("trace_id"), Cow::Owned(id.to_string())));
    }
    if let Some(id) = model::SpanId::from_wire(span_id) {
        ids.push((Cow::Borrowed("span_id"), Cow::Owned(id.to_string())));
    }
    let chars = |(name, value): &Pair<'_>| name.chars().count() + value.chars().count();
    let total: usize = ids.iter().chain(&labels).map(chars).sum();
    if total > EXEMPLAR_CHARS_MAX {
        labels.clear();
    }
    labels.append(&mut ids);
    Ok(Exemplar {
        labels: LabelSet::from_pairs(labels),
        value,
        t: if t.0 == 0 { sample_t } else { t },
    })
}
