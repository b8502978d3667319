//! What is stored, without its samples: series, label names and values, metadata of families.

use axum::extract::{Path, Request, State};
use axum::response::Response;
use query::Language;
use storage::Storage;
use storage_metrics::BlockError;

use super::encode::{self, close_envelope, list, open_envelope, written};
use super::errors::ApiError;
use super::params::{count, limit, range, read, selectors, truncate};
use super::routes::Api;
use crate::number::push_json;

pub(crate) async fn series(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    if form.all("match[]").next().is_none() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let (limit, range) = (limit(&form)?, range(&form)?);
    let selectors = selectors(&form).map_err(|e| ApiError::parameter("match[]", e))?;
    let mut found = ask(&api, "series", move |s| {
        s.metrics().snapshot(range).series(&selectors, range)
    })
    .await?;
    let warnings = truncate(&mut found, limit);
    Ok(list(found, &warnings, |out, labels| encode::label_set(out, &labels)))
}

pub(crate) async fn labels(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    let (limit, range) = (limit(&form)?, range(&form)?);
    let selectors = selectors(&form).map_err(ApiError::bad_data)?;
    let mut found = ask(&api, "labels", move |s| {
        s.metrics().snapshot(range).label_names(&selectors, range)
    })
    .await?;
    let warnings = truncate(&mut found, limit);
    Ok(list(found, &warnings, |out, name| push_json(out, &name)))
}

pub(crate) async fn label_values(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let name = unescape_name(name);
    if name.is_empty() {
        return Err(ApiError::bad_data(format!("invalid label name: {name:?}")));
    }
    let form = read(request).await?;
    let (limit, range) = (limit(&form)?, range(&form)?);
    let selectors = selectors(&form).map_err(ApiError::bad_data)?;
    let find = move |s: &Storage| s.metrics().snapshot(range).label_values(&name, &selectors, range);
    let mut found = ask(&api, "label values", find).await?;
    let warnings = truncate(&mut found, limit);
    Ok(list(found, &warnings, |out, value| push_json(out, &value)))
}

pub(crate) async fn metadata(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let form = read(request).await?;
    // One entry is known of each family, so that `limit_per_metric` never cuts.
    let (limit, _) = (count(&form, "limit")?, count(&form, "limit_per_metric")?);
    let wanted = form.get("metric");
    let mut families = api.queries.storage().metrics().metadata();
    families.retain(|(name, _)| wanted.is_none_or(|w| w == name));
    families.truncate(limit);
    let mut head = String::new();
    open_envelope(&mut head);
    head.push('{');
    let mut tail = "}".to_owned();
    close_envelope(&mut tail, &[], &[]);
    Ok(written(head, families, |out, f| encode::family(out, &f), tail))
}

/// Runs a question that is no query on the CPU pool.
pub(crate) async fn ask<T: Send + 'static>(
    api: &Api,
    text: &str,
    find: impl FnOnce(&Storage) -> Result<T, BlockError> + Send + 'static,
) -> Result<T, ApiError> {
    Ok(api
        .queries
        .run(Language::PromQl, text, None, move |_, storage| find(storage))
        .await??)
}

/// Decodes `U__http_2e_status` to `http.status`; other names, and such as cannot be decoded, stand for themselves.
fn unescape_name(name: String) -> String {
    let Some(escaped) = name.strip_prefix("U__") else {
        return name;
    };
    unescape(escaped).unwrap_or(name)
}

fn unescape(escaped: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('_') {
            out.push('_');
            rest = tail;
        } else {
            let end = rest.find('_').filter(|end| *end <= 6)?;
            out.push(char::from_u32(u32::from_str_radix(&rest[..end], 16).ok()?)?);
            rest = &rest[end + 1..];
        }
    }
    out.push_str(rest);
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_label_names_decode() {
        for (name, decoded) in [
            ("U__http_2e_status", "http.status"),
            ("U__a__b", "a_b"),
            ("U___1f600__2e_", "😀."),
            ("job", "job"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__a_d800_", "U__a_d800_"),
            ("U__", "U__"),
            ("", ""),
        ] {
            assert_eq!(unescape_name(name.to_owned()), decoded);
        }
    }
}
