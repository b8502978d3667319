//! Runs the logql cases. See the crate's front page.
//!
//! One case is one record of a JSON file, and one eval of `metric_evals.json`. Stages, filters and parsers are driven
//! through whole queries on single entries ([`Query::process`]); metric scenarios through a logs engine in a temporary
//! directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use corpus::{Report, folders};
use model::{Entry, LabelSet, LogBatch, TimestampNs};
use query_exec::{Context, Limits};
use query_logql::{Direction, Line, Options, Query, Series, Value, parse_matchers};
use serde_json::Value as Json;
use storage_logs::Logs;

fn main() -> ExitCode {
    let folders = match folders("logql") {
        Ok(folders) => folders,
        Err(error) => {
            eprintln!("{error:#}");
            return ExitCode::FAILURE;
        }
    };
    std::panic::set_hook(Box::new(|_| {}));
    let mut report = Report::new("logql");
    for folder in folders {
        let mut files: Vec<_> = match std::fs::read_dir(&folder) {
            Ok(entries) => entries.flatten().map(|e| e.path()).collect(),
            Err(error) => {
                report.case(&folder.display().to_string(), || Err(error.into()));
                continue;
            }
        };
        files.retain(|f| f.extension().is_some_and(|e| e == "json"));
        files.sort();
        for file in files {
            run_file(&mut report, &file);
        }
    }
    report.finish()
}

fn run_file(report: &mut Report, path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let read = || -> anyhow::Result<Vec<Json>> { Ok(serde_json::from_slice(&std::fs::read(path)?)?) };
    let records = match read() {
        Ok(records) => records,
        Err(error) => return report.case(&name, || Err(error)),
    };
    if name == "metric_evals.json" {
        for (index, record) in records.iter().enumerate() {
            run_scenario(report, &format!("{name}:{index}"), record);
        }
        return;
    }
    let run: fn(&Json) -> anyhow::Result<()> = match name.as_str() {
        "valid_queries.json" => valid_query,
        "invalid_queries.json" => invalid_query,
        "canonical.json" => canonical,
        "format.json" => pretty,
        "stages.json" => stage,
        "line_filters.json" => line_filter,
        "patterns.json" => pattern,
        "paths.json" => path_expression,
        "unwrap.json" => unwrap,
        "template_funcs.json" => template_function,
        "units.json" => unit,
        "level_detection.json" => level_detection,
        "push_requests.json" => push_request,
        _ => |_| bail!("a file this runner does not know"),
    };
    for (index, record) in records.iter().enumerate() {
        report.case(&format!("{name}:{index}"), || run(record));
    }
}

// --- records ---

fn text<'a>(record: &'a Json, key: &str) -> anyhow::Result<&'a str> {
    record[key]
        .as_str()
        .with_context(|| format!("no text {key:?} in the record"))
}

/// A query as text; bytes that are no UTF-8 come as `{"$b64": ...}` and cannot reach the parser as they are.
fn query_text(record: &Json) -> anyhow::Result<String> {
    if let Some(encoded) = record["query"]["$b64"].as_str() {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(encoded)?;
        return Ok(String::from_utf8_lossy(&bytes).into_owned());
    }
    Ok(text(record, "query")?.to_owned())
}

fn pairs(json: &Json) -> Vec<(String, String)> {
    json.as_object()
        .map(|map| {
            map.iter()
                .map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().to_owned()))
                .collect()
        })
        .unwrap_or_default()
}

fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// One entry through a query's pipeline.
fn process(
    query: &str,
    stream: &[(String, String)],
    metadata: Vec<(String, String)>,
    line: &str,
    t: i64,
) -> anyhow::Result<Option<(LabelSet, Line)>> {
    let query = Query::parse(query).with_context(|| query.to_owned())?;
    let query = query.with_now(TimestampNs(BASE_NS));
    let entry = Entry {
        t: TimestampNs(t),
        line: line.to_owned(),
        metadata,
    };
    let labels = LabelSet::from_pairs(stream.iter().map(|(n, v)| (n, v)));
    Ok(query.process(&labels, &entry))
}

