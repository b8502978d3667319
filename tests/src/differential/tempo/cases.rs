//! The questions: written ones by subject, and generated ones.

use super::T0_MS;
use super::case::Case;
use super::grammar;
use super::traces::{span_id, trace_id};
use crate::differential::random::Random;

/// Generated searches, and generated metrics queries.
const SEARCHES: u64 = 420;
const METRICS: u64 = 300;

/// The window that holds every span, in seconds.
const FROM_S: i64 = T0_MS / 1000 - 60;
pub(super) const TO_S: i64 = T0_MS / 1000 + 1260;

/// All of them.
pub(super) fn cases(seed: u64) -> Vec<Case> {
    let mut out = Vec::new();
    out.extend(SEARCH.iter().map(|q| search(q)));
    out.extend(RANGES.iter().map(|q| range(q, 60)));
    out.extend(by_id());
    out.extend(tags());
    out.extend(parameters());
    out.extend(WRONG.iter().map(|q| search(q)));
    out.extend(WRONG_METRICS.iter().map(|q| range(q, 60)));
    let mut r = Random::new(seed).fork("searches");
    for _ in 0..SEARCHES {
        let query = grammar::search(&mut r);
        out.push(match r.below(8) {
            0 => {
                let from = FROM_S + r.below(600) as i64;
                within(&query, from, from + 60 + r.below(600) as i64)
            }
            _ => search(&query),
        });
    }
    let mut r = Random::new(seed).fork("metrics");
    for _ in 0..METRICS {
        let query = grammar::metrics(&mut r);
        out.push(match r.below(6) {
            0 => instant(&query),
            1 => range(&query, 7),
            n => range(&query, [0, 0, 60, 300, 120, 600][n as usize]),
        });
    }
    out.retain(Case::is_compared);
    out
}

fn search(query: &str) -> Case {
    within(query, FROM_S, TO_S)
}

fn within(query: &str, from: i64, to: i64) -> Case {
    let (from, to) = (from.to_string(), to.to_string());
    let parameters = [
        ("q", query),
        ("start", &from),
        ("end", &to),
        ("limit", "1000"),
        ("spss", "100"),
    ];
    Case::get("/api/search", &parameters)
}

fn range(query: &str, step_s: i64) -> Case {
    let (from, to, step) = (FROM_S.to_string(), TO_S.to_string(), format!("{step_s}s"));
    let parameters = [
        ("q", query),
        ("start", &from),
        ("end", &to),
        ("step", &step),
        ("exemplars", "0"),
    ];
    Case::get("/api/metrics/query_range", &parameters)
}

fn instant(query: &str) -> Case {
    let (from, to) = (FROM_S.to_string(), TO_S.to_string());
    Case::get("/api/metrics/query", &[("q", query), ("start", &from), ("end", &to)])
}

