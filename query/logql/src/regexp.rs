//! Regular expressions as RE2 understands them, on the `regex` crate.
//!
//! Both are linear-time and share their syntax but for details: RE2's `\d`, `\w`, `\s` and `\b` are ASCII. The pattern is
//! parsed and those classes are spelled out. Faults get Go's words, which Loki's clients see.

use regex::{Regex, RegexBuilder};
use regex_syntax::ast::{self, Ast, ErrorKind, Span};

/// Largest compiled program.
const PROGRAM_BYTES_MAX: usize = 4 << 20;
/// Deepest nesting of groups.
const NEST_MAX: u32 = 100;

/// Compiles an unanchored expression. The error is Go's text with its prefix.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern)?;
    RegexBuilder::new(&translated)
        .size_limit(PROGRAM_BYTES_MAX)
        .nest_limit(NEST_MAX)
        .build()
        .map_err(|e| match e {
            regex::Error::CompiledTooBig(_) => "error parsing regexp: expression too large".to_owned(),
            other => format!(
                "error parsing regexp: {}",
                other.to_string().lines().last().unwrap_or_default()
            ),
        })
}

/// A literal that every match contains, the longest found; empty if there is none.
pub(crate) fn required_literal(pattern: &str) -> String {
    let Ok(translated) = translate(pattern) else {
        return String::new();
    };
    let Ok(hir) = regex_syntax::ParserBuilder::new()
        .nest_limit(NEST_MAX)
        .build()
        .parse(&translated)
    else {
        return String::new();
    };
    let mut best = Vec::new();
    longest_literal(&hir, &mut best);
    String::from_utf8(best).unwrap_or_default()
}

fn longest_literal(hir: &regex_syntax::hir::Hir, best: &mut Vec<u8>) {
    use regex_syntax::hir::HirKind;
    match hir.kind() {
        HirKind::Literal(literal) if literal.0.len() > best.len() => {
            best.clear();
            best.extend_from_slice(&literal.0);
        }
        HirKind::Concat(parts) => parts.iter().for_each(|part| longest_literal(part, best)),
        HirKind::Capture(capture) => longest_literal(&capture.sub, best),
        HirKind::Repetition(repetition) if repetition.min > 0 => longest_literal(&repetition.sub, best),
        _ => {}
    }
}

fn translate(pattern: &str) -> Result<String, String> {
    let ast = ast::parse::ParserBuilder::new()
        .nest_limit(NEST_MAX)
        .build()
        .parse(pattern)
        .map_err(|e| format!("error parsing regexp: {}", go_words(pattern, &e)))?;
    let Ok(mut edits) = ast::visit(&ast, Edits(Vec::new()));
    let mut out = String::with_capacity(pattern.len());
    let mut at = 0;
    edits.sort_by_key(|(span, _)| span.start.offset);
    for (span, text) in edits {
        out.push_str(&pattern[at..span.start.offset]);
        out.push_str(text);
        at = span.end.offset;
    }
    out.push_str(&pattern[at..]);
    Ok(out)
}