fn merged(labels: &LabelSet, line: &Line) -> BTreeMap<String, String> {
    let own = labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned()));
    own.chain(line.entry.metadata.iter().cloned())
        .chain(line.parsed.iter().cloned())
        .collect()
}

// --- syntax ---

fn valid_query(record: &Json) -> anyhow::Result<()> {
    let query = query_text(record)?;
    let first = query_logql::canonical(&query)?;
    let second = query_logql::canonical(&first).with_context(|| format!("its canonical text {first}"))?;
    ensure!(second == first, "the canonical text changes: {first}");
    Ok(())
}

fn invalid_query(record: &Json) -> anyhow::Result<()> {
    let query = query_text(record)?;
    let error = match record["error_class"].as_str() {
        Some("not_only_matchers_or_syntax") => parse_matchers(&query).err(),
        _ => Query::parse(&query).err(),
    };
    let Some(error) = error else { bail!("accepted: {query}") };
    let want = &record["error"];
    if let Some(message) = want["message"].as_str() {
        ensure!(
            error.message.ends_with(message),
            "says {:?}, not {message:?}",
            error.message
        );
    }
    for (key, got) in [("line", error.line), ("col", error.col)] {
        if let Some(number) = want[key].as_u64() {
            ensure!(got as u64 == number, "{key} is {got}, not {number} ({})", error.message);
        }
    }
    Ok(())
}

fn canonical(record: &Json) -> anyhow::Result<()> {
    if record["suite"] == "parse-labels" {
        let matchers = parse_matchers(text(record, "labels_text")?)?;
        let got: BTreeMap<_, _> = matchers
            .iter()
            .filter(|m| !m.value().is_empty())
            .map(|m| (m.name().to_owned(), m.value().to_owned()))
            .collect();
        ensure!(got == pairs(&record["labels"]).into_iter().collect(), "labels {got:?}");
        return Ok(());
    }
    let got = query_logql::canonical(&query_text(record)?)?;
    ensure!(got == text(record, "canonical")?, "{got}");
    Ok(())
}

fn pretty(record: &Json) -> anyhow::Result<()> {
    let width = record["max_chars_per_line"].as_u64().unwrap_or(100) as usize;
    let got = query_logql::pretty(&query_text(record)?, width)?;
    ensure!(got == text(record, "formatted")?, "{got}");
    Ok(())
}

fn path_expression(record: &Json) -> anyhow::Result<()> {
    let path = text(record, "expression")?;
    let parser = if record["suite"] == "json-path" {
        "json"
    } else {
        "logfmt"
    };
    let parsed = Query::parse(&format!("{{a=\"b\"}} | {parser} x={}", quoted(path)));
    match record["error"].as_str() {
        Some(want) => match parsed {
            Ok(_) => bail!("accepted"),
            Err(error) => ensure!(error.message.ends_with(want), "{error}"),
        },
        None => {
            parsed?;
            // What the path means shows on a line that has something there.
            let Some(steps) = record["path"].as_array() else {
                return Ok(());
            };
            let line = if parser == "json" {
                let mut value = Json::from("found");
                for step in steps.iter().rev() {
                    value = match (step.as_str(), step.as_u64()) {
                        (Some(key), _) => serde_json::json!({ key: value }),
                        (None, Some(index)) => {
                            let mut all = vec![Json::Null; index as usize];
                            all.push(value);
                            Json::from(all)
                        }
                        _ => bail!("a step of unknown type"),
                    };
                }
                value.to_string()
            } else {
                format!("{}=found", steps[0].as_str().unwrap_or_default())
            };
            let query = format!("{{a=\"b\"}} | {parser} x={}", quoted(path));
            let (_, got) = process(&query, &[], Vec::new(), &line, 0)?.context("dropped")?;
            ensure!(got.parsed == [("x".to_owned(), "found".to_owned())], "{:?}", got.parsed);
        }
    }
    Ok(())
}

