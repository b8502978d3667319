//! Whether an answer is the expected one.

use anyhow::{bail, ensure};
use model::{LabelSet, is_stale};
use query_promql::{Output, Series, Value as Answer};

use crate::script::{Expects, Notes};
use crate::series::Value;

/// Annotations of both kinds. `placed` says whether positions count.
pub fn annotations(output: &Output, expects: &Expects, placed: bool) -> anyhow::Result<()> {
    notes("warning", &output.warnings, &expects.warnings, placed)?;
    notes("info", &output.infos, &expects.infos, placed)
}

fn notes(kind: &str, found: &[String], expected: &Notes, placed: bool) -> anyhow::Result<()> {
    if expected.none {
        ensure!(found.is_empty(), "no {kind} is expected, there is {:?}", found[0]);
    }
    if expected.some {
        ensure!(!found.is_empty(), "a {kind} is expected, there is none");
    }
    if !expected.each.is_empty() && placed {
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
        let v = found[at].points.first().map(|p| p.1);
        same(labels, 0, v, value)?;
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
    let text = |s: &Series| format!("{} {:?}", s.labels, s.points.first().map(|p| p.1));
    found.iter().take(8).map(text).collect()
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
            let v = series.points.iter().find(|(t, _)| t.0 == at).map(|p| p.1);
            same(labels, at, v, values.get(i).unwrap_or(&Value::None))?;
        }
        let inside = |t: i64| t >= start && t <= end && (t - start) % step == 0;
        let stray = series.points.iter().find(|(t, _)| !inside(t.0));
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
            let point = s.points.iter().find(|(t, _)| t.0 == at)?;
            Some(Series {
                labels: s.labels.clone(),
                points: vec![*point],
            })
        })
        .collect();
    match expects.scalar {
        None => vector(&there, expects),
        Some(want) => match &there[..] {
            [one] if one.labels.is_empty() && close(one.points[0].1, want) => Ok(()),
            _ => bail!("the scalar {want} is expected, there is {:?}", labels_of(&there)),
        },
    }
}

fn same(labels: &LabelSet, at: i64, found: Option<f64>, expected: &Value) -> anyhow::Result<()> {
    match (found, expected) {
        (_, Value::Histogram(text)) => bail!("native histograms are not supported yet: {labels} {text}"),
        (None, Value::None) => Ok(()),
        (Some(v), Value::Float(want)) if close(v, *want) => Ok(()),
        (v, want) => bail!("{labels} at {at} ms is {v:?}, not {want:?}"),
    }
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
