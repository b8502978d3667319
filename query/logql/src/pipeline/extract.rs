//! The parsers of a pipeline at work on one line: `json`, `logfmt`, `regexp`, `pattern`, `unpack`.

use regex::CaptureLocations;

use super::{JSON_ERROR, LOGFMT_ERROR, Scratch, Step};
use crate::labels::{Labels, Needed};
use crate::stage::json::{self, Next};
use crate::stage::logfmt::{Pair, Pairs, Value};

/// Runs a parser on the line: what it finds and what is needed of it joins the labels.
pub(super) fn parse(
    step: &Step,
    line: &str,
    labels: &mut Labels,
    needed: &Needed,
    prefix: &mut String,
    captures: &mut Option<CaptureLocations>,
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
            for (name, path) in paths {
                match json::look_up(line, path) {
                    Ok(value) => {
                        if let Some(slot) = labels.open("", name, needed) {
                            if let Some(value) = value {
                                value.write(labels.value());
                            }
                            labels.commit(slot);
                        }
                    }
                    Err(what) => {
                        // Only what goes wrong within a member is an error; what has no members lacks the field.
                        if line[1..].trim_start().starts_with('"') {
                            labels.set_error(JSON_ERROR, what);
                        }
                        if let Some(slot) = labels.open("", name, needed) {
                            labels.commit(slot);
                        }
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
        Step::LogfmtKeys { strict, keys } => {
            for pair in Pairs::new(line) {
                let (key, value) = match pair {
                    Pair::Pair(key, value) => (key, value),
                    Pair::Bad(what) if *strict => {
                        labels.set_error(LOGFMT_ERROR, &what);
                        break;
                    }
                    Pair::Bad(_) => continue,
                };
                for (name, _) in keys.iter().filter(|(_, wanted)| wanted == key) {
                    if let Some(slot) = labels.open("", name, needed) {
                        if let Some(value) = &value {
                            value.write(labels.value());
                        }
                        labels.commit(slot);
                    }
                }
            }
            // What is missing is there, empty.
            for (name, _) in keys {
                if let Some(slot) = labels.open("", name, needed) {
                    labels.commit(slot);
                }
            }
        }
        Step::Regexp(regex, names) => {
            let locations = captures.get_or_insert_with(|| regex.capture_locations());
            if locations.len() != regex.captures_len() {
                *locations = regex.capture_locations();
            }
            if regex.captures_read(locations, line).is_some() {
                for (group, name) in names {
                    let value = locations.get(*group).map_or("", |(from, to)| &line[from..to]);
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
    let result = json::members(current, |key, value| {
        if let (json::Value::Text(inside), "_entry") = (value, key) {
            entry = Some(inside);
        }
        Next::Go
    });
    if let Err(what) = result {
        labels.set_error(JSON_ERROR, what);
        return;
    }
    // Without the packed line it is some other object.
    let Some(entry) = entry else { return };
    if !needed.nothing() {
        let _ = json::members(current, |key, value| {
            if let json::Value::Text(_) = value
                && key != "_entry"
            {
                prefix.clear();
                json::unescape(key, prefix);
                if let Some(slot) = labels.open("", prefix, needed) {
                    value.write(labels.value());
                    labels.commit(slot);
                }
            }
            Next::Go
        });
    }
    json::unescape(entry, spare);
    std::mem::swap(own, spare);
    *rewritten = true;
}
