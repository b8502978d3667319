//! Prometheus' features that change results, which are off unless asked for.

use serde_json::json;

use crate::data;
use crate::lab::{Lab, get};

#[tokio::test(flavor = "multi_thread")]
async fn names_are_taken_off_late_where_that_is_on() {
    for (late, named) in [(false, json!(null)), (true, json!("http_requests_total"))] {
        let lab = Lab::with(|about| about.promql.delayed_name_removal = late);
        lab.fill().await;
        let text = r#"label_replace(count_over_time(http_requests_total{instance="a:80"}[1h]), "n", "$1", "__name__", "(.+)")"#;
        let answer = data(&get(&lab.prometheus, "/api/v1/query", &[("query", text)]).await);
        let metric = &answer["result"][0]["metric"];
        assert_eq!((&metric["n"], &metric["__name__"]), (&named, &json!(null)), "{metric}");
    }
}
