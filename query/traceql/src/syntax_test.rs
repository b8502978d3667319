//! The language as text: positions of errors, canonical text, bounds.

use model::{SpanKind, StatusCode};
use proptest::prelude::*;

use crate::evaluate::{self, MadeUpSpan};
use crate::syntax::{
    Aggregate, ArithmeticOp, BinaryOp, Body, CompareOp, Expr, Field, Function, Intrinsic, Kept, Literal, Metrics,
    Operand, OverTime, Pipeline, Rank, Relation, Scalar, Scope, SpansetOp, Spansets, Stage, Tree,
};
use crate::{Query, lenient, parse, tag_search::TagSearch};

fn check_printed(text: &str, want: &str) {
    assert_eq!(parse::parse(text).unwrap().to_string(), want, "{text}");
}

fn check_error(text: &str, want: &str) {
    assert_eq!(Query::parse(text).unwrap_err().to_string(), want, "{text}");
}

#[test]
fn queries_have_a_canonical_text() {
    check_printed("{}", "{ true }");
    check_printed("{a}".replace('a', ".a").as_str(), "{ .a }");
    check_printed("{ .a || .b && .c }", "{ .a || .b && .c }");
    check_printed("{ .a || (.b && .c) }", "{ .a || (.b && .c) }");
    check_printed("{ -2 ^ 2 = -4 }", "{ -2 ^ 2 = -4 }");
    check_printed("{ (-2) ^ 2 = 4 }", "{ (-2) ^ 2 = 4 }");
    check_printed("{ .a.\"b c\".d > 1h30m }", "{ .\"a.b c.d\" > 1h30m0s }");
    check_printed("{ span:name = `a\"b` }", "{ name = \"a\\\"b\" }");
    check_printed("{.a} && {.b} >> {.c}", "{ .a } && { .b } >> { .c }");
    check_printed("({.a} && {.b}) >> {.c}", "({ .a } && { .b }) >> { .c }");
    check_printed(
        "{} // all\n | rate()by(name,.a)with(sample=true)",
        "{ true } | rate() by(name, .a) with(sample=true)",
    );
    check_printed("{} | rate() > 5 | topk(2)", "{ true } | rate() > 5 | topk(2)");
    check_printed(
        "({} | rate() > 6 | topk(2)) * 100 > 1 / 2",
        "({ true } | rate() > 6 | topk(2)) * 100 > (1 / 2)",
    );
    check_printed(
        "{} | rate() < 1 / 2 > (3 - 1) * 2",
        "{ true } | rate() < (1 / 2) > ((3 - 1) * 2)",
    );
    check_printed(
        "({} | rate()) * --2 > -(1 + 2)",
        "({ true } | rate()) * 2 > (0 - (1 + 2))",
    );
    check_printed("{} | count() > -(-2)", "{ true } | count() > 2");
    check_printed("({} | count()) > 2 /* many */", "({ true } | count()) > 2");
}

#[test]
fn errors_say_where() {
    check_error("{ .a = }", "parse error at line 1, col 8: syntax error: unexpected }");
    check_error(
        "{ .a =\n  == 4 }",
        "parse error at line 2, col 3: syntax error: unexpected =",
    );
    check_error(
        "{ attribute = 4 }",
        "parse error at line 1, col 3: unknown identifier: attribute",
    );
    check_error("{ .a = \"x }", "parse error at line 1, col 8: literal not terminated");
    check_error("", "parse error : syntax error: unexpected $end");
    check_error(
        "{ true } | count()",
        "parse error at line 1, col 19: syntax error: unexpected $end",
    );
    check_error(
        "{ \u{1f41b}.a }",
        "parse error at line 1, col 3: unknown identifier: \u{1f41b}",
    );
    let bad_pattern = Query::parse("{ span.foo =~ \"[\" }").unwrap_err().to_string();
    assert_eq!(bad_pattern, "invalid regex: `[`");
    check_error("{ parent.a = 1 }", "parent not yet supported");
    check_error(
        "{ 1 + 1 }",
        "span filter field expressions must resolve to a boolean: { 2 }",
    );
}

