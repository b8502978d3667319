//! What a tree looks like when it is written again, and that nothing is lost on the way.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use query_promql::{Query, Tree};

fn check(text: &str, want: &str) {
    let query = Query::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    assert_eq!(query.to_string(), want, "{text}");
}

#[test]
fn one_line_in_canonical_form() {
    for (text, want) in [
        ("SUM  BY(b , \"a.b\")( x )", "sum by (b, \"a.b\") (x)"),
        ("sum(a) by (a:b)", "sum by (\"a:b\") (a)"),
        ("sum by () (a)", "sum(a)"),
        ("sum(x) without ()", "sum without () (x)"),
        ("quantile(.5,x) by (a)", "quantile by (a) (0.5, x)"),
        ("{x='1'}", "{x=\"1\"}"),
        ("foo{b=\"1\",a!~\"2\",}", "foo{a!~\"2\",b=\"1\"}"),
        ("{\"foo\",\"a b\"=\"c\"}", "{\"a b\"=\"c\",__name__=\"foo\"}"),
        ("info(x, {})", "info(x, {})"),
        ("x{a=`\\d\"`}", "x{a=\"\\\\d\\\"\"}"),
        ("x offset 5m anchored", "x anchored offset 5m"),
        ("x offset 0s", "x"),
        ("x anchored @ 5 offset 5m", "x @ 5.000 anchored offset 5m"),
        ("x[5m] smoothed offset -1h @ end()", "x[5m] smoothed @ end() offset -1h"),
        ("x @ +1.5e3", "x @ 1500.000"),
        ("x[1.5]", "x[1s500ms]"),
        ("x[90d:]", "x[90d:]"),
        ("x[14d : 7d] offset 1y2w", "x[2w:1w] offset 379d"),
        ("x[2*5m]", "x[2 * 5m]"),
        ("x[((5m))]", "x[(5m)]"),
        ("x[-2^2+300:step()]", "x[-2 ^ 2 + 300:step()]"),
        (
            "x offset -(min_of(step(),5m)-range())",
            "x offset -(min_of(step(), 5m) - range())",
        ),
        ("- -5m", "5m"),
        ("+x", "+x"),
        ("-(2)", "-(2)"),
        ("1e3 + 0x1F - 1_000 * INF / nan", "1000 + 31 - 1000 * +Inf / NaN"),
        ("1e-7 + 1e22", "0.0000001 + 10000000000000000000000"),
        ("a==bool  on(x)group_left(y)b", "a == bool on (x) group_left (y) b"),
        ("a + ignoring() b", "a + b"),
        ("a + on() b", "a + on () b"),
        ("a * ignoring(c) group_right b", "a * ignoring (c) group_right () b"),
        ("a + on() 1", "a + 1"),
        ("a + fill( 5m ) b", "a + fill (300) b"),
        (
            "a - fill_right(-1) fill_left(1e30) b",
            "a - fill_left (1e+30) fill_right (-1) b",
        ),
        ("a AND b Unless c", "a and b unless c"),
        ("a </ 1 >/ 2", "a </ 1 >/ 2"),
        ("a # why\n+ b", "a + b"),
        ("'\\xff\\u00e9\\a'", "\"\\xffé\\a\""),
    ] {
        check(text, want);
    }
}

#[test]
fn long_lines_are_broken_at_their_outermost_joints() {
    for (text, want) in [
        ("sum(rate(x[5m]))", "sum(rate(x[5m]))"),
        (
            "histogram_quantile(0.99, sum by (le, service) (rate(http_request_duration_seconds_bucket{job=\"api\"}[5m])))",
            "histogram_quantile(\n  0.99,\n  sum by (le, service) (rate(http_request_duration_seconds_bucket{job=\"api\"}[5m]))\n)",
        ),
        (
            "sum(rate(http_requests_total{job=\"api-server\",code=~\"5..\"}[5m])) by (job) / on (job) group_left () sum(rate(http_requests_total[5m]))",
            "  sum by (job) (rate(http_requests_total{code=~\"5..\",job=\"api-server\"}[5m]))\n/ on (job) group_left ()\n  sum(rate(http_requests_total[5m]))",
        ),
        (
            "(a_rather_long_metric_name_that_fills + another_rather_long_metric_name_that_fills - a_third_rather_long_metric_name)",
            "(\n    a_rather_long_metric_name_that_fills + another_rather_long_metric_name_that_fills\n  -\n    a_third_rather_long_metric_name\n)",
        ),
    ] {
        assert_eq!(Query::parse(text).unwrap().format(), want, "{text}");
    }
}

/// Matchers are printed in order of their text, whatever order they were written in.
fn sorted(tree: Tree) -> Tree {
    match tree {
        Tree::Object(parts) => {
            let part = |(name, part)| match (name, sorted(part)) {
                ("matchers", Tree::List(mut matchers)) => {
                    matchers.sort_by_key(|m| format!("{m:?}"));
                    (name, Tree::List(matchers))
                }
                (name, part) => (name, part),
            };
            Tree::Object(parts.into_iter().map(part).collect())
        }
        Tree::List(parts) => Tree::List(parts.into_iter().map(sorted).collect()),
        leaf => leaf,
    }
}

