//! The container image: packed from the static binary by `deploy/pack.sh`, run as a lab runs it. Needs buildah and podman,
//! and the binary that `make static` builds (`TRILOBITE_STATIC_BIN`); says so where one is missing.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use trilobite_tests::{get, post, repository};

/// Largest image, bytes.
const IMAGE_MAX: u64 = 60 << 20;

/// What the image listens on, by environment variable: TCP ports that a lab's stack has inside its network.
const LISTENERS: [(&str, u16); 10] = [
    ("PROMETHEUS", 9090),
    ("LOKI", 3100),
    ("TEMPO", 3200),
    ("OTLP_HTTP", 4318),
    ("OTLP_GRPC", 4317),
    ("ZIPKIN", 9411),
    ("JAEGER_GRPC", 14250),
    ("JAEGER_THRIFT", 14268),
    ("JAEGER_ADMIN", 14269),
    ("JAEGER", 16686),
];

/// Images and containers in a directory of their own; containers are removed when it is dropped.
struct Engine {
    dir: tempfile::TempDir,
    containers: Vec<String>,
}

impl Engine {
    /// The options that keep everything below `dir`, and that work where a machine has neither systemd nor overlays.
    fn store(&self) -> [String; 6] {
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        [
            "--root",
            &at("root"),
            "--runroot",
            &at("run"),
            "--storage-driver",
            "vfs",
        ]
        .map(str::to_owned)
    }

    fn podman(&self, args: &[&str]) -> Output {
        Command::new("podman")
            .args(self.store())
            .args(["--runtime", "runc", "--cgroup-manager", "cgroupfs"])
            .args(args)
            .output()
            .unwrap()
    }

    /// Its standard output; the command must succeed.
    fn told(&self, args: &[&str]) -> String {
        let output = self.podman(args);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "podman {args:?}: {err}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn pack(&self, binary: &Path) {
        let output = Command::new(repository().join("deploy/pack.sh"))
            .arg(binary)
            .arg("trilobite-under-test")
            .env("ENGINE", format!("buildah {}", self.store().join(" ")))
            .env("BUILDAH_ISOLATION", "chroot")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for name in &self.containers {
            self.podman(&["rm", "--force", "--time", "0", name]);
        }
        self.podman(&["volume", "rm", "--all", "--force"]);
    }
}

/// The static binary, if this machine can build and run containers; otherwise it is said why the test does nothing.
fn prerequisites() -> Option<PathBuf> {
    let skip = |why: &str| {
        println!("NOT RUN: {why}");
        None
    };
    for tool in ["buildah", "podman", "runc"] {
        if Command::new(tool).arg("--version").output().is_err() {
            return skip(&format!("{tool} is not installed"));
        }
    }
    if Command::new("id").arg("-u").output().is_ok_and(|o| o.stdout != b"0\n") {
        return skip("the engine's flags here are those of root");
    }
    match std::env::var("TRILOBITE_STATIC_BIN").map(PathBuf::from) {
        Ok(path) if path.exists() => Some(path),
        Ok(path) => panic!(
            "TRILOBITE_STATIC_BIN={}: no such file; run `make static`",
            path.display()
        ),
        Err(_) => skip("TRILOBITE_STATIC_BIN is not set; `make static` builds the binary and `make test` sets it"),
    }
}

/// Ports that nobody listens on at this moment.
fn free_ports() -> Vec<u16> {
    let held: Vec<TcpListener> = (0..LISTENERS.len())
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    held.iter().map(|l| l.local_addr().unwrap().port()).collect()
}