#[test]
fn long_and_deep_queries_end_in_an_error() {
    let deep = |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for n in [50, 1_000, 20_000] {
        for text in [
            format!("{{ {} }}", deep("(", "true", ")", n)),
            format!("{{ {} }}", deep("!", ".a", "", n)),
            format!("{{ {} }}", deep("-", ".a", " > 1", n)),
            deep("(", "{}", ")", n),
            deep("(", "{} | rate()", ") + 1", n),
            format!("{{ .a {} }}", "|| .a ".repeat(n)),
            format!("{{ .a {} > 1 }}", "+ 1 - .a ".repeat(n.min(99))),
            format!("{{ .a {} > 1 }}", "^ .a ".repeat(n)),
            format!("{{}} {}", "| {} ".repeat(n)),
            format!("{{}} {}", ">> {} ".repeat(n.min(200))),
            format!("{{}} {}", ">> {} ".repeat(n)),
            format!("{{ .a {} }}", "= .b ".repeat(n.min(200))),
            format!("{{ {} }}", deep("(.a && ", ".b", ")", n.min(99))),
            format!("{{}} | rate() {}", "| topk(1) ".repeat(n)),
            format!("{{}} | rate() {}", "> 1 ".repeat(n)),
        ] {
            let _ = Query::parse(&text);
            let _ = lenient::groups(&text);
            let _ = evaluate::keeps(&text, &MadeUpSpan::new(0));
            let _ = evaluate::pipeline(&text, &[MadeUpSpan::new(0)], Vec::new());
            let _ = evaluate::metrics_range(&text, &[MadeUpSpan::new(1)], (0, 1, 1));
        }
    }
    let longest = format!("{{ .a = 0 {} }}", "|| .a = 1 ".repeat(499));
    let query = Query::parse(&longest).unwrap();
    let patterns = |n: usize| Query::parse(&format!("{{ {} }}", vec![".a =~ \"b.*\""; n].join(" && ")));
    assert!(patterns(64).is_ok());
    let refusal = patterns(65).unwrap_err().to_string();
    assert!(
        refusal.ends_with("too many regular expressions: at most 64 are supported"),
        "{refusal}"
    );
    assert!(!query.is_metrics());
    let too_long = format!("{{ .a = 0 {} }}", "|| .a = 1 ".repeat(600));
    assert!(
        Query::parse(&too_long)
            .unwrap_err()
            .to_string()
            .ends_with("too many operators: at most 1000 are supported")
    );
}

fn literal() -> impl Strategy<Value = Literal> {
    prop_oneof![
        any::<bool>().prop_map(Literal::Bool),
        (0..=i64::MAX).prop_map(Literal::Int),
        Just(Literal::Int(i64::MIN)),
        (0.0..1e300f64).prop_map(Literal::Float),
        (0..=i64::MAX).prop_map(Literal::Duration),
        any::<String>().prop_map(Literal::Str),
        (0..3).prop_map(|n| Literal::Status(StatusCode::from_number(n))),
        (0..6).prop_map(|n| Literal::Kind(SpanKind::from_number(n))),
    ]
}

fn field() -> impl Strategy<Value = Field> {
    let scope = prop::sample::select(vec![
        Scope::None,
        Scope::Span,
        Scope::Resource,
        Scope::Event,
        Scope::Link,
        Scope::Instrumentation,
    ]);
    let name = prop_oneof![
        "[a-z0-9.+*/%:\\[\\]-]{1,8}",
        "span\\.[a-z]",
        "\\PC{1,6}",
        any::<String>()
    ];
    prop_oneof![
        1 => prop::sample::select(vec![Intrinsic::Name, Intrinsic::TraceId, Intrinsic::NestedSetLeft, Intrinsic::Parent])
            .prop_map(Field::Intrinsic),
        3 => (scope, name, any::<bool>())
            .prop_filter("a name", |(_, name, _)| !name.is_empty())
            .prop_map(|(scope, name, parent)| Field::Attribute {
                parent: parent && matches!(scope, Scope::None | Scope::Span | Scope::Resource),
                scope,
                name,
            }),
    ]
}

