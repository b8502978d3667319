//! Listeners: which port answers what, and the loop that serves them all.
//!
//! Ports are bound before storage is opened, so that a busy port is an error at once and probes get an answer while the
//! WAL is replayed: until [`Listener::open`] hands in the router, everything but liveness is refused with 503 (gRPC:
//! UNAVAILABLE), which clients take as "try again".

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tower::ServiceExt;

use crate::lenient_uri::LenientUri;
use crate::settings::{Listen, Settings};

/// A request's headers must be complete this long after its first byte.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a stop waits for requests in flight. With what follows it stays within the ten seconds that containers are given.
const DRAIN: Duration = Duration::from_secs(5);

/// Which of our faces a listener shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Prometheus HTTP API, remote write, OTLP metrics.
    Prometheus,
    /// Loki HTTP API, push, tail, OTLP logs.
    Loki,
    /// Tempo HTTP API, and streaming over gRPC.
    Tempo,
    /// OTLP over HTTP.
    OtlpHttp,
    /// OTLP over gRPC.
    OtlpGrpc,
    /// Jaeger query API.
    Jaeger,
    /// Zipkin spans in.
    Zipkin,
    /// Jaeger spans in, over gRPC.
    JaegerGrpc,
    /// Jaeger spans in, Thrift over HTTP.
    JaegerThrift,
    /// Health checks of what expects a Jaeger.
    JaegerAdmin,
}

/// One row per port: the face, the name in logs and metrics, and what a person reads in the start-up summary.
pub const FACES: [(Face, &str, &str); 10] = [
    (Face::Prometheus, "prometheus", "Prometheus API, remote write"),
    (Face::Loki, "loki", "Loki API, push"),
    (Face::Tempo, "tempo", "Tempo API"),
    (Face::OtlpHttp, "otlp_http", "OTLP/HTTP in"),
    (Face::OtlpGrpc, "otlp_grpc", "OTLP/gRPC in"),
    (Face::Jaeger, "jaeger", "Jaeger API"),
    (Face::Zipkin, "zipkin", "Zipkin in"),
    (Face::JaegerGrpc, "jaeger_grpc", "Jaeger in, gRPC"),
    (Face::JaegerThrift, "jaeger_thrift", "Jaeger in, Thrift over HTTP"),
    (Face::JaegerAdmin, "jaeger_admin", "Jaeger health checks"),
];

impl Face {
    /// Whether it is off unless asked for.
    pub fn is_extra(self) -> bool {
        use Face::{Jaeger, JaegerAdmin, JaegerGrpc, JaegerThrift, Zipkin};
        matches!(self, Jaeger | JaegerAdmin | JaegerGrpc | JaegerThrift | Zipkin)
    }
}

/// The name of the UDP listeners in logs.
const JAEGER_UDP: &str = "jaeger_udp";

/// What the kernel shall hold of datagrams that are not read yet, bytes; it may grant less.
const UDP_BUFFER_BYTES: usize = 4 << 20;

/// A bound port.
pub struct Listener {
    /// What it shows.
    pub face: Face,
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Where it really listens.
    pub addr: SocketAddr,
    socket: TcpListener,
    gate: Arc<Gate>,
}

/// A port that cannot be bound; exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("--{flag} {asked}: {source}; is another process listening there? choose another address, or off")]
pub struct BindError {
    flag: String,
    asked: String,
    source: std::io::Error,
}

/// Requests and time by listener, since start.
#[derive(Debug, Default)]
pub struct HttpCounters {
    /// By status class: 1xx to 5xx.
    pub responses: [AtomicU64; 5],
    /// Microseconds spent until response heads were ready.
    pub micros: AtomicU64,
    /// Requests being answered.
    pub in_flight: AtomicU64,
}

struct Gate {
    face: Face,
    router: OnceLock<Router>,
    counters: HttpCounters,
}

/// Binds every listener that is not off.
pub async fn bind(settings: &Settings) -> Result<Vec<Listener>, BindError> {
    let mut out = Vec::new();
    for (face, name, _) in FACES {
        let Listen::At(asked) = address(settings, face) else {
            continue;
        };
        let flag = || format!("{}-addr", name.replace('_', "-"));
        let failed = |source| BindError {
            flag: flag(),
            asked: asked.clone(),
            source,
        };
        let bound = TcpListener::bind(asked).await;
        let socket = match bound {
            Err(e) if face == Face::JaegerAdmin && settings.jaeger_admin_is_auto => {
                tracing::warn!(addr = asked, error = %e, "no listener for Jaeger's health checks; set --jaeger-admin-addr");
                continue;
            }
            bound => bound.map_err(failed)?,
        };
        let addr = socket.local_addr().map_err(failed)?;
        tracing::info!(listener = name, %addr, "listening");
        let gate = Arc::new(Gate {
            face,
            router: OnceLock::new(),
            counters: HttpCounters::default(),
        });
        out.push(Listener {
            face,
            name,
            addr,
            socket,
            gate,
        });
    }
    Ok(out)
}

/// Binds the sockets that take Jaeger's datagrams.
pub async fn bind_udp(settings: &Settings) -> Result<Vec<UdpSocket>, BindError> {
    let mut out = Vec::new();
    for asked in &settings.jaeger_udp_addr {
        let failed = |source| BindError {
            flag: "jaeger-udp-addr".to_owned(),
            asked: asked.clone(),
            source,
        };
        let socket = UdpSocket::bind(asked).await.map_err(failed)?;
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(UDP_BUFFER_BYTES);
        let addr = socket.local_addr().map_err(failed)?;
        tracing::info!(listener = JAEGER_UDP, %addr, "listening");
        out.push(socket);
    }
    Ok(out)
}

