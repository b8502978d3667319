//! Configurations as people write them, and the cases of the corpus.

use std::path::{Path, PathBuf};

use model::LabelsBuilder;
use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Result<(PrometheusConfig, Vec<Finding>), Vec<Finding>> {
    let env = |name: &str| (name == "LAB_ENV").then(|| "test".to_owned());
    PrometheusConfig::read(Path::new("/etc/p/prometheus.yml"), text, &env)
}

/// The findings, one a line.
fn said(text: &str) -> String {
    let findings = match read(text) {
        Ok((_, findings)) | Err(findings) => findings,
    };
    findings.iter().map(|f| format!("{f}\n")).collect()
}

/// The folder of the corpus; `None` and a word where it is missing and need not be there.
fn corpus() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/ingest");
    if dir.is_dir() {
        return Some(dir);
    }
    let needed = std::env::var("CORPUS_REQUIRED").is_ok_and(|v| v == "1");
    assert!(!needed, "{} is missing and CORPUS_REQUIRED=1", dir.display());
    eprintln!("skipped: {} is missing", dir.display());
    None
}

#[test]
fn the_file_of_the_corpus_loads_unchanged() {
    let Some(dir) = corpus() else { return };
    let path = dir.join("prometheus.yml");
    let text = std::fs::read_to_string(&path).unwrap();
    let env = |name: &str| (name == "LAB_ENV").then(|| "test".to_owned());
    let (config, findings) = PrometheusConfig::read(&path, &text, &env).unwrap();
    assert_eq!(findings, []);
    assert_eq!(config.scrapes.len(), 11);
    assert_eq!(
        config.global.external_labels[1],
        ("environment".to_owned(), "test".to_owned())
    );
    assert_eq!(config.alerting.alertmanagers.len(), 1);
    assert_eq!(config.rule_files, [dir.join("rules/*.yml")]);
    let names: Vec<&str> = config.otlp.iter().map(|(name, ..)| name.as_str()).collect();
    assert_eq!(names, ["translation_strategy", "promote_resource_attributes"]);
    let node = config.scrapes.iter().find(|s| s.job_name == "node").unwrap();
    assert_eq!((node.relabel.len(), node.metric_relabel.len()), (1, 2));
    assert_eq!(
        node.discovery,
        [Discovery::File(FileDiscovery {
            files: vec![dir.join("targets.json")],
            refresh_interval: Duration::from_secs(30)
        })]
    );
    let groups = parse_target_groups(&std::fs::read_to_string(dir.join("targets.json")).unwrap()).unwrap();
    assert_eq!(groups[0].targets.len(), 2);
}

