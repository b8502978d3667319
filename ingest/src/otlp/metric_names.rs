//! Metric names as Prometheus 3 makes them from OTLP, in one of four ways ([`Translation`]).
//!
//! By default characters outside `[A-Za-z0-9:]` part the name into tokens, the unit and the kind add tokens that are not
//! there yet, and one `_` joins them again. Names that stay in UTF-8 get the same suffixes at their end.

use super::translation::Translation;

/// What a metric is, as far as its name cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NamedAs {
    /// A monotonic sum: ends in `_total`.
    Counter,
    /// A gauge: ends in `_ratio` if its unit is 1.
    Gauge,
    /// Anything else.
    Other,
}

/// The metric's name; `None` if nothing is left of it.
pub(crate) fn metric_name(translation: Translation, name: &str, unit: &str, named_as: NamedAs) -> Option<String> {
    match translation {
        Translation::UnderscoreEscapingWithSuffixes => escaped_with_suffixes(name, unit, named_as),
        Translation::UnderscoreEscapingWithoutSuffixes => escaped(name),
        Translation::NoUtf8EscapingWithSuffixes => with_suffixes(name, unit, named_as),
        Translation::NoTranslation => (!name.is_empty()).then(|| name.to_owned()),
    }
}

/// Runs of other characters become one `_`; underscores stay as they are.
fn escaped(name: &str) -> Option<String> {
    let splits = |c: char| !(c.is_ascii_alphanumeric() || c == ':' || c == '_');
    let parts: Vec<&str> = name.split(splits).filter(|part| !part.is_empty()).collect();
    not_digit_first(parts.join("_"))
}

/// The name as it is, and behind it what it does not end with yet.
fn with_suffixes(name: &str, unit: &str, named_as: NamedAs) -> Option<String> {
    if name.is_empty() {
        return None;
    }
    let (main, per) = unit_parts(unit);
    let mut name = name.to_owned();
    if !main.is_empty() && !name.ends_with(&main) {
        name = format!("{name}_{main}");
    }
    if !per.is_empty() {
        name = ending_with(&name, &format!("per_{per}"));
    }
    match named_as {
        NamedAs::Counter => name = ending_with(&name, "total"),
        NamedAs::Gauge if unit.trim() == "1" => name = ending_with(&name, "ratio"),
        _ => {}
    }
    Some(name)
}

/// `name_suffix`; of a name that ends so already, its own suffix goes with the character before it.
fn ending_with(name: &str, suffix: &str) -> String {
    let mut rest = name;
    if let Some(before) = name.strip_suffix(suffix) {
        let mut chars = before.chars();
        if chars.next_back().is_some() && !chars.as_str().is_empty() {
            rest = chars.as_str();
        }
    }
    format!("{rest}_{suffix}")
}

fn not_digit_first(name: String) -> Option<String> {
    match name.as_bytes().first() {
        None => None,
        Some(b'0'..=b'9') => Some(format!("_{name}")),
        Some(_) => Some(name),
    }
}

fn escaped_with_suffixes(name: &str, unit: &str, named_as: NamedAs) -> Option<String> {
    let mut tokens: Vec<&str> = tokens(name).collect();
    let (main, per) = unit_parts(unit);
    let (main, per) = (clean(&main), clean(per));
    let main_is_new = !main.is_empty() && !tokens.contains(&main.as_str());
    let per_is_new = !per.is_empty() && !tokens.contains(&per.as_str());
    if main_is_new {
        tokens.push(&main);
    }
    if per_is_new {
        tokens.extend(["per", &per]);
    }
    let suffix = match named_as {
        NamedAs::Counter => Some("total"),
        NamedAs::Gauge if unit.trim() == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(suffix) = suffix {
        tokens.retain(|token| *token != suffix);
        tokens.push(suffix);
    }
    if tokens.is_empty() || self::tokens(name).next().is_none() {
        return None;
    }
    not_digit_first(tokens.join("_"))
}

/// The unit in Prometheus' words, for metadata: `By/s` is `bytes_per_second`.
pub(crate) fn unit_name(unit: &str) -> String {
    let (main, per) = unit_parts(unit);
    match (clean(&main), clean(per)) {
        (main, per) if per.is_empty() => main,
        (main, per) if main.is_empty() => format!("per_{per}"),
        (main, per) => format!("{main}_per_{per}"),
    }
}

/// Main and per part of a unit, in words. A part with braces is an annotation and contributes nothing.
fn unit_parts(unit: &str) -> (String, &str) {
    let (main, per) = unit.split_once('/').unwrap_or((unit, ""));
    let words = |part: &str| !part.contains(['{', '}']);
    let (main, per) = (main.trim(), per.trim());
    let main = if words(main) { main_unit(main) } else { "" };
    let per = if words(per) { per_unit(per) } else { "" };
    (main.to_owned(), per)
}

fn main_unit(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "%" => "percent",
        "1" => "",
        other => other,
    }
}

