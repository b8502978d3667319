//! Jobs against servers on loopback, over a shelf.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use parking_lot::Mutex;
use prometheus_config::PrometheusConfig;
use tokio::net::TcpListener;

use super::*;
use crate::shelf::Shelf;

/// What a target answers next: status, content type, body.
type Answer = Arc<Mutex<(u16, &'static str, String)>>;

const TEXT: &str = "text/plain; version=0.0.4";

/// A target; gives its address and what it answers.
async fn target(body: &str) -> (String, Answer) {
    let answer: Answer = Arc::new(Mutex::new((200, TEXT, body.to_owned())));
    let shown = answer.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let respond = move || async move {
        let (status, content_type, body) = shown.lock().clone();
        (
            axum::http::StatusCode::from_u16(status).unwrap(),
            [("content-type", content_type)],
            body,
        )
    };
    tokio::spawn(async move { axum::serve(listener, Router::new().route("/metrics", get(respond))).await });
    (addr, answer)
}

fn config(text: &str) -> PrometheusConfig {
    let read = PrometheusConfig::read(Path::new("p.yml"), text, &|_| None);
    read.unwrap_or_else(|e| panic!("{e:?}")).0
}

fn scrapes(shelf: &Arc<Shelf>) -> Scrapes {
    Scrapes::over(shelf.clone(), ScrapeOptions::default(), Resolver::default())
}

/// A shelf whose clock does not stand still.
fn shelf() -> Arc<Shelf> {
    Arc::new(Shelf::ticking())
}

/// Waits until what is on the shelf passes.
async fn until(shelf: &Shelf, what: &str, passes: impl Fn(&[String]) -> bool) -> Vec<String> {
    for _ in 0..1000 {
        {
            let samples = shelf.samples.lock();
            if passes(&samples) {
                return samples.clone();
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: {:#?}", shelf.samples.lock());
}

/// Whether a sample is there, whatever its time.
fn has(samples: &[String], start: &str) -> bool {
    samples.iter().any(|s| s.starts_with(start))
}

fn job(addr: &str, more: &str) -> String {
    format!(
        "scrape_configs:\n- job_name: j\n  scrape_interval: 100ms\n  static_configs: [{{targets: ['{addr}'], labels: {{env: lab}}}}]\n{more}"
    )
}

#[tokio::test]
async fn a_target_is_scraped_and_its_series_end_when_they_vanish_or_it_fails() {
    let shelf = shelf();
    let scrapes = scrapes(&shelf);
    let (addr, answer) = target("# TYPE a counter\n# HELP a Help.\na{job=\"own\"} 1\nb 2\n").await;
    scrapes.apply(&config(&job(&addr, "")));
    let of = format!("env=\"lab\",instance=\"{addr}\",job=\"j\"");
    let a = format!("a{{env=\"lab\",exported_job=\"own\",instance=\"{addr}\",job=\"j\"}}");
    let got = until(&shelf, "scraped", |s| has(s, &format!("b{{{of}}} 2"))).await;
    for line in [
        format!("{a} 1"),
        format!("up{{{of}}} 1"),
        format!("scrape_samples_scraped{{{of}}} 2"),
        format!("scrape_samples_post_metric_relabeling{{{of}}} 2"),
        format!("scrape_series_added{{{of}}} 2"),
    ] {
        assert!(has(&got, &line), "{line} in {got:#?}");
    }
    assert_eq!(*shelf.metadata.lock(), ["a counter \"\" \"Help.\""]);
    let active = scrapes.active();
    assert_eq!((active.len(), active[0].last_error.as_str()), (1, ""));
    assert_eq!(active[0].url, format!("http://{addr}/metrics"));
    let families = scrapes.families("j", &active[0].labels, &active[0].url);
    assert_eq!(families[0].0, "a");

    answer.lock().2 = "a{job=\"own\"} 3\n".to_owned();
    let got = until(&shelf, "b ended", |s| has(s, &format!("b{{{of}}} stale"))).await;
    assert!(has(&got, &format!("scrape_series_added{{{of}}} 0")));
    assert!(!has(&got, &format!("{a} stale")));

    answer.lock().0 = 500;
    let got = until(&shelf, "down", |s| has(s, &format!("up{{{of}}} 0"))).await;
    assert!(has(&got, &format!("{a} stale")), "{got:#?}");
    assert_eq!(
        scrapes.active()[0].last_error,
        "server returned HTTP status 500 Internal Server Error"
    );

    *answer.lock() = (200, TEXT, "a 1\nbroken{\n".to_owned());
    for _ in 0..500 {
        if scrapes.active()[0].last_error.starts_with("line 2: ") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(scrapes.active()[0].last_error.starts_with("line 2: "));
    assert!(
        !has(&shelf.samples.lock(), &format!("a{{{of}}}")),
        "nothing of a broken answer is stored"
    );
    scrapes.stop();
}

/// What one scrape of a body comes to under a job's settings: the samples, the error.
async fn once(body: &str, content_type: &'static str, more: &str) -> (Vec<String>, String, Arc<Shelf>) {
    let shelf = shelf();
    let scrapes = scrapes(&shelf);
    let (addr, answer) = target(body).await;
    answer.lock().1 = content_type;
    scrapes.apply(&config(&job(&addr, more)));
    let got = until(&shelf, "scraped", |s| has(s, "up{")).await;
    let mut error = String::new();
    for _ in 0..200 {
        let active = scrapes.active();
        if active[0].last_scrape.is_some() {
            error.clone_from(&active[0].last_error);
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    scrapes.stop();
    let label = format!("env=\"lab\",instance=\"{addr}\",job=\"j\"");
    (got.iter().map(|s| s.replace(&label, "T")).collect(), error, shelf)
}

#[tokio::test]
async fn what_a_job_asks_for_is_done_to_its_samples() {
    let body = "a{x=\"1\",instance=\"theirs\"} 1\nb{x=\"2\"} 2 5000\na{x=\"1\",instance=\"theirs\"} 7\n";
    for (more, want, error) in [
        (
            "",
            &[
                "a{env=\"lab\",exported_instance=\"theirs\"",
                "up{T} 1",
                "scrape_samples_scraped{T} 3",
                "b{T,x=\"2\"} 2 @5000",
            ][..],
            "",
        ),
        (
            "  honor_labels: true\n",
            &["a{env=\"lab\",instance=\"theirs\",job=\"j\",x=\"1\"} 1"],
            "",
        ),
        (
            "  metric_relabel_configs: [{source_labels: [__name__], regex: a, action: drop}, {target_label: y, replacement: z}]\n",
            &[
                "b{T,x=\"2\",y=\"z\"} 2 @5000",
                "scrape_samples_scraped{T} 3",
                "scrape_samples_post_metric_relabeling{T} 1",
                "up{T} 1",
            ],
            "",
        ),
        (
            "  sample_limit: 2\n",
            &[
                "up{T} 0",
                "scrape_samples_scraped{T} 3",
                "scrape_samples_post_metric_relabeling{T} 3",
            ],
            "sample limit exceeded",
        ),
        (
            "  label_limit: 4\n",
            &["up{T} 0"],
            "label_limit exceeded (metric: a, number of labels: 6, limit: 4)",
        ),
        (
            "  label_value_length_limit: 3\n",
            &["up{T} 0"],
            "label_value_length_limit exceeded",
        ),
        (
            "  body_size_limit: 10B\n  extra_scrape_metrics: true\n",
            &[
                "up{T} 0",
                "scrape_body_size_bytes{T} -1",
                "scrape_timeout_seconds{T} 0.1",
            ],
            "body size limit exceeded",
        ),
        ("  target_limit: 1\n", &["up{T} 1"], ""),
        ("  fallback_scrape_protocol: OpenMetricsText1.0.0\n", &["up{T} 1"], ""),
        (
            "  metric_name_validation_scheme: legacy\n  metric_relabel_configs: [{target_label: x, replacement: y}]\n",
            &["up{T} 1"],
            "",
        ),
    ] {
        let (got, said, _) = once(body, TEXT, more).await;
        assert!(
            said.contains(error) && said.is_empty() == error.is_empty(),
            "{more}: {said}"
        );
        for line in want {
            assert!(has(&got, line), "{more}: {line} in {got:#?}");
        }
        if !error.is_empty() {
            assert!(!has(&got, "b{") && !has(&got, "a{"), "{more}: {got:#?}");
        }
    }
    for (content_type, error) in [
        (
            "text/html",
            "received unsupported Content-Type \"text/html\" and no fallback_scrape_protocol specified for target",
        ),
        (
            "",
            "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
        ),
    ] {
        assert_eq!(once(body, content_type, "").await.1, error);
        assert_eq!(
            once(body, content_type, "  fallback_scrape_protocol: PrometheusText0.0.4\n")
                .await
                .1,
            ""
        );
    }
}

#[tokio::test]
async fn exemplars_of_openmetrics_are_stored() {
    let body =
        "# TYPE h histogram\nh_bucket{le=\"1\"} 5 # {trace_id=\"abc\"} 0.5 17.5\nh_bucket{le=\"+Inf\"} 5\n# EOF\n";
    let (got, error, shelf) = once(body, "application/openmetrics-text; version=1.0.0", "").await;
    assert_eq!(error, "");
    assert!(
        got.iter()
            .any(|s| s.starts_with("h_bucket{") && s.contains("le=\"1.0\"")),
        "{got:#?}"
    );
    let exemplars = shelf.exemplars.lock();
    assert!(
        exemplars[0].contains("trace_id=\"abc\"") && exemplars[0].ends_with("0.5 @17500"),
        "{exemplars:?}"
    );
}

#[tokio::test]
async fn a_new_configuration_leaves_alone_what_it_does_not_change() {
    let shelf = shelf();
    let scrapes = scrapes(&shelf);
    let (addr, _answer) = target("a 1\n").await;
    let (other, _answer) = target("b 1\n").await;
    let two = |interval: &str| {
        format!(
            "{}- job_name: k\n  scrape_interval: {interval}\n  static_configs: [{{targets: ['{other}']}}]\n",
            job(&addr, "")
        )
    };
    scrapes.apply(&config(&two("100ms")));
    let b = format!("b{{instance=\"{other}\",job=\"k\"}}");
    until(&shelf, "both", |s| has(s, "a{") && has(s, &b)).await;
    let pools = |scrapes: &Scrapes| lock(&scrapes.0.pools).clone();
    let before = pools(&scrapes);
    scrapes.apply(&config(&two("200ms")));
    let after = pools(&scrapes);
    assert!(Arc::ptr_eq(&before[0], &after[0]) && !Arc::ptr_eq(&before[1], &after[1]));
    assert_eq!(scrapes.active()[1].interval, Duration::from_millis(200));
    shelf.samples.lock().clear();
    let got = until(&shelf, "k goes on", |s| has(s, &format!("{b} 1"))).await;
    assert!(!has(&got, &format!("{b} stale")));
    // A job that is gone ends its series, after two ticks.
    scrapes.apply(&config(&job(&addr, "")));
    let got = until(&shelf, "k ended", |s| has(s, &format!("{b} stale"))).await;
    let up = format!("up{{instance=\"{other}\",job=\"k\"}} stale");
    assert!(has(&got, &up), "{got:#?}");
    assert_eq!(scrapes.jobs().len(), 1);
    scrapes.stop();
}

#[tokio::test]
async fn rules_drop_targets_and_limits_refuse_all() {
    let shelf = shelf();
    let scrapes = scrapes(&shelf);
    let (addr, _answer) = target("a 1\n").await;
    let text = format!(
        "scrape_configs:\n- job_name: j\n  scrape_interval: 100ms\n  target_limit: 1\n  static_configs: [{{targets: ['{addr}', 'x:1', 'y:1']}}]\n  \
         relabel_configs: [{{source_labels: [__address__], regex: 'x.*', action: drop}}]\n"
    );
    scrapes.apply(&config(&text));
    until(&shelf, "refused", |s| {
        has(s, &format!("up{{instance=\"{addr}\",job=\"j\"}} 0"))
    })
    .await;
    assert_eq!(scrapes.active().len(), 2);
    let dropped = scrapes.dropped();
    assert_eq!((dropped[0].1.len(), dropped[0].2), (1, 1));
    let mut labels = LabelsBuilder::default();
    labels.set("__address__", "x:1");
    let steps = scrapes.relabel_steps("j", labels).unwrap();
    assert_eq!((steps.len(), steps[0].2), (1, false));
    assert!(scrapes.relabel_steps("none", LabelsBuilder::default()).is_none());
    for _ in 0..200 {
        if !scrapes.active()[0].last_error.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(
        scrapes.active()[0].last_error,
        "target_limit exceeded (number of targets: 2, limit: 1)"
    );
    scrapes.stop();
}

#[tokio::test]
async fn lists_in_files_are_followed() {
    let shelf = shelf();
    let scrapes = scrapes(&shelf);
    let (addr, _answer) = target("a 1\n").await;
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("t.json");
    let text = format!(
        "scrape_configs:\n- job_name: j\n  scrape_interval: 100ms\n  file_sd_configs: [{{files: ['{}']}}]\n",
        list.display()
    );
    scrapes.apply(&config(&text));
    assert_eq!(scrapes.active().len(), 0);
    std::fs::write(
        &list,
        format!("[{{\"targets\": [\"{addr}\"], \"labels\": {{\"x\": \"y\"}}}}]"),
    )
    .unwrap();
    until(&shelf, "found", |s| {
        has(s, &format!("a{{instance=\"{addr}\",job=\"j\",x=\"y\"}} 1"))
    })
    .await;
    let path = list.display().to_string();
    assert_eq!(scrapes.active()[0].discovered.get("__meta_filepath"), Some(&*path));
    scrapes.stop();
}
