//! Whether an answer is the expected one.

use anyhow::{bail, ensure};
use model::{Histogram, LabelSet, TimestampMs, is_stale};
use query_exec::text_of;
use query_promql::{Output, Series, Value as Answer};
use query_rules::notation::Value;

use crate::script::{Expects, Notes};

/// Annotations of both kinds.
pub fn annotations(output: &Output, expects: &Expects) -> anyhow::Result<()> {
    notes("warning", &output.warnings, &expects.warnings)?;
    notes("info", &output.infos, &expects.infos)
}

fn notes(kind: &str, found: &[String], expected: &Notes) -> anyhow::Result<()> {
    if expected.none {
        ensure!(found.is_empty(), "no {kind} is expected, there is {:?}", found[0]);
    }
    if expected.some {
        ensure!(!found.is_empty(), "a {kind} is expected, there is none");
    }
    if !expected.each.is_empty() {
        for words in &expected.each {
            ensure!(
                found.iter().any(|f| words.meets(f)),
                "an expected {kind} is missing; there is {found:?}"
            );
        }
        for f in found {
            let met = expected.each.iter().any(|words| words.meets(f));
            ensure!(met, "the {kind} {f:?} is not expected");
        }
    }
    Ok(())
}

/// The answer of an instant evaluation.
pub fn instant(answer: &Answer, expects: &Expects) -> anyhow::Result<()> {
    if let Some(want) = &expects.string {
        return match answer {
            Answer::String(_, found) => {
                ensure!(found == want, "the string is {found:?}");
                Ok(())
            }
            other => bail!("a string is expected, not {other:?}"),
        };
    }
    if let Some((start, end, step)) = expects.range_vector {
        return match answer {
            Answer::Matrix(found) => matrix(found, &expects.series, start, end, step),
            other => bail!("a range vector is expected, not {other:?}"),
        };
    }
    match (answer, expects.scalar) {
        (Answer::Scalar(_, v), Some(want)) => {
            ensure!(close(*v, want), "the scalar is {v}, not {want}");
            Ok(())
        }
        (other, Some(_)) => bail!("a scalar is expected, not {other:?}"),
        (Answer::Vector(found), None) => vector(found, expects),
        (other, None) => bail!("a vector is expected, not {other:?}"),
    }
}

fn vector(found: &[Series], expects: &Expects) -> anyhow::Result<()> {
    for (place, (labels, values)) in expects.series.iter().enumerate() {
        let [value] = &values[..] else {
            bail!("an instant result has one value: {labels}")
        };
        let Some(at) = found.iter().position(|s| s.labels == *labels) else {
            bail!("{labels} is missing; there is {:?}", labels_of(found));
        };
        if expects.ordered {
            ensure!(at == place, "{labels} is at place {at}, not {place}");
        }
        let t = times_of(&found[at]).next();
        same(labels, 0, t.and_then(|t| sample(&found[at], t)), value)?;
    }
    ensure!(
        found.len() == expects.series.len(),
        "{} elements are expected, there is {:?}",
        expects.series.len(),
        labels_of(found)
    );
    Ok(())
}

fn labels_of(found: &[Series]) -> Vec<String> {
    let text = |s: &Series| {
        let first = times_of(s).next().and_then(|t| sample(s, t));
        format!("{} {}", s.labels, first.map_or_else(String::new, |f| f.text()))
    };
    found.iter().take(8).map(text).collect()
}

/// A sample of either kind.
#[derive(Clone, Copy)]
enum Found<'a> {
    Float(f64),
    Histogram(&'a Histogram),
}

impl Found<'_> {
    fn text(&self) -> String {
        match self {
            Found::Float(v) => v.to_string(),
            Found::Histogram(h) => format!("{} {:?}", text_of(h), h.reset),
        }
    }
}

fn times_of(series: &Series) -> impl Iterator<Item = TimestampMs> {
    let histograms = series.histograms.iter().map(|p| p.0);
    series.points.iter().map(|p| p.0).chain(histograms)
}

fn sample(series: &Series, t: TimestampMs) -> Option<Found<'_>> {
    let float = series.points.iter().find(|p| p.0 == t).map(|p| Found::Float(p.1));
    let histogram = || {
        series
            .histograms
            .iter()
            .find(|p| p.0 == t)
            .map(|p| Found::Histogram(&p.1))
    };
    float.or_else(histogram)
}