/// What each spanset rule is about.
const SEARCH: &[&str] = &[
    "{}",
    "{ true }",
    "{ false }",
    "{ 1 = 1 }",
    "{ 1 < 1h }",
    "{ .a = .a }",
    // Missing attributes, and nil.
    "{ span.nothing = nil }",
    "{ nil = span.nothing }",
    "{ span.nothing != nil }",
    "{ span.nothing != \"x\" }",
    "{ span.nothing !~ \"x\" }",
    "{ !(span.nothing = \"x\") }",
    "{ .service.name = nil }",
    "{ .service.name != nil }",
    "{ span.service.name = nil && resource.service.name != nil }",
    "{ event.exception.type = nil }",
    "{ event.exception.type != nil }",
    "{ link.relation = nil }",
    "{ link.relation != nil }",
    "{ instrumentation.lang = nil }",
    "{ instrumentation.lang != nil }",
    "{ span.tags = nil }",
    "{ span.tags != nil }",
    "{ span.nested != nil }",
    "{ span.payload != nil }",
    "{ span.mixed != nil }",
    "{ name != nil }",
    "{ status != nil }",
    // Attributes that are the condition themselves.
    "{ span.cached }",
    "{ .cached }",
    "{ !span.cached }",
    "{ span.cached = false }",
    "{ resource.ephemeral && span.cached }",
    "{ span.http.method }",
    "{ !(span.cached) }",
    // Types.
    "{ span.http.status_code = 500 }",
    "{ span.http.status_code = \"500\" }",
    "{ span.http.status_code != 500 }",
    "{ span.http.status_code != \"500\" }",
    "{ span.http.status_code =~ \"5.*\" }",
    "{ span.http.status_code > 400 }",
    "{ span.http.status_code > \"400\" }",
    "{ span.http.status_code = 500.0 }",
    "{ span.http.status_code > 404.5 }",
    "{ span.ratio = 3 }",
    "{ span.ratio > 0 }",
    "{ span.ratio < 1ms }",
    "{ span.level = 3 }",
    "{ span.level = true }",
    "{ span.level = 2.5 }",
    "{ span.level > 2 }",
    "{ span.level != \"gold\" }",
    "{ span.level != 3 }",
    "{ .level = \"gold\" }",
    "{ .level != \"gold\" }",
    "{ .level =~ \"go.*\" }",
    "{ .retries = 100 }",
    "{ .retries = 1 }",
    "{ .http.method = \"from the resource\" }",
    "{ span.size = 9223372036854775807 }",
    "{ span.size > 9223372036854775806 }",
    "{ span.http.method > \"P\" }",
    "{ span.http.method =~ \"(?i)GET\" }",
    "{ span.http.method !~ \"G.T|P.*\" }",
    "{ span.http.method =~ \"GE\" }",
    "{ span.http.method = span.http.url }",
    "{ span.http.method = .http.method }",
    // Lists.
    "{ span.tags = \"red\" }",
    "{ span.tags != \"red\" }",
    "{ span.tags =~ \"r.*\" }",
    "{ span.tags !~ \"r.*\" }",
    "{ span.tags > \"green\" }",
    "{ span.codes = 3 }",
    "{ span.codes != 3 }",
    "{ span.codes > 4 }",
    "{ span.codes = 3.0 }",
    "{ span.weights = 1 }",
    "{ span.weights < 1.5 }",
    "{ span.flags = true }",
    "{ span.flags }",
    "{ span.flags != true }",
    "{ span.mixed = \"red\" }",
    "{ span.mixed = 1 }",
    "{ resource.zones = \"b\" }",
    "{ \"red\" = span.tags }",
    "{ span.tags = span.http.method }",
    "{ span.codes + 1 = 3 }",
    // Events and links: of one or of several.
    "{ event:name = \"exception\" }",
    "{ event:name != \"exception\" }",
    "{ event:name !~ \"exc.*\" }",
    "{ event:name = \"exception\" && event.attempt = 1 }",
    "{ event:name = \"exception\" && event.exception.type = \"Timeout\" }",
    "{ event.exception.type = \"Timeout\" && event.attempt > 1 }",
    "{ event.exception.type = \"Timeout\" || event.attempt > 2 }",
    "{ event.exception.type = \"Timeout\" && event.exception.type = \"IOError\" }",
    "{ event:name = \"retry\" && event:name = \"exception\" }",
    "{ event.level = \"gold\" && kind = server && event.fatal }",
    "{ event.level = \"gold\" && (kind = server || event.fatal) }",
    "{ !(event:name = \"retry\") && event:name = \"exception\" }",
    "{ event:name = \"retry\" } && { event:name = \"exception\" }",
    "{ event:timeSinceStart > 1ms && event:name = \"retry\" }",
    "{ event:timeSinceStart < 1us }",
    "{ event.tags = \"pink\" && event.share = 0.25 }",
    "{ link.relation = \"follows\" && link.attempt = 1 }",
    "{ link.relation = \"follows\" && link.level = \"gold\" }",
    "{ link.level = \"gold\" && event.level = \"gold\" }",
    "{ link:traceID = \"00\" }",
    "{ link:spanID != \"00\" }",
    // Intrinsics.
    "{ name = \"\" }",
    "{ span:name =~ \"GET.*\" }",
    "{ name = \"render \\\"page\\\"\" }",
    "{ name = `render \"page\"` }",
    "{ status = error && statusMessage = \"boom\" }",
    "{ span:statusMessage = \"\" }",
    "{ kind = unspecified }",
    "{ kind != internal && status != ok }",
    "{ duration = 0 }",
    "{ duration < 1us }",
    "{ duration > 1.5s }",
    "{ traceDuration > 5s }",
    "{ trace:duration < 1ms }",
    "{ rootName = \"GET /\" }",
    "{ trace:rootName =~ \"GET.*\" && trace:rootService = \"shop\" }",
    "{ rootServiceName = \"<root span not yet received>\" }",
    "{ rootServiceName = \"\" }",
    "{ span:childCount > 5 }",
    "{ span:childCount = 0 && nestedSetParent = -1 }",
    "{ span:parentID = \"\" }",
    "{ instrumentation:name = \"otel-rust\" && instrumentation:version = \"0.9\" }",
    "{ instrumentation:name = \"\" }",
    "{ nestedSetParent = 0 }",
    "{ nestedSetParent < 0 }",
    "{ nestedSetLeft = 1 }",
    "{ nestedSetRight > 30 }",
    "{ .duration = \"an attribute\" }",
    "{ span.duration = \"an attribute\" && duration > 1ms }",
    // Arithmetic.
    "{ span.retries + 1 = 3 }",
    "{ span.retries * 2 > resource.host.cpus }",
    "{ duration / 2 > 200ms }",
    "{ -span.db.rows > 100 }",
    "{ span.db.rows % 7 = 0 }",
    "{ span.ratio ^ 2 > 8 }",
    "{ span.ratio / 0 > 1 }",
    "{ span.retries - .missing = 1 }",
    "{ duration > traceDuration - 1ms }",
    "{ 2 * 3 = 6 && span.retries = 1 + 1 }",
    // Precedence.
    "{ kind = server || status = error && name = \"SELECT\" }",
    "{ name = \"SELECT\" && kind = server || status = error }",
    "{ kind = server || (status = error && name = \"SELECT\") }",
    "{ !(kind = server) && !(status = error) }",
    "{ kind = server } && { status = error } || { name = \"SELECT\" }",
    "{ kind = server } || { status = error } && { span.nothing = 1 }",
    "{ kind = server } >> { status = error } && { name = \"SELECT\" }",
    // Pipelines.
    "{ kind = server } | { status = error }",
    "{ kind = server } && { status = error } | { name = \"SELECT\" }",
    "{} | count() > 10",
    "{} | count() = 1",
    "count() > 20",
    "by(resource.service.name)",
    "by(resource.service.name) | count() > 3",
    "select(span.http.method)",
    "{} | by(status) | by(kind) | count() > 2",
    "{} | by(resource.service.name) | coalesce() | count() > 20",
    "{} | by(resource.service.name) | { status = error } | count() > 1",
    "{} | by(span.missing)",
    "{} | by(span.ratio > 0)",
    "{} | by(duration > 100ms) | avg(duration) > 200ms",
    "{} | by(span.retries + 1)",
    "{} | avg(duration) > 300ms",
    "{} | max(span.ratio) > 100",
    "{} | min(.retries) >= 1",
    "{} | sum(span.db.rows) < 0",
    "{} | avg(span.http.method) > 1",
    "{} | max(duration) > 2s | count() > 5",
    "{} | max(duration) > 2s | { kind = client }",
    "{} | count() > 3 | by(kind)",
    "{ status = error } | select(span.http.method, resource.level, kind, event:name, link:traceID)",
    "{ status = error } | select(nestedSetParent, nestedSetLeft, nestedSetRight, span:childCount)",
    "{ status = error } | select(name, duration, traceDuration, rootName, trace:rootService, trace:id, span:id, span:parentID)",
    "{ status = error } | select(.level, event.level, instrumentation.level, link.level)",
    "{ status = error } | select(statusMessage, instrumentation:name, instrumentation:version, event:timeSinceStart)",
    "{ status = error } | select(span.tags, span.codes, span.weights, span.flags, span.mixed, span.nested, span.payload)",
    "{ status = error } | select(span.\"quoted name\", span.\"a.b \\\"c\\\"\", resource.\"odd name\")",
    "({ kind = server } | count() > 1) && ({ status = error } | count() > 1)",
    "({ kind = server }) >> ({ status = error })",
    "({ kind = server } && { status = error }) >> { name = \"SELECT\" }",
    "({ kind = server } | by(resource.service.name) | coalesce()) > { status = error }",
    // Structure.
    "{ nestedSetParent < 0 } > {}",
    "{ nestedSetParent < 0 } >> {}",
    "{} << { nestedSetParent < 0 }",
    "{} < { span:childCount = 0 }",
    "{ kind = server } ~ { kind = server }",
    "{ kind = server } !~ { kind = server }",
    "{ span.nothing = 1 } !>> { kind = server }",
    "{ span.nothing = 1 } !> { kind = server }",
    "{ span.nothing = 1 } !~ { kind = server }",
    "{ span.nothing = 1 } !<< { kind = server }",
    "{ kind = server } &>> { status = error }",
    "{ kind = server } &<< { status = error }",
    "{ kind = server } &~ { kind = client }",
    "{ kind = server } > { kind = client } > { status = error }",
    "{ kind = server } >> { kind = client } >> { status = error }",
    "{ rootName = \"GET /\" } >> { status = error }",
    // Hints.
    "{ status = error } with(most_recent=true)",
    "{ status = error } with(most_recent=false)",
    "{ status = error } with(unknown=\"x\", other=1s)",
];