fn compare_op() -> impl Strategy<Value = CompareOp> {
    use CompareOp::{Eq, Ge, Gt, Le, Lt, Ne};
    prop::sample::select(vec![Eq, Ne, Lt, Le, Gt, Ge])
}

fn arithmetic_op() -> impl Strategy<Value = ArithmeticOp> {
    use ArithmeticOp::{Add, Div, Mod, Mul, Pow, Sub};
    prop::sample::select(vec![Add, Sub, Mul, Div, Mod, Pow])
}

fn expr() -> impl Strategy<Value = Expr> {
    let op = prop_oneof![
        Just(BinaryOp::And),
        Just(BinaryOp::Or),
        Just(BinaryOp::Matches),
        Just(BinaryOp::MatchesNot),
        compare_op().prop_map(BinaryOp::Compare),
        arithmetic_op().prop_map(BinaryOp::Arithmetic),
    ];
    let leaf = prop_oneof![literal().prop_map(Expr::Literal), field().prop_map(Expr::Field)];
    leaf.prop_recursive(4, 16, 2, move |inner| {
        prop_oneof![
            1 => (inner.clone(), any::<[bool; 2]>()).prop_map(|(e, [exists, first])| {
                let op = BinaryOp::Compare(if exists { CompareOp::Ne } else { CompareOp::Eq });
                let (e, nil) = (Box::new(e), Box::new(Expr::Literal(Literal::Nil)));
                if first { Expr::Binary(op, nil, e) } else { Expr::Binary(op, e, nil) }
            }),
            1 => inner.clone().prop_map(|e| Expr::Neg(Box::new(e))),
            1 => inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            4 => (op.clone(), inner.clone(), inner).prop_map(|(op, l, r)| Expr::Binary(op, Box::new(l), Box::new(r))),
        ]
    })
}

fn spansets() -> impl Strategy<Value = Spansets> {
    use Relation::{Ancestor, Child, Descendant, Parent, Sibling};
    let related = (
        prop::sample::select(vec![Child, Parent, Descendant, Ancestor, Sibling]),
        prop::sample::select(vec![Kept::Right, Kept::RightWithout, Kept::Both]),
    );
    let op = prop_oneof![
        Just(SpansetOp::And),
        Just(SpansetOp::Or),
        related.prop_map(|(relation, kept)| SpansetOp::Related(relation, kept)),
    ];
    expr().prop_map(Spansets::Filter).prop_recursive(3, 8, 2, move |inner| {
        prop_oneof![
            (op.clone(), inner.clone(), inner.clone()).prop_map(|(op, l, r)| Spansets::Combined(
                op,
                Box::new(l),
                Box::new(r)
            )),
            (inner.clone(), inner).prop_map(|(a, b)| Spansets::Group(Pipeline {
                stages: vec![Stage::Spansets(a), Stage::Spansets(b)],
            })),
        ]
    })
}

fn number() -> impl Strategy<Value = Scalar> {
    prop_oneof![
        any::<i32>().prop_map(|i| Scalar::Number(Literal::Int(i.into()))),
        (-1e9..1e9f64).prop_map(|d| Scalar::Number(Literal::Float(d))),
    ]
}

fn scalar() -> impl Strategy<Value = Scalar> {
    let aggregate = prop_oneof![
        Just(Scalar::Aggregate(Aggregate::Count, None)),
        expr().prop_map(|e| Scalar::Aggregate(Aggregate::Avg, Some(e))),
    ];
    aggregate.prop_recursive(2, 4, 2, |inner| {
        (arithmetic_op(), inner, number()).prop_map(|(op, l, r)| Scalar::Arithmetic(op, Box::new(l), Box::new(r)))
    })
}