fn unit(record: &Json) -> anyhow::Result<()> {
    let want = record["nanoseconds"].as_i64().context("no nanoseconds")?;
    let literal = text(record, "text")?;
    // A literal equals itself and differs from its neighbours.
    for (value, expected) in [(want - 1, false), (want, true), (want + 1, false)] {
        let stream = [("d".to_owned(), format!("{value}ns"))];
        let kept = process(&format!("{{a=\"b\"}} | d == {literal}"), &stream, Vec::new(), "", 0)?;
        ensure!(kept.is_some() == expected, "{literal} against {value}ns");
    }
    Ok(())
}

// --- stages ---

fn stage(record: &Json) -> anyhow::Result<()> {
    let stream = pairs(&record["stream_labels"]);
    let mut metadata = pairs(&record["structured_metadata"]);
    for (key, label) in [
        ("preset_error", "__error__"),
        ("preset_error_details", "__error_details__"),
    ] {
        if let Some(value) = record[key].as_str() {
            metadata.push((label.to_owned(), value.to_owned()));
        }
    }
    let line = record["line"].as_str().unwrap_or_default();
    let t = record["ts_ns"].as_i64().unwrap_or_default();
    let query = format!("{{a=\"b\"}} {}", text(record, "stage")?);
    let result = process(&query, &stream, metadata, line, t)?;
    let expect = &record["expect"];
    let keep = expect["keep"].as_bool().unwrap_or(true);
    ensure!(result.is_some() == keep, "kept: {}", result.is_some());
    let Some((labels, entry)) = result else { return Ok(()) };
    if let Some(want) = expect["line"].as_str() {
        ensure!(entry.entry.line == want, "line {:?}", entry.entry.line);
    }
    if expect["labels"].is_object() && record["suite"] != "ip-label-filter" {
        let mut want: BTreeMap<_, _> = pairs(&expect["labels"]).into_iter().collect();
        // A stream has no empty labels here.
        for (name, _) in stream.iter().filter(|(_, value)| value.is_empty()) {
            if want.get(name).is_some_and(String::is_empty) {
                want.remove(name);
            }
        }
        let mut got = merged(&labels, &entry);
        // The exact text of details is Go's; that there is one is what counts.
        if let Some(details) = got.get_mut("__error_details__") {
            match want.get("__error_details__") {
                Some(text) => details.clone_from(text),
                None => drop(got.remove("__error_details__")),
            }
        }
        ensure!(got == want, "labels {got:?}");
    }
    Ok(())
}

fn line_filter(record: &Json) -> anyhow::Result<()> {
    let query = match record["filter"].as_str() {
        Some(filter) => format!("{{a=\"b\"}} {filter}"),
        None => query_text(record)?,
    };
    let parsed = Query::parse(&query)?;
    if let Some(want) = record["matchers"].as_array() {
        let got: Vec<Json> = parsed
            .matchers()
            .iter()
            .map(|m| serde_json::json!([m.name(), m.op().as_str(), m.value()]))
            .collect();
        ensure!(&got == want, "matchers {got:?}");
    }
    for case in record["lines"].as_array().into_iter().flatten() {
        let line = text(case, "line")?;
        let kept = process(&query, &[], Vec::new(), line, 0)?.is_some();
        ensure!(Some(kept) == case["match"].as_bool(), "{line:?} kept: {kept}");
    }
    Ok(())
}

