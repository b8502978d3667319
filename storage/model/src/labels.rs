//! Label sets, in one canonical encoding: sorted by name, names unique, no empty values.
//!
//! # Encoded label set
//!
//! ```text
//! label*  = name len uv · name · value len uv · value        (uv = LEB128; UTF-8; names in rising byte order)
//! ```
//!
//! Two label sets are equal exactly when their bytes are; hashing the bytes identifies a series without allocating.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The label that carries a metric's name.
pub const METRIC_NAME: &str = "__name__";

/// An immutable label set; cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LabelSet(Arc<[u8]>);

/// Bytes that are no canonical label set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed label set at byte {at}: {what}")]
pub struct BadLabels {
    /// Where the first fault is.
    pub at: usize,
    /// What it is.
    pub what: &'static str,
}

impl LabelSet {
    /// The set without labels.
    pub fn empty() -> LabelSet {
        LabelSet(Arc::from(&[][..]))
    }

    /// From pairs in any order. Empty values are dropped; of several values for one name the last wins.
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> LabelSet {
        let mut pairs: Vec<(N, V)> = pairs.into_iter().collect();
        pairs.sort_by(|a, b| a.0.as_ref().cmp(b.0.as_ref()));
        let mut bytes = Vec::new();
        for (i, (n, v)) in pairs.iter().enumerate() {
            let (n, v) = (n.as_ref(), v.as_ref());
            if !v.is_empty() && pairs.get(i + 1).is_none_or(|next| next.0.as_ref() != n) {
                put(&mut bytes, n);
                put(&mut bytes, v);
            }
        }
        LabelSet(bytes.into())
    }

    /// From the canonical encoding; checks order, lengths and UTF-8.
    pub fn from_encoded(bytes: &[u8]) -> Result<LabelSet, BadLabels> {
        LabelSet::checked(bytes, false)
    }

    /// As [`LabelSet::from_encoded`], but a label may be empty. Only for results of LogQL, where a parsed label without a
    /// value is told from one that is absent; such a set is never stored.
    pub fn from_encoded_with_empty(bytes: &[u8]) -> Result<LabelSet, BadLabels> {
        LabelSet::checked(bytes, true)
    }

    /// Of labels that may be without a value, as results of a query are.
    pub fn from_map_with_empty(labels: &BTreeMap<&str, &str>) -> LabelSet {
        let mut encoded = Vec::new();
        for (name, value) in labels {
            put(&mut encoded, name);
            put(&mut encoded, value);
        }
        LabelSet(Arc::from(encoded))
    }

    fn checked(bytes: &[u8], may_be_empty: bool) -> Result<LabelSet, BadLabels> {
        let bad = |at, what| BadLabels { at, what };
        let mut rest = bytes;
        let mut previous: Option<&[u8]> = None;
        while !rest.is_empty() {
            let at = bytes.len() - rest.len();
            let name = take(&mut rest).ok_or(bad(at, "truncated name"))?;
            let value = take(&mut rest).ok_or(bad(at, "truncated value"))?;
            if std::str::from_utf8(name).is_err() || std::str::from_utf8(value).is_err() {
                return Err(bad(at, "not UTF-8"));
            }
            if value.is_empty() && !may_be_empty {
                return Err(bad(at, "empty value"));
            }
            if previous.is_some_and(|p| p >= name) {
                return Err(bad(at, "names out of order"));
            }
            previous = Some(name);
        }
        Ok(LabelSet(Arc::from(bytes)))
    }

    /// The canonical encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// 64-bit hash of the canonical encoding, the same in every process and on every disk (see [`hash_labels`]).
    pub fn hash64(&self) -> u64 {
        hash_labels(&self.0)
    }

