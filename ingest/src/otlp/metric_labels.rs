//! Labels of OTLP metrics: what attributes of points, resources and scopes become, and who wins.
//!
//! Later ones win: promoted resource attributes, the point's own, `job` and `instance`, the scope's, `le` or `quantile`,
//! the metric's name.

use std::borrow::Cow;

use model::{METRIC_NAME, TimestampMs};

use super::translation::OtlpMetrics;

/// A name and a value.
pub(crate) type Pair<'a> = (Cow<'a, str>, Cow<'a, str>);

/// Resource attributes that `job` and `instance` are made of.
const IDENTIFYING: [&str; 3] = ["service.namespace", "service.name", "service.instance.id"];

/// Who the samples come from.
#[derive(Default)]
pub(crate) struct Origin<'a> {
    pub job: String,
    pub instance: String,
    /// Attributes that become labels of every series.
    pub promoted: Vec<Pair<'a>>,
    /// Attributes that `target_info` carries; empty if it is not to be written.
    pub info: Vec<Pair<'a>>,
    /// Labels from the scope.
    pub scope: Vec<Pair<'a>>,
    /// First and last sample of this resource.
    pub seen: Option<(i64, i64)>,
}

impl<'a> Origin<'a> {
    /// Of a resource's attributes.
    pub fn new(attributes: Vec<Pair<'a>>, options: &OtlpMetrics) -> Origin<'a> {
        let text = |key: &str| {
            let found = attributes.iter().rev().find(|(k, _)| k == key);
            found.map_or("", |(_, value)| value.as_ref())
        };
        let (namespace, name) = (text("service.namespace"), text("service.name"));
        let job = match (namespace.is_empty(), name.is_empty()) {
            (_, true) => String::new(),
            (true, false) => name.to_owned(),
            (false, false) => format!("{namespace}/{name}"),
        };
        let instance = text("service.instance.id").to_owned();
        let promoted = attributes.iter().filter(|(key, _)| options.promotes(key)).cloned();
        let promoted = as_labels(promoted.collect(), options);
        let mut info = attributes;
        let identifies = |key: &str| IDENTIFYING.contains(&key);
        let says_more = (info.iter()).any(|(key, value)| !identifies(key) && !value.is_empty());
        if says_more {
            info.retain(|(key, _)| options.keep_identifying_resource_attributes || !identifies(key));
        } else {
            info.clear();
        }
        Origin {
            job,
            instance,
            promoted,
            info: as_labels(info, options),
            scope: Vec::new(),
            seen: None,
        }
    }

    /// A sample was taken.
    pub fn saw(&mut self, t: TimestampMs) {
        let (first, last) = self.seen.unwrap_or((t.0, t.0));
        self.seen = Some((first.min(t.0), last.max(t.0)));
    }
}

/// Labels of a scope; none if it has no name.
pub(crate) fn scope_labels<'a>(
    name: Cow<'a, str>,
    version: Cow<'a, str>,
    schema_url: Cow<'a, str>,
    attributes: Vec<Pair<'a>>,
    options: &OtlpMetrics,
) -> Vec<Pair<'a>> {
    if name.is_empty() {
        return Vec::new();
    }
    let prefixed = |(key, value): Pair<'a>| (Cow::Owned(format!("otel_scope_{key}")), value);
    let mut labels = as_labels(attributes.into_iter().map(prefixed).collect(), options);
    let own = [
        ("otel_scope_name", name),
        ("otel_scope_version", version),
        ("otel_scope_schema_url", schema_url),
    ];
    labels.retain(|(name, _)| own.iter().all(|(own, _)| name != own));
    let own = own.into_iter().filter(|(_, value)| !value.is_empty());
    labels.extend(own.map(|(name, value)| (Cow::Borrowed(name), value)));
    labels
}

/// Attributes as labels: keys translated, of equal keys the last value, keys that fall together joined by `;` in the
/// order of the keys. `__name__` is not theirs to give, and an empty value is none.
pub(crate) fn as_labels<'a>(mut attributes: Vec<Pair<'a>>, options: &OtlpMetrics) -> Vec<Pair<'a>> {
    let plain = |(key, _): &Pair<'_>| matches!(options.label(Cow::Borrowed(key)), Cow::Borrowed(_));
    let usable = |(name, value): &Pair<'_>| name != METRIC_NAME && !name.is_empty() && !value.is_empty();
    if attributes.is_sorted_by(|a, b| a.0 < b.0) && attributes.iter().all(plain) {
        attributes.retain(usable);
        return attributes;
    }
    attributes.sort_by(|a, b| a.0.cmp(&b.0));
    // Of equal keys the last stays.
    attributes.reverse();
    attributes.dedup_by(|a, b| a.0 == b.0);
    attributes.reverse();
    let mut labels: Vec<Pair<'a>> = attributes
        .into_iter()
        .map(|(key, value)| (options.label(key), value))
        .collect();
    labels.retain(|(name, _)| name != METRIC_NAME);
    labels.sort_by(|a, b| a.0.cmp(&b.0));
    labels.dedup_by(|later, first| {
        let collides = later.0 == first.0;
        if collides {
            let joined = first.1.to_mut();
            joined.push(';');
            joined.push_str(&later.1);
        }
        collides
    });
    labels.retain(usable);
    labels
}
