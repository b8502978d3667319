//! What parses, and what is said of what does not: clients show these words to people.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use query_promql::{Query, parse_selector};

fn check(text: &str, want: &str) {
    let found = match Query::parse(text) {
        Ok(_) => "ok".to_owned(),
        Err(e) => e.message.replacen(" parse error:", "", 1),
    };
    assert_eq!(found, want, "{text}");
}

#[test]
fn what_is_written_every_day() {
    for text in [
        "up",
        r#"http_requests_total{job=~"api|web", code!~"5..",}"#,
        r#"{__name__="a:b", x!=""}"#,
        r#"{"http.requests", "service.name"="x"}"#,
        "sum by (job, \"service.name\") (rate(x_total[5m]))",
        "sum(rate(x_total[5m])) without (instance)",
        "topk(5, sum by (pod) (rate(x[1h30m] offset -5m @ end())))",
        "a / on(x) group_left(y, z) b",
        "a and on() b unless ignoring(c) d or e",
        "histogram_quantile(0.9, sum by (le) (rate(x_bucket[5m])))",
        "max_over_time(rate(x[5m])[1h:30s] offset 1d)",
        "label_replace(up, \"a\", \"$1\", \"b\", `(\\d+)`)",
        "-x ^ 2 > bool +3",
        "sum # a comment\n (x)",
        "x[2*5m]",
        "rate(x[5m:step()*2] offset (1h - step()))",
        "x offset 0s",
        r#"x{path=~"/api/{id}", a=~`\d[[]`}"#,
        "x offset 300",
        "x @ -100.5",
        "sum",
        "by + without + offset + sum",
        "Inf - NaN",
        "1h30m",
        "count_values(\"v\", up)",
        "absent(x{y=\"z\"})",
        "SUM BY (a) (x) OR y",
        "1 > BOOL 2",
        "quantile(0.9, x) by (start)",
    ] {
        check(text, "ok");
    }
}

