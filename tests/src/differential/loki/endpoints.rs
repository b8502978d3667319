//! The other endpoints, and parameters at their edges.

use super::case::Case;
use super::{LENGTH_NS, T0_NS};

/// Labels, series, index, detected fields, formatting.
pub(crate) fn cases() -> Vec<Case> {
    let (start, end) = (T0_NS.to_string(), (T0_NS + LENGTH_NS).to_string());
    let window = [("start", start.as_str()), ("end", end.as_str())];
    let ask = |endpoint: &str, more: &[(&str, &str)]| Case::of(endpoint, &[&window[..], more].concat());
    let mut out = vec![
        ask("labels", &[]),
        ask("label", &[]),
        ask("labels", &[("query", "{app=\"shop\"}")]),
        ask("labels", &[("query", "{app=\"none\"}")]),
        ask("labels", &[("query", "{app=\"shop\"} |= \"x\"")]),
        ask("labels", &[("query", "{")]),
        ask("labels", &[("query", "{}")]),
        ask("label/app/values", &[]),
        ask("label/level/values", &[]),
        ask("label/service_name/values", &[]),
        ask("label/app/values", &[("query", "{env=\"dev\"}")]),
        ask("label/env/values", &[("query", "{app=~\"shop|java\"}")]),
        ask("label/none/values", &[]),
        ask("label/trace_id/values", &[]),
        ask("label/detected_level/values", &[]),
        ask("label/uni/values", &[]),
        ask("label/app/values", &[("query", "rate({app=\"x\"}[5m])")]),
        ask("series", &[]),
        ask("series", &[("match[]", "{}")]),
        ask("series", &[("match[]", "{app=\"shop\"}")]),
        ask("series", &[("match", "{app=\"shop\"}")]),
        ask("series", &[("match[]", "{app=\"shop\"}"), ("match[]", "{env=\"dev\"}")]),
        ask("series", &[("match[]", "{app=\"none\"}")]),
        ask("series", &[("match[]", "{app=~\".*\"}")]),
        ask("series", &[("match[]", "{app=\"shop\"} | json")]),
        ask("series", &[("match[]", "{app")]),
        ask("series", &[("match[]", "{service_name=~\"checkout|box2\"}")]),
        ask("detected_labels", &[]),
        ask("detected_labels", &[("query", "{app=\"shop\"}")]),
        ask("detected_labels", &[("query", "{app=\"none\"}")]),
        ask("detected_labels", &[("query", "{app=\"shop\"} | json")]),
        ask("detected_fields", &[]),
        ask("detected_fields", &[("query", "{app=\"none\"}")]),
        ask("detected_fields", &[("query", "{app")]),
    ];
    for query in [
        "{app=\"flat\"}",
        "{app=\"shop\"}",
        "{job=\"api\"}",
        "{job=\"metrics-ish\"}",
        "{app=\"traced\"}",
        "{app=\"few-users\"}",
        "{app=\"odd\"}",
        "{app=\"numbers\"}",
        "{service_name=\"checkout\"}",
        "{app=\"flat\"} | json",
        "{job=\"api\"} | logfmt | status=\"500\"",
        "{app=\"shop\"} |= \"error\" | json | label_format x=user",
        "{cluster=\"c1\"}",
        "{app=\"packed\"}",
        "{app=\"levels\"}",
    ] {
        out.push(ask("detected_fields", &[("query", query)]));
        out.push(ask("detected_fields", &[("query", query), ("line_limit", "5")]));
        out.push(ask(
            "detected_fields",
            &[("query", query), ("limit", "3"), ("line_limit", "500")],
        ));
        for name in ["level", "status", "user", "duration", "size", "detected_level", "none"] {
            out.push(ask(&format!("detected_field/{name}/values"), &[("query", query)]));
        }
    }
    for query in [
        "{app=\"shop\"}",
        "{app=~\"shop|flat\"}",
        "{app=~\".+\"}",
        "{env=\"prod\",app=~\".+\"}",
        "{app=\"none\"}",
        "{job=\"api\"} |= \"x\"",
        "{",
        "{app=\"shop\"} | json",
        "rate({app=\"shop\"}[5m])",
        "{}",
    ] {
        for endpoint in ["index/stats", "index/volume", "index/volume_range"] {
            out.push(ask(endpoint, &[("query", query)]));
        }
        out.push(ask("index/volume", &[("query", query), ("aggregateBy", "labels")]));
        out.push(ask("index/volume", &[("query", query), ("targetLabels", "env")]));
        out.push(ask(
            "index/volume",
            &[("query", query), ("targetLabels", "env,level"), ("limit", "2")],
        ));
        out.push(ask("index/volume_range", &[("query", query), ("step", "20m")]));
        out.push(ask("index/volume", &[("query", query), ("aggregateBy", "nope")]));
    }
    for query in super::vocabulary::LINE_TEMPLATES {
        out.push(Case::format(format!("{{app=\"flat\"}} | json | line_format {query}")));
    }
    for query in FORMATTED {
        out.push(Case::format((*query).to_owned()));
    }
    for query in super::vocabulary::REFUSED {
        out.push(Case::format((*query).to_owned()));
    }
    out
}