fn pattern(record: &Json) -> anyhow::Result<()> {
    let pattern = text(record, "pattern")?;
    let parser = format!("{{a=\"b\"}} | pattern {}", quoted(pattern));
    let filter = format!("{{a=\"b\"}} |> {}", quoted(pattern));
    let error_is = |error: query_logql::ParseError| match record["error"].as_str() {
        Some(want) if !error.message.ends_with(want) => bail!("says {error}"),
        _ => Ok(()),
    };
    if let Some(valid) = record["valid_for_pattern_parser"].as_bool() {
        return match Query::parse(&parser) {
            Ok(_) if valid => Ok(()),
            Ok(_) => bail!("accepted"),
            Err(error) if valid => bail!("{error}"),
            Err(error) => error_is(error),
        };
    }
    if let Some(valid) = record["valid_for_line_filter"].as_bool() {
        return match Query::parse(&filter) {
            Ok(_) if valid => Ok(()),
            Ok(_) => bail!("accepted"),
            Err(error) if valid => bail!("{error}"),
            Err(error) => error_is(error),
        };
    }
    let line = text(record, "line")?;
    let names = regex::Regex::new("<([A-Za-z_][A-Za-z0-9_]*)>")?;
    let (_, entry) = process(&parser, &[], Vec::new(), line, 0)?.context("dropped")?;
    let got: Vec<&str> = entry.parsed.iter().map(|(_, v)| v.as_str()).collect();
    let want: Vec<&str> = record["captures"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
        .collect();
    ensure!(got == want, "captures {got:?}");
    if let Some(fits) = record["named_pattern_test"].as_bool() {
        let filter = format!("{{a=\"b\"}} |> {}", quoted(&names.replace_all(pattern, "<_>")));
        let kept = process(&filter, &[], Vec::new(), line, 0)?.is_some();
        ensure!(kept == fits, "fits: {kept}");
    }
    Ok(())
}

fn template_function(record: &Json) -> anyhow::Result<()> {
    let arguments: Vec<String> = record["args"]
        .as_array()
        .into_iter()
        .flatten()
        .map(Json::to_string)
        .collect();
    let template = format!("{{{{ {} {} }}}}", text(record, "func")?, arguments.join(" "));
    let query = format!("{{a=\"b\"}} | line_format {}", quoted(&template));
    let (_, entry) = process(&query, &[], Vec::new(), "", 0)?.context("dropped")?;
    ensure!(entry.parsed.is_empty(), "{:?}", entry.parsed);
    ensure!(entry.entry.line == text(record, "want")?, "{:?}", entry.entry.line);
    Ok(())
}

/// The sample of one entry, as `last_over_time` (whose value is the sample's) groups it.
fn unwrap(record: &Json) -> anyhow::Result<()> {
    let extractor = &record["extractor"];
    let label = text(extractor, "unwrap")?;
    let unwrap = match extractor["conversion"].as_str() {
        Some(conversion) => format!("{conversion}({label})"),
        None => label.to_owned(),
    };
    let list = |key: &str| -> Vec<&str> {
        extractor[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str)
            .collect()
    };
    let filter = extractor["post_filter"].as_str().unwrap_or_default();
    let groups = list("groups").join(",");
    let grouping = if extractor["no_labels"] == true {
        "by ()".to_owned()
    } else if extractor["without"] == true {
        format!("without ({groups})")
    } else if groups.is_empty() {
        String::new()
    } else {
        format!("by ({groups})")
    };
    let stages = list("stages").join(" ");
    let query = format!("last_over_time({{corpus=\"unwrap\"}} {stages} | unwrap {unwrap} {filter} [1m]) {grouping}");
    let mut stream = pairs(&record["stream_labels"]);
    stream.push(("corpus".to_owned(), "unwrap".to_owned()));
    let metadata = pairs(&record["structured_metadata"]);
    let engine = Engine::new()?;
    let line = record["line"].as_str().unwrap_or_default();
    engine.append(&[(
        LabelSet::from_pairs(stream),
        TimestampNs(BASE_NS),
        line.to_owned(),
        metadata,
    )])?;
    let answer = engine.instant(&query, BASE_NS);
    let expect = &record["expect"];
    if let Some(error) = expect["labels"]["__error__"].as_str() {
        let Err(failure) = answer else { bail!("no error") };
        ensure!(failure.to_string().contains(error), "{failure:#}");
        return Ok(());
    }
    let Value::Vector(series) = answer? else {
        bail!("no vector")
    };
    if expect["sample"] == false {
        ensure!(series.is_empty(), "{series:?}");
        return Ok(());
    }
    let [only] = &series[..] else { bail!("{series:?}") };
    ensure!(
        only.points[0].1 == expect["value"].as_f64().unwrap_or(f64::NAN),
        "{series:?}"
    );
    if expect["labels"].is_object() {
        let got: BTreeMap<String, String> = only
            .labels
            .iter()
            .filter(|(n, _)| *n != "corpus")
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect();
        ensure!(got == pairs(&expect["labels"]).into_iter().collect(), "{series:?}");
    }
    Ok(())
}

// --- ingest ---

fn level_detection(record: &Json) -> anyhow::Result<()> {
    let line = record["line"].as_str().unwrap_or_default();
    let metadata = pairs(&record["structured_metadata"]);
    let metadata: Vec<(&str, &str)> = metadata.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let got = match text(record, "suite")? {
        "entry" => ingest::detect_level(&[], &metadata, line).to_owned(),
        "entry-custom-fields" => {
            let fields = record["log_level_fields"].as_array().into_iter().flatten();
            let fields: Vec<&str> = fields.filter_map(Json::as_str).collect();
            let detector = ingest::LevelDetector::with_fields(&fields);
            detector.detect(&[], &metadata, line).to_owned()
        }
        "plain-line" => ingest::level_of_words(line).to_owned(),
        "otlp-severity-number" => {
            let number = &record["severity_number"];
            let number = number.as_str().map_or_else(|| number.to_string(), str::to_owned);
            ingest::level_of_severity_number(&number).to_owned()
        }
        other => bail!("unknown suite {other}"),
    };
    ensure!(got == text(record, "want")?, "{got}");
    Ok(())
}

/// The body through the push route of a storage of its own; accepted entries must be there afterwards, under the labels
/// that the record tells.
fn push_request(record: &Json) -> anyhow::Result<()> {
    use std::io::Write;
    use std::sync::Arc;
    use tower::ServiceExt;

    let dir = tempfile::tempdir()?;
    let options = storage::Options {
        data_dir: dir.path().to_owned(),
        retention_metrics_ms: i64::MAX / 4,
        retention_logs_ns: i64::MAX / 4,
        retention_traces_ns: i64::MAX / 4,
        retention_size: None,
        memory_limit: 1 << 30,
        free_disk_reserve: 0,
        wal_sync: storage_wal::SyncMode::Never,
    };
    let (storage, _) = storage::Storage::open(options, Arc::new(|| TimestampNs(BASE_NS)))?;
    let storage = Arc::new(storage);
    let receiver = ingest::Ingest::new(
        storage.clone(),
        ingest::Options {
            body_bytes_max: 1 << 20,
            otlp_metrics: ingest::OtlpMetrics::default(),
            derived_metrics: ingest::DerivedMetrics::default(),
        },
    );
    let plain = text(record, "body")?.as_bytes();
    let level = flate2::Compression::default();
    let body = match record["body_encoding"].as_str() {
        Some("gzip") => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), level);
            out.write_all(plain)?;
            out.finish()?
        }
        Some("deflate") => {
            let mut out = flate2::write::DeflateEncoder::new(Vec::new(), level);
            out.write_all(plain)?;
            out.finish()?
        }
        _ => plain.to_vec(),
    };
    let mut request = axum::http::Request::post(text(record, "path")?);
    request = request.header("content-type", text(record, "content_type")?);
    if let Some(encoding) = record["content_encoding"].as_str().filter(|e| !e.is_empty()) {
        request = request.header("content-encoding", encoding);
    }
    let request = request.body(axum::body::Body::from(body))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(receiver.loki_router().oneshot(request))?.status();
    let valid = record["valid"].as_bool().unwrap_or_default();
    ensure!(status.is_success() == valid, "answered {status}");
    if let Some(want) = record["labels"].as_array() {
        let stored = storage
            .logs()
            .snapshot(model::TimeRangeNs::ALL)
            .series(&[], model::TimeRangeNs::ALL)?;
        let got: Vec<BTreeMap<String, String>> = stored
            .iter()
            .map(|labels| {
                let own = labels.iter().filter(|(n, _)| *n != "service_name");
                own.map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
            })
            .collect();
        let want: Vec<BTreeMap<String, String>> = want.iter().map(|l| pairs(l).into_iter().collect()).collect();
        ensure!(got == want, "stored {got:?}");
    }
    Ok(())
}