/// The address asked for.
pub fn address(settings: &Settings, face: Face) -> &Listen {
    match face {
        Face::Prometheus => &settings.prometheus_addr,
        Face::Loki => &settings.loki_addr,
        Face::Tempo => &settings.tempo_addr,
        Face::OtlpHttp => &settings.otlp_http_addr,
        Face::OtlpGrpc => &settings.otlp_grpc_addr,
        Face::Jaeger => &settings.jaeger_addr,
        Face::Zipkin => &settings.zipkin_addr,
        Face::JaegerGrpc => &settings.jaeger_grpc_addr,
        Face::JaegerThrift => &settings.jaeger_thrift_addr,
        Face::JaegerAdmin => &settings.jaeger_admin_addr,
    }
}

/// What is left of a listener once its loop has taken the socket.
#[derive(Clone)]
pub struct Door {
    /// What it shows.
    pub face: Face,
    /// Its name in logs and metrics.
    pub name: &'static str,
    /// Where it listens.
    pub addr: SocketAddr,
    gate: Arc<Gate>,
}

impl Door {
    /// Lets requests through to `router`. Later calls change nothing.
    pub fn open(&self, router: Router) {
        let _ = self.gate.router.set(router);
    }

    /// Counters.
    pub fn counters(&self) -> &HttpCounters {
        &self.gate.counters
    }
}

impl Listener {
    /// The part that stays with the owner.
    pub fn door(&self) -> Door {
        Door {
            face: self.face,
            name: self.name,
            addr: self.addr,
            gate: self.gate.clone(),
        }
    }

    /// Serves until `stop` turns true, then finishes what is in flight (for at most some seconds).
    pub async fn serve(self, mut stop: watch::Receiver<bool>) {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .keep_alive(true);
        builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1024);
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                _ = stop.wait_for(|s| *s) => break,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    // Out of file descriptors, most likely; give connections a moment to end.
                    tracing::warn!(listener = self.name, error = %e, "accept failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let _ = stream.set_nodelay(true);
            let gate = self.gate.clone();
            let service = hyper::service::service_fn(move |request: Request<hyper::body::Incoming>| {
                let gate = gate.clone();
                async move { Ok::<_, Infallible>(gate.answer(request.map(Body::new)).await) }
            });
            let stream = TokioIo::new(LenientUri::new(stream));
            let connection = builder.serve_connection_with_upgrades(stream, service);
            let connection = graceful.watch(connection.into_owned());
            tokio::spawn(async move {
                if let Err(e) = connection.await {
                    tracing::debug!(error = %e, "connection ended");
                }
            });
        }
        drop(self.socket);
        if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
            tracing::warn!(listener = self.name, "requests in flight did not finish in time");
        }
    }
}

impl Gate {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let since = Instant::now();
        self.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        let _leave = Leave(&self.counters.in_flight);
        let response = match self.router.get() {
            Some(router) => match router.clone().oneshot(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None => starting(self.face, &request),
        };
        let class = (response.status().as_u16() / 100).clamp(1, 5) as usize - 1;
        self.counters.responses[class].fetch_add(1, Ordering::Relaxed);
        self.counters
            .micros
            .fetch_add(since.elapsed().as_micros() as u64, Ordering::Relaxed);
        response
    }
}

/// Counts a request out, also when the client hangs up before the answer.
struct Leave<'a>(&'a AtomicU64);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The answer while the WAL is being replayed.
fn starting(face: Face, request: &Request<Body>) -> Response<Body> {
    if request.uri().path() == "/-/healthy" {
        return Response::new(Body::from("Trilobite Server is Healthy.\n"));
    }
    if face == Face::Prometheus && request.uri().path() == "/api/v1/status/walreplay" {
        // Asked for to draw a bar; how far it is, is not known here.
        let nothing = r#"{"status":"success","data":{"min":0,"max":0,"current":0}}"#;
        let mut response = Response::new(Body::from(nothing));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        return response;
    }
    let grpc = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"));
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    if grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert("grpc-status", HeaderValue::from_static("14"));
        headers.insert("grpc-message", HeaderValue::from_static("starting"));
        return response;
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    if face == Face::Prometheus {
        headers.insert("x-prometheus-stopping", HeaderValue::from_static("false"));
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    *response.body_mut() = Body::from("Service Unavailable: the write-ahead log is being replayed.\n");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn until_replay_is_over_it_says_try_again() {
        let ask = |face, path: &str| starting(face, &Request::get(path).body(Body::empty()).unwrap_or_default());
        let early = ask(Face::Prometheus, "/api/v1/query");
        assert_eq!(early.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(early.headers()["x-prometheus-stopping"], "false");
        assert_eq!(early.headers()["retry-after"], "1");
        assert_eq!(ask(Face::Prometheus, "/-/healthy").status(), StatusCode::OK);
        let replay = ask(Face::Prometheus, "/api/v1/status/walreplay");
        assert_eq!(replay.headers()["content-type"], "application/json");
        assert_eq!(ask(Face::Loki, "/ready").status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
