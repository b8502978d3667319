//! Labels made from attributes: names as Prometheus takes them, values as text, in the canonical encoding.

use std::borrow::Cow;

use model::{AttributeValue, KeyValue, Span, encode_label};

/// Bytes of a label's value; the rest is left out.
const VALUE_BYTES_MAX: usize = 2048;

/// A label whose value is an attribute of the resource or else of the span.
#[derive(Clone, Debug)]
pub(super) struct Dimension {
    /// The label.
    pub label: String,
    /// The attribute.
    pub attribute: String,
}

impl Dimension {
    /// One for each attribute, in rising order of labels; of attributes that give the same label, the first. A label that
    /// `taken` names gets the prefix `__`.
    pub fn list(attributes: &[String], prefix: &str, taken: &[&str]) -> Vec<Dimension> {
        let mut list: Vec<Dimension> = Vec::new();
        for attribute in attributes {
            let mut label = format!("{prefix}{}", label_name(attribute));
            if taken.contains(&label.as_str()) {
                label.insert_str(0, "__");
            }
            if list.iter().all(|d| d.label != label) {
                list.push(Dimension {
                    label,
                    attribute: attribute.clone(),
                });
            }
        }
        list.sort_by(|a, b| a.label.cmp(&b.label));
        list
    }

    /// Its value for a span; empty if there is none.
    pub fn value<'a>(&self, span: &'a Span) -> Cow<'a, str> {
        let found = attribute(&span.resource.attributes, &self.attribute);
        let found = found.or_else(|| attribute(&span.attributes, &self.attribute));
        found.map_or(Cow::Borrowed(""), text)
    }

    /// Appends the label, unless the span lacks the attribute.
    pub fn encode(&self, span: &Span, out: &mut Vec<u8>) {
        encode(&self.label, &self.value(span), out);
    }
}

/// Appends a label, its value cut where it is too long.
pub(super) fn encode(name: &str, value: &str, out: &mut Vec<u8>) {
    let end = value.floor_char_boundary(VALUE_BYTES_MAX);
    encode_label(name, &value[..end], out);
}

/// An attribute by name.
pub(super) fn attribute<'a>(list: &'a [KeyValue], name: &str) -> Option<&'a AttributeValue> {
    list.iter().find(|kv| kv.key == name).map(|kv| &kv.value)
}

/// A value as text; empty for lists, maps and bytes.
pub(super) fn text(value: &AttributeValue) -> Cow<'_, str> {
    match value {
        AttributeValue::Str(s) => Cow::Borrowed(s),
        AttributeValue::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
        AttributeValue::Int(n) => Cow::Owned(n.to_string()),
        AttributeValue::Double(n) => Cow::Owned(n.to_string()),
        AttributeValue::Empty | AttributeValue::Bytes(_) | AttributeValue::Array(_) | AttributeValue::Map(_) => {
            Cow::Borrowed("")
        }
    }
}

/// `http.method` -> `http_method`.
fn label_name(attribute: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    attribute.chars().map(fit).collect()
}
