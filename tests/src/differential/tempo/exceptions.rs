//! Where we do not answer as Tempo does, and why. A question that falls under one of these is not asked.

/// Why a query is not compared; `None`: it is.
pub(super) fn exception(query: &str) -> Option<&'static str> {
    let has = |text: &str| query.contains(text);
    let negated = has("!(") || has("{ !") || has("&& !.") || has("&& !span");
    let of_many = has("event") || has("link");
    let spansets = query.matches('{').count() > 1;
    if negated {
        return Some("negation: Tempo fetches only spans for which the negated condition holds, so `!` finds nothing");
    }
    if of_many && (has("||") || spansets) {
        return Some("events and links in alternatives: Tempo looks at the first event only");
    }
    let of_two_types = [
        "event.attempt",
        "event.fatal",
        "event.share",
        "event.tags",
        "link.attempt",
    ]
    .iter()
    .any(|f| has(f));
    if of_two_types && query.matches("event").count() + query.matches("link").count() > 1 {
        return Some("conditions on one event of two types: Tempo looks at the first event that has both attributes");
    }
    if of_many && has("|") {
        return Some(
            "events in pipelines: Tempo gives spans without events an event with an empty name at their start",
        );
    }
    if has("by(nestedSetParent") || has("nestedSetParent > -1") || has("nestedSetParent = 0 &&") {
        return Some("places beside other conditions: what is not read counts as the place 0");
    }
    if has("childCount") {
        return Some("span:childCount: Tempo leaves another trace's counts in traces without a root");
    }
    if has("by(root") {
        return Some("by(rootName): the traces that Tempo then shows have lost their root");
    }
    if has("nestedSetLeft") || has("nestedSetRight") || has("nestedSetParent = 1") || has("nestedSetParent = 3") {
        return Some("nested-set numbers follow the order of children, which is nobody's promise");
    }
    if has(" = nil") && (has("{ .") || has("&& .") || has("|| .") || has("(.")) {
        return Some("`.a = nil`: Tempo finds spans that lack it in one of the two scopes, we in both");
    }
    if sums_missing(query) {
        return Some("sum_over_time: in Tempo a span without the attribute takes the whole sample away");
    }
    if NUMBERS.iter().any(|n| has(n)) {
        return Some(
            "numbers of two types: Tempo's storage compares floats with floats only; the language compares all",
        );
    }
    if has("by(span.ratio > 0)") || has("by(span.retries + 1)") || has("by(duration > 100ms)") {
        return Some("by() of an expression: Tempo sees only values that its comparison holds for");
    }
    if has("link:traceID = ") {
        return Some("ids of links: Tempo compares text without leading zeros, we compare ids");
    }
    if has(" &>> ") || has(" &<< ") {
        return Some(
            "unions of ancestors and descendants: Tempo passes over spans that lie in several trees of the other side",
        );
    }
    let all_right = ["!<< {", "!>> {", "!< {", "!> {", "!~ {"]
        .iter()
        .any(|op| has(&format!("{op}}}")) || has(&format!("{op} true }}")));
    if all_right {
        return Some("negated relations of all spans: Tempo leaves out those whose place is not known");
    }
    if has("compare({ true }, 1)") {
        return Some("compare: which of equally frequent values comes first is chance");
    }
    if has("by(span.tags)") || has("by(span.codes)") {
        return Some("lists as labels: Tempo has them all under one label, of which the last one counts");
    }
    if has("= \"GET\" }") && has("by(span.http.method,") {
        return Some("labels that a condition names: Tempo sees only values that it holds for");
    }
    if SHOWN.contains(&query) || (has("&> {") || has("&~ {")) && (has("span.http.method") || has("by(span.ratio)")) {
        return Some(
            "which values of a field of several conditions are shown and grouped by: Tempo has what any of its scans met",
        );
    }
    if (has("topk(") || has("bottomk("))
        && (has("| topk(3) | bottomk(2)") || has("0.9) by(kind) | topk") || has("topk(3) >"))
    {
        return Some("ranks of rates: sums of fractions differ in their last digit, which decides between equals");
    }
    None
}

