//! A rule's expression: parsed once, asked at every evaluation, in either dialect.

use std::sync::Arc;

use model::{Histogram, LabelSet, TimestampMs};
use query_exec::Context;
use storage::Storage;

use crate::Settings;
use crate::group::Dialect;
use crate::templates::TemplateSample;

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Expression {
    PromQl(query_promql::Query),
    LogQl(query_logql::Query),
}

/// One element of a result.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub labels: LabelSet,
    pub value: ElementValue,
}

/// Its value.
#[derive(Clone, Debug)]
pub(crate) enum ElementValue {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl ElementValue {
    /// The histogram, if it is one.
    pub fn histogram(&self) -> Option<Arc<Histogram>> {
        match self {
            ElementValue::Float(_) => None,
            ElementValue::Histogram(h) => Some(h.clone()),
        }
    }

    /// As a number; a histogram has none and counts as 0.
    pub fn as_float(&self) -> f64 {
        match self {
            ElementValue::Float(v) => *v,
            ElementValue::Histogram(_) => 0.0,
        }
    }
}

const NO_VECTOR: &str = "rule result is not a vector or scalar";

impl Expression {
    /// Parses.
    pub fn parse(dialect: Dialect, text: &str) -> Result<Expression, String> {
        match dialect {
            Dialect::PromQl => {
                let query = query_promql::Query::parse(text).map_err(|e| e.to_string())?;
                Ok(Expression::PromQl(query))
            }
            Dialect::LogQl => {
                let query = query_logql::Query::parse(text).map_err(|e| e.to_string())?;
                Ok(Expression::LogQl(query))
            }
        }
    }

    /// In canonical form, on one line.
    pub fn canonical(&self) -> String {
        match self {
            Expression::PromQl(query) => query.to_string(),
            Expression::LogQl(query) => query.to_string(),
        }
    }

    /// Its value at an instant, under a context that others may cancel; a number becomes an element without labels.
    pub fn evaluate(
        &self,
        context: &Context,
        storage: &Storage,
        at_ms: i64,
        settings: &Settings,
    ) -> Result<Vec<Element>, String> {
        match self {
            Expression::PromQl(query) => {
                let at = TimestampMs(at_ms);
                let output = query.instant(context, storage.metrics(), at, settings.promql);
                metric_elements(output.map_err(|e| e.to_string())?.value)
            }
            Expression::LogQl(query) => {
                let at = TimestampMs(at_ms).to_ns();
                let options = query_logql::Options {
                    limit: 0,
                    direction: query_logql::Direction::Backward,
                };
                let output = query.instant(context, storage.logs(), at, options);
                log_elements(output.map_err(|e| e.to_string())?.value)
            }
        }
    }
}

/// What `query` in a template answers: `text` at an instant, in a dialect.
pub(crate) fn query_for_template(
    dialect: Dialect,
    text: &str,
    context: &Context,
    storage: &Storage,
    at_ms: i64,
    settings: &Settings,
) -> Result<Vec<TemplateSample>, String> {
    let elements = Expression::parse(dialect, text)?.evaluate(context, storage, at_ms, settings)?;
    let samples = elements.into_iter().map(|element| TemplateSample {
        value: element.value.as_float(),
        histogram: element.value.histogram(),
        labels: element.labels,
    });
    Ok(samples.collect())
}

fn metric_elements(value: query_promql::Value) -> Result<Vec<Element>, String> {
    match value {
        query_promql::Value::Scalar(_, v) => Ok(vec![number(v)]),
        query_promql::Value::Vector(series) => {
            let elements = series.into_iter().filter_map(|series| {
                let value = match (series.points.first(), series.histograms.into_iter().next()) {
                    (Some((_, v)), _) => ElementValue::Float(*v),
                    (None, Some((_, h))) => ElementValue::Histogram(h),
                    (None, None) => return None,
                };
                let labels = series.labels;
                Some(Element { labels, value })
            });
            Ok(elements.collect())
        }
        query_promql::Value::String(..) | query_promql::Value::Matrix(_) => Err(NO_VECTOR.to_owned()),
    }
}

fn log_elements(value: query_logql::Value) -> Result<Vec<Element>, String> {
    match value {
        query_logql::Value::Scalar(_, v) => Ok(vec![number(v)]),
        query_logql::Value::Vector(series) => {
            let elements = series.into_iter().filter_map(|series| {
                let (_, v) = series.points.first()?;
                Some(Element {
                    // LogQL tells labels without a value from absent ones; a stored series cannot.
                    labels: LabelSet::from_pairs(series.labels.iter()),
                    value: ElementValue::Float(*v),
                })
            });
            Ok(elements.collect())
        }
        query_logql::Value::Streams(_) | query_logql::Value::Matrix(_) => Err(NO_VECTOR.to_owned()),
    }
}

fn number(v: f64) -> Element {
    Element {
        labels: LabelSet::empty(),
        value: ElementValue::Float(v),
    }
}
