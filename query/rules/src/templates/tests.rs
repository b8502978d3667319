//! Templates of alerts, as a table: text, and what Prometheus makes of it.

use std::sync::Arc;

use model::{Histogram, LabelSet};

use super::*;

/// What `expand` gives for an alert of `up{instance="a.example.com:9100", job="node"}` with the value 1.5.
fn expand(text: &str) -> Result<String, String> {
    expand_with(text, TemplateValue::Float(1.5))
}

fn expand_with(text: &str, value: TemplateValue<'_>) -> Result<String, String> {
    let labels = LabelSet::from_pairs([("__name__", "up"), ("instance", "a.example.com:9100"), ("job", "node")]);
    let query = |text: &str| {
        let sample = |instance: &str, value: f64| TemplateSample {
            labels: LabelSet::from_pairs([("__name__", "m"), ("__value__", "v"), ("instance", instance)]),
            value,
            histogram: None,
        };
        match text {
            "none" => Ok(Vec::new()),
            "bad" => Err("parse error".to_owned()),
            _ => Ok(vec![sample("b", 21.0), sample("a", 11.0)]),
        }
    };
    let external = [("cluster".to_owned(), "lab".to_owned())];
    let data = TemplateData {
        labels: &labels,
        value,
        external_labels: &external,
        external_url: "http://testhost:9090/path/prefix",
        now_ms: 1_353_755_652_000,
        query: &query,
    };
    Template::parse("t", text)
        .map_err(|why| format!("error parsing template t: {why}"))?
        .expand(&data)
}

fn check(cases: &[(&str, &str)]) {
    for (text, want) in cases {
        assert_eq!(expand(text).as_deref(), Ok(*want), "{text}");
    }
}

/// Where faults stand counts what is put before each text.
fn check_faults(cases: &[(&str, usize, &str)]) {
    for (text, byte, want) in cases {
        let at = format!("1:{}", PRELUDE.len() + byte);
        let want = want.replace("@", &at);
        assert_eq!(expand(text), Err(want), "{text}");
    }
}

#[test]
fn the_alert_is_at_hand() {
    check(&[
        ("plain text", "plain text"),
        ("{{ $labels.job }} {{ .Labels.job }} {{ $labels.none }}|", "node node |"),
        ("{{ $value }} {{ .Value }} {{ printf \"%.2f\" $value }}", "1.5 1.5 1.50"),
        (
            "{{ $externalLabels.cluster }} {{ .ExternalURL }}",
            "lab http://testhost:9090/path/prefix",
        ),
        ("{{ $labels }}", "map[__name__:up instance:a.example.com:9100 job:node]"),
        (
            "{{ range $name, $v := $labels }}{{ $name }}={{ $v }},{{ end }}",
            "__name__=up,instance=a.example.com:9100,job=node,",
        ),
        ("{{ with $labels }}{{ .job }}{{ end }}{{ len $labels }}", "node3"),
        (
            "{{ index $labels \"job\" }}{{ index $externalLabels \"none\" }}",
            "node",
        ),
        (
            "{{ if eq $labels.job \"x\" \"node\" }}y{{ else if gt $value 2.0 }}z{{ else }}n{{ end }}",
            "y",
        ),
        ("{{ if gt $value 1.0 -}}  much {{- end }}{{/* a comment */}}", "much"),
        (
            "{{define \"x\"}}{{.arg0}} {{.arg1}}{{end}}{{template \"x\" (args 1 \"2\")}}",
            "1 2",
        ),
        (
            "{{ block \"b\" $labels }}[{{ .job }}]{{ end }}{{ template \"b\" $externalLabels }}",
            "[node][]",
        ),
        (
            "{{ $x := 0 }}{{ range $i := 3 }}{{ if eq $i 1 }}{{ continue }}{{ end }}{{ $x = $i }}{{ end }}{{ $x }}",
            "2",
        ),
    ]);
    let histogram = Arc::new(Histogram {
        count: 3.0,
        sum: 10.0,
        ..Histogram::stale()
    });
    assert_eq!(
        expand_with("{{ $value }}", TemplateValue::Histogram(&histogram)).as_deref(),
        Ok("{count:3, sum:10}")
    );
}

#[test]
fn queries_are_asked() {
    check(&[
        ("{{ query \"m\" | first | value }}", "21"),
        (
            "{{ query \"m\" | first | label \"instance\" }}{{ query \"m\" | first | label \"foo\" }}",
            "b",
        ),
        ("{{ query \"m\" | first | strvalue }}", "v"),
        ("{{ $x := query \"m\" | first }}{{ $x.Labels.foo }}{{ $x.Value }}", "21"),
        (
            "{{ range query \"m\" | sortByLabel \"instance\" }}{{.Labels.instance}}:{{.Value}}: {{end}}",
            "a:11: b:21: ",
        ),
        ("{{ with query \"none\" }}some{{ else }}none{{ end }}", "none"),
        (
            "{{ with query \"m\" }}{{ . | first | value | humanize }}{{ end }}",
            "21",
        ),
    ]);
}

