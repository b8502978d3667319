//! The notation of samples that Prometheus' tests use: `metric{label="v"} 1 2+3x4 _ stale {{schema:1 count:2}}`. Rule tests
//! write their input in it, and so do the cases of the PromQL corpus.

mod histogram;

use model::{Histogram, LabelSet, MatchOp, stale_nan};

pub use histogram::histogram_text;

/// Text that is not in this notation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadNotation(String);

/// Says what is wrong with what.
fn bad(what: &str, why: impl std::fmt::Display) -> BadNotation {
    BadNotation(format!("{what}: {why}"))
}

/// One place of a series.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No sample.
    None,
    /// A number (or a staleness marker).
    Float(f64),
    /// A native histogram, and whether its reset hint is written.
    Histogram(Box<Histogram>, bool),
}

/// Most places that one line may describe.
const PLACES_MAX: usize = 1_000_000;

/// Label set and the text after it.
pub fn labels_and_rest(line: &str) -> Result<(LabelSet, &str), BadNotation> {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    let mut braces = false;
    let mut end = line.len();
    for (i, c) in line.char_indices() {
        match (quote, c) {
            _ if escaped => escaped = false,
            (Some('"' | '\''), '\\') => escaped = true,
            (Some(q), c) if q == c => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '{') => braces = true,
            (None, '}') => {
                end = i + 1;
                break;
            }
            (None, ' ' | '\t' | '@') if !braces => {
                end = i;
                break;
            }
            _ => {}
        }
    }
    let (metric, rest) = line.split_at(end);
    Ok((labels(metric)?, rest.trim()))
}

/// The labels of a series, which has `=` labels only; of an empty text none.
pub fn labels(metric: &str) -> Result<LabelSet, BadNotation> {
    if matches!(metric.replace([' ', '\t'], "").as_str(), "" | "{}") {
        return Ok(LabelSet::empty());
    }
    let matchers = query_promql::parse_selector(metric).map_err(|e| bad(&format!("series {metric:?}"), e))?;
    if matchers.iter().any(|m| m.op() != MatchOp::Equal) {
        return Err(bad(&format!("series {metric:?}"), "a series has `=` labels only"));
    }
    Ok(matchers
        .iter()
        .map(|m| (m.name().to_owned(), m.value().to_owned()))
        .collect())
}

/// All places of a series.
pub fn values(text: &str) -> Result<Vec<Value>, BadNotation> {
    let mut out = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = item_end(rest);
        item(&rest[..end], &mut out).map_err(|e| bad(&format!("value {:?}", &rest[..end]), e))?;
        if out.len() > PLACES_MAX {
            return Err(too_many());
        }
        rest = rest[end..].trim_start();
    }
    Ok(out)
}

/// Where the first item ends: at a blank outside of `{{ }}`.
fn item_end(text: &str) -> usize {
    let mut inside = 0;
    for (i, c) in text.char_indices() {
        match c {
            '{' => inside += 1,
            '}' => inside -= 1,
            ' ' | '\t' if inside <= 0 => return i,
            _ => {}
        }
    }
    text.len()
}

fn item(text: &str, out: &mut Vec<Value>) -> Result<(), BadNotation> {
    if text.contains("{{") {
        return histogram::series(text, out);
    }
    if let Some(n) = text.strip_prefix('_') {
        let n = if n.is_empty() {
            1
        } else {
            repeats(n.trim_start_matches('x'))?
        };
        out.extend(std::iter::repeat_n(Value::None, n));
        return Ok(());
    }
    if text == "stale" {
        out.push(Value::Float(stale_nan()));
        return Ok(());
    }
    let Some((progression, n)) = text.rsplit_once('x') else {
        out.push(Value::Float(number(text)?));
        return Ok(());
    };
    let n = repeats(n)?;
    // `a+bxN`: the sign that splits is not the first character and not an exponent's.
    let bytes = progression.as_bytes();
    let sign = (1..bytes.len()).find(|&i| matches!(bytes[i], b'+' | b'-') && !matches!(bytes[i - 1], b'e' | b'E'));
    let (start, by) = match sign {
        Some(i) => (number(&progression[..i])?, number(&progression[i..])?),
        None => (number(progression)?, 0.0),
    };
    let mut v = start;
    for _ in 0..=n {
        out.push(Value::Float(v));
        v += by;
    }
    Ok(())
}

/// How often, as `xN` says.
pub fn repeats(text: &str) -> Result<usize, BadNotation> {
    match text.parse::<usize>() {
        Ok(n) if n <= PLACES_MAX => Ok(n),
        Ok(_) => Err(too_many()),
        Err(e) => Err(bad(&format!("{text:?} is not how often"), e)),
    }
}

fn too_many() -> BadNotation {
    BadNotation(format!("more than {PLACES_MAX} values"))
}

/// A number as the language writes it.
pub fn number(text: &str) -> Result<f64, BadNotation> {
    let lower = text.to_ascii_lowercase();
    match lower.trim_start_matches(['+', '-']) {
        "inf" => Ok(if lower.starts_with('-') {
            f64::NEG_INFINITY
        } else {
            f64::INFINITY
        }),
        "nan" => Ok(f64::NAN),
        digits if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') => {
            lower.parse().map_err(|_| BadNotation(format!("{text:?} is no number")))
        }
        _ => Err(BadNotation(format!("{text:?} is no number"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progressions_have_one_more_than_they_say() {
        let floats = |text: &str| -> Vec<f64> {
            let value = |v| match v {
                Value::Float(f) => f,
                _ => -99.0,
            };
            values(text).unwrap().into_iter().map(value).collect()
        };
        assert_eq!(floats("1 _ -3 2x2"), [1.0, -99.0, -3.0, 2.0, 2.0, 2.0]);
        assert_eq!(floats("0+10x2 5-1e1x1 _x2"), [0.0, 10.0, 20.0, 5.0, -5.0, -99.0, -99.0]);
        assert_eq!(values("{{schema:0 count:1}}x1 1").unwrap().len(), 3);
        assert!(values("1y").is_err());
    }

    #[test]
    fn names_may_be_quoted() {
        let (labels, rest) = labels_and_rest(r#"{"a b", c="}\"", d='x'} 1 2"#).unwrap();
        assert_eq!(
            (labels.get("__name__"), labels.get("c"), rest),
            (Some("a b"), Some("}\""), "1 2")
        );
        assert_eq!(labels_and_rest("{} 5").unwrap().1, "5");
        assert_eq!(labels_and_rest("m 5").unwrap().0.metric_name(), "m");
    }
}
