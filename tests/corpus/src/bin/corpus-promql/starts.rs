//! Start timestamps as `.test` files write them beside samples: `-1m _x2 -1m+10sx3`, from each sample's own time.

use anyhow::ensure;
use query_rules::notation::repeats;

/// Most samples that one line may describe.
const PLACES_MAX: usize = 1_000_000;

/// Start timestamps, ms from each sample's time; `None`: not known.
pub fn starts(text: &str) -> anyhow::Result<Vec<Option<i64>>> {
    let mut out: Vec<Option<i64>> = Vec::new();
    for item in text.split_whitespace() {
        let (body, times) = match item.rsplit_once('x') {
            Some((body, n)) => (body, repeats(n)?),
            None => (item, 0),
        };
        if body == "_" {
            out.extend(std::iter::repeat_n(None, times.max(1)));
            continue;
        }
        let split = body.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-'));
        let (first, by) = body.split_at(split.map_or(body.len(), |(i, _)| i));
        let (first, by) = (
            signed_duration(first)?,
            if by.is_empty() { 0 } else { signed_duration(by)? },
        );
        out.extend((0..=times).map(|k| Some(first + by * k as i64)));
        ensure!(out.len() <= PLACES_MAX, "more than {PLACES_MAX} values");
    }
    Ok(out)
}

fn signed_duration(text: &str) -> anyhow::Result<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    Ok(sign * crate::script::duration(digits)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_counted_from_the_samples() {
        let found = starts("-1m _ _x2 0sx1 -1m+10sx2").unwrap();
        let want = [
            Some(-60_000),
            None,
            None,
            None,
            Some(0),
            Some(0),
            Some(-60_000),
            Some(-50_000),
            Some(-40_000),
        ];
        assert_eq!(found, want);
    }
}