fn pick(from: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    proptest::sample::select(from).prop_map(str::to_owned)
}

fn duration(depth: u32) -> BoxedStrategy<String> {
    let leaf = pick(&[
        "5m", "1h30m", "300", "0.5", "step()", "range()", "1y", "2w", "90d", "7ms",
    ]);
    leaf.prop_recursive(depth, 8, 2, |inner| {
        let op = pick(&["+", "-", "*", "/", "%", "^"]);
        prop_oneof![
            (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            inner.clone().prop_map(|a| format!("({a})")),
            inner.clone().prop_map(|a| format!("-({a})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("min_of({a}, {b})")),
        ]
    })
    .boxed()
}

fn selector() -> impl Strategy<Value = String> + Clone {
    let matcher = (
        pick(&["a", "\"b.c\"", "sum", "__name__x"]),
        pick(&["=", "!=", "=~", "!~"]),
        pick(&["\"x\"", "'a|b'", "``", "\"\\xff\\n\"", "`\\d+`", "\"é\u{200b}\""]),
    )
        .prop_map(|(label, op, value)| format!("{label}{op}{value}"));
    let braces = proptest::collection::vec(matcher, 0..3).prop_map(|m| m.join(" , "));
    let name = pick(&["up", "a:b", "offset", "sum", "fill", "START", "anchored"]);
    prop_oneof![
        name.clone(),
        (name, braces.clone()).prop_map(|(name, braces)| format!("{name}{{{braces}}}")),
        braces.prop_map(|braces| format!("{{\"quoted name\", {braces}}}")),
    ]
}

fn shift() -> impl Strategy<Value = String> + Clone {
    let offset = prop_oneof![
        pick(&["", " offset 5m", " offset -1.5", " offset 0s", " offset step()"]),
        duration(2).prop_map(|d| format!(" offset ({d})")),
    ];
    let at = pick(&["", " @ 1.5", " @ -3", " @ start()", " @ END()", " @ 1h"]);
    (offset, at, any::<bool>()).prop_map(|(offset, at, first)| if first { at + &offset } else { offset + &at })
}

/// Instant vectors and scalars, of every construct.
fn query() -> impl Strategy<Value = String> {
    let edges = pick(&["", "", " anchored", " smoothed"]);
    let instant = (selector(), edges.clone(), shift()).prop_map(|(s, edges, shift)| format!("{s}{edges}{shift}"));
    let range =
        (selector(), duration(2), edges, shift()).prop_map(|(s, d, edges, shift)| format!("{s}[{d}]{edges}{shift}"));
    let number = pick(&[
        "1", "0x1F", "1e-7", "5m", "Inf", "nan", "-3", "1_000.5", "(2)", "time()", "-step()",
    ]);
    let leaf = prop_oneof![
        4 => instant,
        2 => (pick(&["rate", "last_over_time", "deriv"]), range).prop_map(|(f, r)| format!("{f}({r})")),
        1 => number,
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let vector = inner.clone().prop_map(|e| format!("({e} or vector(1))")).boxed();
        let arithmetic = pick(&["+", "-", "*", "/", "%", "^", "atan2", "== bool", ">bool", "</", ">/"]);
        let grouping = pick(&["", "by (a)", "without(a, \"b.c\")", "by ()", "without ()", "by (sum,)"]);
        let matching = pick(&[
            "",
            "on(a)",
            "ignoring (a) group_left",
            "on () group_right (b)",
            "fill(-1)",
            "on(a) fill_right(2) fill_left(0)",
        ]);
        prop_oneof![
            (inner.clone(), arithmetic.clone(), inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (vector.clone(), arithmetic, matching, vector.clone())
                .prop_map(|(a, op, matching, b)| format!("{a} {op} {matching} {b}")),
            (vector.clone(), pick(&["and", "OR", "unless on(a)"]), vector.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (pick(&["sum", "MAX", "group"]), grouping.clone(), vector.clone())
                .prop_map(|(op, grouping, v)| format!("{op} {grouping} ({v})")),
            (pick(&["topk", "quantile", "limit_ratio"]), grouping, vector.clone())
                .prop_map(|(op, grouping, v)| format!("{op}(.5, {v}) {grouping}")),
            (pick(&["", "-", "+", "--"]), inner.clone()).prop_map(|(sign, e)| format!("{sign}{e}")),
            inner.prop_map(|e| format!("({e})")),
            (vector.clone(), duration(1), shift())
                .prop_map(|(v, d, shift)| format!("max_over_time({v}[1h:{d}]{shift})")),
            vector.prop_map(|v| format!("label_replace(info({v}, {{x=~\".*\"}}), \"a\", '$1', \"b\", `(.*)`)")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is printed means the same, or rules and dashboards would change by being formatted.
    #[test]
    fn printing_loses_nothing(text in query()) {
        // A few of these texts are no queries: a division by 0, say.
        let Ok(query) = Query::parse(&text) else { return Ok(()) };
        for printed in [query.to_string(), query.format()] {
            let again = Query::parse(&printed);
            prop_assert!(again.is_ok(), "{} -> {}: {:?}", text, printed, again.err());
            let again = again.unwrap();
            prop_assert_eq!(sorted(again.tree()), sorted(query.tree()), "{} -> {}", text, printed);
            prop_assert_eq!(again.to_string(), query.to_string());
            prop_assert_eq!(again.format(), query.format());
        }
    }
}

/// Most generated texts must be queries, else the property above says little.
#[test]
fn generated_texts_are_mostly_queries() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let taken = (0..500)
        .filter(|_| Query::parse(&query().new_tree(&mut runner).unwrap().current()).is_ok())
        .count();
    assert!(taken > 350, "{taken} of 500");
}

#[test]
fn trees_have_the_shapes_that_clients_know() {
    let json = |text: &str| {
        let mut out = String::new();
        Query::parse(text).unwrap().tree().write_json(&mut out);
        out
    };
    let selector = |name: &str| {
        format!(
            "{{\"anchored\":false,\"matchers\":[{{\"name\":\"__name__\",\"type\":\"=\",\"value\":\"{name}\"}}],\"name\":\"{name}\",\
             \"offset\":0,\"offsetExpr\":null,\"smoothed\":false,\"startOrEnd\":null,\"timestamp\":null,\"type\":\"vectorSelector\"}}"
        )
    };
    assert_eq!(json("up"), selector("up"));
    assert_eq!(
        json("a + on (x) fill_left (1) b"),
        format!(
            "{{\"bool\":false,\"lhs\":{},\"matching\":{{\"card\":\"one-to-one\",\"fillValues\":{{\"lhs\":1,\"rhs\":null}},\"include\":[],\
             \"labels\":[\"x\"],\"on\":true}},\"op\":\"+\",\"rhs\":{},\"type\":\"binaryExpr\"}}",
            selector("a"),
            selector("b")
        )
    );
    assert_eq!(
        json("topk by (x) (1h, up)"),
        format!(
            "{{\"expr\":{},\"grouping\":[\"x\"],\"op\":\"topk\",\"param\":{{\"type\":\"numberLiteral\",\"val\":\"3600\"}},\
             \"type\":\"aggregation\",\"without\":false}}",
            selector("up")
        )
    );
    assert_eq!(json("'a\"\\n'"), "{\"type\":\"stringLiteral\",\"val\":\"a\\\"\\n\"}");
    let call = Query::parse("round(-(x[2h:5m-step()] @ end() offset -1s) + 0, 2)").unwrap_err();
    assert!(call.message.contains("unary expression only allowed"), "{call}");
    let call = Query::parse("max_over_time(x[2h:5m-step()] @ end() offset -1s)")
        .unwrap()
        .tree();
    let func = call.get("func").unwrap();
    assert_eq!(
        func.get("argTypes"),
        Some(&Tree::List(vec![Tree::Text("matrix".into())]))
    );
    assert_eq!(func.get("variadic"), Some(&Tree::Int(0)));
    let Some(Tree::List(args)) = call.get("args") else {
        panic!("{call:?}")
    };
    for (name, want) in [
        ("range", Tree::Int(7_200_000)),
        ("step", Tree::Int(0)),
        ("offset", Tree::Int(-1000)),
        ("startOrEnd", Tree::Text("end".into())),
        ("rangeExpr", Tree::Null),
    ] {
        assert_eq!(args[0].get(name), Some(&want), "{name}");
    }
    assert_eq!(
        args[0].get("stepExpr").and_then(|step| step.get("op")),
        Some(&Tree::Text("-".into()))
    );
}

/// The deepest and the longest that parse are also written again, on the stack of an ordinary thread.
#[test]
fn depth_and_length_are_printed() {
    let nest = |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    for text in [
        nest("abs(", "x", ")", 118),
        nest("sum by (a) (", "x", ")", 118),
        nest("-(", "x", ")", 58),
        nest("a_rather_long_metric_name ^ (", "x", ")", 58),
        nest("max_over_time(", "x", "[1h:1m])", 31),
        format!("x[{}]", nest("(1+", "1", ")", 58)),
        format!("x{}", " or x".repeat(1490)),
        format!("x{}", " * on (a) group_left (b) x @ 5".repeat(1490)),
    ] {
        let query = Query::parse(&text).unwrap_or_else(|e| panic!("{}: {e}", &text[..20]));
        let mut json = String::new();
        query.tree().write_json(&mut json);
        assert!(json.ends_with('}'));
        for printed in [query.to_string(), query.format()] {
            // Indented, a long chain becomes longer than a query may be.
            if printed.len() <= 128 << 10 {
                let again = Query::parse(&printed).unwrap_or_else(|e| panic!("{}: {e}", &printed[..20]));
                assert_eq!(again.to_string(), query.to_string());
            }
        }
    }
}
