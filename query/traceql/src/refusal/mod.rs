//! How a text that does not parse is refused: in Tempo's words, at Tempo's place.
//!
//! Tempo's parser is a generated LALR(1) one, and what its messages say (`unexpected X, expecting Y or Z`, or no expectation
//! at all) follows from its tables: from the state in which a token has no action, after all reductions that the state
//! makes by default. To say the same, the text is read once more here, with the [`rules`] of the language and [`table`]s
//! made of them in the same way. They say only whether a text is refused; what it means is read by [`crate::parse`].

mod rules;
mod scan;
mod table;

use std::sync::OnceLock;

use rules::Symbol;
use scan::{Scanner, Text};
use table::{Action, Table};

use crate::syntax::ArithmeticOp;
use crate::value::{Value, calculate};

/// States upon one another; texts that go deeper are refused for their depth.
const STACK_MAX: usize = 100_000;

/// Why Tempo refuses a text; `None`: it does not, or only for its depth.
pub(crate) fn refusal(text: &str) -> Option<String> {
    static TABLE: OnceLock<Table> = OnceLock::new();
    let table = TABLE.get_or_init(|| Table::of(rules::grammar()));
    let mut scanner = Scanner::new(text);
    Reader {
        table,
        scanner: &mut scanner,
        stack: vec![(0, Held::Nothing)],
        ahead: None,
    }
    .read();
    scanner.first_error()
}

/// What is known of a part that was read.
#[derive(Clone, Debug)]
enum Held {
    Nothing,
    Name(String),
    Constant(Value<'static>),
}

struct Reader<'a, 't> {
    table: &'a Table,
    scanner: &'a mut Scanner<'t>,
    stack: Vec<(usize, Held)>,
    ahead: Option<(usize, Held)>,
}

impl Reader<'_, '_> {
    fn read(&mut self) {
        while self.stack.len() < STACK_MAX {
            let state = self.stack.last().map_or(0, |(state, _)| *state);
            // A state that shifts nothing does what it does before the next token is looked at.
            let default = self.table.default_of(state);
            let action = match (self.table.shifts(state), default) {
                (false, Some(action)) => action,
                _ => self.table.action(state, self.token()),
            };
            match action {
                Action::Shift(to) => {
                    let (_, held) = self.ahead.take().unwrap_or((0, Held::Nothing));
                    self.stack.push((to, held));
                }
                Action::Reduce(rule) => self.reduce(rule),
                Action::Accept => return,
                Action::Error => {
                    let words = self.table.words(state, self.token());
                    self.scanner.error(words);
                    return;
                }
            }
        }
    }

    fn token(&mut self) -> usize {
        if self.ahead.is_none() {
            let (token, text) = self.scanner.token();
            let held = match text {
                Text::None => Held::Nothing,
                Text::Name(name) => Held::Name(name),
                Text::Int(i) => Held::Constant(Value::Int(i)),
                Text::Float(d) => Held::Constant(Value::Float(d)),
                Text::Duration(ns) => Held::Constant(Value::Duration(ns)),
            };
            self.ahead = Some((token, held));
        }
        self.ahead.as_ref().map_or(0, |(token, _)| *token)
    }

    fn reduce(&mut self, rule: usize) {
        let table = self.table;
        let rule = &table.grammar.rules[rule];
        let from = self.stack.len().saturating_sub(rule.right.len()).max(1);
        let parts: Vec<Held> = self.stack.drain(from..).map(|(_, held)| held).collect();
        let held = self.meaning(rule, &parts);
        let below = self.stack.last().map_or(0, |(state, _)| *state);
        self.stack.push((table.goto(below, rule.left), held));
    }

    /// What Tempo calculates or refuses while it reads.
    fn meaning(&mut self, rule: &rules::Rule, parts: &[Held]) -> Held {
        let names = &self.table.grammar;
        match (names.name(Symbol::Part(rule.left)), parts) {
            ("Static", [Held::Name(name)]) if !["minInt", "maxInt"].contains(&name.as_str()) => {
                if rule.right.first().is_some_and(|s| names.name(*s) == "IDENTIFIER") {
                    self.scanner.error(format!("unknown identifier: {name}"));
                }
                Held::Nothing
            }
            ("Math", [a, _, b]) => {
                for side in [a, b] {
                    if matches!(side, Held::Constant(Value::Duration(_))) {
                        self.scanner
                            .error("duration cannot be used as a scalar operand in metric arithmetic".to_owned());
                    }
                }
                Held::Nothing
            }
            ("Constant", [one]) => one.clone(),
            ("Constant", [_, Held::Constant(value)]) => Held::Constant(match value {
                Value::Int(i) => Value::Int(i.wrapping_neg()),
                Value::Duration(ns) => Value::Duration(ns.wrapping_neg()),
                Value::Float(d) => Value::Float(-d),
                other => other.clone(),
            }),
            ("Constant", [_, middle @ Held::Constant(_), _]) => middle.clone(),
            ("Constant", [Held::Constant(a), _, Held::Constant(b)]) => {
                let op = rule.right.get(1).map(|s| names.name(*s));
                self.folded(op.unwrap_or_default(), a, b)
            }
            _ => Held::Nothing,
        }
    }