fn per_unit(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

fn tokens(name: &str) -> impl Iterator<Item = &str> {
    let splits = |c: char| !(c.is_ascii_alphanumeric() || c == ':');
    name.split(splits).filter(|token| !token.is_empty())
}

fn clean(unit: &str) -> String {
    tokens(unit).collect::<Vec<_>>().join("_")
}

#[cfg(test)]
mod tests {
    use super::NamedAs::{Counter, Gauge, Other};
    use super::*;

    #[test]
    fn names() {
        for (name, unit, named_as, want) in [
            (
                "http.server.request.duration",
                "s",
                Other,
                "http_server_request_duration_seconds",
            ),
            ("http_requests_total", "1", Counter, "http_requests_total"),
            (
                "database_query_duration_seconds",
                "s",
                Other,
                "database_query_duration_seconds",
            ),
            ("crypto.requests.total", "1", Counter, "crypto_requests_total"),
            ("process.memory.usage", "By", Gauge, "process_memory_usage_bytes"),
            ("cpu.utilization", "1", Gauge, "cpu_utilization_ratio"),
            ("disk.io", "By/s", Counter, "disk_io_bytes_per_second_total"),
            ("queue.size", "{items}", Gauge, "queue_size"),
            ("queue.depth", "1", Other, "queue_depth"),
            ("2xx.count", "1", Counter, "_2xx_count_total"),
            ("total.requests", "", Counter, "requests_total"),
            ("ratio.of.things", "1", Gauge, "of_things_ratio"),
            ("speed", "m/s", Gauge, "speed_meters_per_second"),
            ("rate", "{req}/s", Gauge, "rate_per_second"),
            ("rate", "1/m", Gauge, "rate_per_minute"),
            ("lag", "furlong/fortnight", Gauge, "lag_furlong_per_fortnight"),
            ("odd", "a.b c", Gauge, "odd_a_b_c"),
            ("disk.usage", "%", Gauge, "disk_usage_percent"),
            ("job:rate:sum", "", Gauge, "job:rate:sum"),
            ("__a..b__", "", Gauge, "a_b"),
            ("größe", "", Gauge, "gr_e"),
            ("io.time", "ms", Counter, "io_time_milliseconds_total"),
            ("seconds", "s", Counter, "seconds_total"),
        ] {
            let default = Translation::UnderscoreEscapingWithSuffixes;
            assert_eq!(
                metric_name(default, name, unit, named_as).as_deref(),
                Some(want),
                "{name} {unit}"
            );
        }
        for name in ["", "___", ".", "ö"] {
            let default = Translation::default();
            assert_eq!(metric_name(default, name, "s", Counter), None, "{name}");
        }
    }

    #[test]
    fn names_of_the_other_translations() {
        let check = |translation, name, unit, named_as, want: Option<&str>| {
            let got = metric_name(translation, name, unit, named_as);
            assert_eq!(got.as_deref(), want, "{translation:?} {name} {unit}");
        };
        let utf8 = Translation::NoUtf8EscapingWithSuffixes;
        for (name, unit, named_as, want) in [
            (
                "http.server.request.duration",
                "s",
                Other,
                "http.server.request.duration_seconds",
            ),
            ("http_requests_total", "1", Counter, "http_requests_total"),
            (
                "database_query_duration_seconds",
                "s",
                Other,
                "database_query_duration_seconds",
            ),
            ("crypto.requests.total", "1", Counter, "crypto.requests_total"),
            ("process.memory.usage", "By", Gauge, "process.memory.usage_bytes"),
            ("cpu.utilization", "1", Gauge, "cpu.utilization_ratio"),
            ("disk.io", "By/s", Counter, "disk.io_bytes_per_second_total"),
            ("queue.size", "{items}", Gauge, "queue.size"),
            ("queue.depth", "1", Other, "queue.depth"),
            ("2xx.count", "1", Counter, "2xx.count_total"),
            ("größe", "m", Gauge, "größe_meters"),
            ("ütotal", "", Counter, "ütotal_total"),
            ("aütotal", "", Counter, "a_total"),
            ("total", "", Counter, "total_total"),
        ] {
            check(utf8, name, unit, named_as, Some(want));
        }
        let plain = Translation::UnderscoreEscapingWithoutSuffixes;
        check(
            plain,
            "http.server..duration",
            "s",
            Counter,
            Some("http_server_duration"),
        );
        check(plain, "a__b.c", "", Gauge, Some("a__b_c"));
        check(plain, "2xx.count.", "1", Counter, Some("_2xx_count"));
        check(plain, "...", "", Other, None);
        let none = Translation::NoTranslation;
        check(none, "http.server.duration", "s", Counter, Some("http.server.duration"));
        check(none, "", "s", Counter, None);
    }

    #[test]
    fn units() {
        for (unit, want) in [
            ("s", "seconds"),
            ("By/s", "bytes_per_second"),
            ("1", ""),
            ("{x}", ""),
            ("", ""),
            ("1/s", "per_second"),
            ("ms", "milliseconds"),
        ] {
            assert_eq!(unit_name(unit), want, "{unit}");
        }
    }
}