// --- metric scenarios ---

/// 2026-01-01T00:00:00Z
const BASE_NS: i64 = 1_767_225_600_000_000_000;

/// A logs engine in a directory that goes when it goes.
struct Engine {
    logs: Logs,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

type Loaded = (LabelSet, TimestampNs, String, Vec<(String, String)>);

impl Engine {
    fn new() -> anyhow::Result<Engine> {
        let dir = tempfile::tempdir()?;
        let disk = storage_disk::Disk::real();
        let (catalogue, _) = storage_catalogue::Catalogue::open(disk.clone(), dir.path())?;
        let parts = storage_logs::Parts {
            disk,
            catalogue,
            budget: storage_budget::Budget::new(1 << 30),
            dir: dir.path().join("logs"),
            wal: storage_wal::Options {
                sync: storage_wal::SyncMode::Never,
                segment_bytes: 64 << 20,
            },
        };
        let options = storage_logs::Options {
            retention_ns: i64::MAX / 4,
            ahead_ns: i64::MAX / 4,
        };
        let (logs, _) = Logs::open(parts, options)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Engine {
            logs,
            runtime,
            _dir: dir,
        })
    }

    fn append(&self, entries: &[Loaded]) -> anyhow::Result<()> {
        let mut batch = LogBatch::default();
        for (labels, t, line, metadata) in entries {
            let stream = batch.stream_of(labels);
            batch.entry(stream, *t, line, metadata.iter().map(|(n, v)| (n, v)));
        }
        let appended = self.runtime.block_on(self.logs.append(&batch, TimestampNs(BASE_NS)))?;
        ensure!(appended.stored as usize == entries.len(), "stored {appended:?}");
        Ok(())
    }