/// What to replace: spans of the pattern, in any order.
struct Edits(Vec<(Span, &'static str)>);

impl Edits {
    fn perl(&mut self, class: &ast::ClassPerl) {
        let text = match (&class.kind, class.negated) {
            (ast::ClassPerlKind::Digit, false) => "[0-9]",
            (ast::ClassPerlKind::Digit, true) => "[^0-9]",
            (ast::ClassPerlKind::Space, false) => r"[\t\n\x0c\r ]",
            (ast::ClassPerlKind::Space, true) => r"[^\t\n\x0c\r ]",
            (ast::ClassPerlKind::Word, false) => "[0-9A-Za-z_]",
            (ast::ClassPerlKind::Word, true) => "[^0-9A-Za-z_]",
        };
        self.0.push((class.span, text));
    }
}

impl ast::Visitor for Edits {
    type Output = Vec<(Span, &'static str)>;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<Self::Output, Self::Err> {
        Ok(self.0)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::ClassPerl(class) => self.perl(class),
            Ast::Assertion(a) => match a.kind {
                ast::AssertionKind::WordBoundary => self.0.push((a.span, r"(?-u:\b)")),
                ast::AssertionKind::NotWordBoundary => self.0.push((a.span, r"(?-u:\B)")),
                _ => {}
            },
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ast::ClassSetItem) -> Result<(), Self::Err> {
        if let ast::ClassSetItem::Perl(class) = item {
            self.perl(class);
        }
        Ok(())
    }
}

fn go_words(pattern: &str, error: &ast::Error) -> String {
    let span = error.span();
    let at = |from: usize, to: usize| pattern.get(from..to).unwrap_or(pattern);
    let here = at(span.start.offset, span.end.offset);
    let rest = at(span.start.offset, pattern.len());
    match error.kind() {
        ErrorKind::EscapeUnrecognized => format!("invalid escape sequence: `{here}`"),
        ErrorKind::EscapeUnexpectedEof => "trailing backslash at end of expression: ``".into(),
        ErrorKind::GroupUnclosed => format!("missing closing ): `{pattern}`"),
        ErrorKind::GroupUnopened => format!("unexpected ): `{rest}`"),
        ErrorKind::ClassUnclosed => format!("missing closing ]: `{rest}`"),
        ErrorKind::ClassRangeInvalid => format!("invalid character class range: `{here}`"),
        ErrorKind::RepetitionMissing => {
            let op: String = rest.chars().take(1).collect();
            format!("missing argument to repetition operator: `{op}`")
        }
        ErrorKind::RepetitionCountInvalid => format!("invalid repeat count: `{here}`"),
        ErrorKind::GroupNameDuplicate { .. } => format!("duplicate capture group name: `{here}`"),
        ErrorKind::GroupNameInvalid | ErrorKind::GroupNameEmpty | ErrorKind::GroupNameUnexpectedEof => {
            format!("invalid named capture: `{rest}`")
        }
        ErrorKind::UnsupportedLookAround | ErrorKind::FlagUnrecognized => {
            let op: String = rest.chars().take(3).collect();
            format!("invalid or unsupported Perl syntax: `{op}`")
        }
        ErrorKind::UnsupportedBackreference => format!("invalid escape sequence: `{here}`"),
        ErrorKind::NestLimitExceeded(_) => "expression nests too deeply".into(),
        other => format!("{other}: `{here}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn perl_classes_are_ascii() {
        assert!(compile(r"^\d+$").unwrap().is_match("12"));
        assert!(!compile(r"^\d+$").unwrap().is_match("١٢"));
        assert!(compile(r"^[\w-]+$").unwrap().is_match("a-b"));
        assert!(!compile(r"^[\w-]+$").unwrap().is_match("é"));
        assert!(compile(r"\bfoo\b").unwrap().is_match("éfoo"));
    }

    #[test]
    fn faults_speak_as_go_does() {
        for (pattern, want) in [
            (r"^^x43\q", r"invalid escape sequence: `\q`"),
            ("(", "missing closing ): `(`"),
            ("a)", "unexpected ): `)`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("[a", "missing closing ]: `[a`"),
        ] {
            assert_eq!(
                compile(pattern).map(|_| ()),
                Err(format!("error parsing regexp: {want}")),
                "{pattern}"
            );
        }
        assert!(compile(&"(".repeat(5000)).is_err());
        assert!(compile(r"(\w{100}){100}{100}").is_err());
    }

    #[test]
    fn a_required_literal_is_in_every_match() {
        for (pattern, want) in [
            ("err.*timeout", "timeout"),
            ("(?i)err", ""),
            ("a|b", ""),
            ("(foo)+x?", "foo"),
            ("x*", ""),
            (r"code=5\d\d", "code=5"),
        ] {
            assert_eq!(required_literal(pattern), want, "{pattern}");
        }
    }
}