/// What each function is about.
const RANGES: &[&str] = &[
    "{} | rate()",
    "{} | count_over_time()",
    "{ false } | rate()",
    "{ span.nothing = 1 } | rate()",
    "{} | rate() by(resource.service.name)",
    "{} | rate() by(.service.name)",
    "{} | rate() by(span.missing)",
    "{} | rate() by(span.missing, span.nothing)",
    "{} | rate() by(span.http.method, status, kind)",
    "{} | rate() by(span.http.status_code)",
    "{} | rate() by(span.ratio)",
    "{} | rate() by(span.cached)",
    "{} | rate() by(span.level)",
    "{} | rate() by(.level)",
    "{} | rate() by(span.tags)",
    "{} | rate() by(span.codes)",
    "{} | rate() by(event:name)",
    "{} | rate() by(event.level)",
    "{} | rate() by(link.relation)",
    "{} | rate() by(instrumentation.lang)",
    "{} | rate() by(span.\"quoted name\")",
    "{} | rate() by(resource.\"odd name\", span.\"a.b \\\"c\\\"\")",
    "{} | rate() by(rootName, trace:rootService)",
    "{} | rate() by(span:name, span:kind, span:status)",
    "{} | rate() by(statusMessage)",
    "{} | rate() by(nestedSetParent)",
    "{} | rate() by(span:childCount)",
    "{ kind = server } | count_over_time() by(instrumentation:version)",
    "{ kind = server } >> { status = error } | rate() by(name)",
    "{} | by(resource.service.name) | rate()",
    "{} | by(resource.service.name) | count() > 2 | rate()",
    "{} | select(span.http.method) | rate()",
    "{} | count() > 10 | rate()",
    "{ kind = server } && { status = error } | rate() by(kind)",
    "{} | min_over_time(duration)",
    "{} | max_over_time(duration) by(name)",
    "{} | avg_over_time(duration) by(kind)",
    "{} | sum_over_time(duration) by(status)",
    "{} | avg_over_time(span:duration)",
    "{ span.ratio != nil } | avg_over_time(span.ratio)",
    "{} | avg_over_time(span.ratio) by(kind)",
    "{} | min_over_time(span.http.status_code)",
    "{} | max_over_time(span.http.method)",
    "{} | sum_over_time(.retries) by(resource.service.name)",
    "{} | max_over_time(span.codes)",
    "{} | max_over_time(traceDuration)",
    "{} | avg_over_time(event:timeSinceStart)",
    "{} | sum_over_time(span:childCount)",
    "{} | sum_over_time(span.size)",
    "{} | sum_over_time(event.attempt)",
    "{} | max_over_time(nestedSetRight)",
    "{} | quantile_over_time(duration, 0.5)",
    "{} | quantile_over_time(duration, 0.5, 0.9, 0.99) by(kind)",
    "{} | quantile_over_time(duration, 0, 1)",
    "{} | quantile_over_time(span.http.status_code, 0.5)",
    "{} | quantile_over_time(span.ratio, 0.5)",
    "{} | quantile_over_time(.retries, 0.9)",
    "{} | histogram_over_time(duration)",
    "{} | histogram_over_time(duration) by(kind)",
    "{} | histogram_over_time(span.http.status_code) by(status, name)",
    "{} | histogram_over_time(span.ratio)",
    "{} | histogram_over_time(.retries)",
    "{} | compare({ status = error })",
    "{ nestedSetParent < 0 } | compare({ kind = server })",
    "{ nestedSetParent < 0 } | compare({ kind = server }, 2)",
    "{ kind = server } | compare({ status = error }, 5, 1748736060000000000, 1748736660000000000)",
    "{} | compare({ span.nothing = 1 })",
    "{} | compare({ true }, 1)",
    "{} | rate() by(resource.service.name) | topk(2)",
    "{} | rate() by(resource.service.name) | bottomk(2)",
    "{} | rate() by(resource.service.name) | topk(20)",
    "{} | rate() by(name, kind) | topk(3) | bottomk(2)",
    "{} | quantile_over_time(duration, 0.5, 0.9) by(kind) | topk(2)",
    "{} | histogram_over_time(duration) | topk(3)",
    "{} | max_over_time(duration) by(name) | topk(2)",
    "{} | rate() > 0.5",
    "{} | rate() by(kind) >= 0.1",
    "{} | rate() by(kind) = 0",
    "{} | rate() by(kind) != 0",
    "{} | max_over_time(duration) by(kind) > 1s",
    "{} | max_over_time(duration) by(kind) < 500ms",
    "{} | rate() by(kind) > 0.1 | topk(1)",
    "{} | rate() by(kind) | topk(3) > 0.1",
    "({ status = error } | rate()) / ({} | rate())",
    "({ status = error } | rate() by(kind)) / ({} | rate() by(kind))",
    "({ status = error } | rate() by(kind)) * 100",
    "100 * ({ status = error } | rate())",
    "({ status = error } | rate()) - ({} | rate() by(kind))",
    "({} | rate() by(kind)) + ({} | rate())",
    "({} | rate() by(kind)) / ({} | rate() by(status))",
    "(({ status = error } | rate()) / ({} | rate())) * 100",
    "({} | avg_over_time(duration)) * 1000",
    "({} | sum_over_time(duration)) / ({} | count_over_time())",
    "({ span.nothing = 1 } | rate()) / ({} | rate())",
    "({} | rate()) / ({ span.nothing = 1 } | rate())",
    "({} | rate()) / 0",
    "({ status = error } | rate() by(name)) / ({} | rate() by(name)) | topk(2)",
    "({} | quantile_over_time(duration, 0.9)) * 2",
    "{} | rate() with(exemplars=false)",
    "{} | rate() with(unknown=1)",
    "{} | count_over_time() with(sample=false)",
];