#[test]
fn every_relabel_case_of_the_corpus_passes() {
    let Some(dir) = corpus() else { return };
    let text = std::fs::read_to_string(dir.join("relabel_cases.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut failed = Vec::new();
    for case in cases.as_array().unwrap() {
        let rules = serde_json::to_string(&case["rules"]).unwrap();
        let config = format!("scrape_configs: [{{job_name: x, relabel_configs: {rules}}}]");
        let rules = read(&config).unwrap().0.scrapes.remove(0).relabel;
        let mut labels = LabelsBuilder::default();
        for (name, value) in case["in"].as_object().unwrap() {
            labels.set(name.as_str(), value.as_str().unwrap());
        }
        let got = relabel(&rules, &mut labels).then(|| labels.build());
        let mut want = case["out"].as_object().cloned();
        // Labels that are there only on the way are listed where they matter; else they are as they were.
        if let (Some(want), Some(got)) = (&mut want, &got) {
            let untold = case["in"]
                .as_object()
                .unwrap()
                .iter()
                .filter(|(name, _)| name.starts_with("__"));
            for (name, value) in untold.filter(|(name, _)| got.get(name).is_some()) {
                want.entry(name.as_str()).or_insert(value.clone());
            }
        }
        let want = want.map(|out| out.iter().map(|(n, v)| (n.clone(), v.as_str().unwrap())).collect());
        if got != want {
            failed.push(format!("{}: {got:?}", case["name"]));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn an_empty_file_scrapes_nothing() {
    let (config, findings) = read("").unwrap();
    assert_eq!((config.scrapes.len(), findings.len()), (0, 0));
    assert_eq!(config.global.scrape_interval, Duration::from_secs(60));
}

#[test]
fn what_a_job_does_not_say_is_global_or_default() {
    let text = "global: {scrape_interval: 5s, sample_limit: 9, scrape_native_histograms: true}\n\
                scrape_configs:\n- job_name: a\n- {job_name: b, scrape_interval: 1m, sample_limit: 3, scrape_native_histograms: false}\n";
    let (config, _) = read(text).unwrap();
    let [a, b] = &config.scrapes[..] else { panic!() };
    assert_eq!(
        (a.scrape_interval, a.scrape_timeout),
        (Duration::from_secs(5), Duration::from_secs(5))
    );
    assert_eq!(
        (b.scrape_interval, b.scrape_timeout),
        (Duration::from_secs(60), Duration::from_secs(5))
    );
    assert_eq!((a.limits.samples, b.limits.samples), (9, 3));
    assert_eq!(a.protocols[0], ScrapeProtocol::PrometheusProto);
    assert_eq!(b.protocols.len(), 4);
    assert!(
        a.yaml.starts_with(
            "job_name: a\nhonor_timestamps: true\ntrack_timestamps_staleness: false\nscrape_interval: 5s\n"
        )
    );
}

#[test]
fn what_is_unknown_or_without_effect_is_a_warning_with_its_line() {
    let text = "global:\n  storage:\n    exemplars: {}\n  scrape_intervall: 5s\nremote_write:\n- url: http://x\n\
                scrape_configs:\n- job_name: a\n  consul_sd_configs:\n  - server: x\n  tls_config: {what: 1}\n";
    let (_, findings) = read(text).unwrap();
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "/etc/p/prometheus.yml:2: unknown key \"storage\" in global is ignored",
            "/etc/p/prometheus.yml:4: unknown key \"scrape_intervall\" in global is ignored",
            "/etc/p/prometheus.yml:5: remote_write has no effect: this server receives, and sends nothing on",
            "/etc/p/prometheus.yml:9: consul_sd_configs is not supported; none of its targets is scraped",
            "/etc/p/prometheus.yml:11: unknown key \"what\" in tls_config is ignored",
        ]
    );
}

#[test]
fn errors_are_named_all_at_once_with_file_and_line() {
    let job = |rest: &str| format!("scrape_configs:\n- job_name: a\n{rest}");
    for (text, want) in [
        ("a: [\n", "/etc/p/prometheus.yml:"),
        (
            "scrape_configs: 5\n",
            "prometheus.yml:1: scrape_configs must be a list, this is a value",
        ),
        (
            "scrape_configs:\n- metrics_path: /x\n",
            "prometheus.yml:2: job_name is empty",
        ),
        (
            "scrape_configs:\n- job_name: a\n- job_name: a\n",
            ":3: found multiple scrape configs with job name \"a\"",
        ),
        (
            "global:\n  scrape_timeout: 2m\n",
            ":2: global scrape timeout greater than scrape interval",
        ),
        (
            "global:\n  scrape_interval: fast\n",
            ":2: scrape_interval: \"fast\" is not a duration such as 15s, 1m30s",
        ),
        (
            &job("  honor_labels: 7\n"),
            ":3: honor_labels: \"7\" is not true or false",
        ),
        (
            &job("  relabel_configs:\n  - action: dance\n"),
            ":4: unknown relabel action \"dance\"",
        ),
        (
            &job("  relabel_configs:\n  - regex: '('\n    target_label: x\n"),
            ":4: regex: error parsing regexp: missing closing ): `",
        ),
        (
            &job("  relabel_configs:\n  - action: replace\n"),
            ":4: relabel configuration for replace action requires 'target_label' value",
        ),
        (
            &job("  relabel_configs:\n  - {action: hashmod, target_label: x}\n"),
            "hashmod requires non-zero modulus",
        ),
        (
            &job("  relabel_configs:\n  - {action: labeldrop, regex: x, source_labels: [a]}\n"),
            "labeldrop action requires only 'regex', and no other fields",
        ),
        (
            &job("  relabel_configs:\n  - {action: keepequal, target_label: x, regex: a}\n"),
            "keepequal action requires only 'source_labels' and `target_label`",
        ),
        (
            &job("  relabel_configs:\n  - {action: lowercase, target_label: x, replacement: a}\n"),
            "'replacement' can not be set for lowercase action",
        ),
        (
            &job("  scrape_protocols: [Morse]\n"),
            ":3: unknown scrape protocol Morse, supported: PrometheusProto",
        ),
        (
            &job("  basic_auth: {username: a}\n  bearer_token: x\n"),
            "at most one of basic_auth & bearer_token must be configured",
        ),
        (
            &job("  dns_sd_configs: [{names: [x], type: A}]\n"),
            "a port is required in DNS-SD configs",
        ),
        (
            &job("  file_sd_configs: [{files: [x.txt]}]\n"),
            "path name \"x.txt\" is not valid",
        ),
        (&job("  kubernetes_sd_configs: [{}]\n"), "role missing"),
        (&job("  docker_sd_configs: [{}]\n"), "host missing"),
        (
            "alerting:\n  alertmanagers:\n  - api_version: v1\n",
            ":3: expected Alertmanager api version",
        ),
    ] {
        assert!(read(text).is_err(), "{text}");
        assert!(said(text).contains(want), "{text}: {}", said(text));
    }
    assert_eq!(
        read("scrape_configs:\n- metrics_path: /x\n  scheme: ftp\n")
            .unwrap_err()
            .len(),
        2
    );
}

#[test]
fn secrets_are_kept_and_not_shown() {
    let text = "scrape_configs:\n- job_name: a\n  basic_auth: {username: me, password: abc}\n";
    let (config, _) = read(text).unwrap();
    let Auth::Basic { password, .. } = &config.scrapes[0].client.auth else {
        panic!()
    };
    assert_eq!(password, &Secret::Text("abc".to_owned()));
    assert!(!config.yaml.contains("abc") && !config.scrapes[0].yaml.contains("abc"));
    assert!(!format!("{config:?}").contains("abc"));
}

#[test]
fn jobs_may_stand_in_other_files() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("one.yml"),
        "scrape_configs:\n- job_name: b\n  wrong: 1\n",
    )
    .unwrap();
    let path = dir.path().join("prometheus.yml");
    let (config, findings) = PrometheusConfig::read(&path, "scrape_config_files: ['*ne.yml']", &|_| None).unwrap();
    assert_eq!(config.scrapes[0].job_name, "b");
    assert_eq!(
        findings[0].to_string(),
        format!(
            "{}:3: unknown key \"wrong\" in a scrape config is ignored",
            dir.path().join("one.yml").display()
        )
    );
}

#[test]
fn lists_of_targets_are_right_or_refused() {
    let groups = parse_target_groups("- targets: ['a:1', b]\n  labels: {x: y}\n").unwrap();
    assert_eq!(groups[0].labels, [("x".to_owned(), "y".to_owned())]);
    assert_eq!(parse_target_groups("[]").unwrap(), []);
    for bad in ["5", "[{targets: 5}]", "[{targetz: []}]", "[", "[{labels: [1]}]"] {
        assert!(parse_target_groups(bad).is_err(), "{bad}");
    }
}

/// Rules over labels: what is left, or `None`.
fn after(rules: &str, labels: &[(&str, &str)]) -> Option<String> {
    let text = format!("scrape_configs: [{{job_name: x, relabel_configs: [{rules}]}}]");
    let rules = read(&text)
        .unwrap_or_else(|e| panic!("{e:?}"))
        .0
        .scrapes
        .remove(0)
        .relabel;
    let mut builder = LabelsBuilder::default();
    for (name, value) in labels {
        builder.set(*name, *value);
    }
    relabel(&rules, &mut builder).then(|| builder.build().to_string())
}

#[test]
fn what_the_corpus_does_not_show_of_relabelling() {
    let ab = [("a", "foo"), ("b", "bar")];
    for (rules, want) in [
        (
            "{source_labels: [a, b], regex: 'f(.)o;(?P<rest>.*)', target_label: t, replacement: '$rest-${1}$$'}",
            Some(r#"{a="foo", b="bar", t="bar-o$"}"#),
        ),
        (
            "{action: drop, source_labels: [a, b], separator: '', regex: foobar}",
            None,
        ),
        ("{action: keepequal, source_labels: [a], target_label: b}", None),
        (
            "{action: dropequal, source_labels: [a], target_label: b}",
            Some(r#"{a="foo", b="bar"}"#),
        ),
        (
            "{action: labelmap, regex: '(a|b)', replacement: 'x_$1'}",
            Some(r#"{a="foo", b="bar", x_a="foo", x_b="bar"}"#),
        ),
        ("{action: labeldrop, regex: 'a|x'}", Some(r#"{b="bar"}"#)),
        (
            "{action: uppercase, source_labels: [a], target_label: t}",
            Some(r#"{a="foo", b="bar", t="FOO"}"#),
        ),
        (
            "{source_labels: [a], regex: '', target_label: t, replacement: x}",
            Some(r#"{a="foo", b="bar"}"#),
        ),
        (
            "{target_label: t, replacement: x}",
            Some(r#"{a="foo", b="bar", t="x"}"#),
        ),
        (
            "{source_labels: [a], target_label: '${1}é$', replacement: x}",
            Some(r#"{a="foo", b="bar", fooé$="x"}"#),
        ),
        (
            "{source_labels: [a], target_label: t, replacement: '$'}",
            Some(r#"{a="foo", b="bar", t="$"}"#),
        ),
        (
            "{action: HashMod, source_labels: [c], modulus: 1000, target_label: t}",
            Some(r#"{a="foo", b="bar", t="958"}"#),
        ),
    ] {
        assert_eq!(after(rules, &ab).as_deref(), want, "{rules}");
    }
}

proptest! {
    /// A file may hold anything; a reader that panics would not start, or would stop at a reload.
    #[test]
    fn any_configuration_is_read_or_refused(
        keys in proptest::collection::vec(("(global|scrape_configs|job_name|relabel_configs|static_configs|targets|labels|regex|action|alerting|tls_config|params)", "[-a-z0-9:{}\\[\\], '\"&*$(]{0,20}", 0usize..6), 0..12),
    ) {
        let text: String = keys.iter().map(|(k, v, pad)| format!("{}{k}: {v}\n", " ".repeat(*pad))).collect();
        let _ = read(&text);
        let _ = parse_target_groups(&text);
    }
}
