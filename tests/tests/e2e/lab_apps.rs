//! The services of `deploy/lab/app`, run as processes that send to the server under test.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use trilobite_tests::{Answer, Trilobite, get, python, repository, until};

/// An address that nobody listens at. Whoever takes it before it is used makes the test fail, not lie.
pub fn free_addr() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A running service; killed when dropped.
pub struct App {
    child: Child,
    /// Where it serves.
    pub addr: SocketAddr,
}

impl App {
    /// Starts `service`; with a backend it asks that one.
    pub fn start(server: &Trilobite, service: &str, backend: Option<&App>) -> App {
        App::start_at(free_addr(), server, service, backend)
    }

    /// The same at an address chosen before.
    pub fn start_at(addr: SocketAddr, server: &Trilobite, service: &str, backend: Option<&App>) -> App {
        let backend = backend.map_or_else(String::new, |b| format!("http://{}", b.addr));
        let child = Command::new(python().unwrap())
            .arg(repository().join("deploy/lab/app/app.py"))
            .env("SERVICE", service)
            .env("BACKEND", backend)
            .env("HOST", "127.0.0.1")
            .env("PORT", addr.port().to_string())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{}", server.otlp_http()))
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            .env("OTEL_BLRP_SCHEDULE_DELAY", "100")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let app = App { child, addr };
        until(service, || get(addr, "/health").ok().filter(|a| a.status == 200));
        app
    }

    /// `GET`; the trace id of a request is in the header `x-trace-id`.
    pub fn get(&self, path: &str) -> Answer {
        get(self.addr, path).unwrap()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
