//! `decolorize`: ANSI escape sequences are taken out of the line.

/// Appends `line` without escape sequences to `out`.
pub(crate) fn decolorize(line: &str, out: &mut String) {
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        rest = match rest.as_bytes().first() {
            // ESC [ parameters, then one final byte.
            Some(b'[') => {
                let body = &rest[1..];
                let end = body
                    .find(|c: char| !(c.is_ascii_digit() || "[]()#;?:=<> ".contains(c)))
                    .unwrap_or(body.len());
                let last = body[end..].chars().next().map_or(0, char::len_utf8);
                &body[end + last..]
            }
            // ESC ] text BEL
            Some(b']') => rest.split_once('\u{7}').map_or("", |(_, after)| after),
            _ => rest,
        };
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    #[test]
    fn colours_go_and_text_stays() {
        for (line, want) in [
            ("plain", "plain"),
            ("\u{1b}[0;32mgreen\u{1b}[0m red", "green red"),
            ("\u{1b}]0;title\u{7}x", "x"),
            ("\u{1b}[", ""),
            ("é\u{1b}[1mé", "éé"),
        ] {
            let mut out = String::new();
            super::decolorize(line, &mut out);
            assert_eq!(out, want);
        }
    }
}
