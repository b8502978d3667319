//! What the engine writes into its WAL: definitions of streams, and batches of entries that name streams by id.
//!
//! # WAL records, version 1
//!
//! ```text
//! kind 1  define  = stream id uv · day iv · encoded label set (see `model::LabelSet`)
//! kind 2  batch   = encoding u8 (0 plain, 1 zstd) · plain len uv · group*
//!
//! group           = stream id uv · entries uv · entry*
//! entry           = time iv (less the one before in the record) · line · pairs uv · pair*
//! pair            = 0 u8 | 1 u8 · value | 2 u8 · name · value
//! ```
//!
//! A pair 0 is the one that stands at its position in the entry before, a pair 1 has the name of that one. Strings are `len uv · bytes`, times are ns since the epoch. Each generation of the head defines a stream before it
//! first uses it, so what lies above a checkpoint can be read without what lay below. The log checks the bytes.
//! Golden file: `testdata/wal_batch_v1.bin`.

use std::ops::Range;

use model::{Day, LabelSet};
use storage_codec::{Malformed, Reader, put_bytes, put_iv, put_uv, unzstd_frame, zstd_frame};

pub(crate) const KIND_DEFINE: u8 = 1;
pub(crate) const KIND_BATCH: u8 = 2;

/// Plain bytes at which a record is full and the rest of a batch goes into the next.
pub(crate) const RECORD_PLAIN_BYTES: usize = 16 << 20;
/// Smaller records are written as they are: compressing costs more than it saves.
const COMPRESS_BYTES_MIN: usize = 1 << 10;
const LEVEL: i32 = 1;
/// How a pair of metadata is written.
const PAIR_SAME: u8 = 0;
const PAIR_SAME_NAME: u8 = 1;
const PAIR_NEW: u8 = 2;

/// A definition: this id has these labels and is in use on `day`.
pub(crate) fn put_define(out: &mut Vec<u8>, id: u32, day: Day, labels: &[u8]) {
    put_uv(out, u64::from(id));
    put_iv(out, i64::from(day.0));
    out.extend_from_slice(labels);
}

pub(crate) fn get_define(payload: &[u8]) -> Result<(u32, Day, LabelSet), Malformed> {
    let mut r = Reader::new(payload);
    let id = u32::try_from(r.uv()?);
    let day = i32::try_from(r.iv()?);
    let at = r.position();
    let labels = LabelSet::from_encoded(r.remaining()).map_err(|e| Malformed {
        at: at + e.at,
        what: e.what,
    })?;
    match (id, day) {
        (Ok(id), Ok(day)) => Ok((id, Day(day), labels)),
        _ => Err(Malformed {
            at: 0,
            what: "id or day out of range",
        }),
    }
}

/// Gathers the groups of a batch record; its buffers are used again.
#[derive(Default)]
pub(crate) struct BatchWriter {
    plain: Vec<u8>,
    payload: Vec<u8>,
    time: i64,
    /// Where the pairs of the entry before stand in `plain`: names and values.
    before: Vec<[Range<u32>; 2]>,
}

impl BatchWriter {
    pub fn group(&mut self, id: u32, entries: usize) {
        put_uv(&mut self.plain, u64::from(id));
        put_uv(&mut self.plain, entries as u64);
    }

    pub fn entry<'a>(&mut self, t: i64, line: &str, metadata: impl ExactSizeIterator<Item = (&'a str, &'a str)>) {
        put_iv(&mut self.plain, t.wrapping_sub(self.time));
        self.time = t;
        put_bytes(&mut self.plain, line.as_bytes());
        let pairs = metadata.len();
        put_uv(&mut self.plain, pairs as u64);
        for (i, (n, v)) in metadata.enumerate() {
            let same =
                |range: &Range<u32>, s: &str| self.plain[range.start as usize..range.end as usize] == *s.as_bytes();
            let known = match self.before.get(i) {
                Some([name, _]) if !same(name, n) => None,
                known => known.map(|[name, value]| (name.clone(), same(value, v))),
            };
            match known {
                Some((_, true)) => self.plain.push(PAIR_SAME),
                Some((name, false)) => {
                    self.plain.push(PAIR_SAME_NAME);
                    self.before[i] = [name, put_string(&mut self.plain, v)];
                }
                None => {
                    self.plain.push(PAIR_NEW);
                    let pair = [put_string(&mut self.plain, n), put_string(&mut self.plain, v)];
                    match self.before.get_mut(i) {
                        Some(before) => *before = pair,
                        None => self.before.push(pair),
                    }
                }
            }
        }
        self.before.truncate(pairs);
    }

    pub fn plain_bytes(&self) -> usize {
        self.plain.len()
    }

    /// The payload of the record; the next one starts empty.
    pub fn finish(&mut self) -> &[u8] {
        self.payload.clear();
        let compress = self.plain.len() >= COMPRESS_BYTES_MIN;
        self.payload.push(u8::from(compress));
        put_uv(&mut self.payload, self.plain.len() as u64);
        if compress {
            zstd_frame(&mut self.payload, &self.plain, LEVEL);
        } else {
            self.payload.extend_from_slice(&self.plain);
        }
        self.plain.clear();
        self.time = 0;
        self.before.clear();
        &self.payload
    }

    /// Frees buffers that one large batch has left behind.
    pub fn shrink(&mut self, bytes: usize) {
        self.plain.clear();
        self.time = 0;
        self.before.clear();
        self.plain.shrink_to(bytes);
        self.payload.shrink_to(bytes);
    }
}

