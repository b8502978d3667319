//! Queries and lines come from outside: whatever they are, nothing panics, hangs or nests without bound; and a query's
//! canonical text means the query.

use model::{Entry, LabelSet, TimestampNs};
use proptest::prelude::*;

use crate::{Query, canonical, pretty};

/// Pieces from which queries are thrown together; many of the results parse.
fn scrap() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "{a=\"b\"}",
        "{a=~\"b.+\", c!=\"d\"}",
        "|= \"x\"",
        "!= \"y\" or \"z\"",
        "|~ `a.b`",
        "|> \"a <_>\"",
        "|= ip(\"1.2.3.4\")",
        "| json",
        "| logfmt --strict",
        "| json x=\"a.b[0]\"",
        "| a=\"1\"",
        "| a>1",
        "| b<=2s",
        "| c==5MB",
        "and d!=3",
        "or e=~\"f\"",
        ", g=\"h\"",
        "| line_format \"{{.a}}\"",
        "| label_format x=y",
        "| drop a,b=\"c\"",
        "| keep d",
        "| decolorize",
        "| unpack",
        "| unwrap duration(x)",
        "| unwrap y",
        "[5m]",
        "offset -1h",
        "rate(",
        "sum by (a) (",
        "count_over_time(",
        "max_over_time(",
        "quantile_over_time(0.9,",
        "topk(3,",
        "sort_desc(",
        ")",
        "+",
        "-",
        "/ on (a) group_left",
        "> bool",
        "unless",
        "1",
        "-2.5",
        "vector(3)",
        "without (b)",
        "label_replace(",
        ",\"a\",\"$1\",\"b\",\"(.*)\")",
        "#",
        "\n",
        "(",
        "\"",
        "`",
        "{",
        "}",
        "é",
    ];
    prop::collection::vec(prop::sample::select(PIECES), 0..12).prop_map(|p| p.join(" "))
}

fn lines() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,60}",
        "[a-z]{1,3}=(\"[a-z \\\\\"]{0,5}\"?|[0-9a-z\\.]{0,5})( [a-z]=[0-9]{1,2}){0,3}",
        "\\{(\"[a-z]\":(1|\"x\"|\\{\"b\":[0-9]\\}|\\[1,2\\]|null),?){0,4}\\}?",
        Just("\u{1b}[31mred\u{1b}[0m 10.0.0.1 ::1".to_owned()),
    ]
}

proptest! {
    // Each case compiles several pipelines.
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The second half of the law is what caches and split queries rely on.
    #[test]
    fn a_query_is_refused_or_means_its_canonical_text(text in prop_oneof![scrap(), "\\PC{0,40}"]) {
        let _ = Query::parse(&text);
        let _ = pretty(&text, 20);
        if let Ok(first) = canonical(&text) && !first.contains("NaN") && !first.contains("inf") {
            prop_assert_eq!(canonical(&first).map_err(|e| format!("{e}: {first}")), Ok(first.clone()));
        }
    }

    /// Stages take any line.
    #[test]
    fn stages_take_any_line(line in lines(), value in "\\PC{0,8}") {
        for query in [
            r#"{a="b"} |~ `\w+` | decolorize | json | logfmt | x > 1 or b="2" | line_format "{{.a | upper}}{{__line__}}""#,
            r#"{a="b"} | json x="a.b[0]", y="b" | label_format z=x, w="{{.y | trunc 3 | printf \"%5s\"}}" | drop y"#,
            r#"{a="b"} | logfmt --strict --keep-empty | pattern "<p>=<q> <_>" | q > 1s | p > 5KB | keep p, q"#,
            r#"{a="b"} | unpack | regexp `(?P<w>\S+) (?P<v>.*)` | v = ip("10.0.0.0/8") | json"#,
            r#"{a="b"} | line_format `{{ range $i, $v := fromJson __line__ }}{{ $i }}{{ $v }}{{ end }}{{ .m | b64dec | urldecode }}`"#,
            r#"{a="b"} |> "<_>a<_>" | line_format `{{ .m | toDate "2006-01-02" | unixEpoch }}{{ div 1 .m }}`"#,
        ] {
            let query = Query::parse(query).unwrap();
            let entry = Entry { t: TimestampNs(0), line: line.clone(), metadata: vec![("m".into(), value.clone())] };
            let _ = query.process(&LabelSet::from_pairs([("a", "b")]), &entry);
        }
    }

    /// Templates are text from outside, too.
    #[test]
    fn any_template_is_parsed_and_run(
        pieces in prop::collection::vec(prop::sample::select(&[
            "{{", "}}", "{{-", "-}}", "{{ .a }}", "{{ if .a }}", "{{ else }}", "{{ end }}", "{{ range $i, $v := fromJson .j }}",
            "{{ $x := 1 }}", "{{ $x }}", "| upper", "(", ")", "printf \"%5.2f %s\" 1.5", "`", "\"", "x", "{{ with .a }}",
            "{{ repeat 1000000 .a }}", "{{ indent 99999999 .a }}", "{{ break }}", "/* c */", ".", "1e9", "eq .a .b", " ",
        ][..]), 0..10),
    ) {
        let text = pieces.concat();
        let quoted = crate::units::quote(&text);
        if let Ok(query) = Query::parse(&format!("{{a=\"b\"}} | line_format {quoted}")) {
            let entry = Entry {
                t: TimestampNs(0),
                line: "l".into(),
                metadata: vec![("a".into(), "x".into()), ("j".into(), "[1,{\"k\":2}]".into())],
            };
            let _ = query.process(&LabelSet::from_pairs([("a", "b")]), &entry);
        }
    }
}

