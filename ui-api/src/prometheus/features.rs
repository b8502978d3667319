//! What this server can do, by category, for clients that ask before they use it.

use axum::extract::State;
use axum::response::Response;

use super::encode::{join, success};
use super::routes::Api;
use crate::number::push_json;

/// Categories and what they have; what is not listed is not there.
const FEATURES: &[(&str, &[&str])] = &[
    (
        "api",
        &[
            "exclude_alerts",
            "label_values_match",
            "query_stats",
            "query_warnings",
            "remote_write_receiver",
            "time_range_labels",
            "time_range_series",
            "otlp_write_receiver",
        ],
    ),
    ("prometheus", &["server_mode"]),
    (
        "promql",
        &[
            "anchored",
            "at_modifier",
            "bool",
            "by",
            "duration_expr",
            "fill",
            "fill_left",
            "fill_right",
            "group_left",
            "group_right",
            "ignoring",
            "negative_offset",
            "offset",
            "on",
            "per_query_lookback_delta",
            "smoothed",
            "subqueries",
            "without",
        ],
    ),
    ("promql_functions", &[]),
    (
        "promql_operators",
        &[
            "!=",
            "!~",
            "%",
            "*",
            "+",
            "-",
            "/",
            "<",
            "</",
            "<=",
            "==",
            "=~",
            ">",
            ">/",
            ">=",
            "@",
            "^",
            "and",
            "atan2",
            "avg",
            "bottomk",
            "count",
            "count_values",
            "group",
            "limit_ratio",
            "limitk",
            "max",
            "min",
            "or",
            "quantile",
            "stddev",
            "stdvar",
            "sum",
            "topk",
            "unless",
        ],
    ),
    ("rules", &["keep_firing_for", "query_offset"]),
    ("scrape", &[]),
    ("service_discovery_providers", &[]),
    ("templating_functions", &[]),
    ("otlp_receiver", &[]),
    ("tsdb", &["exemplar_storage", "native_histograms"]),
    ("ui", &[]),
];

pub(crate) async fn features(State(api): State<Api>) -> Response {
    let admin = api.about.admin_api;
    let functions = query_promql::function_names();
    let of_templates = query_rules::template_function_names();
    let mut data = String::from("{");
    join(&mut data, FEATURES.iter(), |out, (category, names)| {
        push_json(out, category);
        out.push_str(":{");
        let names = match *category {
            "promql_functions" => &functions,
            "templating_functions" => &of_templates,
            _ => *names,
        };
        join(out, names.iter(), |out, name| {
            push_json(out, name);
            out.push_str(":true");
        });
        if *category == "api" {
            out.push_str(&format!(",\"admin\":{admin}"));
        }
        out.push('}');
    });
    data.push('}');
    success(&data)
}