    fn instant(&self, query: &str, at: i64) -> anyhow::Result<Value> {
        let query = Query::parse(query)?;
        Ok(query.instant(&context(), &self.logs, TimestampNs(at), OPTIONS)?.value)
    }

    fn range(&self, query: &str, from: i64, to: i64, step: i64) -> anyhow::Result<Value> {
        let query = Query::parse(query)?;
        let (from, to) = (TimestampNs(from), TimestampNs(to));
        Ok(query.range(&context(), &self.logs, from, to, step, OPTIONS)?.value)
    }
}

const OPTIONS: Options = Options {
    limit: 5000,
    direction: Direction::Backward,
};

fn context() -> Context {
    Context::new(
        Duration::from_secs(60),
        Limits {
            samples_max: 50_000_000,
            series_max: 500,
            bytes_max: 1 << 34,
        },
    )
}

fn duration(json: &Json) -> anyhow::Result<i64> {
    let text = json.as_str().context("no duration")?;
    if text == "0" {
        return Ok(0);
    }
    let pieces = regex::Regex::new("([0-9.]+)(ns|us|µs|ms|s|m|h)")?;
    let (mut total, mut read) = (0.0, 0);
    for piece in pieces.captures_iter(text) {
        let size = match &piece[2] {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            _ => 3600e9,
        };
        total += piece[1].parse::<f64>()? * size;
        read += piece[0].len();
    }
    ensure!(
        read > 0 && read == text.trim_start_matches('-').len(),
        "not a duration: {text}"
    );
    Ok(if text.starts_with('-') { -total } else { total } as i64)
}

fn run_scenario(report: &mut Report, name: &str, record: &Json) {
    let engine = load(&record["load"]);
    for (index, eval) in record["evals"].as_array().into_iter().flatten().enumerate() {
        report.case(&format!("{name}.{index}"), || match &engine {
            Ok(engine) => run_eval(engine, eval).with_context(|| eval["query"].to_string()),
            Err(error) => bail!("the load failed: {error:#}"),
        });
    }
}

fn load(items: &Json) -> anyhow::Result<Engine> {
    let engine = Engine::new()?;
    let mut entries: Vec<Loaded> = Vec::new();
    for item in items.as_array().into_iter().flatten() {
        let matchers = parse_matchers(text(item, "stream")?)?;
        let labels = LabelSet::from_pairs(matchers.iter().map(|m| (m.name(), m.value())));
        let at = duration(&item["at"])?;
        let count = item["repeat_count"].as_i64().unwrap_or(1);
        let every = if count > 1 { duration(&item["repeat_every"])? } else { 0 };
        for i in 0..count {
            let line = text(item, "line")?.replace("{{.i}}", &i.to_string());
            let metadata = pairs(&item["structured_metadata"]);
            entries.push((labels.clone(), TimestampNs(BASE_NS + at + i * every), line, metadata));
        }
    }
    if !entries.is_empty() {
        engine.append(&entries)?;
    }
    Ok(engine)
}