/// Series with values along the steps.
pub fn matrix(
    found: &[Series],
    expected: &[(LabelSet, Vec<Value>)],
    start: i64,
    end: i64,
    step: i64,
) -> anyhow::Result<()> {
    ensure!(found.is_sorted_by(|a, b| a.labels < b.labels), "series are not sorted");
    let steps = ((end - start) / step + 1) as usize;
    for (labels, values) in expected {
        ensure!(values.len() <= steps, "{labels} has more values than steps");
        let series = found.iter().find(|s| s.labels == *labels);
        let all_absent = values.iter().all(|v| *v == Value::None);
        let Some(series) = series else {
            ensure!(all_absent, "{labels} is missing; there is {:?}", labels_of(found));
            continue;
        };
        for i in 0..steps {
            let at = start + step * i as i64;
            let found = sample(series, TimestampMs(at));
            same(labels, at, found, values.get(i).unwrap_or(&Value::None))?;
        }
        let inside = |t: i64| t >= start && t <= end && (t - start) % step == 0;
        let stray = times_of(series).find(|t| !inside(t.0));
        ensure!(stray.is_none(), "{labels} has a sample off the grid: {stray:?}");
    }
    let wanted = expected
        .iter()
        .filter(|(_, v)| v.iter().any(|v| *v != Value::None))
        .count();
    ensure!(
        found.len() == wanted,
        "{wanted} series are expected, there is {:?}",
        labels_of(found)
    );
    Ok(())
}

/// The step at `at` of a range result against what an instant evaluation is expected to give.
pub fn middle(found: &[Series], at: i64, expects: &Expects) -> anyhow::Result<()> {
    ensure!(found.is_sorted_by(|a, b| a.labels < b.labels), "series are not sorted");
    let there: Vec<Series> = found
        .iter()
        .filter_map(|s| {
            let mut s = s.clone();
            s.points.retain(|p| p.0.0 == at);
            s.histograms.retain(|p| p.0.0 == at);
            let there = times_of(&s).next().is_some();
            there.then_some(s)
        })
        .collect();
    match expects.scalar {
        None => vector(&there, expects),
        Some(want) => match &there[..] {
            [one] if one.labels.is_empty() && one.points.first().is_some_and(|p| close(p.1, want)) => Ok(()),
            _ => bail!("the scalar {want} is expected, there is {:?}", labels_of(&there)),
        },
    }
}

fn same(labels: &LabelSet, at: i64, found: Option<Found<'_>>, expected: &Value) -> anyhow::Result<()> {
    let alike = match (found, expected) {
        (None, Value::None) => true,
        (Some(Found::Float(v)), Value::Float(want)) => close(v, *want),
        (Some(Found::Histogram(h)), Value::Histogram(want, named)) => same_histogram(h, want, *named),
        _ => false,
    };
    let want = match expected {
        Value::None => String::from("nothing"),
        Value::Float(v) => v.to_string(),
        Value::Histogram(h, _) => Found::Histogram(h).text(),
    };
    let found = found.map_or(String::from("nothing"), |f| f.text());
    ensure!(alike, "{labels} at {at} ms is {found}, not {want}");
    Ok(())
}

fn same_histogram(found: &Histogram, want: &Histogram, hinted: bool) -> bool {
    let (mut a, mut b) = (found.clone(), want.clone());
    a.compact();
    b.compact();
    let all = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(*a, *b));
    (!hinted || a.reset == b.reset)
        && a.schema == b.schema
        && all(&a.bounds, &b.bounds)
        && a.positive.spans == b.positive.spans
        && a.negative.spans == b.negative.spans
        && all(&a.positive.counts, &b.positive.counts)
        && all(&a.negative.counts, &b.negative.counts)
        && all(
            &[a.zero_threshold, a.zero_count, a.count, a.sum],
            &[b.zero_threshold, b.zero_count, b.count, b.sum],
        )
}

fn close(a: f64, b: f64) -> bool {
    const EPSILON: f64 = 1e-6;
    if is_stale(a) || is_stale(b) {
        return is_stale(a) && is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < EPSILON * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < EPSILON
}
