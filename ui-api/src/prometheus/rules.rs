//! Rules and alerts: those over metrics, in the members that Grafana's alerting pages read. Rules over logs are told at
//! Loki's door, where their language is understood.

use std::fmt::Write as _;

use axum::extract::{Request, State};
use axum::response::Response;
use query_rules::{Group, GroupStatus};

use super::encode::success;
use super::errors::ApiError;
use super::params::{no_number, read, selectors, switch};
use super::routes::Api;
use crate::form::Form;
use crate::ruled::{Voice, Wanted, groups_of, push_alerts, push_group};

pub(crate) async fn rules(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let selectors = selectors(&form).map_err(ApiError::bad_data)?;
    let unknown = |kind| ApiError::parameter("type", format!("not supported value {kind:?}"));
    let mut wanted = Wanted::read(&form).map_err(unknown)?;
    wanted.selectors = selectors;
    let mut with_alerts = true;
    if let Some(text) = form.get("exclude_alerts") {
        with_alerts = !switch(&text.to_ascii_lowercase())
            .map_err(|e| ApiError::parameter("exclude_alerts", format!("error converting exclude_alerts: {e}")))?;
    }
    let page = Page::read(&form)?;
    let mut groups = groups_of(&*api.about.rules, Voice::Prometheus);
    page.begin(&mut groups)?;
    wanted.keep(Voice::Prometheus, &mut groups);
    let next = page.end(&mut groups);

    let mut data = String::from("{\"groups\":[");
    for (i, group) in groups.iter().enumerate() {
        data.push_str(if i > 0 { "," } else { "" });
        push_group(&mut data, group, Voice::Prometheus, with_alerts);
    }
    data.push(']');
    if let Some(token) = next {
        let _ = write!(data, ",\"groupNextToken\":\"{token}\"");
    }
    data.push('}');
    Ok(success(&data))
}

pub(crate) async fn alerts(State(api): State<Api>) -> Response {
    let groups = groups_of(&*api.about.rules, Voice::Prometheus);
    let mut data = String::from("{\"alerts\":");
    let rules = groups.iter().flat_map(|group| &group.rules);
    push_alerts(&mut data, rules.flat_map(|rule| &rule.alerts));
    data.push('}');
    success(&data)
}

/// Which part of the groups is asked for.
struct Page<'a> {
    limit: Option<usize>,
    token: Option<&'a str>,
}

impl<'a> Page<'a> {
    fn read(form: &'a Form) -> Result<Page<'a>, ApiError> {
        let (limit, token) = (form.get("group_limit"), form.get("group_next_token"));
        if token.is_some() && limit.is_none() {
            let what = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::parameter("group_next_token", what));
        }
        let limit = match limit {
            None => None,
            Some(text) => {
                let n = text.parse::<i32>().map_err(|e| {
                    let why = no_number("ParseInt", text, &e);
                    ApiError::parameter("group_limit", format!("group_limit needs to be a valid number: {why}"))
                })?;
                match usize::try_from(n) {
                    Ok(n) if n > 0 => Some(n),
                    _ => {
                        return Err(ApiError::parameter(
                            "group_limit",
                            "group_limit needs to be greater than 0",
                        ));
                    }
                }
            }
        };
        Ok(Page { limit, token })
    }

    /// Leaves out what earlier pages had.
    fn begin(&self, groups: &mut Vec<GroupStatus>) -> Result<(), ApiError> {
        let Some(token) = self.token else { return Ok(()) };
        match groups.iter().position(|status| token_of(&status.group) == token) {
            Some(at) => {
                groups.drain(..at);
                Ok(())
            }
            None => {
                let what = format!("invalid group_next_token '{token}'. were rule groups changed?");
                Err(ApiError::parameter("group_next_token", what))
            }
        }
    }

    /// Leaves out what later pages have; how the next one is asked for.
    fn end(&self, groups: &mut Vec<GroupStatus>) -> Option<String> {
        let limit = self.limit?;
        let next = token_of(&groups.get(limit)?.group);
        groups.truncate(limit);
        Some(next)
    }
}

/// Names a group in a request; clients do not look into it.
fn token_of(group: &Group) -> String {
    let mut out = String::new();
    for byte in group.key().bytes() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}
