//! Labels laid over labels, without taking them apart: a rule's labels over those of each element of its result.

use model::{LabelSet, METRIC_NAME, encode_label};

/// `over` laid on `labels`: its labels win, and an empty value takes a label away. `over` is sorted by name, names unique;
/// the metric's name goes unless `over` has one. `scratch` is emptied first.
pub(crate) fn overlay(labels: &LabelSet, over: &[(&str, &str)], scratch: &mut Vec<u8>) -> LabelSet {
    scratch.clear();
    let mut over = over.iter().peekable();
    for (name, value) in labels.iter() {
        while let Some((n, v)) = over.next_if(|(n, _)| *n < name) {
            encode_label(n, v, scratch);
        }
        match over.next_if(|(n, _)| *n == name) {
            Some((n, v)) => encode_label(n, v, scratch),
            None if name == METRIC_NAME => {}
            None => encode_label(name, value, scratch),
        }
    }
    for (n, v) in over {
        encode_label(n, v, scratch);
    }
    // What was merged in order is in order.
    LabelSet::from_encoded(scratch).unwrap_or_else(|_| labels.without_metric_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_laid_over_labels() {
        let labels = LabelSet::from_pairs([("__name__", "up"), ("b", "1"), ("job", "x"), ("z", "9")]);
        for (over, merged) in [
            (&[][..], &[("b", "1"), ("job", "x"), ("z", "9")][..]),
            (
                &[("__name__", "r"), ("a", "0"), ("job", ""), ("zz", "10")],
                &[("__name__", "r"), ("a", "0"), ("b", "1"), ("z", "9"), ("zz", "10")],
            ),
            (&[("b", "2"), ("none", "")], &[("b", "2"), ("job", "x"), ("z", "9")]),
        ] {
            let expected = LabelSet::from_pairs(merged.iter().copied());
            assert_eq!(overlay(&labels, over, &mut Vec::new()), expected, "{over:?}");
        }
    }
}
