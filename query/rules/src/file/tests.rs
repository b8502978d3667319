//! What a rule file may say, and what is said of it.

use proptest::prelude::*;

use super::*;

fn check(text: &str, faults: &[&str]) -> Vec<Group> {
    check_as(Dialect::PromQl, text, faults)
}

fn check_as(dialect: Dialect, text: &str, faults: &[&str]) -> Vec<Group> {
    let (groups, found) = read_groups("r.yml", text, dialect);
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(found, faults, "{text}");
    groups
}

#[test]
fn a_whole_group_is_read() {
    let groups = check(
        r#"
groups:
  - name: g
    interval: 15s
    query_offset: 1m30s
    limit: 7
    labels: {team: a, tier: 1}
    rules:
      - record: job:up:sum
        expr: sum by (job) (up)
        labels: {team: b}
      - alert: Down
        expr: up == 0
        for: 5m
        keep_firing_for: 1h
        labels:
          severity: page
        annotations: {summary: "{{ $labels.job }} is down"}
      - {record: one, expr: 1}
  - name: empty
"#,
        &[],
    );
    let g = &groups[0];
    assert_eq!(
        (g.interval_ms, g.query_offset_ms, g.limit, g.dialect),
        (Some(15_000), Some(90_000), 7, Dialect::PromQl)
    );
    let pair = |n: &str, v: &str| (n.to_owned(), v.to_owned());
    assert_eq!(g.labels_of(&g.rules[0]), [pair("team", "b"), pair("tier", "1")]);
    assert_eq!(g.rules[2].expr, "1");
    assert_eq!((g.rules[0].line, g.rules[1].line), (9, 12));
    assert!(matches!(
        &g.rules[1].kind,
        RuleKind::Alerting { alert, for_ms: 300_000, keep_firing_for_ms: 3_600_000, annotations }
            if alert == "Down" && annotations.len() == 1
    ));
    assert!(groups[1].rules.is_empty());
    assert_eq!(check("", &[]), []);
    assert_eq!(check("groups: []", &[]), []);
}

#[test]
fn every_fault_says_where_it_is() {
    for (text, fault) in [
        (
            "groups:\n- name: g\n  rulez: []\n",
            r#"r.yml:3:3: group "g": field "rulez" is unknown in a rule group"#,
        ),
        (
            "groups: []\nscrape: 1\n",
            r#"r.yml:2:1: field "scrape" is unknown in a rule file"#,
        ),
        ("groups:\n- rules: []\n", "r.yml:2:3: Groupname must not be empty"),
        (
            "groups:\n- {name: g, interval: 5}\n",
            r#"r.yml:2:23: group "g": interval: not a valid duration string: "5""#,
        ),
        (
            "groups:\n- {name: g, limit: x}\n",
            r#"r.yml:2:20: group "g": limit: "x" is not a whole number"#,
        ),
        (
            "groups:\n- {name: g, labels: {__name__: x}}\n",
            r#"r.yml:2:22: group "g": invalid label name: __name__"#,
        ),
        (
            "groups:\n- {name: g, rules: 1}\n",
            r#"r.yml:2:20: group "g": rules must be a list, this is a value"#,
        ),
        ("groups: 3\n", "r.yml:1:9: groups must be a list, this is a value"),
        ("a: [\n", "r.yml:1:4: unclosed bracket '['"),
    ] {
        check(text, &[fault]);
    }
}

#[test]
fn every_rule_is_checked() {
    for (rule, faults) in [
        (
            "{record: a, alert: b, expr: x}",
            &["5:16: group \"g\", rule 2, \"b\": only one of 'record' and 'alert' must be set"][..],
        ),
        (
            "{expr: x}",
            &["5:7: group \"g\", rule 2, \"\": one of 'record' or 'alert' must be set"],
        ),
        (
            "{alert: a}",
            &["5:7: group \"g\", rule 2, \"a\": field 'expr' must be set in rule"],
        ),
        (
            "{alert: a, expr: 'up ='}",
            &["5:24: group \"g\", rule 2, \"a\": could not parse expression: 1:4: parse error: unexpected \"=\""],
        ),
        (
            "{record: a, expr: x, for: 1m}",
            &["5:33: group \"g\", rule 2, \"a\": invalid field 'for' in recording rule"],
        ),
        (
            "{record: a, expr: x, keep_firing_for: 1m}",
            &["5:45: group \"g\", rule 2, \"a\": invalid field 'keep_firing_for' in recording rule"],
        ),
        (
            "{record: a, expr: x, annotations: {b: c}}",
            &["5:41: group \"g\", rule 2, \"a\": invalid field 'annotations' in recording rule"],
        ),
        (
            "{record: 'a{b}', expr: x}",
            &[
                "5:16: group \"g\", rule 2, \"a{b}\": braces present in the recording rule name; should it be in expr?: a{b}",
            ],
        ),
        (
            "{record: a, expr: x, fro: 1m}",
            &["5:28: group \"g\", rule 2, \"a\": field \"fro\" is unknown in a rule"],
        ),
        (
            "{alert: a, expr: x, labels: {'': y}}",
            &["5:36: group \"g\", rule 2, \"a\": invalid label name: "],
        ),
    ] {
        let text =
            format!("groups:\n- name: g\n  rules:\n    - {{record: good, expr: y}}\n    - {rule}\n- name: other\n");
        let faults: Vec<String> = faults.iter().map(|f| format!("r.yml:{f}")).collect();
        let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
        let groups = check(&text, &faults);
        let names: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
        assert_eq!(names, ["other"], "a bad group takes no good one down");
    }
}