/// Queries of which only the values shown differ.
const SHOWN: [&str; 10] = [
    "{ span.http.method = .http.method }",
    r#"{ span.cached } && { .level = "gold" }"#,
    r#"{ .level = "gold" } !> { .retries > 1 }"#,
    r#"{ .retries <= 100 && span.retries > 1 } | by(.level) | min(span.http.status_code) > 1 | coalesce()"#,
    r#"{ span.cached } !< { name = "SELECT" } | select(nestedSetParent, duration, resource."odd name") | by(resource."odd name")"#,
    r#"{ rootServiceName =~ "GET|POST" || rootServiceName = "Ünïcode shop" || span.http.status_code != 500 } | by(span.ratio) | count() > 1 | coalesce()"#,
    r#"{ span.flags = false && instrumentation:name !~ "s.*" && resource.service.name !~ "GET|POST" } | by(span.http.status_code) | count() >= 1"#,
    r#"{ .level = "gold" } < { span.weights <= 2.5 || trace:rootService !~ ".+" } | by(span.ratio) | avg(duration) > 1s"#,
    r#"({ duration < 1ms } && { span.http.method = "GET" }) !<< { span.http.status_code != 200 && span.http.url != "http" }"#,
    r#"{ span.http.method = "GET" } << { span.db.rows > -500 || span.tags < "red" }"#,
];

/// Why a path is not compared.
pub(super) fn exception_of_path(path: &str, parameters: &[(String, String)]) -> Option<&'static str> {
    let is = |name: &str, value: &str| parameters.iter().any(|(n, v)| n == name && v.contains(value));
    let given = |name: &str| parameters.iter().any(|(n, _)| n == name);
    let q = |text: &str| parameters.iter().any(|(n, v)| n == "q" && v == text);
    if path.starts_with("/api/search/tag/") && (path.contains("/status.code/") || path.contains("/error/")) {
        return Some("special tags: Tempo lists the numbers of its column, and none for error");
    }
    let tag = path
        .strip_prefix("/api/v2/search/tag/")
        .and_then(|rest| rest.strip_suffix("/values"));
    let raw = [
        "uration",
        "id",
        "ID",
        "Count",
        "SinceStart",
        "tatus",
        "ind",
        "nestedSet",
        "parent",
        "span.mixed",
    ];
    if tag.is_some_and(|tag| raw.iter().any(|end| tag.contains(end)) && !tag.starts_with("span.")) {
        return Some("values of intrinsics: Tempo lists the raw numbers and bytes of its columns");
    }
    if tag == Some("event:name") && given("q") || tag == Some("name") && is("q", "shop") {
        return Some("names under a filter: Tempo stops before it has seen all spans");
    }
    if tag.is_some() && is("q", "nowhere") {
        return Some("Tempo repeats the value that the filter names, whether any span has it or not");
    }
    if path.ends_with("/search/tags") && (given("limit") || is("q", "span.nothing") || is("q", "kind = server }")) {
        return Some("names: Tempo looks only at the first batches of a filtered answer");
    }
    if path.ends_with("/search/tags")
        && parameters
            .first()
            .is_some_and(|(_, from)| from.parse().ok() == Some(super::cases::TO_S))
    {
        return Some("limits of ranges are a matter of configuration");
    }
    let numbers = ["retries=", "error=true"];
    if path == "/api/search"
        && parameters
            .iter()
            .any(|(n, v)| n == "tags" && numbers.iter().any(|t| v.contains(t)))
    {
        return Some("tags of numbers and errors: Tempo finds texts only");
    }
    let start = parameters.iter().find(|(n, _)| n == "start").map(|(_, v)| v.as_str());
    if path == "/api/search" && start.is_some_and(|s| s.len() > 10) {
        return Some("times in other spellings: this build of Tempo takes whole seconds only");
    }
    if path == "/api/search" && given("minDuration") && given("q") {
        return Some("which spans of more than are shown come first is chance");
    }
    if path == "/api/metrics/query" && given("step") {
        return Some("an instant query has no step, so we do not take a wrong one for none");
    }
    if path.starts_with("/api/v2/traces/") && q("{}") {
        return Some("a filter that lets all through is still a filter");
    }
    None
}

/// Comparisons of a float attribute with a whole number or a duration, or of a whole one with a fraction.
const NUMBERS: [&str; 9] = [
    "span.http.status_code = 500.0",
    "span.http.status_code > 404.5",
    "span.ratio = 3 ",
    "span.ratio > 0 ",
    "span.ratio < 1ms",
    "span.level > 2 ",
    "span.level != 3",
    "span.codes = 3.0",
    "span.weights = 1 ",
];

fn sums_missing(query: &str) -> bool {
    let always = [
        "duration)",
        "span:duration)",
        "traceDuration)",
        "resource.host.cpus)",
        "span:childCount)",
    ];
    let mut sums = query.split("sum_over_time(").skip(1);
    sums.any(|of| !always.iter().any(|field| of.starts_with(field)))
}
