//! Start timestamps: when the counting of each sample began. Usually all samples of a chunk have the same one.
//!
//! # Starts column of a chunk
//!
//! `uv` = LEB128, `iv` = zigzag LEB128.
//!
//! ```text
//! column  = kind u8 · data
//! kind 0    all the same: first time - start iv
//! kind 1    each against the start before: first time - first start iv · residual column of the count - 1 changes
//! kind 2    each against the time before (delta temporality): first time - first start iv · residual column of
//!           start - time before, count - 1 of them                                          (`residual.rs`)
//! ```
//!
//! A chunk of which no start is known has no column. 0 says that a start is not known.

use storage_codec::{Malformed, Reader, put_iv};

use crate::residual::{self, Residuals};

const SAME: u8 = 0;
const BY_START: u8 = 1;
const BY_TIME: u8 = 2;

/// Start timestamps of an open chunk: from which sample on each holds. Nothing while none is known.
#[allow(clippy::box_collection)] // Most chunks have none: a box costs them 8 bytes, a vector 24.
#[derive(Clone, Debug, Default)]
pub(crate) struct StartRuns(Option<Box<Vec<(u16, i64)>>>);

impl StartRuns {
    /// Notes the start of the sample at `at`; samples come in order.
    #[inline]
    pub(crate) fn push(&mut self, at: u16, start: i64) {
        let last = self.0.as_ref().and_then(|runs| runs.last()).map_or(0, |run| run.1);
        if start != last {
            self.0.get_or_insert_default().push((at, start));
        }
    }

    /// Bytes of memory beyond itself.
    pub(crate) fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |runs| 24 + runs.capacity() * 16)
    }

    /// Appends the starts of `count` samples to a column that has, or should have, `base` of them already.
    pub(crate) fn expand(&self, base: usize, count: usize, out: &mut Vec<i64>) {
        let Some(runs) = &self.0 else {
            return pad(out, base + count);
        };
        out.resize(base, 0);
        for &(at, start) in runs.iter() {
            let last = out.last().copied().filter(|_| out.len() > base).unwrap_or(0);
            out.resize(base + usize::from(at).min(count), last);
            out.push(start);
        }
        let last = out.last().copied().unwrap_or(0);
        out.resize(base + count, last);
    }
}

/// Fills a column that knows some starts up to `len` samples; one that knows none stays empty.
pub(crate) fn pad(starts: &mut Vec<i64>, len: usize) {
    if !starts.is_empty() {
        starts.resize(len, 0);
    }
}

/// Appends the column of samples at `t`; `false`, and nothing, if no start is known.
pub(crate) fn put(out: &mut Vec<u8>, t: &[i64], starts: &[i64]) -> bool {
    if starts.iter().all(|&start| start == 0) {
        return false;
    }
    let age = t[0].wrapping_sub(starts[0]);
    if starts.iter().all(|&start| start == starts[0]) {
        out.push(SAME);
        put_iv(out, age);
        return true;
    }
    let by_start = || starts.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
    let by_time = || t.iter().zip(&starts[1..]).map(|(&t, start)| start.wrapping_sub(t));
    let (start_widths, time_widths) = (residual::measure(by_start()), residual::measure(by_time()));
    if time_widths.bits < start_widths.bits {
        out.push(BY_TIME);
        put_iv(out, age);
        residual::put(out, &time_widths, by_time());
    } else {
        out.push(BY_START);
        put_iv(out, age);
        residual::put(out, &start_widths, by_start());
    }
    true
}

/// Reads the column of samples at `t`; appends to a column that has, or should have, `base` of them already.
pub(crate) fn get(reader: &mut Reader<'_>, t: &[i64], base: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
    out.resize(base, 0);
    let kind = reader.u8()?;
    let mut start = t[0].wrapping_sub(reader.iv()?);
    match kind {
        SAME => out.resize(base + t.len(), start),
        BY_START | BY_TIME => {
            out.push(start);
            let mut residuals = Residuals::open(reader, t.len() - 1)?;
            for before in &t[..t.len() - 1] {
                let against = if kind == BY_TIME { *before } else { start };
                start = against.wrapping_add(residuals.next()?);
                out.push(start);
            }
        }
        _ => {
            return Err(Malformed {
                at: reader.position(),
                what: "unknown encoding of starts",
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(t: &[i64], starts: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        put(&mut out, t, starts);
        out
    }

    #[test]
    fn the_usual_starts_cost_next_to_nothing() {
        let t: Vec<i64> = (0..240).map(|i| 1_700_000_000_000 + i * 15_000).collect();
        let constant = vec![t[0] - 60_000; 240];
        let mut restarted = constant.clone();
        restarted[100..].fill(t[100] - 5);
        let delta: Vec<i64> = t.iter().map(|t| t - 15_000).collect();
        assert_eq!(encode(&t, &[0; 240]).len(), 0);
        assert!(encode(&t, &constant).len() <= 4);
        assert!(encode(&t, &restarted).len() <= 45);
        assert!(encode(&t, &delta).len() <= 10);
    }

    proptest! {
        #[test]
        fn starts_return_as_they_were(rows in proptest::collection::vec((any::<i64>(), prop_oneof![Just(0i64), Just(5), any::<i64>()]), 1..50), base in 0usize..4) {
            let (t, starts): (Vec<i64>, Vec<i64>) = rows.into_iter().unzip();
            let mut expected = vec![0; base];
            expected.extend(&starts);
            let column = encode(&t, &starts);
            let mut out = Vec::new();
            if !column.is_empty() {
                get(&mut Reader::new(&column), &t, base, &mut out).unwrap();
                prop_assert_eq!(&out, &expected);
            }
            let mut runs = StartRuns::default();
            starts.iter().enumerate().for_each(|(i, &start)| runs.push(i as u16, start));
            let mut out = Vec::new();
            runs.expand(base, starts.len(), &mut out);
            prop_assert!(out == expected || (out.is_empty() && column.is_empty()));
        }

        #[test]
        fn garbage_is_an_error_or_numbers(bytes in proptest::collection::vec(any::<u8>(), 0..60), n in 1usize..50) {
            let t: Vec<i64> = (0..n as i64).collect();
            let _ = get(&mut Reader::new(&bytes), &t, 0, &mut Vec::new());
        }
    }
}