#[test]
fn depth_is_bounded() {
    let deep =
        |open: &str, middle: &str, close: &str, n: usize| format!("{}{middle}{}", open.repeat(n), close.repeat(n));
    for text in [
        deep("(", "1", ")", 20_000),
        deep("sum(", "vector(1)", ")", 20_000),
        deep("count_over_time((", "{a=\"b\"}", ")[1m])", 5_000),
        format!("{{a=\"b\"}} | {}", deep("(", "a=\"b\"", ")", 20_000)),
        vec!["vector(1)"; 10_000].join("+"),
        format!(
            "{{a=\"b\"}} | line_format `{}`",
            deep("{{if .a}}", "x", "{{end}}", 5_000)
        ),
        format!("{{a=\"b\"}} | line_format `{{{{ {} }}}}`", deep("(", ".a", ")", 20_000)),
        format!("{{a=\"b\"}} |~ \"{}\"", deep("(", "a", ")", 20_000)),
    ] {
        assert!(Query::parse(&text).is_err(), "{}", &text[..40]);
    }
    let many = vec!["a=\"b\""; 5_000];
    assert!(Query::parse(&format!("{{a=\"b\"}} | {}", many.join(" or "))).is_ok());
    assert!(Query::parse(&format!("{{a=\"b\"}} | {}", many.join(" "))).is_ok());
}

#[test]
fn metadata_and_parsed_labels_are_told_apart() {
    let query = Query::parse(r#"{app="x"} | logfmt | label_format app="{{.app}}!" | status >= 500"#).unwrap();
    let entry = |line: &str| Entry {
        t: TimestampNs(7),
        line: line.into(),
        metadata: vec![("trace_id".into(), "1".into()), ("app".into(), "meta".into())],
    };
    let stream = LabelSet::from_pairs([("app", "x"), ("env", "prod")]);
    let (labels, line) = query.process(&stream, &entry("status=503 trace_id=2")).unwrap();
    let pairs = |p: &[(String, String)]| p.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>();
    assert_eq!(labels.to_string(), r#"{env="prod"}"#);
    assert_eq!(pairs(&line.entry.metadata), ["trace_id=1", "app_extracted=meta"]);
    assert_eq!(pairs(&line.parsed), ["status=503", "trace_id_extracted=2", "app=x!"]);
    assert_eq!(query.process(&stream, &entry("status=200")), None);
    assert_eq!(query.process(&stream, &entry("status=oops")).unwrap().1.parsed.len(), 4);
}