#[test]
fn numbers_are_written_for_people() {
    check(&[
        (
            "{{ humanize 0.0 }} {{ humanize 1.0 }} {{ humanize 1234567.0 }} {{ humanize .12 }}",
            "0 1 1.235M 120m",
        ),
        (
            "{{ humanize \"1234567.0\" }} {{ humanize -1 }} {{ humanize 9223372036854775807 }}",
            "1.235M -1 9.223E",
        ),
        (
            "{{ humanize1024 1048576.0 }} {{ humanize1024 .12 }} {{ humanize1024 1234567 }}",
            "1Mi 0.12 1.177Mi",
        ),
        (
            "{{ humanizeDuration 0 }} {{ humanizeDuration 1 }} {{ humanizeDuration 60 }}",
            "0s 1s 1m 0s",
        ),
        (
            "{{ humanizeDuration 3600 }} {{ humanizeDuration 90000 }} {{ humanizeDuration -183845 }}",
            "1h 0m 0s 1d 1h 0m 0s -2d 3h 4m 5s",
        ),
        (
            "{{ humanizeDuration 899.99 }} {{ humanizeDuration .1 }} {{ humanizeDuration .0001 }}",
            "14m 59s 100ms 100us",
        ),
        (
            "{{ humanizeDuration .12345 }} {{ humanizeDuration 60.5 }} {{ humanizeDuration \"1.2345\" }} {{ humanizeDuration 12.345 }}",
            "123.5ms 1m 0s 1.234s 12.35s",
        ),
        (
            "{{ -0.22222 | humanizePercentage }}:{{ 0.0 | humanizePercentage }}:{{ 0.1234567 | humanizePercentage }}:{{ 1234567 | humanizePercentage }}",
            "-22.22%:0%:12.35%:1.235e+08%",
        ),
        (
            "{{ humanize \"+Inf\" }}:{{ humanize1024 \"-Inf\" }}:{{ humanizeDuration \"NaN\" }}:{{ humanizeTimestamp \"NaN\" }}",
            "+Inf:-Inf:NaN:NaN",
        ),
    ]);
}

#[test]
fn times_are_made_and_shown() {
    check(&[
        (
            "{{ 1435065584.128 | humanizeTimestamp }}",
            "2015-06-23 13:19:44.128 +0000 UTC",
        ),
        (
            "{{ humanizeTimestamp -1 }} {{ humanizeTimestamp \"1234567\" }}",
            "1969-12-31 23:59:59 +0000 UTC 1970-01-15 06:56:07 +0000 UTC",
        ),
        (
            "{{ (1435065584.128 | toTime).Format \"2006\" }} {{ (1800 | toDuration).String }} {{ \"90\" | toDuration }}",
            "2015 30m0s 1m30s",
        ),
        (
            "{{ now }} {{ (now | toTime).Format \"Mon Jan 2 15:04:05 2006\" }}",
            "1.353755652e+09 Sat Nov 24 11:14:12 2012",
        ),
        (
            "{{ (\"-30m\" | parseDuration | toDuration | (now | toTime).Add).UnixMilli }}",
            "1353753852000",
        ),
        (
            "{{ printf \"%0.2f\" (parseDuration \"1h2m10ms\") }} {{ printf \"%0.2f\" (parseDuration \"-1h2m10ms\") }}",
            "3720.01 -3720.01",
        ),
    ]);
}

#[test]
fn strings_and_links() {
    check(&[
        (
            "{{ \"aa bb CC\" | title }} {{ \"aA\" | toUpper }} {{ \"aA\" | toLower }}",
            "Aa Bb CC AA aa",
        ),
        ("{{ \"it's a.b c-d e_f\" | title }}", "It's A.b C-D E_f"),
        ("{{ match \"a+\" \"xaay\" }} {{ match \"a+\" \"b\" }}", "true false"),
        (
            "{{ reReplaceAll \"(a)b\" \"x$1\" \"ab\" }} {{ reReplaceAll \"(.*):.*\" \"$1\" $labels.instance }}",
            "xa a.example.com",
        ),
        (
            "{{ graphLink \"up == 0\" }} {{ tableLink \"up\" }}",
            "/graph?g0.expr=up+%3D%3D+0&g0.tab=0 /graph?g0.expr=up&g0.tab=1",
        ),
        (
            "{{ pathPrefix }} {{ externalURL }}",
            "/path/prefix http://testhost:9090/path/prefix",
        ),
        (
            "{{ \"a b&c\" | urlQueryEscape }} {{ \"<b>\" | safeHtml }} {{ \"<b>\" }}",
            "a+b%26c <b> <b>",
        ),
    ]);
    for (text, port, domain) in [
        ("foo.example.com", "foo.example.com", "foo"),
        ("foo.example.com:12345", "foo.example.com", "foo:12345"),
        ("192.0.2.1", "192.0.2.1", "192.0.2.1"),
        ("192.0.2.1:12345", "192.0.2.1", "192.0.2.1:12345"),
        ("2001:0DB8::1", "2001:0DB8::1", "2001:0DB8::1"),
        ("[2001:0DB8::1]:12345", "2001:0DB8::1", "[2001:0DB8::1]:12345"),
        (
            "[2001:0DB8::1]::12345",
            "[2001:0DB8::1]::12345",
            "[2001:0DB8::1]::12345",
        ),
    ] {
        assert_eq!(expand(&format!("{{{{ {text:?} | stripPort }}}}")).as_deref(), Ok(port));
        assert_eq!(
            expand(&format!("{{{{ {text:?} | stripDomain }}}}")).as_deref(),
            Ok(domain)
        );
    }
}