#[test]
fn faults_of_syntax_have_a_place() {
    for (text, want) in [
        ("", "unknown position: no expression found in input"),
        ("1 +", "1:4: unexpected end of input"),
        ("1 /", "1:4: unexpected end of input"),
        ("*1", "1:1: unexpected <op:*>"),
        ("foo bar", "1:5: unexpected identifier \"bar\""),
        ("sum(", "1:5: unclosed left parenthesis"),
        ("(1))", "1:5: unexpected right parenthesis ')'"),
        ("foo{", "1:5: unexpected end of input inside braces"),
        ("foo}", "1:4: unexpected character: '}'"),
        (
            "foo{a=b}",
            "1:7: unexpected identifier \"b\" in label matching, expected string",
        ),
        ("foo{a:\"b\"}", "1:6: unexpected character inside braces: ':'"),
        (
            "foo{a}",
            "1:6: unexpected \"}\" in label matching, expected label matching operator",
        ),
        ("foo{1}", "1:5: unexpected character inside braces: '1'"),
        ("foo[5mm]", "1:5: bad number or duration syntax: \"5mm\""),
        ("foo[5m", "1:7: unclosed left bracket"),
        ("1 =~ 1", "1:3: unexpected character after '=': '~'"),
        ("1 !~ 1", "1:3: unexpected character after '!': '~'"),
        ("nofn(up)", "1:1: unknown function with name \"nofn\""),
        ("sum by (a) x", "1:12: unexpected identifier \"x\" in aggregation"),
        (
            "sum(a) by (==)",
            "1:12: unexpected <op:==> in grouping opts, expected label",
        ),
        ("a + group_left() b", "1:5: unexpected <group_left>"),
        ("\n\n foo bar", "3:6: unexpected identifier \"bar\""),
        ("x offset 1s offset 2s", "1:1: offset may not be set multiple times"),
        ("\"a", "1:1: unterminated quoted string"),
        (
            "foo offset (5) * bar",
            "1:18: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()",
        ),
        (
            "foo offset (5) + bar",
            "1:18: unexpected identifier \"bar\" in offset, expected number, duration, step(), or range()",
        ),
        ("foo offset -Inf", "1:12: duration out of range"),
        ("sum foo", "1:5: unexpected identifier \"foo\""),
        (
            "sum by foo",
            "1:8: unexpected identifier \"foo\" in grouping opts, expected \"(\"",
        ),
        ("rate foo", "1:6: unexpected identifier \"foo\""),
        ("1 !", "1:3: unexpected character after '!': '�'"),
        ("1 ! 2", "1:3: unexpected character after '!': ' '"),
        ("\"\\q\"", "1:1: unknown escape sequence U+0071 'q'"),
        ("\"\\u00\"", "1:1: illegal character U+0022 '\"' in escape sequence"),
        ("\"\\ud800\"", "1:1: escape sequence is an invalid Unicode code point"),
        ("'\\400'", "1:1: escape sequence is an invalid Unicode code point"),
        ("\"\\xzz\"", "1:1: illegal character U+007A 'z' in escape sequence"),
        (
            "foo[step():1m]",
            "1:12: unexpected colon before duration in duration expression",
        ),
        ("foo[5m:1m:1m]", "1:10: unexpected colon ':'"),
        ("foo[5m::]", "1:8: unexpected colon ':'"),
        ("foo[5:m]", "1:7: unexpected character: 'm', expected ':'"),
        ("foo[a]", "1:5: unexpected character in duration expression: 'a'"),
        ("foo[5m a]", "1:8: unexpected character: 'a', expected ':'"),
        ("foo[5m # c", "1:11: unclosed left bracket"),
        ("foo[# c", "1:5: unexpected character in duration expression: '#'"),
        ("foo[5m1]", "1:5: bad number or duration syntax: \"5m1\""),
        ("1e", "1:1: bad number or duration syntax: \"1e\""),
        ("1e5m", "1:1: unknown unit \"e\" in duration \"1e5m\""),
        ("1h5y", "1:1: bad number or duration syntax: \"1h5\""),
        ("5sm", "1:1: bad number or duration syntax: \"5sm\""),
        ("1.2.3", "1:1: bad number or duration syntax: \"1.2.\""),
        ("1_", "1:1: bad number or duration syntax: \"1_\""),
        ("1__0", "1:1: bad number or duration syntax: \"1__\""),
        (
            "0x",
            "1:1: error parsing number: strconv.ParseFloat: parsing \"0x\": invalid syntax",
        ),
        ("0xg", "1:1: bad number or duration syntax: \"0x\""),
        ("x[1h5y]", "1:3: bad number or duration syntax: \"1h5\""),
        ("f(1,,2)", "1:4: trailing commas not allowed in function call args"),
        ("rate(x,*)", "1:7: trailing commas not allowed in function call args"),
        ("rate(x,)", "1:7: trailing commas not allowed in function call args"),
        ("sum(x,)", "1:6: trailing commas not allowed in function call args"),
        ("sum(x y)", "1:7: unexpected identifier \"y\" in aggregation"),
        ("by (a)", "1:4: unexpected \"(\""),
        (
            "sum(a) by (inf)",
            "1:12: unexpected number \"inf\" in grouping opts, expected label",
        ),
        (
            "sum(a) by (without)",
            "1:12: unexpected <without> in grouping opts, expected label",
        ),
        ("sum(a) by (\"\")", "1:12: invalid label name for grouping: \"\""),
        (
            "sum(a) by (,)",
            "1:12: unexpected \",\" in grouping opts, expected label",
        ),
        (
            "sum(a) by (a b)",
            "1:14: unexpected identifier \"b\" in grouping opts, expected \",\" or \")\"",
        ),
        (
            "sum(a) by a",
            "1:11: unexpected identifier \"a\" in grouping opts, expected \"(\"",
        ),
        (
            "a + on a",
            "1:8: unexpected identifier \"a\" in grouping opts, expected \"(\"",
        ),
        (
            "a + on(x) group_left *",
            "1:22: unexpected <op:*> in grouping opts, expected \"(\"",
        ),
        ("a + fill(x) b", "1:10: unexpected identifier \"x\""),
        ("a + fill() b", "1:10: unexpected \")\""),
        ("a + fill_left(1) fill_left(2) b", "1:27: unexpected \"(\""),
        ("x offset 1s offset 2s }", "1:1: offset may not be set multiple times"),
        ("x @ 5 @ 6", "1:1: @ <timestamp> may not be set multiple times"),
        ("x @ foo", "1:5: unexpected identifier \"foo\" in @, expected timestamp"),
        ("x @ start", "1:10: unexpected end of input in @, expected timestamp"),
        (
            "x @ \"a\"",
            "1:5: unexpected string \"\\\"a\\\"\" in @, expected timestamp",
        ),
        (
            "x offset foo",
            "1:10: unexpected identifier \"foo\" in offset, expected number, duration, step(), or range()",
        ),
        (
            "x offset (5 + a)",
            "1:15: unexpected identifier \"a\" in offset, expected number, duration, step(), or range()",
        ),
        (
            "x smoothed anchored",
            "1:1: anchored and smoothed modifiers cannot be used together",
        ),
        (
            "x[5m:] smoothed",
            "1:1: smoothed modifier is not supported for subqueries",
        ),
        ("sum(x) smoothed", "1:1: smoothed modifier not implemented"),
        ("1 smoothed", "1:1: smoothed modifier not implemented"),
        (
            "{,}",
            "1:2: unexpected \",\" in label matching, expected identifier or \"}\"",
        ),
        (
            "{a}",
            "1:3: unexpected \"}\" in label matching, expected label matching operator",
        ),
        (
            "{a=\"b\"c=\"d\"}",
            "1:7: unexpected identifier \"c\" in label matching, expected \",\" or \"}\"",
        ),
        (
            "{a=\"b\",,}",
            "1:8: unexpected \",\" in label matching, expected identifier or \"}\"",
        ),
        (
            "{\"a\" \"b\"}",
            "1:6: unexpected string \"\\\"b\\\"\" in label matching, expected \",\" or \"}\"",
        ),
        (
            "{a=b}",
            "1:4: unexpected identifier \"b\" in label matching, expected string",
        ),
        ("{a=~\"(\"}", "1:2: error parsing regexp: missing closing ): `(`"),
        ("{a=~\"[\"}", "1:2: error parsing regexp: missing closing ]: `[`"),
        (
            "{a=~\"a{2000}\"}",
            "1:2: error parsing regexp: invalid repeat count: `{2000}`",
        ),
        (
            "{a=~\"(?=a)\"}",
            "1:2: error parsing regexp: invalid or unsupported Perl syntax: `(?=`",
        ),
        (
            "{a=~\"\\\\1\"}",
            "1:2: error parsing regexp: invalid escape sequence: `\\1`",
        ),
        (
            "{a=~\"*\"}",
            "1:2: error parsing regexp: missing argument to repetition operator: `*`",
        ),
        (
            "{a=~\"a**\"}",
            "1:2: error parsing regexp: invalid nested repetition operator: `**`",
        ),
        ("nofn(1 1)", "1:8: unexpected number \"1\""),
        ("nofn(1)", "1:1: unknown function with name \"nofn\""),
        ("nofn(1", "1:7: unclosed left parenthesis"),
        ("nofn)", "1:6: unexpected right parenthesis ')'"),
        (
            "topk(1)",
            "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        (
            "topk(1,2,3)",
            "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 3",
        ),
        ("sum()", "1:1: no arguments for aggregate expression provided"),
        ("x[5m][5m]", "1:6: ranges only allowed for vector selectors"),
        ("(x)[5m]", "1:4: ranges only allowed for vector selectors"),
        ("x[5m/0]", "1:5: division by zero"),
        ("x[5m%0]", "1:5: modulo by zero"),
        ("x[0]", "1:3: duration must be greater than 0"),
        ("x[-5m]", "1:3: duration must be greater than 0"),
        (
            "1 offset 1d",
            "1:1: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        ("START()", "1:1: unknown function with name \"START\""),
        (
            "x offset step",
            "1:14: unexpected end of input in offset, expected number, duration, step(), or range()",
        ),
        ("bool", "1:1: unexpected <bool>"),
        ("on", "1:1: unexpected <on>"),
        ("atan2", "1:1: unexpected <op:atan2>"),
        ("\"unterminated", "1:1: unterminated quoted string"),
        ("'a", "1:1: unterminated quoted string"),
        ("`a", "1:1: unterminated raw string"),
        ("\"a\" \"b\"", "1:5: unexpected string \"\\\"b\\\"\""),
        ("1 2", "1:3: unexpected number \"2\""),
        ("a b", "1:3: unexpected identifier \"b\""),
        ("a.b", "1:2: unexpected character: '.'"),
        ("a$b", "1:2: unexpected character: '$'"),
        ("é", "1:1: unexpected character: 'é'"),
        ("x{é=\"a\"}", "1:3: unexpected character inside braces: 'é'"),
        ("x < / 5", "1:5: unexpected <op:/>"),
        ("group_left", "1:1: unexpected <group_left>"),
        ("9999999999999y", "1:1: duration out of range"),
        ("x[300y]", "1:3: duration out of range"),
        ("x[10000000000]", "1:3: duration out of range"),
        ("x @ -(5)", "1:6: unexpected \"(\" in @, expected timestamp"),
    ] {
        check(text, want);
    }
}

