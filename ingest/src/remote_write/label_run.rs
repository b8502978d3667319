//! Labels from the wire straight into a batch.
//!
//! A label of `TimeSeries` and one of an encoded label set are nearly the same bytes, for both write lengths as LEB128:
//!
//!     on the wire        0a len · 0a len name · 12 len value
//!     in a label set              len name  ·     len value
//!
//! Senders sort their labels, so a run of labels is copied without the three tags and is canonical already. What is
//! unusual in any way (an order, an empty value, a long label, text that is not ASCII) is left to the reader that takes
//! label by label.

use model::METRIC_NAME;

const LABEL: u8 = 0x0a;
const NAME: u8 = 0x0a;
const VALUE: u8 = 0x12;

/// Appends the canonical encoding of the labels that `message`, a `TimeSeries`, begins with; returns what follows them.
/// `None`: these labels are unusual, and what was appended is of no use.
#[inline]
pub(crate) fn copy_labels<'a>(message: &'a [u8], out: &mut Vec<u8>) -> Option<&'a [u8]> {
    let start = out.len();
    let mut rest = message;
    let mut previous: &[u8] = &[];
    let mut named = false;
    while let [LABEL, len, tail @ ..] = rest {
        let (label, after) = tail.split_at_checked(short(*len)?)?;
        let [NAME, len, tail @ ..] = label else { return None };
        let len = short(*len)?;
        let (name, tail) = tail.split_at_checked(len)?;
        let [VALUE, value_len, value @ ..] = tail else {
            return None;
        };
        if value.is_empty() || short(*value_len)? != value.len() || !rises(previous, name) {
            return None;
        }
        named = named || name == METRIC_NAME.as_bytes();
        out.extend_from_slice(&label[1..2 + len]);
        out.extend_from_slice(&tail[1..]);
        previous = name;
        rest = after;
    }
    (named && out[start..].is_ascii()).then_some(rest)
}

/// Whether `name` comes after `previous`; most names differ in their first byte already.
#[inline]
fn rises(previous: &[u8], name: &[u8]) -> bool {
    match (previous.first(), name.first()) {
        (Some(a), Some(b)) if a != b => a < b,
        _ => previous < name,
    }
}

/// A length that is one byte on the wire.
#[inline]
fn short(len: u8) -> Option<usize> {
    (len < 0x80).then_some(usize::from(len))
}

#[cfg(test)]
mod tests {
    use model::{LabelSet, encode_labels};
    use proptest::prelude::*;

    use super::*;
    use crate::remote_write::version1::tests::series;

    /// What follows the labels, and the label set.
    fn copied(message: &[u8]) -> Option<(Vec<u8>, LabelSet)> {
        let mut out = b"before".to_vec();
        let rest = copy_labels(message, &mut out)?.to_vec();
        Some((rest, LabelSet::from_encoded(&out[6..]).unwrap()))
    }

    #[test]
    fn usual_labels_are_copied_and_unusual_ones_left() {
        let sorted = [("__name__", "m"), ("a", "1"), ("b", "two words")];
        let (rest, labels) = copied(&series(&sorted, &[(5, 1.0)])).unwrap();
        assert_eq!(labels, LabelSet::from_pairs(sorted));
        assert_eq!(rest, series(&[], &[(5, 1.0)]));
        let long = "x".repeat(130);
        for unusual in [
            &[("a", "1")][..],
            &[],
            &[("__name__", "")],
            &[("__name__", "m"), ("a", "")],
            &[("__name__", "m"), ("b", "1"), ("a", "1")],
            &[("__name__", "m"), ("a", "1"), ("a", "1")],
            &[("__name__", "m"), ("a", "ö")],
            &[("__name__", "m"), ("a", &long)],
            &[("", "x"), ("__name__", "m")],
        ] {
            assert_eq!(copied(&series(unusual, &[])), None, "{unusual:?}");
        }
        let whole = series(&sorted, &[]);
        for len in 1..whole.len() {
            // A cut between labels leaves fewer labels, one in a tag leaves that; any other is not read here.
            if let Some((rest, labels)) = copied(&whole[..len]) {
                assert!(rest.len() <= 1 && labels.len() < 3, "{len}");
            }
        }
    }

    proptest! {
        /// Both roads lead to the same series.
        #[test]
        fn a_copied_run_is_the_canonical_encoding(
            mut pairs in proptest::collection::vec(("[_a-c]{1,3}", "[x-z]{1,3}"), 0..6), sorts in any::<bool>(),
        ) {
            pairs.push(("__name__".to_owned(), "m".to_owned()));
            if sorts {
                pairs.sort();
                pairs.dedup_by(|a, b| a.0 == b.0);
            }
            let mut refs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
            let message = series(&refs, &[]);
            let got = copied(&message).map(|(_, labels)| labels);
            let mut want = Vec::new();
            encode_labels(&mut refs, &mut want);
            if let Some(labels) = &got {
                prop_assert_eq!(labels.as_bytes(), &want[..]);
            }
            prop_assert!(got.is_some() || !sorts);
        }

        /// Anything may come over the network.
        #[test]
        fn arbitrary_bytes_are_a_label_set_or_unusual(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = copied(&bytes);
        }
    }
}