#[test]
fn faults_are_told_as_go_tells_them() {
    check_faults(&[
        (
            "{{\u{a0}}}",
            0,
            "error parsing template t: template: t:1: unrecognized character in action: U+00A0",
        ),
        ("{{", 0, "error parsing template t: template: t:1: unclosed action"),
        (
            "{{ nope }}",
            0,
            "error parsing template t: template: t:1: function \"nope\" not defined",
        ),
        (
            "{{ $nope }}",
            0,
            "error parsing template t: template: t:1: undefined variable \"$nope\"",
        ),
        (
            "{{ query \"none\" | first }}",
            18,
            "error executing template t: template: t:@: executing \"t\" at <first>: error calling first: first() called on vector with no elements",
        ),
        (
            "{{ query \"bad\" }}",
            3,
            "error executing template t: template: t:@: executing \"t\" at <query \"bad\">: error calling query: parse error",
        ),
        (
            "{{ (query \"none\").banana }}",
            10,
            "error executing template t: template: t:@: executing \"t\" at <\"none\">: can't evaluate field banana in type template.queryResult",
        ),
        (
            "{{ humanize \"one\" }}",
            3,
            "error executing template t: template: t:@: executing \"t\" at <humanize \"one\">: error calling humanize: strconv.ParseFloat: parsing \"one\": invalid syntax",
        ),
        (
            "{{ \"one\" | humanizePercentage }}",
            11,
            "error executing template t: template: t:@: executing \"t\" at <humanizePercentage>: error calling humanizePercentage: strconv.ParseFloat: parsing \"one\": invalid syntax",
        ),
        (
            "{{ humanizeTimestamp 1e10 }}",
            3,
            "error executing template t: template: t:@: executing \"t\" at <humanizeTimestamp 1e10>: error calling humanizeTimestamp: 1e+10 cannot be represented as a nanoseconds timestamp since it overflows int64",
        ),
        (
            "{{ .Foo }}",
            3,
            "error executing template t: template: t:@: executing \"t\" at <.Foo>: can't evaluate field Foo in type struct { Labels map[string]string; ExternalLabels map[string]string; ExternalURL string; Value interface {} }",
        ),
        (
            "{{ toUpper $value }}",
            11,
            "error executing template t: template: t:@: executing \"t\" at <$value>: wrong type for value; expected string; got float64",
        ),
        (
            "{{ toUpper 1.5 }}",
            11,
            "error executing template t: template: t:@: executing \"t\" at <1.5>: expected string; found 1.5",
        ),
        (
            "{{ first 1 }}",
            9,
            "error executing template t: template: t:@: executing \"t\" at <1>: can't handle 1 for arg of type template.queryResult",
        ),
        (
            "{{ gt $value 1 }}",
            3,
            "error executing template t: template: t:@: executing \"t\" at <gt $value 1>: error calling gt: incompatible types for comparison: float64 and int",
        ),
        (
            "{{ template \"x\" }}",
            12,
            "error executing template t: template: t:@: executing \"t\" at <{{template \"x\"}}>: template \"x\" not defined",
        ),
    ]);
}

/// Rule files come from outside: nothing in them may hang, overflow the stack or fill the memory.
#[test]
fn hostile_templates_end() {
    for (text, want) in [
        (
            "{{ define \"a\" }}{{ template \"a\" }}{{ end }}{{ template \"a\" }}",
            "exceeded maximum template depth",
        ),
        (
            "{{ range 100000 }}{{ range 100000 }}x{{ end }}{{ end }}",
            "more than 100000 steps",
        ),
        (
            "{{ $x := \"xxxxxxxxxxxxxxxx\" }}{{ range 40 }}{{ $x = print $x $x }}{{ end }}",
            "longer than",
        ),
        (
            "{{ $x := args 1 2 }}{{ range 40 }}{{ $x = args $x $x }}{{ end }}{{ $x }}",
            "nested too deeply",
        ),
        (
            "{{ $x := reReplaceAll \"\" \"xxxxxxxxxxxxxxxx\" (printf \"%9999d\" 1) }}{{ range 9 }}{{ $x = reReplaceAll \"\" $x $x }}{{ end }}",
            "longer than",
        ),
    ] {
        let why = expand(text).unwrap_err();
        assert!(why.contains(want), "{text}: {why}");
    }
    let deep = format!("{}1{}", "(".repeat(10_000), ")".repeat(10_000));
    assert!(expand(&format!("{{{{ {deep} }}}}")).is_err());
}
