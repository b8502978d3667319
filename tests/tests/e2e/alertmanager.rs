//! Alerts to a real Alertmanager and on to whoever it notifies. Needs Debian's `prometheus-alertmanager`; says so where it is
//! missing.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use trilobite_tests::{Trilobite, get, until};

use crate::rules::{LOGS, METRICS, held, log, put, state, wait};

/// Ended when dropped.
struct Alertmanager {
    process: Child,
    addr: SocketAddr,
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Alertmanager {
    /// `None`, said aloud, where there is no such program.
    fn program() -> Option<&'static str> {
        let found = ["prometheus-alertmanager", "alertmanager"].into_iter().find(|name| {
            let output = Command::new(name).arg("--version").output();
            output.is_ok_and(|o| o.status.success())
        });
        if found.is_none() {
            println!("NOT RUN: no Alertmanager is installed");
        }
        found
    }

    /// Notifies `receiver` of all that fires and resolves, at once.
    fn start(program: &str, dir: &Path, addr: SocketAddr, receiver: SocketAddr) -> Alertmanager {
        let config = format!(
            "route: {{receiver: test, group_by: [alertname], group_wait: 0s, group_interval: 1s, repeat_interval: 1h}}\n\
             receivers: [{{name: test, webhook_configs: [{{url: 'http://{receiver}/', send_resolved: true}}]}}]\n"
        );
        let file = dir.join("alertmanager.yml");
        std::fs::write(&file, config).unwrap();
        let process = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", dir.join("alertmanager").display()))
            .arg(format!("--web.listen-address={addr}"))
            .arg("--web.route-prefix=/am")
            .arg(format!("--web.external-url=http://{addr}/am"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alertmanager = Alertmanager { process, addr };
        until("the Alertmanager", || {
            get(addr, "/am/-/ready").ok().filter(|answer| answer.status == 200)
        });
        alertmanager
    }

    /// The alerts it holds for active.
    fn active(&self) -> Vec<Value> {
        let answer = get(self.addr, "/am/api/v2/alerts").unwrap().json();
        answer.as_array().cloned().unwrap_or_default()
    }
}

/// Where an Alertmanager sends its notifications.
struct Receiver {
    addr: SocketAddr,
    notified: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Receiver {
            addr: listener.local_addr().unwrap(),
            notified: Arc::default(),
        };
        let notified = receiver.notified.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let mut bytes = Vec::new();
                let mut buffer = [0; 4096];
                // Until the JSON is whole.
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    bytes.extend_from_slice(&buffer[..n]);
                    let text = String::from_utf8_lossy(&bytes);
                    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                    if let Ok(body) = serde_json::from_str::<Value>(body) {
                        let alerts = body["alerts"].as_array().cloned().unwrap_or_default();
                        notified.lock().unwrap().extend(alerts);
                        break;
                    }
                }
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        receiver
    }

    /// What it was told of an alert last.
    fn last(&self, alert: &str) -> Option<Value> {
        let notified = self.notified.lock().unwrap();
        let found = notified.iter().rev().find(|a| a["labels"]["alertname"] == alert);
        found.cloned()
    }

    fn status(&self, alert: &str) -> Option<String> {
        Some(self.last(alert)?["status"].as_str()?.to_owned())
    }
}

/// A sample of its own metrics.
fn own(server: &Trilobite, name: &str) -> f64 {
    let metrics = get(server.prometheus(), "/metrics").unwrap().text();
    let line = metrics.lines().find(|line| line.starts_with(name));
    let value = line.and_then(|line| line.rsplit_once(' '));
    value.map_or(f64::NAN, |(_, value)| value.parse().unwrap())
}

#[test]
fn alerts_on_metrics_and_logs_reach_an_alertmanager_through_crash_and_outage() {
    let Some(program) = Alertmanager::program() else { return };
    let dir = tempfile::tempdir().unwrap();
    let receiver = Receiver::start();
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);

    let rules = dir.path().join("rules");
    std::fs::create_dir_all(&rules).unwrap();
    std::fs::write(rules.join("m.yml"), METRICS).unwrap();
    std::fs::write(rules.join("l.logql.yml"), LOGS).unwrap();
    let config = dir.path().join("prometheus.yml");
    let alerting = format!(
        "global: {{external_labels: {{cluster: lab}}}}\n\
         alerting:\n  \
           alert_relabel_configs: [{{regex: i, action: labeldrop}}]\n  \
           alertmanagers: [{{path_prefix: /am, timeout: 5s, static_configs: [{{targets: ['{addr}']}}]}}]\n"
    );
    std::fs::write(&config, alerting).unwrap();
    let args = [
        "--prometheus-config",
        &config.display().to_string(),
        "--rules-dir",
        &rules.display().to_string(),
        "--rules-for-grace-period",
        "0s",
    ];
    let mut server = Trilobite::start(&dir.path().join("data"), &args).unwrap();
    let want = serde_json::json!({
        "activeAlertmanagers": [{"url": format!("http://{addr}/am/api/v2/alerts")}],
        "droppedAlertmanagers": [],
    });
    wait("the Alertmanager among those that are told", &server, || {
        let urls = get(server.prometheus(), "/api/v1/alertmanagers").ok()?.json();
        (urls["data"] == want).then_some(())
    });

    // Both wait, and go on waiting after a crash.
    let alerts = ["HighMetric", "LogErrors"];
    put(&server, 1.0);
    for alert in alerts {
        wait("some time held", &server, || {
            log(&server);
            held(&server, alert).filter(|held| *held >= 4.0)
        });
        assert_eq!(state(&server, alert).as_deref(), Some("pending"));
    }
    server.kill().unwrap();
    server.restart().unwrap();
    let went_on = |alert: &str| held(&server, alert).filter(|held| *held >= 4.0);
    for alert in alerts {
        wait("the alert's state", &server, || {
            log(&server);
            went_on(alert)
        });
    }

    // They fire while nobody listens, and are told when somebody does.
    for alert in alerts {
        wait("a firing alert", &server, || {
            log(&server);
            (state(&server, alert)? == "firing").then_some(())
        });
    }
    wait("a try to tell", &server, || {
        log(&server);
        (own(&server, "prometheus_notifications_errors_total") > 0.0).then_some(())
    });
    let alertmanager = Alertmanager::start(program, dir.path(), addr, receiver.addr);
    for alert in alerts {
        wait("a notification", &server, || {
            log(&server);
            (receiver.status(alert)? == "firing").then_some(())
        });
    }
    assert_eq!(alertmanager.active().len(), 2);
    let told = receiver.last("HighMetric").unwrap();
    assert_eq!(
        told["labels"],
        serde_json::json!({"alertname": "HighMetric", "cluster": "lab", "kind": "recorded", "severity": "page"})
    );
    assert_eq!(told["annotations"], serde_json::json!({"summary": "one is at 2"}));
    let link = told["generatorURL"].as_str().unwrap();
    assert!(link.ends_with("/graph?g0.expr=m%3Atwice+%3E+1&g0.tab=1"), "{link}");
    assert_eq!(
        receiver.last("LogErrors").unwrap()["labels"],
        serde_json::json!({"alertname": "LogErrors", "app": "rules", "cluster": "lab"})
    );

    // And that it is over, too.
    put(&server, 0.0);
    for alert in alerts {
        wait("the end of an alert", &server, || {
            (receiver.status(alert)? == "resolved").then_some(())
        });
    }
    assert!(own(&server, "prometheus_notifications_sent_total") >= 4.0);
    assert_eq!(own(&server, "prometheus_notifications_dropped_total"), 0.0);
    assert!(server.stop().unwrap().success());
}