#[test]
fn faults_of_type_have_a_place() {
    for (text, want) in [
        ("1 == 1", "1:3: comparisons between scalars must use BOOL modifier"),
        (
            "1 and 1",
            "1:1: set operator \"and\" not allowed in binary scalar expression",
        ),
        (
            "a + bool b",
            "1:3: bool modifier can only be used on comparison operators",
        ),
        (
            "a or on(x) group_left() b",
            "1:1: no grouping allowed for \"or\" operation",
        ),
        (
            "a == on(b) 1",
            "1:1: vector matching only allowed between instant vectors",
        ),
        (
            "a + on(x) group_left(x) b",
            "1:3: label \"x\" must not occur in ON and GROUP clause at once",
        ),
        (
            "rate(foo)",
            "1:6: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("floor()", "1:1: expected 1 argument(s) in call to \"floor\", got 0"),
        (
            "round(a, 1, 2)",
            "1:1: expected at most 2 argument(s) in call to \"round\", got 3",
        ),
        (
            "label_join(a)",
            "1:1: expected at least 3 argument(s) in call to \"label_join\", got 1",
        ),
        ("sum()", "1:1: no arguments for aggregate expression provided"),
        (
            "topk(a)",
            "1:1: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        (
            "topk(a, b)",
            "1:6: expected type scalar in aggregation parameter, got instant vector",
        ),
        (
            "count_values(5, a)",
            "1:14: expected type string in aggregation parameter, got scalar",
        ),
        (
            "-\"a\"",
            "1:1: unary expression only allowed on expressions of type scalar or instant vector, got \"string\"",
        ),
        ("{}", "1:1: vector selector must contain at least one non-empty matcher"),
        (
            "{x=~\".*\"}",
            "1:1: vector selector must contain at least one non-empty matcher",
        ),
        (
            "foo{__name__=\"bar\"}",
            "1:1: metric name must not be set twice: \"foo\" or \"bar\"",
        ),
        ("x[5m][5m]", "1:6: ranges only allowed for vector selectors"),
        (
            "x[5m][5m:]",
            "1:1: subquery is only allowed on instant vector, got matrix instead",
        ),
        ("x[0]", "1:3: duration must be greater than 0"),
        ("x[5m:1m-1m]", "ok"),
        (
            "1 offset 1d",
            "1:1: offset modifier must be preceded by an instant vector selector or range vector selector or a subquery",
        ),
        (
            "a and fill(1) b",
            "1:1: filling in missing series not allowed for set operators",
        ),
        (
            "1 + fill(1) a",
            "1:1: filling in missing series only allowed between instant vectors",
        ),
        (
            "a == bool on(x) 1",
            "1:1: vector matching only allowed between instant vectors",
        ),
        (
            "topk(a,b)",
            "1:6: expected type scalar in aggregation parameter, got instant vector",
        ),
        (
            "count_values(5,a)",
            "1:14: expected type string in aggregation parameter, got scalar",
        ),
        (
            "sum(\"a\")",
            "1:5: expected type instant vector in aggregation expression, got string",
        ),
        (
            "-x[5m]",
            "1:1: unary expression only allowed on expressions of type scalar or instant vector, got \"range vector\"",
        ),
        (
            "x[5m] + 1",
            "1:1: binary expression must contain only scalar and instant vector types",
        ),
        (
            "\"a\" + 1",
            "1:1: binary expression must contain only scalar and instant vector types",
        ),
        (
            "((\"a\" + 1))",
            "1:3: binary expression must contain only scalar and instant vector types",
        ),
        (
            "round(a,1,2)",
            "1:1: expected at most 2 argument(s) in call to \"round\", got 3",
        ),
        (
            "histogram_quantiles(a,\"b\")",
            "1:1: expected at least 3 argument(s) in call to \"histogram_quantiles\", got 2",
        ),
        (
            "histogram_quantiles(a,\"b\",1,2,3,4,5,6,7,8,9,10,11)",
            "1:1: expected at most 12 argument(s) in call to \"histogram_quantiles\", got 13",
        ),
        ("time(1)", "1:1: expected 0 argument(s) in call to \"time\", got 1"),
        (
            "info()",
            "1:1: expected at least 1 argument(s) in call to \"info\", got 0",
        ),
        (
            "info(a,{b=\"c\"},d)",
            "1:1: expected at most 2 argument(s) in call to \"info\", got 3",
        ),
        (
            "x </ bool 5",
            "1:3: bool modifier can only be used on comparison operators",
        ),
    ] {
        check(text, want);
    }
}