/// What is refused.
const WRONG: &[&str] = &[
    "",
    "{",
    "}",
    "{ }}",
    "{ .a = }",
    "{ = 1 }",
    "{ .a }  {",
    "{ . }",
    "{ .a = \"x }",
    "{ .a = 'x' }",
    "{ name }",
    "{ duration }",
    "{ kind }",
    "{ 1 }",
    "{ \"a\" }",
    "{ 1s }",
    "{ error }",
    "{ name = 1 }",
    "{ duration = \"1s\" }",
    "{ status = \"error\" }",
    "{ status > error }",
    "{ kind = error }",
    "{ status = server }",
    "{ kind < server }",
    "{ true > false }",
    "{ true && 1 }",
    "{ 1 + \"a\" = 2 }",
    "{ -true }",
    "{ -\"a\" = 1 }",
    "{ !1 }",
    "{ !name }",
    "{ name = nil }",
    "{ resource.service.name = nil }",
    "{ nil = nil }",
    "{ .a =~ 1 }",
    "{ .a =~ .b }",
    "{ .a =~ \"(\" }",
    "{ name =~ \"[\" }",
    "{ duration =~ \"a\" }",
    "{ nestedSetLeft = \"a\" }",
    "{ parent.a = 1 }",
    "{ parent = nil }",
    "{ unknown = 1 }",
    "{ span:unknown = 1 }",
    "{ trace:name = \"a\" }",
    "{ .a = 1 } |",
    "| { .a = 1 }",
    "{ .a = 1 } | foo()",
    "{ .a = 1 } | count()",
    "{ .a = 1 } | count(.a) > 1",
    "{ .a = 1 } | avg() > 1",
    "{ .a = 1 } | avg(name) > 1",
    "{ .a = 1 } | avg(1) > 1",
    "{ .a = 1 } | sum(status) > 1",
    "{ .a = 1 } | by()",
    "{ .a = 1 } | by(1)",
    "{ .a = 1 } | select()",
    "{ .a = 1 } | select(1)",
    "coalesce()",
    "{ .a = 1 } | count() > avg(duration)",
    "{ .a = 1 } | max(duration) - min(duration) > 1s",
    "{ .a = 1 } | count() + 1 > 2",
    "{ .a = 1 } | 1 < 2",
    "({ .a = 1 } | count()) > ({ .b = 1 } | count())",
    "{ .a = 1 } > 1",
    "{ .a = 1 } ~~ { .b = 1 }",
    "{ .a = 1 } <> { .b = 1 }",
    "{ .a = 1 } !&& { .b = 1 }",
    "{ .a = 1 } with",
    "{ .a = 1 } with()",
    "{ .a = 1 } with(a)",
    "{ .a = 1 } with(a=)",
    "{ .a = 1.5d }",
    "{ .a = 99999999999999999999 }",
    "{ .a ^^ 2 = 1 }",
    "{ (.a = 1 }",
    "{ .a = 1) }",
    "{ .\"a = 1 }",
    "{ .a = 1 } | rate()",
    "{} | by(resource.service.name) | { kind = server } >> { status = error }",
];

