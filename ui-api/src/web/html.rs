//! A page under construction: literals go in as they are, text from outside is escaped, and the types keep the two apart.

use std::fmt::{Display, Write};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use model::LabelSet;

/// The pages that the bar at the top names: path and word.
const BAR: &[(&str, &str)] = &[
    ("query", "Query"),
    ("alerts", "Alerts"),
    ("rules", "Rules"),
    ("targets", "Targets"),
    ("service-discovery", "Discovery"),
    ("status", "Status"),
    ("tsdb-status", "Cardinality"),
    ("flags", "Flags"),
    ("config", "Config"),
];

/// What a browser may do for such a page: run what stands in it and ask its own server, nothing else.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; \
                      img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// HTML, as far as it is written.
#[derive(Debug, Default)]
pub(crate) struct Html(String);

impl Html {
    /// HTML that stands in the source.
    pub fn html(&mut self, literal: &'static str) -> &mut Html {
        self.0.push_str(literal);
        self
    }

    /// Text from anywhere.
    pub fn text(&mut self, text: impl Display) -> &mut Html {
        // Writing to a string does not fail.
        let _ = write!(Escaping(&mut self.0), "{text}");
        self
    }

    /// A link, if `to` is a place on the web or here; otherwise its text.
    pub fn link(&mut self, to: &str, text: impl Display) -> &mut Html {
        if ["http://", "https://", "/"].iter().any(|start| to.starts_with(start)) || !to.contains(':') {
            self.html("<a href=\"").text(to).html("\">").text(text).html("</a>")
        } else {
            self.text(text)
        }
    }

    /// Labels, each in a box of its own.
    pub fn labels(&mut self, labels: &LabelSet) -> &mut Html {
        self.html("<span class=labels>");
        for (name, value) in labels.iter() {
            self.html("<code>")
                .text(name)
                .html("=\"")
                .text(value)
                .html("\"</code> ");
        }
        self.html("</span>")
    }

    /// A table of names and what stands beside them.
    pub fn facts(&mut self, rows: &[(&'static str, String)]) -> &mut Html {
        self.html("<table class=facts>");
        for (name, value) in rows {
            self.html("<tr><th>").html(name).html("<td>").text(value);
        }
        self.html("</table>")
    }
}

/// The whole page as an answer. `current` is its path in the bar; the ports without a bar give none.
pub(crate) fn page(title: &'static str, current: Option<&str>, body: &Html) -> Response {
    let mut out = Html::default();
    out.html(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>",
    )
    .html(title)
    .html(" · Trilobite</title><link rel=icon href=\"data:image/svg+xml,")
    .html(include_str!("icon.svg.url"))
    .html("\"><style>")
    .html(include_str!("page.css"))
    .html("</style><header><nav><a class=home href=\"./\">")
    .html(include_str!("icon.svg"))
    .html("Trilobite</a>");
    if let Some(current) = current {
        for (path, word) in BAR {
            out.html("<a href=\"").html(path);
            out.html(if *path == current {
                "\" aria-current=page>"
            } else {
                "\">"
            });
            out.html(word).html("</a>");
        }
    }
    out.html("</nav></header><main><h1>").html(title).html("</h1>");
    out.0.push_str(&body.0);
    out.html("</main>");
    let mut response = Response::new(Body::from(out.0));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// `1234567` as `1,234,567`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Bytes in the largest unit that leaves a number of at least one.
pub(crate) fn bytes_text(n: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{value:.1} {}", units[unit])
    }
}

/// A length of time for reading: its two largest units.
pub(crate) fn roughly(d: Duration) -> String {
    let (s, ms) = (d.as_secs(), d.as_secs_f64() * 1e3);
    match s {
        0 => format!("{ms:.1} ms"),
        1..60 => format!("{:.1} s", d.as_secs_f64()),
        60..3_600 => format!("{} min {} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {} min", s / 3_600, s / 60 % 60),
        _ => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
    }
}

/// Writes text so that a browser shows it and does nothing else, also inside a quoted attribute.
struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_scripts_are_no_links() {
        let mut out = Html::default();
        out.text("<b a='1' c=\"2\">&").link("javascript:alert(1)", "x");
        out.link("http://a/?b&c", "d").link("targets", "e");
        assert_eq!(
            out.0,
            "&lt;b a=&#39;1&#39; c=&quot;2&quot;&gt;&amp;x<a href=\"http://a/?b&amp;c\">d</a><a href=\"targets\">e</a>"
        );
    }

    #[test]
    fn numbers_are_made_for_reading() {
        for (n, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), text);
        }
        for (n, text) in [
            (1_023, "1023 B"),
            (1_536, "1.5 KiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(bytes_text(n), text);
        }
        for (ms, text) in [
            (1, "1.0 ms"),
            (1_500, "1.5 s"),
            (61_000, "1 min 1 s"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(roughly(Duration::from_millis(ms)), text);
        }
    }
}