fn run_eval(engine: &Engine, eval: &Json) -> anyhow::Result<()> {
    let query = text(eval, "query")?;
    let instant = eval["type"] == "instant";
    let mut steps = Vec::new();
    let answer = if instant {
        let at = BASE_NS + duration(&eval["at"])?;
        steps.push(at / 1_000_000);
        engine.instant(query, at)
    } else {
        let (from, to) = (BASE_NS + duration(&eval["from"])?, BASE_NS + duration(&eval["to"])?);
        let step = duration(&eval["step"])?;
        steps.extend(
            (0..)
                .map(|i| from + i * step)
                .take_while(|t| *t <= to)
                .map(|t| t / 1_000_000),
        );
        engine.range(query, from, to, step)
    };
    let expect = &eval["expect"];
    if expect["fail"] == true {
        let Err(error) = answer else { bail!("does not fail") };
        let error = format!("{error:#}");
        if let Some(part) = expect["error_contains"].as_str() {
            ensure!(error.contains(part), "fails with {error}");
        }
        if let Some(pattern) = expect["error_regex"].as_str() {
            ensure!(regex::Regex::new(pattern)?.is_match(&error), "fails with {error}");
        }
        return Ok(());
    }
    let answer = answer?;
    if let Some(want) = number(&expect["scalar"]) {
        return match &answer {
            Value::Scalar(_, got) if instant => {
                ensure!(close(*got, want), "{got}");
                Ok(())
            }
            Value::Matrix(series) if !instant => {
                ensure!(series.len() == 1 && series[0].labels.is_empty(), "{series:?}");
                ensure!(series[0].points.len() == steps.len(), "{series:?}");
                ensure!(series[0].points.iter().all(|(_, v)| close(*v, want)), "{series:?}");
                Ok(())
            }
            other => bail!("{other:?}"),
        };
    }
    let series = match answer {
        Value::Vector(series) if instant => series,
        Value::Matrix(series) if !instant => series,
        other => bail!("the type of {other:?}"),
    };
    let mut got: Vec<Labelled> = series.iter().map(|s| row(s, &steps)).collect();
    let mut want = Vec::new();
    for series in expect["series"].as_array().into_iter().flatten() {
        let labels: BTreeMap<String, String> = pairs(&series["labels"]).into_iter().collect();
        let values: Vec<Option<f64>> = series["values"].as_array().into_iter().flatten().map(number).collect();
        want.push((labels, values));
    }
    if expect["ordered"] != true {
        got.sort_by(|a, b| a.0.cmp(&b.0));
        want.sort_by(|a, b| a.0.cmp(&b.0));
    }
    let same = got.len() == want.len()
        && got.iter().zip(&want).all(|(g, w)| {
            g.0 == w.0
                && g.1.len() == w.1.len()
                && g.1.iter().zip(&w.1).all(|(g, w)| match (g, w) {
                    (Some(g), Some(w)) => close(*g, *w),
                    (g, w) => g.is_none() && w.is_none(),
                })
        });
    ensure!(same, "got {got:?}, want {want:?}");
    Ok(())
}

/// A series: its labels, and its value at each step.
type Labelled = (BTreeMap<String, String>, Vec<Option<f64>>);

fn row(series: &Series, steps: &[i64]) -> Labelled {
    let labels = series
        .labels
        .iter()
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .collect();
    let values = steps
        .iter()
        .map(|t| series.points.iter().find(|p| p.0 == *t).map(|p| p.1))
        .collect();
    (labels, values)
}

fn number(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Inf" | "+Inf") => Some(f64::INFINITY),
        Some("-Inf") => Some(f64::NEG_INFINITY),
        _ => json.as_f64(),
    }
}

/// Equal but for the last digits, which depend on the order of summation.
fn close(got: f64, want: f64) -> bool {
    got == want || got.is_nan() && want.is_nan() || (got - want).abs() <= 1e-9 * want.abs().max(got.abs())
}