const FORMATTED: &[&str] = &[
    r#"{app="x"}"#,
    r#"{app="x",env=~"y.*"}|="a"!="b"|~"c"!~"d""#,
    r#"{app="x"} |= "a" or "b" or "c""#,
    r#"{app="x"} != ip("1.2.3.4") or ip("::1")"#,
    r#"{app="x"} |> "<_>a<_>" !> "b""#,
    r#"{app="x"}|json|logfmt|unpack|decolorize|regexp "(?P<a>.)"|pattern "<a> b""#,
    r#"{app="x"}|json a="b.c",d|logfmt --strict --keep-empty a, b="c""#,
    r#"{app="x"}|a="1" and b>2 or c<=3s,d!=4KB e=~"f""#,
    r#"{app="x"}|(a="1" or b=2) and c=ip("1.2.3.4")"#,
    r#"{app="x"}|line_format "{{.a}}"|label_format b=c,d="{{.e}}"|drop a,b="c"|keep d,e=~"f""#,
    r#"rate({app="x"}[5m])"#,
    r#"rate({app="x"}|json|a="b"[1h30m] offset 5m)"#,
    r#"sum(rate({app="x"}[5m]))"#,
    r#"sum by(a,b)(rate({app="x"}[5m]))"#,
    r#"sum without()(rate({app="x"}[5m]))"#,
    r#"sum(rate({app="x"}[5m]))by(a)"#,
    r#"topk(5,rate({app="x"}[5m]))"#,
    r#"topk by(a)(5,sum by(a,b)(count_over_time({app="x", environment="production", cluster="eu-west-1"} |= "error" != "timeout" | json | status>=500 [10m])))"#,
    r#"quantile_over_time(0.99,{app="x"}|json|unwrap duration(a)|__error__=""[5m])by(b)"#,
    r#"avg_over_time({app="x"}|unwrap a[5m])without(b,c)"#,
    r#"rate({app="x"}[5m])+rate({app="y"}[5m])"#,
    r#"rate({app="x"}[5m])*2+1"#,
    r#"(rate({app="x"}[5m])+1)*2"#,
    r#"1+2*3"#,
    r#"rate({app="x"}[5m])>bool 1"#,
    r#"rate({app="x"}[5m])+on(a)group_left(b)rate({app="y"}[5m])"#,
    r#"sum by (namespace) (rate({app="a-very-long-application-name"}[5m])) / on (namespace) group_left (cluster) sum by (namespace, cluster) (rate({app="another-very-long-name"}[5m]))"#,
    r#"rate({app="x"}[5m]) unless ignoring(a) rate({app="y"}[5m])"#,
    r#"label_replace(rate({app="x"}[5m]),"a","$1","b","(.*)")"#,
    r#"label_replace(sum by (app, environment, cluster) (rate({app=~"first|second|third"}[5m])),"destination","$1","environment","(.*)")"#,
    r#"vector(1)"#,
    r#"sum(rate({app="x"}[5m])) or vector(0)"#,
    r#"sort_desc(sum by(a)(rate({app="x"}[5m])))"#,
    r#"approx_topk(3, sum by (a) (rate({app="x"}[5m])))"#,
    r#"absent_over_time({app="x"}[5m])"#,
    r#"1 > 2"#,
    r#"-1"#,
    r#"{app="a\nb\t\"c\""}"#,
    r#"{app=`a"b`} |= `c\d`"#,
    r#"{app="a-very-long-application-name",environment="production"} |= "a long piece of text to look for" | json | line_format "{{.some}} {{.labels}} {{.of}} {{.this}} {{.line}}" | status >= 500"#,
];

