//! Label names made from attribute names.
//!
//! Prometheus and Loki (in their default, underscore manner) make them alike: every character outside `[A-Za-z0-9_]`
//! becomes `_`; a leading digit gets the prefix `key_`; a single leading `_` gets the prefix `key`, so that attributes
//! do not end up among the reserved names; runs of `_` are kept.

use std::borrow::Cow;

/// The label name for an attribute's key. Empty stays empty.
pub(crate) fn label_name<'a>(key: Cow<'a, str>) -> Cow<'a, str> {
    let mut start = key.chars().map(label_char);
    let prefix = match (start.next(), start.next()) {
        (Some('0'..='9'), _) => "key_",
        (Some('_'), second) if second != Some('_') => "key",
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

fn label_char(c: char) -> char {
    if c.is_ascii() && is_label_byte(c as u8) { c } else { '_' }
}

fn is_label_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(label_name(Cow::Borrowed(key)), want, "{key}");
        }
    }
}