    fn folded(&mut self, op: &str, a: &Value<'static>, b: &Value<'static>) -> Held {
        if matches!(a, Value::Duration(_)) || matches!(b, Value::Duration(_)) {
            self.scanner
                .error("duration cannot be used in scalar arithmetic".to_owned());
            return Held::Nothing;
        }
        let op = match op {
            "+" => ArithmeticOp::Add,
            "-" => ArithmeticOp::Sub,
            "*" => ArithmeticOp::Mul,
            _ => ArithmeticOp::Div,
        };
        match calculate(op, a, b) {
            Ok(value) => Held::Constant(value.into_owned()),
            Err(_) => {
                self.scanner.error("integer divide by zero".to_owned());
                Held::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(text: &str, want: &str) {
        assert_eq!(refusal(text).as_deref().unwrap_or(""), want, "{text}");
    }

    #[test]
    fn places_and_expectations_are_those_of_tempo() {
        check("{ .a = 1 }", "");
        check("({} | rate()) / 2 > 1 | topk(3) with(sample=true)", "");
        check("", "parse error : syntax error: unexpected $end");
        check("{", "parse error at line 1, col 2: syntax error: unexpected $end");
        check("{ .a = }", "parse error at line 1, col 8: syntax error: unexpected }");
        check(
            "{ }}",
            "parse error at line 1, col 4: syntax error: unexpected }, expecting with",
        );
        check(
            "{\n .a = 1 ",
            "parse error at line 2, col 9: syntax error: unexpected $end",
        );
        check(
            "{ . }",
            "parse error at line 1, col 3: syntax error: unexpected END_ATTRIBUTE, expecting IDENTIFIER",
        );
        check(
            "{ .a = 1 } > 1",
            "parse error at line 1, col 14: syntax error: unexpected INTEGER, expecting { or (",
        );
        check(
            "{ trace:name = 1 }",
            "parse error at line 1, col 9: syntax error: unexpected name, expecting duration or rootName or rootService or id",
        );
        check(
            "({ .a } | by(.b) | coalesce()) > { .c }",
            "parse error at line 1, col 34: syntax error: unexpected {, expecting (",
        );
        check("{ ours = 1", "parse error at line 1, col 3: unknown identifier: ours");
        check("{ .a = 'x' }", "parse error at line 1, col 8: unknown identifier: 'x'");
        check("{ .a = \"x }", "parse error at line 1, col 8: literal not terminated");
        check(
            "({} | rate()) / 1s",
            "parse error at line 0, col 17: duration cannot be used as a scalar operand in metric arithmetic",
        );
        check(
            "{} | rate() =~ \"a\"",
            "parse error at line 0, col 13: syntax error: unexpected =~, expecting with",
        );
        check(
            "{ .a = 99999999999999999999 }",
            "parse error at line 1, col 8: strconv.Atoi: parsing \"99999999999999999999\": value out of range",
        );
    }

    /// One fault is told of, so that one is kept.
    #[test]
    fn a_long_text_with_many_faults_is_refused_for_the_first() {
        let text = format!("{{ {}1 }}", "a+1+".repeat(30_000));
        check(&text, "parse error at line 1, col 3: unknown identifier: a");
    }

    /// Pieces of queries, whole ones among them.
    const PIECES: &[&str] = &[
        "{",
        "}",
        "(",
        ")",
        "{ }",
        "{ .a = 1 }",
        "{ name != nil && duration > 1s }",
        ".a",
        "span.b",
        "resource.\"c d\"",
        "1",
        "2.5",
        "1s",
        "\"x\"",
        "true",
        "nil",
        "error",
        "server",
        "name",
        "duration",
        "span:id",
        "parent",
        "parent.x",
        "=",
        "!=",
        "<",
        "<=",
        ">",
        ">=",
        "=~",
        "!~",
        "&&",
        "||",
        ">>",
        "<<",
        "~",
        "!>",
        "!<<",
        "&>",
        "&~",
        "+",
        "-",
        "-(2)",
        "--3",
        "> 1 / 2",
        "| rate() > (3 - 1) * 2",
        "*",
        "/",
        "%",
        "^",
        "!",
        "|",
        ",",
        "count()",
        "avg(duration)",
        "by(.a)",
        "coalesce()",
        "select(.a, name)",
        "rate()",
        "rate() by(name)",
        "| rate()",
        "| count() > 1",
        "min_over_time(.a)",
        "quantile_over_time(duration, 0.5)",
        "compare({ .a }, 3)",
        "topk(2)",
        "| topk(1)",
        "with(a=1)",
        "with(",
        "a",
        "with(b=nil, c=-1)",
        "2 % 3",
        "({} | rate())",
        "({} | count())",
        "maxInt",
        "unknown",
        "> 2",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3_000))]

        /// Who reads and who refuses are two: what is not refused must be read.
        #[test]
        fn what_is_not_refused_is_read(
            picks in proptest::collection::vec(0..PIECES.len(), 1..9),
            wrap in 0..4usize,
        ) {
            let inner: Vec<&str> = picks.iter().map(|i| PIECES[*i]).collect();
            let inner = inner.join(" ");
            let text = match wrap {
                0 => inner,
                1 => format!("{{ {inner} }}"),
                2 => format!("{{}} | {inner}"),
                _ => format!("({{ .a }} | {inner})"),
            };
            let refused = refusal(&text);
            let read = crate::parse::read(&text);
            let _ = crate::Query::parse(&text);
            prop_assert!(read.is_ok() || refused.is_some(), "{}: {:?}", text, read);
        }
    }
}
