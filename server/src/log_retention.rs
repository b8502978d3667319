//! The setting `retention-stream`: how long log streams are kept that selectors pick, as text and as Loki's list.

use std::time::Duration;

use storage::KeepStreams;

use crate::settings::age;

/// What Loki gives a rule that says nothing of its priority.
const PRIORITY: i64 = 0;

/// Reads `SELECTOR=AGE[@PRIORITY]`, several separated by semicolons.
pub fn parse(text: &str) -> Result<Vec<KeepStreams>, String> {
    let rules = split_outside_quotes(text, ';');
    rules.map(str::trim).filter(|rule| !rule.is_empty()).map(rule).collect()
}

/// The text of a list of objects with `selector`, `period` and `priority`, as Loki's configuration has it.
pub fn from_list(list: &[serde_json::Value]) -> Result<String, String> {
    let item = |value: &serde_json::Value| {
        let known = ["selector", "period", "priority"];
        let object = value
            .as_object()
            .filter(|o| o.keys().all(|k| known.contains(&k.as_str())));
        let text = |name| object.and_then(|o| o.get(name)).and_then(serde_json::Value::as_str);
        let priority = match object.and_then(|o| o.get("priority")) {
            None => Some(PRIORITY),
            Some(priority) => priority.as_i64(),
        };
        match (text("selector"), text("period"), priority) {
            (Some(selector), Some(period), Some(priority)) => Ok(format!("{selector}={period}@{priority}")),
            _ => Err("expected a list of selector, period and, if wanted, priority (a whole number)".to_owned()),
        }
    };
    Ok(list.iter().map(item).collect::<Result<Vec<_>, String>>()?.join("; "))
}

fn rule(text: &str) -> Result<KeepStreams, String> {
    let want = || "SELECTOR=AGE[@PRIORITY], several separated by semicolons, such as {env=\"dev\"}=24h@1".to_owned();
    let end = end_of_selector(text).ok_or_else(want)?;
    let (selector, rest) = text.split_at(end);
    let rest = rest.trim_start().strip_prefix('=').ok_or_else(want)?;
    let (period, priority) = match rest.split_once('@') {
        Some((period, priority)) => (period, priority.trim().parse().map_err(|_| want())?),
        None => (rest, PRIORITY),
    };
    let keep: Duration = age(period.trim()).map_err(|_| want())?;
    let matchers = query::log_selector(selector).map_err(|e| format!("a stream selector; {selector}: {e}"))?;
    Ok(KeepStreams {
        matchers,
        priority,
        keep_ns: keep.as_nanos().min(i64::MAX as u128) as i64,
    })
}

/// The end of a text that begins with a selector in braces.
fn end_of_selector(text: &str) -> Option<usize> {
    if !text.starts_with('{') {
        return None;
    }
    split_outside_quotes(text, '}')
        .next()
        .map(|inside| inside.len() + 1)
        .filter(|end| *end <= text.len())
}

/// Splits at a mark that stands in no string of LogQL.
fn split_outside_quotes(text: &str, mark: char) -> impl Iterator<Item = &str> {
    let (mut quote, mut escaped) = (None, false);
    text.split(move |c: char| {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None => return c == mark,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: i64 = 3_600_000_000_000;

    fn check(text: &str) -> Result<Vec<(usize, i64, i64)>, String> {
        let rules = parse(text)?;
        Ok(rules
            .iter()
            .map(|r| (r.matchers.len(), r.priority, r.keep_ns / HOUR_NS))
            .collect())
    }

    #[test]
    fn rules_are_selectors_with_ages() {
        assert_eq!(check(""), Ok(vec![]));
        assert_eq!(check(r#"{env="dev"}=24h"#), Ok(vec![(1, 0, 24)]));
        assert_eq!(
            check(r#"{env="a;}\"=b", x=~`}.*;`} = 30d@5 ; {y!="z"}=1d@-1;"#),
            Ok(vec![(2, 5, 720), (1, -1, 24)])
        );
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, said) in [
            (r#"env="dev"=24h"#, "SELECTOR=AGE"),
            (r#"{env="dev"=24h"#, "SELECTOR=AGE"),
            (r#"{env="dev"}=soon"#, "SELECTOR=AGE"),
            (r#"{env="dev"}=1h@high"#, "SELECTOR=AGE"),
            (r#"{env=dev}=1h"#, "a stream selector; {env=dev}: parse error"),
        ] {
            let words = check(text).unwrap_err();
            assert!(words.contains(said), "{text}: {words}");
        }
    }

    #[test]
    fn lokis_list_is_understood() {
        let list = serde_json::json!([
            {"selector": "{env=\"dev\"}", "priority": 1, "period": "24h"},
            {"selector": "{app=\"audit\"}", "period": "90d"},
        ]);
        let text = from_list(list.as_array().unwrap()).unwrap();
        assert_eq!(check(&text), Ok(vec![(1, 1, 24), (1, 0, 2160)]));
        for bad in [
            serde_json::json!([{"selector": "{a=\"b\"}"}]),
            serde_json::json!([{"selector": "{a=\"b\"}", "period": "1h", "weight": 1}]),
            serde_json::json!(["{a=\"b\"}=1h"]),
        ] {
            assert!(from_list(bad.as_array().unwrap()).is_err(), "{bad}");
        }
    }
}
