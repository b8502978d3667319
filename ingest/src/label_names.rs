//! Label names made from attribute names.
//!
//! Prometheus and Loki (in their default, underscore manner): every character outside `[A-Za-z0-9_]` becomes `_`; a
//! leading digit gets the prefix `key_`. Of Prometheus a single leading `_` gets the prefix `key`, so that attributes do
//! not end up among the reserved names, and runs of `_` are kept; Loki makes a run one `_`.

use std::borrow::Cow;

/// Where the manners differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Manner {
    /// A single leading `_` gets the prefix `key`.
    pub key_before_underscore: bool,
    /// Runs of `_` stay as long as they are; else they become one.
    pub keep_runs: bool,
}

impl Manner {
    /// Loki's own.
    pub const LOKI: Manner = Manner {
        key_before_underscore: false,
        keep_runs: false,
    };
}

/// The label name for an attribute's key. Empty stays empty.
pub(crate) fn label_name_in<'a>(key: Cow<'a, str>, manner: Manner) -> Cow<'a, str> {
    if !manner.keep_runs && has_runs(&key) {
        let mut short = String::with_capacity(key.len());
        for c in key.chars().map(label_char) {
            if c != '_' || !short.ends_with('_') {
                short.push(c);
            }
        }
        return Cow::Owned(prefixed(Cow::Owned(short), manner).into_owned());
    }
    prefixed(key, manner)
}

fn prefixed<'a>(key: Cow<'a, str>, manner: Manner) -> Cow<'a, str> {
    let mut start = key.chars().map(label_char);
    let prefix = match (start.next(), start.next()) {
        (Some('0'..='9'), _) => "key_",
        (Some('_'), second) if second != Some('_') && manner.key_before_underscore => "key",
        _ => "",
    };
    if prefix.is_empty() && key.bytes().all(is_label_byte) {
        return key;
    }
    let mut name = String::with_capacity(prefix.len() + key.len());
    name.push_str(prefix);
    name.extend(key.chars().map(label_char));
    Cow::Owned(name)
}

fn has_runs(key: &str) -> bool {
    let underscore = |c| label_char(c) == '_';
    let next = key.chars().skip(1);
    key.chars().zip(next).any(|(a, b)| underscore(a) && underscore(b))
}

fn label_char(c: char) -> char {
    if c.is_ascii() && is_label_byte(c as u8) { c } else { '_' }
}

fn is_label_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prometheus' own.
    const PROMETHEUS: Manner = Manner {
        key_before_underscore: true,
        keep_runs: true,
    };

    #[test]
    fn names() {
        for (key, want) in [
            ("http.method", "http_method"),
            ("http_method", "http_method"),
            ("a..b__c", "a__b__c"),
            ("9lives", "key_9lives"),
            ("_private", "key_private"),
            ("__reserved", "__reserved"),
            ("größe", "gr__e"),
            (".dot", "key_dot"),
            ("..dot", "__dot"),
            ("", ""),
        ] {
            assert_eq!(label_name_in(Cow::Borrowed(key), PROMETHEUS), want, "{key}");
        }
    }

    #[test]
    fn other_manners() {
        let short = Manner {
            keep_runs: false,
            ..PROMETHEUS
        };
        let bare = Manner {
            key_before_underscore: false,
            ..PROMETHEUS
        };
        for (key, manner, want) in [
            ("a..b__c", short, "a_b_c"),
            ("..dot", short, "key_dot"),
            ("9..lives", short, "key_9_lives"),
            ("a_b", short, "a_b"),
            ("_private", bare, "_private"),
            ("..dot", bare, "__dot"),
            ("9", bare, "key_9"),
            ("a..b__c", Manner::LOKI, "a_b_c"),
            ("größe", Manner::LOKI, "gr_e"),
            ("_private", Manner::LOKI, "_private"),
            ("__reserved", Manner::LOKI, "_reserved"),
            ("9lives", Manner::LOKI, "key_9lives"),
        ] {
            assert_eq!(label_name_in(Cow::Borrowed(key), manner), want, "{key} {manner:?}");
        }
    }
}
