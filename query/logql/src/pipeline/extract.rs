//! The parsers of a pipeline at work on one line: `json`, `logfmt`, `regexp`, `pattern`, `unpack`.

use model::Captures;

use super::{JSON_ERROR, LOGFMT_ERROR, Scratch, Step};
use crate::labels::{EXTRACTED, Labels, Needed, sanitise};
use crate::stage::json::{self, Next, PathStep};
use crate::stage::logfmt::{Pair, Pairs, Value};

/// Runs a parser on the line: what it finds and what is needed of it joins the labels.
pub(super) fn parse(
    step: &Step,
    line: &str,
    labels: &mut Labels,
    needed: &Needed,
    prefix: &mut String,
    captures: &mut Option<Captures>,
) {
    match step {
        Step::Json => {
            let mut keys = String::new();
            let result = json::walk(line, needed, |path, value| {
                if matches!(value, json::Value::Null | json::Value::Array(_)) {
                    return Next::Go;
                }
                let Some((last, parents)) = path.split_last() else {
                    return Next::Go;
                };
                prefix.clear();
                for parent in parents {
                    let before = prefix.len();
                    keys.clear();
                    json::unescape(parent, &mut keys);
                    crate::labels::sanitise(&keys, prefix.is_empty(), prefix);
                    if prefix.len() > before {
                        prefix.push('_');
                    }
                }
                keys.clear();
                json::unescape(last, &mut keys);
                // A blank name names nothing but within an object.
                if parents.is_empty() && keys.trim().is_empty() {
                    return Next::Go;
                }
                if let Some(slot) = labels.open(prefix, &keys, needed) {
                    value.write(labels.value());
                    labels.commit(slot);
                    if labels.has_all(needed) {
                        return Next::Stop;
                    }
                }
                Next::Go
            });
            if let Err(what) = result {
                labels.set_error(JSON_ERROR, what);
            }
        }
        Step::JsonPaths(paths) => {
            if line.is_empty() {
                return;
            }
            if !line.starts_with(['"', '{', '[']) {
                labels.set_error(JSON_ERROR, "");
                return;
            }
            let mut found = 0;
            let steps: Vec<&[PathStep]> = paths.iter().map(|(_, path)| &path[..]).collect();
            json::extract(line, &steps, |i, value| match value {
                Err(what) => labels.set_error(JSON_ERROR, what),
                Ok(value) => {
                    found += 1;
                    if let Some((name, _)) = paths.get(i)
                        && let Some(slot) = labels.open_anew(name, needed)
                    {
                        value.write(labels.value());
                        labels.commit(slot);
                    }
                }
            });
            // What is missing is there, empty, unless something else has the name.
            if found < paths.len() {
                for (name, _) in paths {
                    if labels.get_label(name).is_none() {
                        labels.set(name, "");
                    }
                }
            }
        }
        Step::Logfmt { strict, keep_empty } => {
            for pair in Pairs::new(line) {
                let (key, value) = match pair {
                    Pair::Pair(key, value) => (key, value),
                    Pair::Bad(what) if *strict => {
                        labels.set_error(LOGFMT_ERROR, &what);
                        return;
                    }
                    Pair::Bad(_) => continue,
                };
                let empty = value.as_ref().is_none_or(Value::is_empty);
                if empty && !keep_empty {
                    continue;
                }
                if !needed.may_end_with(key) {
                    continue;
                }
                if let Some(slot) = labels.open("", key, needed) {
                    if let Some(value) = value {
                        value.write(labels.value());
                    }
                    labels.commit(slot);
                    if labels.has_all(needed) {
                        return;
                    }
                }
            }
        }
        Step::LogfmtKeys { strict, keys } => logfmt_keys(keys, *strict, line, labels, needed, prefix),
        Step::Regexp(regex, names) => {
            let found = match captures {
                Some(found) if found.are_of(regex) => found,
                other => other.insert(regex.new_captures()),
            };
            if regex.captures(line, found) {
                for (group, name) in names {
                    let value = found.get(*group).map_or("", |place| &line[place]);
                    labels.extract(name, value, needed);
                }
            }
        }
        Step::Pattern(pattern) => pattern.captures(line, |name, value| {
            labels.extract(name, value, needed);
        }),
        _ => {}
    }
}

