//! The real binary as a child process: started on free ports, killed or stopped, restarted on the same data.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The checkout's root.
pub fn repository() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The binary under test: `TRILOBITE_BIN`, or the one built beside the tests.
pub fn binary() -> Result<PathBuf> {
    if let Ok(path) = std::env::var("TRILOBITE_BIN") {
        return Ok(PathBuf::from(path));
    }
    let test = std::env::current_exe()?;
    let beside = test
        .ancestors()
        .nth(2)
        .context("no target directory")?
        .join("trilobite");
    anyhow::ensure!(beside.exists(), "{} is not built; run `make test`", beside.display());
    Ok(beside)
}

/// The Python that has the clients' packages: `TRILOBITE_TEST_PYTHON`, which `make test` sets.
pub fn python() -> Result<PathBuf> {
    std::env::var("TRILOBITE_TEST_PYTHON")
        .map(PathBuf::from)
        .context("TRILOBITE_TEST_PYTHON is not set; run `make test`")
}

/// A program of others that a test runs, by its name in `TRILOBITE_TEST_AGENTS`, where `make agents` puts them. Without it
/// the test says that it was not run.
pub fn agent(name: &str) -> Option<PathBuf> {
    let dir = std::env::var("TRILOBITE_TEST_AGENTS").map(PathBuf::from);
    let found = dir.map(|dir| dir.join(name)).ok().filter(|path| path.exists());
    if found.is_none() {
        eprintln!("NOT RUN: no {name} here; `make agents` says why");
    }
    found
}

/// A running Trilobite; killed when dropped.
pub struct Trilobite {
    child: Child,
    dir: PathBuf,
    args: Vec<String>,
    addrs: Vec<(String, SocketAddr)>,
    log: Arc<Mutex<String>>,
    /// From spawn until ready.
    pub ready_after: Duration,
}

impl Trilobite {
    /// Starts on free ports over `dir` with extra arguments, and waits until it is ready.
    pub fn start(dir: &Path, args: &[&str]) -> Result<Trilobite> {
        let args: Vec<String> = args.iter().map(|a| (*a).to_owned()).collect();
        let since = Instant::now();
        let mut command = Command::new(binary()?);
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(dir)
            .args(&args)
            .args(["--log-format", "json"]);
        for flag in ["prometheus", "loki", "tempo", "otlp-http", "otlp-grpc"] {
            command.arg(format!("--{flag}-addr")).arg("127.0.0.1:0");
        }
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().context("stderr")?;
        let log = Arc::new(Mutex::new(String::new()));
        let (sender, lines) = std::sync::mpsc::channel();
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Ok(mut log) = kept.lock() {
                    log.push_str(&line);
                    log.push('\n');
                }
                let _ = sender.send(line);
            }
        });
        let mut addrs: Vec<(String, SocketAddr)> = Vec::new();
        loop {
            let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) else {
                let _ = child.kill();
                let log = log.lock().map(|l| l.clone()).unwrap_or_default();
                bail!("trilobite did not get ready: {:?}\n{log}", child.wait());
            };
            let json: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
            if json["message"] == "listening"
                && let (Some(name), Some(addr)) = (json["listener"].as_str(), json["addr"].as_str())
            {
                addrs.push((name.to_owned(), addr.parse()?));
            }
            if json["message"] == "ready" {
                break;
            }
        }
        let ready_after = since.elapsed();
        Ok(Trilobite {
            child,
            dir: dir.to_owned(),
            args,
            addrs,
            log,
            ready_after,
        })
    }

    /// Where a listener is, by its name in the log (`zipkin`, `jaeger_udp`); the first of several.
    pub fn listener(&self, name: &str) -> SocketAddr {
        let found = self.addrs.iter().find(|(n, _)| n == name);
        found.map_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)), |(_, addr)| *addr)
    }

    /// Where the Prometheus API is.
    pub fn prometheus(&self) -> SocketAddr {
        self.listener("prometheus")
    }

    /// Where the Loki API is.
    pub fn loki(&self) -> SocketAddr {
        self.listener("loki")
    }

    /// Where the Tempo API is.
    pub fn tempo(&self) -> SocketAddr {
        self.listener("tempo")
    }

    /// Where OTLP/HTTP comes in.
    pub fn otlp_http(&self) -> SocketAddr {
        self.listener("otlp_http")
    }

    /// Where OTLP/gRPC comes in.
    pub fn otlp_grpc(&self) -> SocketAddr {
        self.listener("otlp_grpc")
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().map(|l| l.clone()).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        let sent = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        anyhow::ensure!(sent.success(), "kill -TERM failed");
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(15) {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("still running 15 s after SIGTERM\n{}", self.log())
    }

    /// Starts again on the same data with the same arguments. The ports are new.
    pub fn restart(&mut self) -> Result<()> {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        let fresh = Trilobite::start(&self.dir, &args)?;
        *self = fresh;
        Ok(())
    }
}

impl Drop for Trilobite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
