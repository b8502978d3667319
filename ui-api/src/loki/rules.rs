//! The ruler's endpoints: groups as YAML, to be listed, made and deleted, and what rules over logs are doing, in the members
//! that Grafana's alerting pages read.
//!
//! Groups of rule files are listed beside those that were made here, with their file's name as namespace, and cannot be
//! changed from here. Grafana reads in the word "page not found" that there is no such API, so no answer has it.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use query_rules::{Dialect, Group, GroupError, Origin};
use yaml_tree::{Key, Node, Value};

use super::errors::ApiError;
use super::routes::Api;
use crate::form::Form;
use crate::number::push_json;
use crate::ruled::{Voice, Wanted, groups_of, namespace, push_alerts, push_group};

/// Largest group, bytes.
const GROUP_BYTES_MAX: usize = 1 << 20;

/// Lists of rules and alerts, and changes.
pub(crate) fn router() -> Router<Api> {
    let mut router = Router::new()
        .route("/prometheus/api/v1/rules", get(states))
        .route("/prometheus/api/v1/alerts", get(alerts));
    for base in ["/loki/api/v1/rules", "/api/prom/rules"] {
        router = router
            .route(base, get(list))
            .route(
                &format!("{base}/{{namespace}}"),
                get(list_namespace).merge(post(set).delete(delete_namespace)),
            )
            .route(
                &format!("{base}/{{namespace}}/{{group}}"),
                get(one).delete(delete_group),
            );
    }
    router
}

async fn states(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = Form::read(request).await?;
    let wanted = match Wanted::read(&form) {
        Ok(wanted) => wanted,
        Err(kind) => {
            let words = format!("not supported value {kind:?}");
            return Ok(prometheus(StatusCode::BAD_REQUEST, "null", "bad_data", &words));
        }
    };
    let mut groups = groups_of(&*api.about.rules, Voice::Loki);
    wanted.keep(Voice::Loki, &mut groups);
    let mut data = String::from("{\"groups\":[");
    for (i, group) in groups.iter().enumerate() {
        data.push_str(if i > 0 { "," } else { "" });
        push_group(&mut data, group, Voice::Loki, true);
    }
    data.push_str("]}");
    Ok(prometheus(StatusCode::OK, &data, "", ""))
}

async fn alerts(State(api): State<Api>) -> Response {
    let groups = groups_of(&*api.about.rules, Voice::Loki);
    let rules = groups.iter().flat_map(|group| &group.rules);
    let mut data = String::from("{\"alerts\":");
    push_alerts(&mut data, rules.flat_map(|rule| &rule.alerts));
    data.push('}');
    prometheus(StatusCode::OK, &data, "", "")
}

async fn list(State(api): State<Api>, uri: Uri) -> Result<Response, ApiError> {
    listed(all(&api), None, &uri)
}

async fn list_namespace(State(api): State<Api>, Path(namespace): Path<String>, uri: Uri) -> Result<Response, ApiError> {
    if let Some(refused) = refused(&namespace) {
        return Ok(refused);
    }
    listed(all(&api), Some(&namespace), &uri)
}

/// Groups as a map from namespace to list. Loki's word for none is a 404.
fn listed(mut groups: Vec<Group>, of: Option<&str>, uri: &Uri) -> Result<Response, ApiError> {
    let form = Form::of_url(uri)?;
    groups.retain(|group| of.is_none_or(|of| namespace(group) == of));
    if groups.is_empty() {
        return Err(ApiError::with_status(StatusCode::NOT_FOUND, "no rule groups found\n"));
    }
    if let Some(text) = form.get("labels") {
        let labels: Vec<(&str, &str)> = text.split(',').filter_map(|pair| pair.split_once(':')).collect();
        for group in &mut groups {
            group.rules.retain(|rule| {
                rule.labels
                    .iter()
                    .any(|(n, v)| labels.contains(&(n.as_str(), v.as_str())))
            });
        }
        groups.retain(|group| !group.rules.is_empty());
    }
    let mut by_namespace: BTreeMap<&str, Vec<Node>> = BTreeMap::new();
    for group in &groups {
        by_namespace.entry(namespace(group)).or_default().push(group.to_node());
    }
    let pairs = by_namespace.into_iter().map(|(name, groups)| {
        let key = Key {
            line: 0,
            column: 0,
            text: name.to_owned(),
        };
        (key, Node::list(groups))
    });
    Ok(yaml(&Node {
        value: Value::Map(pairs.collect()),
        ..Node::scalar("")
    }))
}

async fn one(State(api): State<Api>, Path((namespace, name)): Path<(String, String)>) -> Result<Response, ApiError> {
    if let Some(refused) = refused(&namespace) {
        return Ok(refused);
    }
    match find(&api, &namespace, &name) {
        Some(group) => Ok(yaml(&group.to_node())),
        None => Err(no_group()),
    }
}