/// A text of brackets must not reach the end of the stack, on the smallest stack that parsing may meet.
#[test]
fn depth_and_length_are_bounded() {
    let deep = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(20_000), close.repeat(20_000));
    for text in [
        deep("(", "1", ")"),
        deep("abs(", "x", ")"),
        deep("-", "1", ""),
        deep("x[", "1", "]"),
        deep("", "x", "[1:]"),
        deep("1^", "1", ""),
        deep("sum by(a)(", "x", ")"),
        format!("x[{}1", "(".repeat(20_000)),
        format!("x{}", "+x".repeat(60_000)),
        format!("x{}", " ".repeat(200_000)),
    ] {
        assert!(Query::parse(&text).is_err(), "{}", &text[..20]);
    }
    let chain = format!("x{}", " or x".repeat(1400));
    let nested = format!("{}x{}", "abs(".repeat(100), ")".repeat(100));
    for text in [chain, nested] {
        assert!(Query::parse(&text).is_ok(), "{}", &text[..20]);
    }
}

#[test]
fn selectors_of_match_parameters() {
    assert_eq!(parse_selector("up").unwrap().len(), 1);
    assert_eq!(parse_selector(r#" {a="b",c!~"d"} "#).unwrap().len(), 2);
    for text in ["", "{}", "up[5m]", "rate(up)", "1", "up offset 5m", "a b"] {
        assert!(parse_selector(text).is_err(), "{text}");
    }
}

/// Whether the other parser takes `text`; it panics on some texts (`5m offset NaN`), which is no opinion.
fn second_parser_takes(text: &str) -> bool {
    std::panic::catch_unwind(|| promql_parser::parser::parse(text).is_ok()).unwrap_or(false)
}

fn words() -> impl Strategy<Value = String> {
    let pieces = vec![
        "x",
        "up{",
        "}",
        "(",
        ")",
        "[",
        "]",
        "5m",
        "1",
        "a",
        "=",
        "\"b\"",
        ",",
        "+",
        "-",
        "^",
        "and",
        "or",
        "sum",
        "by",
        "rate",
        "offset",
        "@",
        "start",
        "bool",
        "on",
        "group_left",
        ":",
        "==",
        "=~",
        "'",
        "`",
        "\\",
        "é",
        "step",
        "%",
        "#",
        "\n",
        ".5",
        "NaN",
    ];
    proptest::collection::vec(proptest::sample::select(pieces), 0..14).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    /// Nobody's text may end the process.
    #[test]
    fn any_text_is_an_answer(text in words(), noise in "\\PC{0,20}") {
        let _ = Query::parse(&text);
        let _ = Query::parse(&noise);
        let _ = parse_selector(&text);
    }

    /// A second opinion: what an independent parser takes, ours takes as well (but for what that one is known to be
    /// too lenient about).
    #[test]
    fn a_second_parser_agrees(text in words()) {
        let lenient = ["é", "\\", "'"].iter().any(|s| text.contains(s));
        if !lenient && second_parser_takes(&text) {
            let ours = Query::parse(&text);
            // That one lets a sign stand before a string.
            let sign = |m: &str| m.contains("unary expression only allowed");
            prop_assert!(ours.as_ref().is_ok() || ours.as_ref().is_err_and(|e| sign(&e.message)), "{:?}: {:?}", text, ours.err());
        }
    }
}