const WRONG_METRICS: &[&str] = &[
    "{}",
    "{} | count() > 1",
    "{} | rate(",
    "{} | rate(1)",
    "{} | rate() by()",
    "{} | rate() by(1)",
    "{} | rate() by(name, kind, status, .a, .b, .c)",
    "{} | rate() by(name, kind, status, .a, .b)",
    "{} | quantile_over_time(duration, 0.5) by(name, kind, status, .a, .b)",
    "{} | histogram_over_time(duration) by(name, kind, status, .a, .b)",
    "{} | quantile_over_time(duration)",
    "{} | quantile_over_time(duration, 1.5)",
    "{} | quantile_over_time(duration, -0.1)",
    "{} | quantile_over_time(0.5)",
    "{} | min_over_time()",
    "{} | min_over_time(name)",
    "{} | sum_over_time(1)",
    "{} | avg_over_time(status)",
    "{} | histogram_over_time()",
    "{} | compare()",
    "{} | compare({ .a = 1 }, 0)",
    "{} | compare({ .a = 1 }, 1001)",
    "{} | compare({ .a = 1 }, 10, 5)",
    "{} | compare({ .a = 1 }, 10, 5, 4)",
    "{} | compare({ .a = 1 }, 10, 5, 5)",
    "{} | compare({ .a = 1 }) | topk(1)",
    "{} | compare({ .a = 1 }) by(name)",
    "{} | rate() | topk(0)",
    "{} | rate() | topk()",
    "{} | rate() | topk(-1)",
    "{} | rate() | bottomk(1.5)",
    "{} | rate() | rate()",
    "{} | rate() > \"a\"",
    "{} | rate() =~ \"a\"",
    "({} | rate()) / \"a\"",
    "({} | rate()) / 1s",
    "({} | rate()) % 2",
    "({} | rate()) ^ 2",
    "({} | rate()) / {}",
    "({} | rate()) / ({} | compare({ .a = 1 }))",
    "({} | rate()) / ({})",
    "{} | topk(1)",
    "{} | rate() by(name) | by(kind)",
];