fn wait_until_ready(engine: &Engine, name: &str, addr: SocketAddr) {
    let since = Instant::now();
    while !get(addr, "/ready").is_ok_and(|a| a.status == 200) {
        if since.elapsed() > Duration::from_secs(30) {
            let output = engine.podman(&["logs", name]);
            panic!("not ready: {}", String::from_utf8_lossy(&output.stderr));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_image_is_small_runs_read_only_as_nobody_and_keeps_its_data() {
    let Some(binary) = prerequisites() else { return };
    let mut engine = Engine {
        dir: tempfile::tempdir().unwrap(),
        containers: Vec::new(),
    };
    engine.pack(&binary);
    check_what_the_image_says(&engine);

    let ports = free_ports();
    let addr = |name: &str| {
        let at = LISTENERS.iter().position(|(n, _)| *n == name).unwrap();
        SocketAddr::from(([127, 0, 0, 1], ports[at]))
    };
    // The machine's own network, as making another one needs rights that a build machine rarely has; hence other ports.
    let mut run: Vec<String> =
        "run --detach --name lab --network host --read-only --cap-drop ALL --ulimit nofile=4096:4096 \
                                --ulimit nproc=4096:4096 --volume lab-data:/data --env TRILOBITE_LOG_FORMAT=json \
                                --env TRILOBITE_JAEGER_UDP_ADDR=127.0.0.1:0"
            .split_whitespace()
            .map(str::to_owned)
            .collect();
    for ((name, _), port) in LISTENERS.iter().zip(&ports) {
        run.extend(["--env".to_owned(), format!("TRILOBITE_{name}_ADDR=0.0.0.0:{port}")]);
    }
    run.push("trilobite-under-test".to_owned());
    engine.containers.push("lab".to_owned());
    engine.told(&run.iter().map(String::as_str).collect::<Vec<_>>());
    wait_until_ready(&engine, "lab", addr("PROMETHEUS"));

    let log = String::from_utf8_lossy(&engine.podman(&["logs", "lab"]).stderr).into_owned();
    let ready: Value = log
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .find(|json: &Value| json["message"] == "ready")
        .unwrap();
    assert!(ready["ready_ms"].as_u64().unwrap() < 1000, "{ready}");
    for (name, _) in LISTENERS {
        TcpStream::connect(addr(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    engine.told(&["exec", "lab", "/trilobite", "healthcheck"]);
    // A static binary that resolves names: without a loader there are no plug-ins for that.
    let by_name = format!("TRILOBITE_PROMETHEUS_ADDR=localhost:{}", addr("PROMETHEUS").port());
    engine.told(&["exec", "--env", &by_name, "lab", "/trilobite", "healthcheck"]);
    assert!(
        !engine
            .podman(&[
                "exec",
                "lab",
                "/trilobite",
                "healthcheck",
                "--prometheus-addr",
                "127.0.0.1:1"
            ])
            .status
            .success()
    );

    let push = json!({"streams": [{"stream": {"service_name": "boxed"}, "values": [[now_ns().to_string(), "kept over a restart"]]}]});
    let pushed = post(
        addr("LOKI"),
        "/loki/api/v1/push",
        "application/json",
        push.to_string().as_bytes(),
    )
    .unwrap();
    assert_eq!(pushed.status, 204, "{}", pushed.text());
    engine.told(&["stop", "--time", "10", "lab"]);
    // 0 is a clean end; one that takes longer than the ten seconds is killed, which is 137.
    assert_eq!(engine.told(&["inspect", "--format", "{{.State.ExitCode}}", "lab"]), "0");
    engine.told(&["start", "lab"]);
    wait_until_ready(&engine, "lab", addr("PROMETHEUS"));
    let lines = get(addr("LOKI"), "/loki/api/v1/query_range?query={service_name=\"boxed\"}")
        .unwrap()
        .json();
    assert_eq!(
        lines["data"]["result"][0]["values"][0][1], "kept over a restart",
        "{lines}"
    );
}

fn check_what_the_image_says(engine: &Engine) {
    let told = engine.told(&["image", "inspect", "trilobite-under-test"]);
    let image: Value = serde_json::from_str(&told).unwrap();
    let (image, config) = (&image[0], &image[0]["Config"]);
    assert!(image["Size"].as_u64().unwrap() < IMAGE_MAX, "{}", image["Size"]);
    let user = config["User"].as_str().unwrap();
    let ids: Vec<u32> = user.split(':').map(|id| id.parse().unwrap()).collect();
    assert!(ids.len() == 2 && ids.iter().all(|id| *id > 0), "{user}");
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    for (_, port) in LISTENERS {
        assert!(
            config["ExposedPorts"][format!("{port}/tcp")].is_object(),
            "{port}: {config}"
        );
    }
    let env: Vec<&str> = config["Env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for (name, port) in LISTENERS {
        let wanted = format!("TRILOBITE_{name}_ADDR=0.0.0.0:{port}");
        assert!(env.contains(&wanted.as_str()), "{wanted}: {env:?}");
    }
    let health = image["Healthcheck"]["Test"]
        .as_array()
        .or(config["Healthcheck"]["Test"].as_array());
    assert_eq!(health.unwrap()[1..], [json!("/trilobite"), json!("healthcheck")]);
}

fn now_ns() -> u128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_nanos()
}
