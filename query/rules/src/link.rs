//! Links from an alert to its expression.

use std::fmt::Write;

use crate::group::Dialect;

/// Where people see what the expression says: a page of ours, as Prometheus links to its own; for logs as Loki links into
/// Grafana.
pub(crate) fn to_expression(external_url: &str, dialect: Dialect, expression: &str) -> String {
    match dialect {
        Dialect::PromQl => format!("{external_url}/graph?g0.expr={}&g0.tab=1", escaped(expression)),
        Dialect::LogQl => {
            let mut query = String::from(r#"{"queries":[{"expr":"#);
            push_json(&mut query, expression);
            query.push_str(r#","queryType":"range"}]}"#);
            format!("{external_url}/explore?left={}", escaped(&query))
        }
    }
}

/// As a part of a URL's query: all but letters, digits and `-_.~` by their bytes, a space as `+`.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 3 / 2);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte as char),
            b' ' => out.push('+'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

fn push_json(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if (c as u32) < 0x20 || matches!(c, '<' | '>' | '&') => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_linked_to() {
        assert_eq!(
            to_expression("http://x:9090", Dialect::PromQl, r#"up{job="a b"} == 0"#),
            "http://x:9090/graph?g0.expr=up%7Bjob%3D%22a+b%22%7D+%3D%3D+0&g0.tab=1"
        );
        assert_eq!(
            to_expression("", Dialect::LogQl, r#"rate({a="b"}[5m])"#),
            "/explore?left=%7B%22queries%22%3A%5B%7B%22expr%22%3A%22rate%28%7Ba%3D%5C%22b%5C%22%7D%5B5m%5D%29%22%2C%22queryType\
             %22%3A%22range%22%7D%5D%7D"
        );
    }
}
