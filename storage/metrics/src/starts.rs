//! Start timestamps: when the counting of a sample began. Of most series nothing is known, and of the others the start
//! changes only when a process does, so what is kept is where it changes.

use storage_codec::{Malformed, Reader, put_iv, put_uv};

/// The start of any sample of one series, by the sample's time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Starts {
    /// From this time on, this start; rising by time.
    changes: Vec<(i64, i64)>,
}

impl Starts {
    /// The start of the sample at `t`, ms; 0: not known.
    pub(crate) fn of(&self, t: i64) -> i64 {
        let after = self.changes.partition_point(|&(from, _)| from <= t);
        after.checked_sub(1).map_or(0, |at| self.changes[at].1)
    }

    /// Notes the start of the sample at `t`; `newest` if the series has no later one.
    pub(crate) fn set(&mut self, t: i64, start: i64, newest: bool) {
        let before = self.of(t);
        if before == start {
            return;
        }
        let at = self.changes.partition_point(|&(from, _)| from < t);
        match self.changes.get_mut(at) {
            Some(change) if change.0 == t => change.1 = start,
            _ => self.changes.insert(at, (t, start)),
        }
        // The samples that follow keep theirs.
        let next = t.saturating_add(1);
        if !newest && next > t && self.changes.get(at + 1).is_none_or(|change| change.0 != next) {
            self.changes.insert(at + 1, (next, before));
        }
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Starts>() + self.changes.capacity() * 16
    }
}

/// Appends a chunk's column of starts: `runs uv · (length uv · start - the one before iv, the first from `from`)*`.
pub(crate) fn put_starts(out: &mut Vec<u8>, from: i64, starts: &[i64]) {
    let runs = || starts.chunk_by(|a, b| a == b);
    put_uv(out, runs().count() as u64);
    let mut last = from;
    for run in runs() {
        put_uv(out, run.len() as u64);
        put_iv(out, run[0].wrapping_sub(last));
        last = run[0];
    }
}

/// Reads a column of `n` starts and appends them to `out`.
pub(crate) fn get_starts(reader: &mut Reader<'_>, from: i64, n: usize, out: &mut Vec<i64>) -> Result<(), Malformed> {
    let base = out.len();
    let mut last = from;
    for _ in 0..reader.count(2)? {
        let at = reader.position();
        let length = reader.uv()?;
        last = last.wrapping_add(reader.iv()?);
        let left = (n - (out.len() - base)) as u64;
        if length > left {
            return Err(Malformed {
                at,
                what: "more starts than samples",
            });
        }
        out.resize(out.len() + length as usize, last);
    }
    if out.len() - base != n {
        return Err(Malformed {
            at: reader.position(),
            what: "fewer starts than samples",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_steady_start_is_one_change() {
        let mut starts = Starts::default();
        for t in 1..100 {
            starts.set(t * 15_000, 77, true);
        }
        assert_eq!(starts.changes.len(), 1);
        assert_eq!((starts.of(0), starts.of(15_000), starts.of(i64::MAX)), (0, 77, 77));
    }

    proptest! {
        #[test]
        fn every_sample_keeps_its_start(samples in proptest::collection::vec((0i64..50, 0i64..4), 0..60)) {
            let mut starts = Starts::default();
            let mut known: BTreeMap<i64, i64> = BTreeMap::new();
            for &(t, start) in &samples {
                if known.contains_key(&t) {
                    continue;
                }
                let newest = known.last_key_value().is_none_or(|(last, _)| *last < t);
                starts.set(t, start, newest);
                known.insert(t, start);
                for (t, start) in &known {
                    prop_assert_eq!(starts.of(*t), *start);
                }
            }
            let column: Vec<i64> = known.values().copied().collect();
            let mut bytes = Vec::new();
            put_starts(&mut bytes, 3, &column);
            let mut back = vec![9];
            get_starts(&mut Reader::new(&bytes), 3, column.len(), &mut back).unwrap();
            prop_assert_eq!(&back[1..], &column[..]);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40), n in 0usize..9000) {
            let _ = get_starts(&mut Reader::new(&bytes), 0, n, &mut Vec::new());
        }
    }
}