fn pipeline() -> impl Strategy<Value = Pipeline> {
    let stage = prop_oneof![
        spansets().prop_map(Stage::Spansets),
        expr().prop_map(Stage::By),
        prop::collection::vec(field(), 1..3).prop_map(Stage::Select),
        (compare_op(), scalar(), number()).prop_map(|(op, l, r)| Stage::ScalarFilter(op, l, r)),
        Just(Stage::Coalesce),
    ];
    (spansets(), prop::collection::vec(stage, 0..3)).prop_map(|(first, rest)| Pipeline {
        stages: std::iter::once(Stage::Spansets(first)).chain(rest).collect(),
    })
}

fn metrics() -> impl Strategy<Value = Metrics> {
    let function = prop_oneof![
        Just(Function::Rate),
        field().prop_map(|f| Function::OverTime(OverTime::Sum, f)),
        (field(), prop::collection::vec(0.0..1.0f64, 1..3)).prop_map(|(f, q)| Function::Quantile(f, q)),
        expr().prop_map(|selection| Function::Compare {
            selection,
            top: Some(3),
            between: Some((1, 2)),
        }),
    ];
    let leaf = (pipeline(), function, prop::collection::vec(field(), 0..3)).prop_map(|(pipeline, function, by)| {
        let groups = !matches!(function, Function::Compare { .. });
        Metrics::Function(pipeline, function, if groups { by } else { Vec::new() })
    });
    leaf.prop_recursive(3, 6, 2, |inner| {
        use ArithmeticOp::{Add, Div, Mul, Sub};
        let side = prop_oneof![
            inner.clone().prop_map(Operand::Series),
            number().prop_map(Operand::Number)
        ];
        prop_oneof![
            inner.clone().prop_map(|m| Metrics::Rank(Rank::Bottom(7), Box::new(m))),
            (compare_op(), inner.clone(), number()).prop_map(|(op, m, n)| Metrics::Filter(op, Box::new(m), n)),
            (prop::sample::select(vec![Add, Sub, Mul, Div]), inner, side).prop_map(|(op, m, side)| Metrics::Math(
                op,
                Box::new(Operand::Series(m)),
                Box::new(side)
            )),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Labels and attribute keys are printed trees, and clients send them back.
    #[test]
    fn what_is_printed_parses_into_the_same_tree(
        body in prop_oneof![pipeline().prop_map(Body::Spansets), metrics().prop_map(Body::Metrics)],
        hint in prop::option::of(literal()),
    ) {
        let tree = Tree { body, hints: hint.into_iter().map(|value| ("hint".to_owned(), value)).collect() };
        let text = tree.to_string();
        prop_assert_eq!(parse::read(&text), Ok(tree), "{}", text);
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = Query::parse(&text);
        let _ = Query::parse(&format!("{{ {text} }}"));
        let _ = lenient::groups(&format!("{{ {text}"));
        let _ = TagSearch::parse(&text);
        let _ = parse::field(&text);
    }

    /// Nearly right text gets further into the parser than noise does.
    #[test]
    fn arbitrary_tokens_never_panic(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "(", ")", "|", "&&", "||", ">>", "!>", "=", "!=", "=~", "~", "-", "^", "*", ".a", "span.b",
                "name", "\"x\"", "1", "1.5", "2h", "nil", "error", "by", "count", "avg", "rate", "topk", "select",
                "coalesce", "compare", "with", ",", "quantile_over_time", "parent.c", "event:name", "`[`",
            ]),
            0..24,
        ),
    ) {
        let text = words.join(" ");
        if let Ok(tree) = parse::read(&text) {
            let printed = tree.to_string();
            prop_assert_eq!(parse::read(&printed), Ok(tree), "{}", printed);
        }
        let _ = Query::parse(&text);
        let _ = lenient::groups(&text);
    }
}