async fn set(State(api): State<Api>, Path(namespace): Path<String>, body: Body) -> Result<Response, ApiError> {
    if let Some(refused) = refused(&namespace) {
        return Ok(refused);
    }
    let bytes = Limited::new(body, GROUP_BYTES_MAX).collect().await;
    let bytes = bytes.map_err(|e| ApiError::bad(format!("{e}\n")))?.to_bytes();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let rules = api.about.rules.clone();
    let file_has = |name: &str| find(&api, &namespace, name).is_some_and(|group| group.origin == Origin::File);
    let name = yaml_tree::parse(&text)
        .ok()
        .and_then(|node| match &node.get("name")?.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => None,
        });
    if name.is_some_and(|name| file_has(&name)) {
        return Err(in_a_file("SetRuleGroup"));
    }
    let made = tokio::task::spawn_blocking(move || rules.make(&namespace, &text)).await;
    match made {
        Ok(Ok(())) => Ok(accepted()),
        Ok(Err(e @ GroupError::NotKept(_))) => Err(ApiError::with_status(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{e}\n"),
        )),
        Ok(Err(e)) => Err(ApiError::bad(format!("{e}\n"))),
        Err(e) => Err(ApiError::with_status(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("{e}\n"),
        )),
    }
}

async fn delete_group(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    if let Some(refused) = refused(&namespace) {
        return Ok(refused);
    }
    if find(&api, &namespace, &name).is_some_and(|group| group.origin == Origin::File) {
        return Err(in_a_file("DeleteRuleGroup"));
    }
    unmake(&api, namespace, Some(name), "group does not exist\n").await
}

async fn delete_namespace(State(api): State<Api>, Path(namespace): Path<String>) -> Result<Response, ApiError> {
    if let Some(refused) = refused(&namespace) {
        return Ok(refused);
    }
    let of_file = |group: &Group| group.origin == Origin::File && crate::ruled::namespace(group) == namespace;
    if all(&api).iter().any(of_file) {
        return Err(in_a_file("DeleteNamespace"));
    }
    unmake(&api, namespace, None, "group namespace does not exist\n").await
}

async fn unmake(api: &Api, namespace: String, name: Option<String>, none: &str) -> Result<Response, ApiError> {
    let rules = api.about.rules.clone();
    match tokio::task::spawn_blocking(move || rules.unmake(&namespace, name.as_deref())).await {
        Ok(Ok(true)) => Ok(accepted()),
        Ok(Ok(false)) => Err(ApiError::with_status(StatusCode::NOT_FOUND, none)),
        Ok(Err(e)) => Ok(server_error(&e.to_string())),
        Err(e) => Ok(server_error(&e.to_string())),
    }
}

/// The groups over logs: of files, and made here, also those that are about to be in force.
fn all(api: &Api) -> Vec<Group> {
    let rules = &api.about.rules;
    let in_force = rules.groups().into_iter().map(|status| Group::clone(&status.group));
    let of_files = in_force.filter(|group| group.dialect == Dialect::LogQl && group.origin == Origin::File);
    let mut groups: Vec<Group> = of_files.chain(rules.made()).collect();
    groups.sort_by(|a, b| (namespace(a), &a.name).cmp(&(namespace(b), &b.name)));
    groups
}

fn find(api: &Api, of: &str, name: &str) -> Option<Group> {
    all(api)
        .into_iter()
        .find(|group| namespace(group) == of && group.name == name)
}

fn no_group() -> ApiError {
    ApiError::with_status(StatusCode::NOT_FOUND, "group does not exist\n")
}

fn in_a_file(operation: &str) -> ApiError {
    ApiError::bad(format!(
        "{operation} unsupported in rule local store: the group is in a rule file\n"
    ))
}

/// Names that would lead out of a folder are no namespaces, as for Loki.
fn refused(namespace: &str) -> Option<Response> {
    let leads_out = namespace.starts_with('/') || namespace.split('/').any(|part| part == "..");
    (leads_out || namespace.is_empty()).then(|| server_error("invalid namespace: path traversal not allowed"))
}

fn yaml(node: &Node) -> Response {
    ([(header::CONTENT_TYPE, "application/yaml")], node.to_yaml()).into_response()
}

fn accepted() -> Response {
    prometheus(StatusCode::ACCEPTED, "null", "", "")
}

fn server_error(words: &str) -> Response {
    prometheus(StatusCode::INTERNAL_SERVER_ERROR, "null", "server_error", words)
}

/// An answer in the shape of Prometheus, with the members that Loki always writes.
fn prometheus(status: StatusCode, data: &str, kind: &str, error: &str) -> Response {
    let word = if status.is_success() { "success" } else { "error" };
    let mut out = format!(r#"{{"status":"{word}","data":{data},"errorType":"{kind}","error":"#);
    push_json(&mut out, error);
    out.push('}');
    (status, [(header::CONTENT_TYPE, "application/json")], out).into_response()
}
