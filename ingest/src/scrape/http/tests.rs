//! The client against servers of our own.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request as Asked;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use prometheus_config::PrometheusConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn client(settings: &str) -> Client {
    let text = format!("scrape_configs: [{{job_name: j, {settings}}}]");
    let read = PrometheusConfig::read(Path::new("p.yml"), &text, &|_| None);
    let (config, _) = read.unwrap_or_else(|e| panic!("{e:?}"));
    let network = Network {
        agent: "Trilobite/t".to_owned(),
        ..Network::default()
    };
    Client::new(&config.scrapes[0].client, &network)
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{addr}")
}

async fn ask(client: &Client, url: &str, kept: &mut Kept) -> Result<String, String> {
    let ask = Ask {
        url,
        bytes_max: 1000,
        ..Ask::default()
    };
    let answered = client.ask(&ask, kept).await.map_err(|e| e.to_string())?;
    Ok(format!(
        "{} {}",
        answered.status.as_u16(),
        String::from_utf8_lossy(&answered.body)
    ))
}

/// A server that tells how it was asked.
fn mirror() -> Router {
    let tell = |request: Asked| async move {
        let header = |name: &str| {
            request
                .headers()
                .get(name)
                .map_or("", |v| v.to_str().unwrap_or(""))
                .to_owned()
        };
        format!(
            "{} auth={} x={} host={}",
            request.uri(),
            header("authorization"),
            header("x-key"),
            header("host")
        )
    };
    Router::new().fallback(tell)
}

#[tokio::test]
async fn who_asks_is_said_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "from-file\n").unwrap();
    let base = serve(mirror()).await;
    let host = base.trim_start_matches("http://");
    for (settings, want) in [
        (
            "basic_auth: {username: me, password: pw}".to_owned(),
            "auth=Basic bWU6cHc= x=",
        ),
        ("authorization: {credentials: tok}".to_owned(), "auth=Bearer tok x="),
        (
            format!("authorization: {{type: Key, credentials_file: '{}'}}", file.display()),
            "auth=Key from-file x=",
        ),
        ("http_headers: {X-Key: {values: [v]}}".to_owned(), "auth= x=v"),
    ] {
        let got = ask(&client(&settings), &format!("{base}/m?q=1"), &mut Kept::default())
            .await
            .unwrap();
        assert_eq!(got, format!("200 /m?q=1 {want} host={host}"), "{settings}");
    }
    let gone = format!("authorization: {{credentials_file: '{}/none'}}", dir.path().display());
    assert!(
        ask(&client(&gone), &base, &mut Kept::default())
            .await
            .unwrap_err()
            .contains("unable to read")
    );
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used() {
    static FETCHED: AtomicUsize = AtomicUsize::new(0);
    let token = |request: Asked| async move {
        FETCHED.fetch_add(1, Ordering::Relaxed);
        let auth = request.headers()["authorization"].to_str().unwrap().to_owned();
        let form = axum::body::to_bytes(request.into_body(), 1000).await.unwrap();
        assert_eq!(auth, "Basic aWQ6c2VjcmV0");
        assert_eq!(&form[..], b"grant_type=client_credentials&scope=a%20b&audience=x");
        (
            [("content-type", "application/json")],
            r#"{"access_token":"tok","token_type":"bearer","expires_in":3600}"#,
        )
    };
    let base = serve(mirror().route("/token", post(token))).await;
    let client = client(&format!(
        "oauth2: {{client_id: id, client_secret: secret, token_url: '{base}/token', scopes: [a, b], endpoint_params: {{audience: x}}}}"
    ));
    for _ in 0..2 {
        let got = ask(&client, &base, &mut Kept::default()).await.unwrap();
        assert!(got.contains("auth=Bearer tok "), "{got}");
    }
    assert_eq!(FETCHED.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn redirects_are_followed_or_not_and_bodies_are_bounded() {
    let to = |location: &'static str| {
        get(move || async move { (StatusCode::FOUND, [("location", location)], "").into_response() })
    };
    let router = Router::new()
        .route("/a", to("/b"))
        .route("/b", get(|| async { "here" }))
        .route("/round", to("/round"))
        .route("/large", get(|| async { "x".repeat(1001) }));
    let base = serve(router).await;
    let follows = client("follow_redirects: true");
    assert_eq!(
        ask(&follows, &format!("{base}/a"), &mut Kept::default()).await.unwrap(),
        "200 here"
    );
    assert_eq!(
        ask(
            &client("follow_redirects: false"),
            &format!("{base}/a"),
            &mut Kept::default()
        )
        .await
        .unwrap(),
        "302 "
    );
    let why = ask(&follows, &format!("{base}/round"), &mut Kept::default())
        .await
        .unwrap_err();
    assert!(why.ends_with("stopped after 10 redirects"), "{why}");
    let why = ask(&follows, &format!("{base}/large"), &mut Kept::default())
        .await
        .unwrap_err();
    assert_eq!(why, "body size limit exceeded");
}

#[tokio::test]
async fn a_packed_body_is_bounded_by_what_it_unpacks_to() {
    let packed = |len: usize| {
        use std::io::Write;
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        out.write_all(&vec![b'x'; len]).unwrap();
        let body = out.finish().unwrap();
        get(move || async move { ([("content-encoding", "gzip")], body) })
    };
    let base = serve(
        Router::new()
            .route("/small", packed(1000))
            .route("/bomb", packed(10 << 20)),
    )
    .await;
    let client = client("");
    assert_eq!(
        ask(&client, &format!("{base}/small"), &mut Kept::default())
            .await
            .unwrap()
            .len(),
        1004
    );
    let why = ask(&client, &format!("{base}/bomb"), &mut Kept::default())
        .await
        .unwrap_err();
    assert_eq!(why, "body size limit exceeded");
}

/// A server that closes each connection after its answer, without saying so.
#[tokio::test]
async fn a_connection_that_was_closed_is_dialled_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1000]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .await;
        }
    });
    let (client, mut kept) = (client(""), Kept::default());
    for _ in 0..3 {
        assert_eq!(
            ask(&client, &format!("http://{addr}/"), &mut kept).await.unwrap(),
            "200 ok"
        );
    }
}

#[tokio::test]
async fn a_proxy_is_told_the_whole_url_or_asked_to_connect() {
    let base = serve(mirror()).await;
    let proxied = client(&format!("proxy_url: '{base}'"));
    let got = ask(&proxied, "http://nowhere.example:81/m", &mut Kept::default())
        .await
        .unwrap();
    assert_eq!(got, "200 http://nowhere.example:81/m auth= x= host=nowhere.example:81");
    let except = client(&format!("proxy_url: 'http://127.0.0.1:1', no_proxy: '{}'", "127.0.0.1"));
    assert!(ask(&except, &base, &mut Kept::default()).await.is_ok());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 1000];
        let len = stream.read(&mut request).await.unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap();
        String::from_utf8_lossy(&request[..len]).into_owned()
    });
    let tunnelled = client(&format!(
        "proxy_url: 'http://{addr}', proxy_connect_header: {{X-A: [b]}}"
    ));
    let why = ask(&tunnelled, "https://far.example/", &mut Kept::default())
        .await
        .unwrap_err();
    assert!(why.ends_with("403 Forbidden"), "{why}");
    assert_eq!(
        asked.await.unwrap(),
        "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\nX-A: b\r\n\r\n"
    );
}