    /// The labels, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let name = take(&mut rest)?;
            let value = take(&mut rest)?;
            Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
        })
    }

    /// The value of one label; `None` if it is absent.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut pairs = self.encoded_pairs();
        let value = pairs.find(|(n, _)| *n == name.as_bytes())?.1;
        std::str::from_utf8(value).ok()
    }

    /// The metric's name, empty if there is none.
    pub fn metric_name(&self) -> &str {
        self.get(METRIC_NAME).unwrap_or("")
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.encoded_pairs().count()
    }

    /// Whether there are no labels.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the labels named (`by`).
    pub fn keep<S: AsRef<str>>(&self, names: &[S]) -> LabelSet {
        self.filtered(|n| names.iter().any(|k| k.as_ref().as_bytes() == n))
    }

    /// All but the labels named (`without`); `__name__` stays unless it is named.
    pub fn without<S: AsRef<str>>(&self, names: &[S]) -> LabelSet {
        self.filtered(|n| !names.iter().any(|k| k.as_ref().as_bytes() == n))
    }

    /// All but `__name__`.
    pub fn without_metric_name(&self) -> LabelSet {
        self.filtered(|n| n != METRIC_NAME.as_bytes())
    }

    /// With one label set to a value; an empty value removes it.
    pub fn with(&self, name: &str, value: &str) -> LabelSet {
        let mut b = LabelsBuilder::from(self);
        b.set(name, value);
        b.build()
    }

    /// The pairs as bytes, which were UTF-8 when the set was made.
    fn encoded_pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || Some((take(&mut rest)?, take(&mut rest)?)))
    }

    /// The pairs whose names pass, copied as they are encoded.
    fn filtered(&self, keep: impl Fn(&[u8]) -> bool) -> LabelSet {
        let mut bytes = Vec::with_capacity(self.0.len());
        let mut rest: &[u8] = &self.0;
        loop {
            let pair = rest;
            let (Some(name), Some(_)) = (take(&mut rest), take(&mut rest)) else {
                break;
            };
            if keep(name) {
                bytes.extend_from_slice(&pair[..pair.len() - rest.len()]);
            }
        }
        if bytes.len() == self.0.len() {
            self.clone()
        } else {
            LabelSet(bytes.into())
        }
    }
}

impl Default for LabelSet {
    fn default() -> Self {
        LabelSet::empty()
    }
}

impl PartialOrd for LabelSet {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for LabelSet {
    /// As Prometheus sorts: pair by pair, name before value; a prefix comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        // Bytes of UTF-8 sort as their characters do, so nothing is decoded: sorting is a large part of a wide query.
        // Nor are the fields compared that both begin with: they are stepped over in one of the sets.
        let (a, b): (&[u8], &[u8]) = (&self.0, &other.0);
        let begun = fields_within(a, common_prefix(a, b));
        let (mut a, mut b) = (&a[begun..], &b[begun..]);
        loop {
            match (take(&mut a), take(&mut b)) {
                (Some(x), Some(y)) if x == y => {}
                // An absent field sorts first, as a prefix must.
                (x, y) => return x.cmp(&y),
            }
        }
    }
}

impl fmt::Display for LabelSet {
    /// `{a="1", b="2"}`, values escaped as Go quotes them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (n, v)) in self.iter().enumerate() {
            write!(f, "{}{n}={v:?}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("}")
    }
}

impl fmt::Debug for LabelSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<N: AsRef<str>, V: AsRef<str>> FromIterator<(N, V)> for LabelSet {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        LabelSet::from_pairs(pairs)
    }
}

/// Collects labels in any order and builds a [`LabelSet`].
#[derive(Clone, Debug, Default)]
pub struct LabelsBuilder {
    pairs: Vec<(String, String)>,
}

impl LabelsBuilder {
    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: impl Into<String> + AsRef<str>, value: impl Into<String> + AsRef<str>) {
        self.remove(name.as_ref());
        if !value.as_ref().is_empty() {
            self.pairs.push((name.into(), value.into()));
        }
    }

    /// Removes a label, if it is there.
    pub fn remove(&mut self, name: &str) {
        self.pairs.retain(|(n, _)| n != name);
    }

    /// The value so far.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The labels so far, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// Keeps the labels that pass, by name and value.
    pub fn retain(&mut self, passes: impl Fn(&str, &str) -> bool) {
        self.pairs.retain(|(n, v)| passes(n, v));
    }

    /// The canonical set.
    pub fn build(mut self) -> LabelSet {
        self.pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let mut bytes = Vec::new();
        for (n, v) in &self.pairs {
            put(&mut bytes, n);
            put(&mut bytes, v);
        }
        LabelSet(bytes.into())
    }
}

impl From<&LabelSet> for LabelsBuilder {
    fn from(labels: &LabelSet) -> Self {
        LabelsBuilder {
            pairs: labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        }
    }
}

/// Appends the canonical encoding of `pairs` to `out` without building a [`LabelSet`]. Sorts `pairs` in place by
/// name; drops empty values; of equal names the last given wins.
pub fn encode_labels(pairs: &mut Vec<(&str, &str)>, out: &mut Vec<u8>) {
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        pairs.sort_by(|a, b| a.0.cmp(b.0));
    }
    for (i, (n, v)) in pairs.iter().enumerate() {
        if pairs.get(i + 1).is_some_and(|next| next.0 == *n) || v.is_empty() {
            continue;
        }
        put(out, n);
        put(out, v);
    }
}

/// Appends one label of the canonical encoding to `out`, unless its value is empty. For decoders that know their names
/// beforehand; they call it in rising order of names.
pub fn encode_label(name: &str, value: &str, out: &mut Vec<u8>) {
    if !value.is_empty() {
        put(out, name);
        put(out, value);
    }
}