/// Appends a string; says where it stands.
fn put_string(out: &mut Vec<u8>, s: &str) -> Range<u32> {
    put_bytes(out, s.as_bytes());
    // Records are far shorter than 4 GiB.
    let end = out.len() as u32;
    end - s.len() as u32..end
}

/// Hands every entry (stream id, time, line, metadata) of a batch record to `entry`; `plain` is scratch space.
pub(crate) fn get_batch(
    payload: &[u8],
    plain: &mut Vec<u8>,
    mut entry: impl FnMut(u32, i64, &str, &[(&str, &str)]),
) -> Result<(), Malformed> {
    let mut r = Reader::new(payload);
    let encoding = r.u8()?;
    let len = usize::try_from(r.uv()?)
        .ok()
        .filter(|&n| n <= storage_wal::RECORD_BYTES_MAX);
    let len = len.ok_or(Malformed {
        at: 1,
        what: "batch too large",
    })?;
    let plain: &[u8] = match encoding {
        0 => r.remaining(),
        1 => {
            unzstd_frame(r.remaining(), plain, len)?;
            plain
        }
        _ => {
            return Err(Malformed {
                at: 0,
                what: "unknown batch encoding",
            });
        }
    };
    let mut r = Reader::new(plain);
    let mut time = 0i64;
    let mut metadata: Vec<(&str, &str)> = Vec::new();
    while !r.is_empty() {
        let at = r.position();
        let id = u32::try_from(r.uv()?).map_err(|_| Malformed {
            at,
            what: "stream id out of range",
        })?;
        for _ in 0..r.count(3)? {
            time = time.wrapping_add(r.iv()?);
            let line = r.str()?;
            let pairs = r.count(1)?;
            metadata.truncate(pairs);
            for i in 0..pairs {
                let at = r.position();
                let pair = match (r.u8()?, metadata.get(i).copied()) {
                    (PAIR_SAME, Some(pair)) => pair,
                    (PAIR_SAME_NAME, Some((name, _))) => (name, r.str()?),
                    (PAIR_NEW, _) => (r.str()?, r.str()?),
                    _ => {
                        return Err(Malformed {
                            at,
                            what: "no such pair",
                        });
                    }
                };
                match metadata.get_mut(i) {
                    Some(known) => *known = pair,
                    None => metadata.push(pair),
                }
            }
            entry(id, time, line, &metadata);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entries::tests::{Row, any_rows};
    use crate::golden::golden;
    use proptest::prelude::*;

    fn written(groups: &[(u32, Vec<Row>)]) -> Vec<u8> {
        let mut writer = BatchWriter::default();
        for (id, rows) in groups {
            writer.group(*id, rows.len());
            for (t, line, metadata) in rows {
                writer.entry(*t, line, metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            }
        }
        writer.finish().to_vec()
    }

    fn read(payload: &[u8]) -> Result<Vec<(u32, Row)>, Malformed> {
        let mut rows = Vec::new();
        get_batch(payload, &mut Vec::new(), |id, t, line, metadata| {
            let metadata = metadata.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            rows.push((id, (t, line.to_owned(), metadata)));
        })?;
        Ok(rows)
    }

    #[test]
    fn golden_wal_batch_v1() {
        let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        let rows: Vec<Row> = (0..4)
            .map(|i| {
                (
                    1_700_000_000_000_000_000 - i,
                    format!("line {i}"),
                    vec![pair("trace_id", "ab"); i as usize % 2],
                )
            })
            .collect();
        let groups = [(3, rows.clone()), (900, rows)];
        let payload = golden("wal_batch_v1.bin", &written(&groups));
        let flat: Vec<(u32, Row)> = groups
            .iter()
            .flat_map(|(id, rows)| rows.iter().map(|r| (*id, r.clone())))
            .collect();
        assert_eq!(read(&payload).unwrap(), flat);
        assert_eq!(written(&groups), payload);
    }

    #[test]
    fn a_definition_returns() {
        let labels = LabelSet::from_pairs([("app", "x"), ("env", "ü")]);
        let mut out = Vec::new();
        put_define(&mut out, 70_000, Day(-3), labels.as_bytes());
        assert_eq!(get_define(&out).unwrap(), (70_000, Day(-3), labels));
        assert!(get_define(&out[..out.len() - 1]).is_err());
    }

    proptest! {
        #[test]
        fn a_batch_returns(groups in proptest::collection::vec((any::<u32>(), any_rows(30)), 0..6)) {
            let flat: Vec<(u32, Row)> = groups.iter().flat_map(|(id, rows)| rows.iter().map(|r| (*id, r.clone()))).collect();
            prop_assert_eq!(read(&written(&groups)).unwrap(), flat);
        }

        #[test]
        fn garbage_never_panics(payload in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..60)) {
            let _ = (read(&payload), get_define(&payload));
        }
    }
}