/// Times, steps, limits, directions and intervals.
pub(crate) fn parameters() -> Vec<Case> {
    let (start, end) = (T0_NS.to_string(), (T0_NS + LENGTH_NS).to_string());
    let s = T0_NS / 1_000_000_000;
    let late = (T0_NS + LENGTH_NS / 2).to_string();
    let (ticks, count) = ("{app=\"ticks\"}", "count_over_time({app=\"ticks\"}[5m])");
    let mut out = Vec::new();
    for (name, values) in [
        (
            "limit",
            &[
                "0",
                "-1",
                "1",
                "5",
                "5000",
                "5001",
                "x",
                "1.5",
                "",
                "99999999999999999999",
            ][..],
        ),
        (
            "direction",
            &["forward", "backward", "FORWARD", "Backward", "sideways", ""][..],
        ),
        ("interval", &["1m", "150", "90.5", "0", "-1", "x", "7m", ""][..]),
        (
            "step",
            &["1m", "60", "90.5", "0", "-1", "x", "1d", "", "100ms", "1h", "0.1"][..],
        ),
        ("since", &["1h", "10m", "x", "0", ""][..]),
        ("nope", &["1"][..]),
    ] {
        for value in values {
            for query in [ticks, count] {
                let range = [
                    ("query", query),
                    ("start", start.as_str()),
                    ("end", end.as_str()),
                    (name, *value),
                ];
                out.push(Case::of("query_range", &range));
                if name != "since" {
                    out.push(Case::of(
                        "query",
                        &[("query", query), ("time", late.as_str()), (name, *value)],
                    ));
                }
            }
        }
    }
    let rfc = "2025-06-01T00:10:00Z";
    let (whole, fraction, milliseconds) = (s.to_string(), format!("{s}.5"), format!("{s}000"));
    let later = (s + 2400).to_string();
    for (from, to) in [
        (whole.as_str(), later.as_str()),
        (fraction.as_str(), later.as_str()),
        (rfc, later.as_str()),
        ("2025-06-01T02:10:00.5+02:00", later.as_str()),
        (later.as_str(), whole.as_str()),
        (whole.as_str(), whole.as_str()),
        (milliseconds.as_str(), later.as_str()),
        ("x", later.as_str()),
        (whole.as_str(), "x"),
        ("2025-06-01", later.as_str()),
        ("-5", later.as_str()),
    ] {
        out.push(Case::of("query", &[("query", count), ("time", from)]));
        // Over decades Loki, which looks into the index of every day, thinks for a minute.
        if from == milliseconds || from == "-5" {
            continue;
        }
        for query in [ticks, count, "{app=\"out-of-order\"}"] {
            out.push(Case::of(
                "query_range",
                &[("query", query), ("start", from), ("end", to)],
            ));
        }
        // Of an empty range Loki tells all labels, of one that ends before it begins that it has nothing to merge.
        if to != whole {
            out.push(Case::of("labels", &[("start", from), ("end", to)]));
            out.push(Case::of("series", &[("match[]", ticks), ("start", from), ("end", to)]));
        }
        out.push(Case::of(
            "index/stats",
            &[("query", ticks), ("start", from), ("end", to)],
        ));
    }
    for endpoint in [
        "query",
        "query_range",
        "labels",
        "label/app/values",
        "series",
        "index/stats",
        "index/volume",
        "index/volume_range",
        "detected_fields",
        "patterns",
        "format_query",
        "nope",
    ] {
        out.push(Case::of(endpoint, &[("start", start.as_str()), ("end", end.as_str())]));
    }
    out
}