#[test]
fn of_two_groups_with_one_name_the_first_stays() {
    let groups = check(
        "groups:\n- {name: g, rules: [{record: a, expr: x}]}\n- {name: g}\n",
        &["r.yml:3:3: group \"g\": groupname: \"g\" is repeated in the same file"],
    );
    assert_eq!(groups[0].rules.len(), 1);
}

#[test]
fn duplicates_are_warned_of() {
    let rules = "{name: g, rules: [{record: a, expr: x}, {record: a, expr: y}, {record: a, expr: y, labels: {b: c}}]}";
    let groups = check(
        &format!("groups:\n- {rules}\n"),
        &["r.yml:2: group \"g\", rule 2, \"a\": the recording \"a\" with these labels is there already, in line 2"],
    );
    assert_eq!(groups[0].rules.len(), 3);
}

#[test]
fn logql_is_read_where_it_is_said() {
    let expr = r#"'sum by (app) (rate({env="prod"} |= "x" [5m])) > 1'"#;
    let rules = format!("rules: [{{alert: a, expr: {expr}}}]");
    let groups = check_as(
        Dialect::LogQl,
        &format!("namespace: n\ngroups:\n- {{name: g, {rules}}}\n"),
        &[],
    );
    assert_eq!(groups[0].dialect, Dialect::LogQl);
    let groups = check(&format!("groups:\n- {{name: g, dialect: logql, {rules}}}\n"), &[]);
    assert_eq!(groups[0].dialect, Dialect::LogQl);
    check_as(
        Dialect::LogQl,
        "groups:\n- {name: g, rules: [{alert: a, expr: '{a=\"b\"}'}]}\n",
        &[
            "r.yml:2:38: group \"g\", rule 1, \"a\": could not parse expression for alert 'a' in group 'g': a rule needs \
           numbers, and this is a query for log lines",
        ],
    );
    check_as(
        Dialect::LogQl,
        "groups:\n- {name: g, rules: [{record: 'a.b', expr: '1'}]}\n",
        &["r.yml:2:30: group \"g\", rule 1, \"a.b\": invalid recording rule name: a.b"],
    );
    for (path, dialect) in [
        ("rules/a.yml", Dialect::PromQl),
        ("rules/loki/tenant/a.yml", Dialect::LogQl),
        ("rules/a.logql.yaml", Dialect::LogQl),
        ("a.logql.yml", Dialect::LogQl),
        ("loki", Dialect::PromQl),
    ] {
        assert_eq!(dialect_of(Path::new(path)), dialect, "{path}");
    }
}

#[test]
fn one_group_is_read_for_the_api() {
    let group = read_group("ns", "name: g\nrules: [{record: a, expr: '1'}]\n", Dialect::LogQl).unwrap();
    assert_eq!((&*group.file, group.origin), ("ns", Origin::LokiApi));
    let faults = read_group("ns", "name: g\nrules: [{record: a, expr: ''}]\n", Dialect::LogQl).unwrap_err();
    assert_eq!(faults[0].reason, "field 'expr' must be set in rule");
}

proptest! {
    /// A file may hold anything; what is wrong with it is said in one place of it.
    #[test]
    fn any_file_is_read_or_refused(parts in proptest::collection::vec(
        prop_oneof![
            Just("groups:\n"), Just("- name: g\n"), Just("  rules:\n"), Just("  - record: r\n"), Just("    expr: up\n"),
            Just("  - alert: A\n"), Just("    expr: '{{'\n"), Just("    for: 1m\n"), Just("    labels: {a: '{{ $labels.x }}'}\n"),
            Just("    annotations: [x]\n"), Just("  limit: -1\n"), Just("  interval: 9999999y\n"), Just("  dialect: logql\n"),
            Just("&a *a\n"), Just("\t"), Just("  "), Just("[{"), Just("}]\n"), Just("- "), Just(": "),
        ],
        0..16,
    )) {
        let text = parts.concat();
        for dialect in [Dialect::PromQl, Dialect::LogQl] {
            let (groups, faults) = read_groups("f", &text, dialect);
            for fault in &faults {
                prop_assert!(fault.line as usize <= text.lines().count() + 1, "{}", fault);
            }
            for group in groups {
                prop_assert!(!group.name.is_empty());
            }
        }
    }
}