/// The hash by which series and streams are known (rapidhash v3, fixed seed): stored on disk, so it never changes.
pub fn hash_labels(encoded: &[u8]) -> u64 {
    rapidhash::v3::rapidhash_v3(encoded)
}

fn put(out: &mut Vec<u8>, s: &str) {
    let mut n = s.len();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(s.as_bytes());
}

/// How many bytes two encodings begin with together.
fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut len = 0;
    for (x, y) in words {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(x, y)| x == y).count()
}

/// Bytes of the whole fields within the first `len` bytes.
fn fields_within(encoded: &[u8], len: usize) -> usize {
    let mut rest = &encoded[..len];
    loop {
        let whole = len - rest.len();
        if take(&mut rest).is_none() {
            return whole;
        }
    }
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut len = 0usize;
    let mut shift = 0;
    loop {
        let (&b, tail) = rest.split_first()?;
        *rest = tail;
        len |= usize::from(b & 0x7f).checked_shl(shift)?;
        if b < 0x80 {
            break;
        }
        shift += 7;
        if shift > 28 {
            return None;
        }
    }
    let (field, tail) = rest.split_at_checked(len)?;
    *rest = tail;
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_form_sorts_and_drops_empty_values() {
        let a = LabelSet::from_pairs([("b", "2"), ("a", "1"), ("c", ""), ("b", "3")]);
        assert_eq!(a.to_string(), r#"{a="1", b="3"}"#);
        assert_eq!(a.with("a", "").to_string(), r#"{b="3"}"#);
        assert_eq!(a.keep(&["a", "zz"]).to_string(), r#"{a="1"}"#);
        assert_eq!(a.without(&["a"]).to_string(), r#"{b="3"}"#);
    }

    #[test]
    fn foreign_bytes_are_refused() {
        assert!(LabelSet::from_encoded(&[1, b'b', 1, b'1', 1, b'a', 1, b'1']).is_err());
        assert!(LabelSet::from_encoded(&[1, b'a', 0]).is_err());
        assert!(LabelSet::from_encoded(&[9, b'a']).is_err());
        assert!(LabelSet::from_encoded(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err());
    }

    /// The hash is on disk; a new version of the hash crate must not change it.
    #[test]
    fn the_hash_is_pinned() {
        assert_eq!(LabelSet::from_pairs([("a", "1"), ("b", "2")]).hash64(), PINNED);
    }
    const PINNED: u64 = 15_352_713_333_144_903_766;

    proptest! {
        /// The order is the one of the pairs, though it looks at bytes only.
        #[test]
        fn the_order_is_that_of_the_pairs(sets in proptest::collection::vec(
            proptest::collection::vec(("[a-cé]{1,2}", "[x-zß]{1,2}"), 0..4), 2..3)) {
            let sets: Vec<LabelSet> = sets.iter().map(|s| LabelSet::from_pairs(s.iter().map(|(n, v)| (n, v)))).collect();
            prop_assert_eq!(sets[0].cmp(&sets[1]), sets[0].iter().cmp(sets[1].iter()));
        }

        /// So it is of sets that begin alike, as series of one metric do, and of values whose lengths take two bytes.
        #[test]
        fn sets_that_begin_alike_are_ordered_by_what_follows(
            alike in proptest::collection::vec(("[a-c]{1,9}", "[x-z]{1,9}"), 0..4),
            lengths in (1usize..300, 1usize..300),
            ends in ("[x-zß]{0,3}", "[x-zß]{0,3}"),
        ) {
            let set = |len: usize, end: &str| {
                let value = "x".repeat(len) + end;
                LabelSet::from_pairs(alike.iter().map(|(n, v)| (n.as_str(), v.as_str())).chain([("d", &*value)]))
            };
            let (a, b) = (set(lengths.0, &ends.0), set(lengths.1, &ends.1));
            prop_assert_eq!(a.cmp(&b), a.iter().cmp(b.iter()));
            let (a, b) = (set(lengths.0, &ends.0), set(lengths.0, &ends.1));
            prop_assert_eq!(a.cmp(&b), a.iter().cmp(b.iter()));
        }

        /// The two encoders must agree, because ingest uses one and queries the other.
        #[test]
        fn both_encoders_agree(pairs in proptest::collection::vec(("[a-c]{0,2}", "[x-z]{0,2}"), 0..6)) {
            let mut refs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let built = LabelSet::from_pairs(pairs.iter().map(|(n, v)| (n, v)));
            let mut bytes = Vec::new();
            encode_labels(&mut refs, &mut bytes);
            prop_assert_eq!(built.as_bytes(), &bytes[..]);
            prop_assert_eq!(LabelSet::from_encoded(&bytes).unwrap(), built);
        }
    }
}