fn by_id() -> Vec<Case> {
    let mut out = Vec::new();
    for number in [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 14, 20, 32, 199] {
        let id = format!("{:032x}", trace_id(number));
        for version in ["/api/traces/", "/api/v2/traces/"] {
            let case = Case::get(&format!("{version}{id}"), &[]);
            out.push(case.clone());
            if number < 9 {
                out.push(Case { protobuf: true, ..case });
            }
        }
    }
    let spelled = [
        format!("{:x}", trace_id(0)),
        format!("{:X}", trace_id(7)),
        format!("{:x}", trace_id(14)),
        "abc".to_owned(),
        "0".to_owned(),
        "x1".to_owned(),
        "1g".to_owned(),
        "1".repeat(33),
        "0".repeat(40),
        " 1".replace(' ', "%20"),
    ];
    for id in spelled {
        for version in ["/api/traces/", "/api/v2/traces/"] {
            out.push(Case::get(&format!("{version}{id}"), &[]));
        }
    }
    let id = format!("{:032x}", trace_id(2));
    let v2 = format!("/api/v2/traces/{id}");
    for q in [
        "{ kind = server }",
        "{ span.http.method = \"GET\" && duration > 1ms }",
        "{ event:name = \"exception\" }",
        "{ span.nothing = 1 }",
        "{ kind = server } | count() > 1",
        "{ kind = server } >> { kind = client }",
        "{ traceDuration > 1s }",
        "{ rootName = \"x\" }",
        "{ nestedSetParent < 0 }",
        "{ span:childCount > 1 }",
        "{} | rate()",
        "{ .a = ",
        "{}",
    ] {
        out.push(Case::get(&v2, &[("q", q)]));
        out.push(Case::get(&v2, &[("q", q), ("keep_hierarchy", "true")]));
    }
    for (name, value) in [
        ("ancestor_depth", "1"),
        ("ancestor_depth", "0"),
        ("ancestor_depth", "-2"),
        ("match_depth", "1"),
        ("match_depth", "-1"),
        ("match_depth", "-2"),
        ("match_depth", "x"),
    ] {
        let q = ("q", "{ kind = server }");
        out.push(Case::get(&v2, &[q, ("keep_hierarchy", "true"), (name, value)]));
        out.push(Case::get(&v2, &[q, (name, value)]));
    }
    let (from, to) = (FROM_S.to_string(), TO_S.to_string());
    for times in [
        [("start", from.as_str()), ("end", to.as_str())],
        [("start", to.as_str()), ("end", from.as_str())],
        [("start", "x"), ("end", to.as_str())],
    ] {
        out.push(Case::get(&v2, &times));
        out.push(Case::get(&format!("/api/traces/{id}"), &times));
    }
    // Ids as conditions.
    for number in [0, 2, 7, 8] {
        let (id, span) = (trace_id(number), span_id(number, 1));
        for query in [
            format!("{{ trace:id = \"{id:032x}\" }}"),
            format!("{{ trace:id = \"{id:x}\" }}"),
            format!("{{ trace:id = \"{id:X}\" }}"),
            format!("{{ trace:id != \"{id:032x}\" && kind = server }}"),
            format!("{{ trace:id =~ \"{id:032x}\" }}"),
            format!("{{ trace:id =~ \".*{:02x}\" }}", id & 0xff),
            format!("{{ trace:id = \"{id:032x}\" && kind = server }}"),
            format!("{{ trace:id = \"{id:032x}\" || name = \"SELECT\" }}"),
            format!("{{ trace:id = \"{id:032x}\" }} >> {{ status = error }}"),
            format!("{{ trace:id > \"{id:032x}\" && kind = server }}"),
            format!("{{ span:id = \"{span:016x}\" }}"),
            format!("{{ span:id = \"{span:x}\" }}"),
            format!("{{ span:id != \"{span:016x}\" && kind = server }}"),
            format!("{{ span:parentID = \"{:016x}\" }}", span_id(number, 0)),
            format!("{{ span:parentID =~ \"{:04x}.*\" }}", span_id(number, 0) >> 48),
            format!("{{ link:traceID = \"{:032x}\" }}", trace_id(number % 6)),
            format!("{{ link:traceID = \"{:x}\" }}", trace_id(number % 6)),
            format!("{{ link:spanID = \"{:016x}\" }}", span_id(number % 6, 0)),
        ] {
            out.push(search(&query));
        }
    }
    out
}

