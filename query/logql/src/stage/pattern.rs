//! Patterns such as `<ip> - <_> "<method> <path>"`: the `pattern` parser and the filters `|>` and `!>`.

use memchr::memmem::find;

/// A parsed pattern: captures with literals between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pattern {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `None` is `<_>`.
    Capture(Option<String>),
}

impl Pattern {
    /// For the parser: at least one named capture, no two captures side by side, no name twice.
    pub fn for_parser(text: &str) -> Result<Pattern, String> {
        let pattern = Pattern::parse(text);
        if pattern.parts.is_empty() {
            return Err(
                "parse error at line 1, col 1: syntax error: unexpected $end, expecting IDENTIFIER or LITERAL".into(),
            );
        }
        pattern.check_neighbours()?;
        let mut names: Vec<&str> = pattern.names().collect();
        if names.is_empty() {
            return Err("at least one capture is required".into());
        }
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(format!("duplicate capture name ({}): invalid expression", twice[0]));
        }
        Ok(pattern)
    }

    /// For line filters: literals and `<_>` only.
    pub fn for_filter(text: &str) -> Result<Pattern, String> {
        let pattern = Pattern::parse(text);
        if let Some(name) = pattern.names().next() {
            return Err(format!("named captures are not allowed: found '<{name}>'"));
        }
        pattern.check_neighbours()?;
        Ok(pattern)
    }

    fn parse(text: &str) -> Pattern {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(open) = rest.find('<') {
            let body = &rest[open + 1..];
            let len = body
                .bytes()
                .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
                .count();
            let is_name = len > 0 && !body.as_bytes()[0].is_ascii_digit() && body[len..].starts_with('>');
            if !is_name {
                literal.push_str(&rest[..=open]);
                rest = body;
                continue;
            }
            literal.push_str(&rest[..open]);
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            let name = &body[..len];
            parts.push(Part::Capture((name != "_").then(|| name.to_owned())));
            rest = &body[len + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Pattern { parts }
    }

    fn check_neighbours(&self) -> Result<(), String> {
        for pair in self.parts.windows(2) {
            if let [Part::Capture(a), Part::Capture(b)] = pair {
                let name = |n: &Option<String>| n.clone().unwrap_or("_".into());
                return Err(format!(
                    "found consecutive capture '<{}><{}>': invalid expression",
                    name(a),
                    name(b)
                ));
            }
        }
        Ok(())
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Capture(Some(name)) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Literals that every matching line contains.
    pub fn literals(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Literal(text) => Some(text.as_str()),
            Part::Capture(_) => None,
        })
    }

    /// Calls `found` with each named capture. A leading literal must begin the line; a capture takes as little as
    /// possible; where a literal is missing, the capture before it takes the rest and parsing ends.
    pub fn captures<'l>(&self, line: &'l str, mut found: impl FnMut(&str, &'l str)) {
        if line.is_empty() {
            return;
        }
        let mut parts = &self.parts[..];
        let mut rest = line;
        if let Some((Part::Literal(text), tail)) = parts.split_first() {
            let Some(after) = rest.strip_prefix(text.as_str()) else {
                return;
            };
            rest = after;
            parts = tail;
        }
        while let Some((Part::Capture(name), tail)) = parts.split_first() {
            let (taken, after, more) = match tail.split_first() {
                Some((Part::Literal(text), tail)) => match find(rest.as_bytes(), text.as_bytes()) {
                    Some(at) => (&rest[..at], &rest[at + text.len()..], tail),
                    None => (rest, "", &[][..]),
                },
                _ => (rest, "", &[][..]),
            };
            if let Some(name) = name {
                found(name, taken);
            }
            (rest, parts) = (after, more);
        }
    }

    /// Whether the line fits, as `|>` asks: the first literal may stand anywhere, every `<_>` takes something, and a
    /// literal at the end ends the line.
    pub fn fits(&self, line: &str) -> bool {
        let Some(last) = self.parts.last() else {
            return line.is_empty();
        };
        if line.is_empty() {
            return false;
        }
        let mut at = 0;
        for (i, part) in self.parts.iter().enumerate() {
            let Part::Literal(text) = part else { continue };
            match find(&line.as_bytes()[at..], text.as_bytes()) {
                None => return false,
                Some(0) if i > 0 => return false,
                Some(skipped) => at += skipped + text.len(),
            }
        }
        matches!(last, Part::Capture(_)) == (at < line.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, line: &str, want: &[&str]) {
        let mut got = Vec::new();
        Pattern::for_parser(pattern)
            .unwrap()
            .captures(line, |_, v| got.push(v.to_owned()));
        assert_eq!(got, want, "{pattern}");
    }

    #[test]
    fn captures_are_short_and_may_be_empty() {
        check("foo <foo> bar", "foo buzz bar", &["buzz"]);
        check("<foo>foo <bar> bar", "foo buzz bar", &["", "buzz"]);
        check("<path>?<_>", "/api/status", &["/api/status"]);
        check("x <a> <b>", "y 1 2", &[]);
        check("unicode ▶ <what>", "unicode ▶ character", &["character"]);
    }

    #[test]
    fn faults() {
        for (pattern, want) in [
            (
                "",
                "parse error at line 1, col 1: syntax error: unexpected $end, expecting IDENTIFIER or LITERAL",
            ),
            ("foo", "at least one capture is required"),
            ("<f><f>", "found consecutive capture '<f><f>': invalid expression"),
            ("<f> f<f>", "duplicate capture name (f): invalid expression"),
        ] {
            assert_eq!(Pattern::for_parser(pattern), Err(want.to_owned()));
        }
        assert_eq!(
            Pattern::for_filter("<foo <foo> bar <_>"),
            Err("named captures are not allowed: found '<foo>'".into())
        );
    }

    #[test]
    fn filters() {
        for (pattern, line, want) in [
            ("foo <_>", "foo bar", true),
            ("foo <_>", "foo", false),
            ("<_>foo<_>", "test foo test", true),
            ("<_>foo", "foo", false),
            ("foo", "xfoo", true),
            ("foo", "foox", false),
            ("", "", true),
            ("", "x", false),
        ] {
            assert_eq!(
                Pattern::for_filter(pattern).unwrap().fits(line),
                want,
                "{pattern} {line}"
            );
        }
    }
}
