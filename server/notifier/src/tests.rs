//! Alerts to an Alertmanager that is made up, over real sockets.

use std::path::Path;
use std::sync::atomic::AtomicU16;

use axum::Router;
use axum::extract::State as Shown;
use axum::http::StatusCode;
use axum::routing::post;
use serde_json::Value;
use tokio::net::TcpListener;

use super::*;

/// Answers as it is told, and keeps what it was posted.
#[derive(Clone)]
struct Alertmanager {
    status: Arc<AtomicU16>,
    posted: Arc<Mutex<Vec<Value>>>,
    tries: Arc<AtomicU64>,
    address: String,
}

impl Alertmanager {
    async fn start() -> Alertmanager {
        Alertmanager::on(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn on(listener: TcpListener) -> Alertmanager {
        let alertmanager = Alertmanager {
            status: Arc::new(AtomicU16::new(200)),
            posted: Arc::default(),
            tries: Arc::default(),
            address: listener.local_addr().unwrap().to_string(),
        };
        let take = |Shown(it): Shown<Alertmanager>, body: String| async move {
            it.tries.fetch_add(1, Ordering::SeqCst);
            let status = it.status.load(Ordering::SeqCst);
            if status == 200 {
                let batch: Value = serde_json::from_str(&body).unwrap();
                lock(&it.posted).extend(batch.as_array().unwrap().iter().cloned());
            }
            StatusCode::from_u16(status).unwrap()
        };
        let router = Router::new().route("/am/api/v2/alerts", post(take));
        let router = router.with_state(alertmanager.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        alertmanager
    }

    /// The alerts it took, as `NAME` or `NAME resolved`, with the external label.
    fn took(&self) -> Vec<String> {
        let posted = lock(&self.posted);
        let alerts = posted.iter().map(|alert| {
            let resolved = match alert["endsAt"].as_str() {
                Some("1970-01-01T00:00:01.000Z") => " resolved",
                _ => "",
            };
            let text = |name: &str| alert["labels"][name].as_str().unwrap_or("-").to_owned();
            format!("{} {}{resolved}", text("alertname"), text("cluster"))
        });
        alerts.collect()
    }
}

fn config(alerting: &str) -> PrometheusConfig {
    let text = format!("global: {{external_labels: {{cluster: lab}}}}\nalerting: {alerting}");
    PrometheusConfig::read(Path::new("p.yml"), &text, &|_| None).unwrap().0
}

fn entry(target: &str) -> String {
    format!("{{path_prefix: /am, static_configs: [{{targets: ['{target}']}}]}}")
}

fn notifier(alerting: &str) -> Notifier {
    let notifier = Notifier::new("Trilobite/test".to_owned(), ProxyEnvironment::default());
    notifier.apply(&config(alerting));
    notifier
}

fn alert(name: &str, is_resolved: bool) -> OutgoingAlert {
    OutgoingAlert {
        labels: vec![("alertname".to_owned(), name.to_owned())],
        annotations: Vec::new(),
        starts_at_ms: 0,
        ends_at_ms: if is_resolved { 1_000 } else { 240_000 },
        generator_url: String::new(),
    }
}

/// Waits until something holds; a test that waits in vain is ended by whoever runs it.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn all_alertmanagers_are_told_with_external_labels() {
    let (a, b) = (Alertmanager::start().await, Alertmanager::start().await);
    let drop = "{source_labels: [alertname], regex: Quiet, action: drop}";
    let only_b = format!(
        "{{path_prefix: /am, static_configs: [{{targets: ['{}']}}], alert_relabel_configs: [{{target_label: cluster, replacement: b}}]}}",
        b.address
    );
    let alerting = format!(
        "{{alert_relabel_configs: [{drop}], alertmanagers: [{}, {only_b}]}}",
        entry(&a.address)
    );
    let notifier = notifier(&alerting);
    let own = OutgoingAlert {
        labels: vec![
            ("alertname".to_owned(), "Own".to_owned()),
            ("cluster".to_owned(), "own".to_owned()),
        ],
        ..alert("", false)
    };
    notifier.notify(vec![alert("Down", false), alert("Quiet", false), own]);
    until(|| a.took().len() == 2 && b.took().len() == 2).await;
    assert_eq!(a.took(), ["Down lab", "Own own"]);
    assert_eq!(b.took(), ["Down b", "Own b"]);
    let (active, dropped) = notifier.alertmanagers();
    assert_eq!(active[0], format!("http://{}/am/api/v2/alerts", a.address));
    assert_eq!((active.len(), dropped.len()), (2, 0));
    until(|| notifier.stats().iter().all(|s| s.sent == 2 && s.latency.count == 1)).await;
}

#[tokio::test]
async fn an_outage_loses_nothing() {
    // Nobody listens at first; then somebody does who cannot take alerts yet.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let notifier = notifier(&format!("{{alertmanagers: [{}]}}", entry(&address)));
    notifier.notify(vec![alert("A", false), alert("B", false)]);
    until(|| notifier.stats()[0].errors > 0).await;
    notifier.notify(vec![alert("A", true)]);
    let alertmanager = Alertmanager::on(TcpListener::bind(&address).await.unwrap());
    alertmanager.status.store(503, Ordering::SeqCst);
    until(|| alertmanager.tries.load(Ordering::SeqCst) > 0).await;
    alertmanager.status.store(200, Ordering::SeqCst);
    until(|| alertmanager.took().len() == 2).await;
    assert_eq!(alertmanager.took(), ["A lab resolved", "B lab"]);
    until(|| notifier.stats()[0].sent == 2).await;
    assert_eq!(notifier.stats()[0].dropped, 0);
}

#[tokio::test]
async fn what_is_refused_is_dropped_and_counted() {
    let alertmanager = Alertmanager::start().await;
    alertmanager.status.store(400, Ordering::SeqCst);
    let notifier = notifier(&format!("{{alertmanagers: [{}]}}", entry(&alertmanager.address)));
    notifier.notify(vec![alert("A", false)]);
    until(|| notifier.stats()[0].dropped == 1).await;
    assert_eq!((notifier.stats()[0].sent, notifier.stats()[0].queued), (0, 0));
}

#[tokio::test]
async fn a_new_configuration_keeps_what_waits() {
    let alertmanager = Alertmanager::start().await;
    alertmanager.status.store(500, Ordering::SeqCst);
    let notifier = notifier(&format!("{{alertmanagers: [{}]}}", entry(&alertmanager.address)));
    notifier.notify(vec![alert("A", false)]);
    until(|| alertmanager.tries.load(Ordering::SeqCst) > 0).await;
    alertmanager.status.store(200, Ordering::SeqCst);
    let changed = format!(
        "{{alertmanagers: [{{timeout: 3s, path_prefix: /am, static_configs: [{{targets: ['{}']}}]}}]}}",
        alertmanager.address
    );
    notifier.apply(&config(&changed));
    until(|| alertmanager.took() == ["A lab"]).await;
    notifier.apply(&config("{}"));
    assert_eq!(notifier.alertmanagers(), (Vec::new(), Vec::new()));
}

#[tokio::test]
async fn alerts_wait_for_discovery_and_are_sent_before_the_end() {
    let alertmanager = Alertmanager::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("am.json");
    let alerting = format!(
        "{{alertmanagers: [{{path_prefix: /am, file_sd_configs: [{{files: ['{}']}}]}}]}}",
        file.display()
    );
    let notifier = notifier(&alerting);
    notifier.notify(vec![alert("A", false)]);
    // Nor does another configuration lose it.
    notifier.apply(&config(
        &alerting.replace("path_prefix: /am", "path_prefix: /am, timeout: 3s"),
    ));
    std::fs::write(&file, format!("[{{\"targets\": [\"{}\"]}}]", alertmanager.address)).unwrap();
    until(|| alertmanager.took() == ["A lab"]).await;
    notifier.notify((0..1_000).map(|i| alert(&format!("N{i}"), false)).collect());
    notifier.stop(Duration::from_secs(60)).await;
    assert_eq!(alertmanager.took().len(), 1_001);
    // After the end nothing is taken.
    notifier.notify(vec![alert("B", false)]);
    assert_eq!(notifier.alertmanagers().0.len(), 0);
}
