//! Answers that a real Prometheus 3.14 scraped, and what it made of each: whether the scrape was good, how many samples it
//! counted, which series it stored. The answers are ours, written for this; where it is meant that we take more than
//! Prometheus does (`exposition/text.rs`), they are not among these.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use base64::Engine;
use prometheus_config::PrometheusConfig;
use serde::Deserialize;
use tokio::net::TcpListener;

use super::http::Resolver;
use super::{ScrapeOptions, Scrapes};
use crate::shelf::Shelf;

#[derive(Deserialize)]
struct Case {
    job: String,
    case: String,
    format: String,
    habits: String,
    body: String,
    up: f64,
    /// Of a scrape that failed it does not say how far it came.
    samples: Option<f64>,
    series: Vec<(String, BTreeMap<String, String>, String)>,
}

type Bodies = Arc<HashMap<String, (&'static str, Vec<u8>)>>;

fn content_type(format: &str) -> &'static str {
    match format {
        "text" => "text/plain; version=0.0.4",
        "openmetrics" => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        _ => "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
    }
}

/// `name{label="value",..} value`, as the shelf writes it, numbers in Rust's spelling.
fn line(name: &str, labels: impl Iterator<Item = (String, String)>, value: &str) -> String {
    let pairs: Vec<String> = labels.map(|(n, v)| format!("{n}={v:?}")).collect();
    let value = match value.parse::<f64>() {
        Ok(v) => v.to_string(),
        Err(_) => value.to_owned(),
    };
    format!("{name}{{{}}} {value}", pairs.join(","))
}

/// A line of the shelf as (job, case) and what remains without the target's labels and the time.
fn of_shelf(text: &str, own: &[String]) -> Option<((String, String), String)> {
    let (name, rest) = text.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    let (value, _) = value.rsplit_once(" @")?;
    let value = match value.strip_prefix("native ") {
        Some(told) => {
            let (_, told) = told.split_once("count ")?;
            let (count, told) = told.split_once(", sum ")?;
            let sum = told.split(',').next()?;
            format!("histogram count {count} sum {sum}")
        }
        None => value.to_owned(),
    };
    let mut of = (String::new(), String::new());
    let mut left = labels.to_owned();
    for label in own {
        let (name, _) = label.split_once('=')?;
        let mut starts = labels.match_indices(label.as_str()).map(|(at, _)| at);
        let start = starts.find(|at| *at == 0 || labels.as_bytes()[at - 1] == b',')?;
        // Labels are sorted, so each is followed by a comma unless it is the last.
        let end = labels[start + label.len()..].find('"')? + start + label.len();
        let value = &labels[start + label.len()..end];
        match name {
            "job" => value.clone_into(&mut of.0),
            "case" => value.clone_into(&mut of.1),
            _ => {}
        }
        let whole = format!("{label}{value}\"");
        left = format!(",{left},").replacen(&format!(",{whole},"), ",", 1);
        left = left.trim_matches(',').to_owned();
    }
    Some((of, format!("{name}{{{left}}} {value}")))
}

#[tokio::test]
async fn answers_come_to_what_prometheus_makes_of_them() {
    let recorded = include_str!("../../testdata/scrapes_of_prometheus_v1.json");
    let cases: Vec<Case> = serde_json::from_str(recorded).unwrap();
    assert!(cases.len() > 300, "{}", cases.len());
    let engine = base64::engine::general_purpose::STANDARD;
    let body = |c: &Case| (content_type(&c.format), engine.decode(&c.body).unwrap());
    let bodies: Bodies = Arc::new(
        cases
            .iter()
            .map(|c| (format!("/{}/{}", c.job, c.case), body(c)))
            .collect(),
    );
    let answer = |State(bodies): State<Bodies>, uri: axum::http::Uri| async move {
        let (content_type, body) = bodies.get(uri.path()).cloned().unwrap();
        ([("content-type", content_type)], body)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = Router::new().fallback(answer).with_state(bodies);
    tokio::spawn(async move { axum::serve(listener, router).await });

    let mut text = "scrape_configs:\n".to_owned();
    let mut jobs: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in &cases {
        jobs.entry(&case.job).or_default().push(case);
    }
    for (job, cases) in &jobs {
        text.push_str(&format!(
            "- job_name: {job}\n  scrape_interval: 30s\n  scrape_timeout: 30s\n"
        ));
        for word in cases[0].habits.split_whitespace() {
            let key = match word {
                "native" => "scrape_native_histograms",
                "classic" => "always_scrape_classic_histograms",
                _ => "convert_classic_histograms_to_nhcb",
            };
            text.push_str(&format!("  {key}: true\n"));
        }
        text.push_str("  static_configs:\n");
        for c in cases {
            text.push_str(&format!(
                "  - {{targets: ['{addr}'], labels: {{__metrics_path__: /{job}/{0}, __scrape_interval__: 400ms, __scrape_timeout__: 400ms, case: {0}}}}}\n",
                c.case
            ));
        }
    }
    let config = PrometheusConfig::read(Path::new("p.yml"), &text, &|_| None);
    let config = config.unwrap_or_else(|e| panic!("{e:?}")).0;
    let shelf = Arc::new(Shelf::ticking());
    let scrapes = Scrapes::over(shelf.clone(), ScrapeOptions::default(), Resolver::default());
    scrapes.apply(&config);
    for _ in 0..2000 {
        if scrapes.active().iter().all(|target| target.last_scrape.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    scrapes.stop();

    let own: Vec<String> = ["case", "instance", "job"].map(|name| format!("{name}=\"")).into();
    let mut found: HashMap<(String, String), Vec<String>> = HashMap::new();
    let (samples, histograms) = (shelf.samples.lock().clone(), shelf.histograms.lock().clone());
    for text in samples.iter().chain(&histograms) {
        let (of, line) = of_shelf(text, &own).unwrap_or_else(|| panic!("{text}"));
        let lines = found.entry(of).or_default();
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let mut wrong = Vec::new();
    for c in &cases {
        let mut got = found.remove(&(c.job.clone(), c.case.clone())).unwrap_or_default();
        // The first scrape is told; what later ones add is told elsewhere.
        got.retain(|l| {
            !l.starts_with("scrape_duration") && !l.starts_with("scrape_series") && !l.contains("post_metric")
        });
        let mut want: Vec<String> = (c.series.iter())
            .map(|(name, labels, v)| line(name, labels.clone().into_iter(), v))
            .collect();
        want.push(line("up", std::iter::empty(), &c.up.to_string()));
        match c.samples {
            Some(samples) => want.push(line("scrape_samples_scraped", std::iter::empty(), &samples.to_string())),
            None => got.retain(|l| !l.starts_with("scrape_samples_scraped")),
        }
        got.sort();
        want.sort();
        if got != want {
            let body = engine.decode(&c.body).unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            wrong.push(format!(
                "{} {}: {body:?}\n  got  {got:?}\n  want {want:?}",
                c.job, c.case
            ));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}:\n{}",
        wrong.len(),
        cases.len(),
        wrong.join("\n")
    );
}