fn tags() -> Vec<Case> {
    let (from, to) = (FROM_S.to_string(), TO_S.to_string());
    let window = [("start", from.as_str()), ("end", to.as_str())];
    let with = |more: &[(&'static str, &'static str)]| -> Vec<(&str, &str)> {
        window.iter().copied().chain(more.iter().copied()).collect()
    };
    let filters = [
        "{ resource.service.name = \"shop\" }",
        "{ span.http.method = \"GET\" && kind = server }",
        "{ resource.service.name = }",
        "{ resource.service.name = \"shop\" && span.http.method = }",
        "{ name =~ \"GET.*\" || kind = client }",
        "{ span.nothing = 1 }",
        "{ status = error",
        "{ .level = \"gold\" }",
        "{ event:name = \"exception\" }",
        "{ kind = server } >> { kind = client }",
        "{}",
        "nonsense",
    ];
    let mut out = Vec::new();
    for endpoint in ["/api/search/tags", "/api/v2/search/tags"] {
        out.push(Case::get(endpoint, &window));
        for scope in [
            "resource",
            "span",
            "event",
            "link",
            "instrumentation",
            "intrinsic",
            "trace",
            "none",
            "unknown",
        ] {
            out.push(Case::get(endpoint, &with(&[("scope", scope)])));
        }
        for q in filters {
            out.push(Case::get(endpoint, &with(&[("q", q)])));
            out.push(Case::get(endpoint, &with(&[("q", q), ("scope", "span")])));
        }
        out.push(Case::get(endpoint, &with(&[("limit", "x")])));
        out.push(Case::get(endpoint, &[("start", "x"), ("end", &to)]));
        out.push(Case::get(endpoint, &[("start", &to), ("end", &from)]));
    }
    let names = [
        "resource.service.name",
        ".service.name",
        "span.service.name",
        "span.http.method",
        ".http.method",
        "span.http.status_code",
        ".retries",
        "span.ratio",
        "span.cached",
        "span.level",
        ".level",
        "event.level",
        "link.level",
        "instrumentation.level",
        "instrumentation.lang",
        "span.tags",
        "event.tags",
        "span.codes",
        "span.weights",
        "span.flags",
        "span.mixed",
        "span.nested",
        "span.payload",
        "resource.zones",
        "span.http.url",
        "span.%22quoted name%22",
        "resource.%22odd name%22",
        "span.missing",
        "name",
        "span:name",
        "status",
        "span:status",
        "kind",
        "span:kind",
        "statusMessage",
        "span:statusMessage",
        "duration",
        "span:duration",
        "traceDuration",
        "trace:duration",
        "rootName",
        "rootServiceName",
        "trace:rootName",
        "trace:rootService",
        "trace:id",
        "span:id",
        "span:parentID",
        "span:childCount",
        "event:name",
        "event:timeSinceStart",
        "link:traceID",
        "link:spanID",
        "instrumentation:name",
        "instrumentation:version",
        "nestedSetParent",
        "nestedSetLeft",
        "parent",
        "unknown",
        "span.",
    ];
    for name in names {
        let endpoint = format!("/api/v2/search/tag/{}/values", name.replace(' ', "%20"));
        out.push(Case::get(&endpoint, &window));
    }
    for name in [
        "resource.service.name",
        "span.http.method",
        ".level",
        "name",
        "status",
        "event:name",
        "span.retries",
    ] {
        for q in filters {
            let endpoint = format!("/api/v2/search/tag/{name}/values");
            out.push(Case::get(&endpoint, &with(&[("q", q)])));
        }
    }
    for q in [
        "{ resource.service.name = \"shop\" }",
        "{ resource.service.name = \"nowhere\" && kind = server }",
    ] {
        out.push(Case::get(
            "/api/v2/search/tag/resource.service.name/values",
            &with(&[("q", q)]),
        ));
        out.push(Case::get("/api/v2/search/tag/.service.name/values", &with(&[("q", q)])));
    }
    for name in [
        "service.name",
        "http.method",
        "http.status_code",
        "level",
        "tags",
        "retries",
        "cached",
        "ratio",
        "status.code",
        "error",
        "name",
        "root.name",
        "root.service.name",
        "status",
        "missing",
        "http.url",
        "relation",
        "exception.type",
        "lang",
        "payload",
    ] {
        out.push(Case::get(&format!("/api/search/tag/{name}/values"), &window));
    }
    out
}

