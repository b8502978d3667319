//! Regular expressions in matchers: RE2's syntax, and what RE2's users are told of one that it refuses.

use model::{MatchOp, Matcher};
use regex_syntax::ast::{self, Ast, ErrorKind, RepetitionKind, RepetitionRange};

/// RE2 repeats at most this often.
const REPEAT_MAX: u32 = 1000;

/// A matcher; of a regular expression that does not compile, why: `error parsing regexp: missing closing ): `(``.
pub(super) fn matcher(label: String, op: MatchOp, value: &str) -> Result<Matcher, String> {
    let regex = matches!(op, MatchOp::Regex | MatchOp::NotRegex);
    let refused = |(what, shown): (&str, &str)| format!("error parsing regexp: {what}: `{shown}`");
    // Most values have nothing that could be wrong.
    if regex && value.contains(['*', '+', '?', '{', '(', '[', '\\', ')']) {
        match ast::parse::Parser::new().parse(value) {
            Err(e) => return Err(refused(words(value, &e))),
            Ok(ast) => ast::visit(&ast, Stricter { value }).map_err(refused)?,
        }
    }
    Matcher::new(label, op, value).map_err(|e| {
        let last = e.message.lines().last().unwrap_or_default();
        refused((last.trim_start_matches("error: "), value))
    })
}

fn words<'v>(value: &'v str, e: &ast::Error) -> (&'static str, &'v str) {
    let span = e.span();
    let shown = value.get(span.start.offset..span.end.offset).unwrap_or(value);
    let from_there = value.get(span.start.offset..).unwrap_or(value);
    match e.kind() {
        ErrorKind::GroupUnclosed => ("missing closing )", value),
        ErrorKind::GroupUnopened => ("unexpected )", value),
        ErrorKind::ClassUnclosed => ("missing closing ]", from_there),
        ErrorKind::ClassRangeInvalid | ErrorKind::ClassRangeLiteral => ("invalid character class range", shown),
        ErrorKind::EscapeUnexpectedEof => ("trailing backslash at end of expression", ""),
        ErrorKind::RepetitionMissing => {
            let lazy = 1 + usize::from(from_there[1..].starts_with('?'));
            let op = from_there.get(..lazy).unwrap_or(from_there);
            ("missing argument to repetition operator", op)
        }
        ErrorKind::RepetitionCountInvalid => ("invalid repeat count", shown),
        ErrorKind::GroupNameDuplicate { .. }
        | ErrorKind::GroupNameEmpty
        | ErrorKind::GroupNameInvalid
        | ErrorKind::GroupNameUnexpectedEof => ("invalid named capture", shown),
        ErrorKind::UnsupportedLookAround
        | ErrorKind::FlagUnrecognized
        | ErrorKind::FlagUnexpectedEof
        | ErrorKind::FlagDuplicate { .. }
        | ErrorKind::FlagRepeatedNegation { .. }
        | ErrorKind::FlagDanglingNegation => ("invalid or unsupported Perl syntax", shown),
        ErrorKind::NestLimitExceeded(_) => ("expression nests too deeply", value),
        _ => ("invalid escape sequence", shown),
    }
}

/// What other engines take and RE2 does not: large repetitions, and repetitions of repetitions.
struct Stricter<'v> {
    value: &'v str,
}

impl<'v> ast::Visitor for Stricter<'v> {
    type Output = ();
    type Err = (&'static str, &'v str);

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }
    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        let Ast::Repetition(outer) = ast else {
            return Ok(());
        };
        let shown = |from: &ast::Span, to: &ast::Span| self.value.get(from.start.offset..to.end.offset).unwrap_or("");
        let span = &outer.op.span;
        if let RepetitionKind::Range(range) = &outer.op.kind {
            let (RepetitionRange::Exactly(most) | RepetitionRange::AtLeast(most) | RepetitionRange::Bounded(_, most)) =
                range;
            if *most > REPEAT_MAX {
                return Err(("invalid repeat count", shown(span, span)));
            }
        }
        match &*outer.ast {
            Ast::Repetition(inner) => Err(("invalid nested repetition operator", shown(&inner.op.span, span))),
            _ => Ok(()),
        }
    }
}