/// Fields of a logfmt line by the names that a query gives them. Each is there, if only empty; the last of equals counts.
fn logfmt_keys(
    keys: &[(String, String)],
    strict: bool,
    line: &str,
    labels: &mut Labels,
    needed: &Needed,
    clean: &mut String,
) {
    let set = |name: &str, value: &str, labels: &mut Labels| {
        if let Some(slot) = labels.open_anew(name, needed) {
            labels.value().push_str(value);
            labels.commit(slot);
        }
    };
    for (name, _) in keys {
        if !labels.is_taken(name) {
            set(name, "", labels);
        }
    }
    let mut text = String::new();
    for pair in Pairs::new(line) {
        let (key, value) = match pair {
            Pair::Pair(key, value) => (key, value),
            Pair::Bad(what) if strict => return labels.set_error(LOGFMT_ERROR, &what),
            Pair::Bad(_) => continue,
        };
        clean.clear();
        sanitise(key, true, clean);
        let is_name = keys.iter().any(|(name, _)| name == clean);
        if clean.is_empty() || !is_name && (!needed.may_become(clean) || labels.was_parsed(clean)) {
            continue;
        }
        // A field that is no name but is asked for goes by its name; one that has a name of another is that, too.
        let asked_for = keys.iter().find(|(_, wanted)| wanted == clean);
        let Some((name, _)) = asked_for.or_else(|| keys.iter().find(|(name, _)| name == clean)) else {
            continue;
        };
        if labels.is_taken(name) {
            clean.clear();
            clean.push_str(name);
            clean.push_str(EXTRACTED);
            if labels.was_parsed(clean) || !needed.wants(clean) {
                return;
            }
        }
        text.clear();
        if let Some(value) = value.filter(|value| !value.is_damaged()) {
            value.write(&mut text);
        }
        set(name, &text, labels);
        if labels.has_all(needed) {
            return;
        }
    }
}

/// The object that a shipper packed: text members become labels, `_entry` the line.
pub(super) fn unpack(scratch: &mut Scratch, line: &str, needed: &Needed) {
    let Scratch {
        labels,
        line: own,
        rewritten,
        spare,
        prefix,
        ..
    } = scratch;
    let current = if *rewritten { own.as_str() } else { line };
    if current.is_empty() {
        return;
    }
    if !current.starts_with('{') {
        labels.set_error(JSON_ERROR, "expecting json object(6), but it is not");
        return;
    }
    spare.clear();
    let mut entry = None;
    let mut members = Vec::new();
    let result = json::members(current, |key, value| {
        match (value, key) {
            (json::Value::Text(inside), "_entry") => entry = Some(inside),
            (json::Value::Text(_), _) => members.push((key, value)),
            _ => {}
        }
        Next::Go
    });
    if let Err(what) = result {
        labels.set_error(JSON_ERROR, what);
        return;
    }
    // Without the packed line it is some other object.
    let Some(entry) = entry else { return };
    if !json::unescape(entry, spare) {
        labels.set_error(JSON_ERROR, json::BAD_ESCAPE);
        return;
    }
    let mut text = String::new();
    let known = labels.len();
    for (key, value) in members {
        prefix.clear();
        json::unescape(key, prefix);
        if labels.is_taken(prefix) {
            prefix.push_str(EXTRACTED);
        }
        // Of equals within the line the last counts.
        if needed.wants(prefix) && !labels.was_parsed_before(known, prefix) {
            text.clear();
            value.write(&mut text);
            let mut name = String::new();
            sanitise(prefix, true, &mut name);
            labels.set(&name, &text);
        }
    }
    std::mem::swap(own, spare);
    *rewritten = true;
}