fn parameters() -> Vec<Case> {
    let (from, to) = (FROM_S.to_string(), TO_S.to_string());
    let (from, to) = (from.as_str(), to.as_str());
    let mut out = Vec::new();
    let q = ("q", "{ status = error }");
    let all: &[&[(&str, &str)]] = &[
        &[("start", from), ("end", to), ("limit", "0"), q],
        &[("start", from), ("end", to), ("limit", "-1"), q],
        &[("start", from), ("end", to), ("limit", "x"), q],
        &[("start", from), ("end", to), ("limit", "262145"), q],
        &[("start", from), ("end", to), ("limit", "1000"), ("spss", "101"), q],
        &[("start", from), ("end", to), ("limit", "1000"), ("spss", "x"), q],
        &[("start", from), ("end", to), ("limit", "1000"), ("spss", "-1"), q],
        &[("start", from), q],
        &[("end", to), q],
        &[("start", to), ("end", from), q],
        &[("start", from), ("end", from), q],
        &[("start", "x"), ("end", to), q],
        &[("start", from), ("end", to), ("tags", "a=b"), q],
        &[
            ("start", from),
            ("end", to),
            ("minDuration", "x"),
            ("tags", "service.name=shop"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("minDuration", "2s"),
            ("maxDuration", "1s"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "service.name=shop"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "service.name=sho"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "http.method=GET"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "http.method=GET level=gold"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "service.name=shop http.method=POST"),
        ],
        &[("start", from), ("end", to), ("limit", "1000"), ("tags", "name=SELECT")],
        &[("start", from), ("end", to), ("limit", "1000"), ("tags", "name=SEL")],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "root.name=GET"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "root.service.name=shop"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "status.code=error"),
        ],
        &[("start", from), ("end", to), ("limit", "1000"), ("tags", "error=true")],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("tags", "quoted\\ name=one"),
        ],
        &[("start", from), ("end", to), ("limit", "1000"), ("tags", "retries=1")],
        &[("start", from), ("end", to), ("limit", "1000"), ("minDuration", "2s")],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("maxDuration", "100ms"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("minDuration", "1s"),
            ("maxDuration", "2s"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("minDuration", "1s"),
            ("tags", "service.name=shop"),
        ],
        &[
            ("start", from),
            ("end", to),
            ("limit", "1000"),
            ("minDuration", "2s"),
            q,
        ],
        &[
            ("start", "1748735940.5"),
            ("end", "1748737260.5"),
            ("limit", "1000"),
            ("spss", "100"),
            q,
        ],
        &[
            ("start", "1748735940000000000"),
            ("end", "1748737260000000000"),
            ("limit", "1000"),
            ("spss", "100"),
            q,
        ],
        &[
            ("start", "2025-06-01T00:00:00Z"),
            ("end", "2025-06-01T00:10:00Z"),
            ("limit", "1000"),
            ("spss", "100"),
            q,
        ],
    ];
    out.extend(all.iter().map(|parameters| Case::get("/api/search", parameters)));
    let q = ("q", "{} | rate() by(kind)");
    let none = ("exemplars", "0");
    let all: &[&[(&str, &str)]] = &[
        &[("start", from), ("end", to), ("step", "x"), none, q],
        &[("start", from), ("end", to), ("step", "0"), none, q],
        &[("start", from), ("end", to), ("step", "-1s"), none, q],
        &[("start", from), ("end", to), ("step", "1ms"), none, q],
        &[("start", from), ("end", to), ("step", "60"), none, q],
        &[("start", from), ("end", to), ("step", "90.5"), none, q],
        &[("start", from), ("end", to), ("step", "1m30s"), none, q],
        &[("start", from), ("end", to), ("step", "1h"), none, q],
        &[("start", from), ("end", to), none, q],
        &[("start", to), ("end", from), ("step", "60s"), none, q],
        &[("start", from), ("end", from), ("step", "60s"), none, q],
        &[("start", "x"), ("end", to), ("step", "60s"), none, q],
        &[("start", "1748736123"), ("end", "1748736777"), ("step", "60s"), none, q],
        &[
            ("start", "1748736123.25"),
            ("end", "1748736777.75"),
            ("step", "7s"),
            none,
            q,
        ],
        &[
            ("start", "1748736123000000001"),
            ("end", "1748736777000000001"),
            ("step", "45s"),
            none,
            q,
        ],
        &[("start", "1748736120"), ("end", "1748736720"), ("step", "60s"), none, q],
        &[
            ("start", "2025-06-01T00:00:00Z"),
            ("end", "2025-06-01T00:10:00Z"),
            ("step", "60s"),
            none,
            q,
        ],
        &[("start", from), ("end", to), ("step", "60s"), ("exemplars", "x"), q],
        &[("start", from), ("end", to), ("step", "60s"), ("exemplars", "-1"), q],
        &[
            ("start", from),
            ("end", to),
            ("step", "60s"),
            none,
            ("query", "{} | rate() by(kind)"),
        ],
        &[("start", from), ("end", to), ("step", "60s"), none],
    ];
    for parameters in all {
        out.push(Case::get("/api/metrics/query_range", parameters));
        out.push(Case::get("/api/metrics/query", parameters));
    }
    for query in RANGES {
        out.push(instant(query));
    }
    for endpoint in [
        "/api/echo",
        "/api/unknown",
        "/api/metrics/summary",
        "/api/overrides",
        "/ready",
    ] {
        out.push(Case::get(endpoint, &[]));
    }
    out
}
