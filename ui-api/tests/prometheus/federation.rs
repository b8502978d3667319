//! `/federate`, as another Prometheus scrapes it.

use super::lab::{Lab, NOW, ask, get};
use axum::body::Body;
use http::{Request, StatusCode};
use model::{LabelSet, SampleBatch, stale_nan};

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_samples_are_exposed() {
    let lab = Lab::with(|about| {
        about.external_labels = std::sync::Arc::new(LabelSet::from_pairs([("zone", "eu"), ("job", "x")]).into())
    });
    lab.fill().await;
    let mut batch = SampleBatch::default();
    let ended = batch.series(&mut vec![("__name__", "http_ended_total"), ("job", "shop")]);
    batch.sample(ended, super::lab::ms(NOW - 30), 1.0);
    batch.sample(ended, super::lab::ms(NOW - 15), stale_nan());
    let old = batch.series(&mut vec![("__name__", "http_old_total"), ("job", "shop")]);
    batch.sample(old, super::lab::ms(NOW - 400), 1.0);
    let large = batch.series(&mut vec![("__name__", "http_large"), ("job", "shop")]);
    batch.sample(large, super::lab::ms(NOW - 10), 19_718_112.0);
    lab.storage.append_samples(&batch).await.unwrap();
    let query = [
        ("match[]", r#"{__name__=~"http.*"}"#),
        ("match[]", r#"{"room.temperature"}"#),
    ];
    let answer = get(&lab.prometheus, "/federate", &query).await;
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    let at = |ago: i64| (NOW - ago) * 1000;
    let expected = format!(
        "# TYPE http_large untyped\n\
         http_large{{job=\"shop\",zone=\"eu\",instance=\"\"}} 1.9718112e+07 {}\n\
         # TYPE http_requests_total untyped\n\
         http_requests_total{{instance=\"a:80\",job=\"shop\",zone=\"eu\"}} 600 {now}\n\
         http_requests_total{{instance=\"b:80\",job=\"shop\",zone=\"eu\"}} 1200 {now}\n\
         # TYPE room_temperature untyped\n\
         room_temperature{{job=\"lab\",zone=\"eu\",instance=\"\"}} 21.5 {}\n",
        at(10),
        at(30),
        now = at(0),
    );
    assert_eq!(answer.text(), expected);
    for nothing in [&[][..], &[("match[]", "{ }")]] {
        let none = get(&lab.prometheus, "/federate", nothing).await;
        assert_eq!((none.status, none.text()), (StatusCode::OK, ""));
    }
    let wrong = get(&lab.prometheus, "/federate", &[("match[]", "up[")]).await;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST);
    assert!(wrong.text().starts_with("1:3: parse error: "), "{}", wrong.text());
    assert!(wrong.header("content-type").starts_with("text/plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scraper_may_ask_for_protobuf() {
    let lab = Lab::filled().await;
    let accept = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,*/*;q=0.1";
    let request = Request::get("/federate?match[]=http_requests_total{instance=%22a:80%22}").header("accept", accept);
    let answer = ask(&lab.prometheus, request.body(Body::empty()).unwrap()).await;
    assert!(
        answer
            .header("content-type")
            .starts_with("application/vnd.google.protobuf")
    );
    let label = |name: &str, value: &str| {
        let mut pair = vec![0x0a, name.len() as u8];
        pair.extend(name.bytes());
        pair.extend([0x12, value.len() as u8]);
        pair.extend(value.bytes());
        let mut field = vec![0x0a, pair.len() as u8];
        field.extend(pair);
        field
    };
    let mut metric = [label("instance", "a:80"), label("job", "shop")].concat();
    metric.extend([0x2a, 9, 9]);
    metric.extend(600f64.to_le_bytes());
    metric.push(0x30);
    let mut t = (NOW * 1000) as u64;
    while t >= 0x80 {
        metric.push(t as u8 | 0x80);
        t >>= 7;
    }
    metric.push(t as u8);
    let mut family = vec![0x0a, 19];
    family.extend(b"http_requests_total");
    family.extend([0x18, 3, 0x22, metric.len() as u8]);
    family.extend(metric);
    let mut expected = vec![family.len() as u8];
    expected.extend(family);
    assert_eq!(answer.body, expected);
}
