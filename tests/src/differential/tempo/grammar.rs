//! TraceQL by its grammar: spans are filtered, related, grouped, counted. Mostly sensible, now and then not.

use super::super::random::Random;

/// What can be compared: how it is written, and literals that some spans have and some have not.
struct Field {
    name: &'static str,
    literals: &'static [&'static str],
    kind: Kind,
    /// An attribute: of what type it is, only the spans know.
    attribute: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    /// A whole number.
    Number,
    Fraction,
    Duration,
    Bool,
    Word,
}

use Kind::{Bool, Duration, Fraction, Number, Text, Word};

const fn attribute(name: &'static str, kind: Kind, literals: &'static [&'static str]) -> Field {
    Field {
        name,
        literals,
        kind,
        attribute: true,
    }
}

const fn intrinsic(name: &'static str, kind: Kind, literals: &'static [&'static str]) -> Field {
    Field {
        name,
        literals,
        kind,
        attribute: false,
    }
}

const SERVICES: &[&str] = &[
    r#""shop""#,
    r#""cart""#,
    r#""edge""#,
    r#""from the span""#,
    r#""Ünïcode shop""#,
];
const METHODS: &[&str] = &[r#""GET""#, r#""POST""#, r#""get""#, r#""from the resource""#];
const LEVELS: &[&str] = &[r#""gold""#, r#""info""#, r#""error""#, r#""library""#, r#""""#];
const CODES: &[&str] = &["200", "404", "500"];
const BOOLS: &[&str] = &["true", "false"];
const COLOURS: &[&str] = &[r#""red""#, r#""green""#, r#""pink""#];
const TIMES: &[&str] = &["1us", "500ns", "1ms", "20ms", "300ms", "1.5s", "1s"];
const STATUSES: &[&str] = &["ok", "error", "unset"];
const KINDS: &[&str] = &["server", "client", "producer", "consumer", "internal", "unspecified"];
const NAMES: &[&str] = &[
    r#""GET /""#,
    r#""SELECT""#,
    r#""publish""#,
    r#""render \"page\"""#,
    r#""""#,
];

const FIELDS: &[Field] = &[
    attribute("resource.service.name", Text, SERVICES),
    attribute(".service.name", Text, SERVICES),
    attribute("span.service.name", Text, SERVICES),
    attribute("span.http.method", Text, METHODS),
    attribute(".http.method", Text, METHODS),
    attribute("resource.http.method", Text, METHODS),
    attribute("span.http.url", Text, &[r#""http://x/3?q=%20&a=1""#, r#""http""#]),
    attribute("resource.level", Text, LEVELS),
    attribute("span.level", Text, LEVELS),
    attribute(".level", Text, LEVELS),
    attribute("event.level", Text, LEVELS),
    attribute("link.level", Text, LEVELS),
    attribute("instrumentation.level", Text, LEVELS),
    attribute("instrumentation.lang", Text, &[r#""go""#, r#""rust""#]),
    attribute("event.exception.type", Text, &[r#""IOError""#, r#""Timeout""#]),
    attribute("event.exception.message", Text, &[r#""gone""#, r#""no route""#]),
    attribute("link.relation", Text, &[r#""follows""#, r#""child_of""#]),
    attribute(r#"resource."odd name""#, Text, &[r#""x y""#]),
    attribute(r#"span."quoted name""#, Text, &[r#""two words""#, r#""th\"ree""#]),
    attribute("resource.k8s.pod.name", Text, &[r#""shop-0""#, r#""Ünïcode-shop-6""#]),
    attribute("resource.service.namespace", Text, &[r#""front""#, r#""back""#]),
    attribute("resource.deployment.environment", Text, &[r#""prod""#, r#""Prod""#]),
    attribute("span.db.system", Text, &[r#""redis""#, r#""postgresql""#]),
    attribute("span.peer.service", Text, &[r#""redis""#]),
    attribute("span.duration", Text, &[r#""an attribute""#]),
    attribute("span.tags", Text, COLOURS),
    attribute(".tags", Text, COLOURS),
    attribute("event.tags", Text, COLOURS),
    attribute("resource.zones", Text, &[r#""a""#, r#""b""#]),
    attribute("span.mixed", Text, COLOURS),
    attribute("span.nested", Text, &[r#""b""#]),
    attribute("span.payload", Text, &[r#""AAH+AQ==""#]),
    attribute("span.missing", Text, &[r#""x""#]),
    attribute("span.http.status_code", Number, CODES),
    attribute(".http.status_code", Number, CODES),
    attribute("span.retries", Number, &["0", "1", "2", "100"]),
    attribute(".retries", Number, &["0", "1", "2", "100"]),
    attribute("resource.retries", Number, &["100"]),
    attribute("resource.host.cpus", Number, &["1", "2", "8"]),
    attribute("span.db.rows", Number, &["0", "-500", "1000"]),
    attribute("span.size", Number, &["9223372036854775807", "9223372036854775806"]),
    attribute("span.codes", Number, &["0", "1", "5"]),
    attribute("event.attempt", Number, &["0", "1", "3"]),
    attribute("link.attempt", Number, &["0", "1", "2"]),
    attribute("instrumentation.lib.build", Number, &["0", "30"]),
    attribute(r#"span."a.b \"c\"""#, Number, &["0", "1"]),
    attribute("span.ratio", Fraction, &["0.5", "-1.25", "3.0", "1e9", "0.1"]),
    attribute("resource.load", Fraction, &["0.25", "1.0"]),
    attribute("span.weights", Fraction, &["0.5", "1.0", "2.5"]),
    attribute("event.share", Fraction, &["0.25", "0.0"]),
    attribute("span.cached", Bool, BOOLS),
    attribute("resource.ephemeral", Bool, BOOLS),
    attribute("span.flags", Bool, BOOLS),
    attribute("event.fatal", Bool, BOOLS),
    attribute("instrumentation.lib.stable", Bool, BOOLS),
    intrinsic("name", Text, NAMES),
    intrinsic("span:name", Text, NAMES),
    intrinsic("status", Word, STATUSES),
    intrinsic("span:status", Word, STATUSES),
    intrinsic("kind", Word, KINDS),
    intrinsic("span:kind", Word, KINDS),
    intrinsic("statusMessage", Text, &[r#""boom""#, r#""timeout""#, r#""""#]),
    intrinsic("duration", Duration, TIMES),
    intrinsic("span:duration", Duration, TIMES),
    intrinsic("traceDuration", Duration, TIMES),
    intrinsic("trace:duration", Duration, TIMES),
    intrinsic("rootName", Text, NAMES),
    intrinsic("trace:rootService", Text, SERVICES),
    intrinsic("rootServiceName", Text, SERVICES),
    intrinsic("span:childCount", Number, &["0", "1", "5"]),
    intrinsic("event:name", Text, &[r#""exception""#, r#""retry""#]),
    intrinsic("event:timeSinceStart", Duration, TIMES),
    intrinsic("instrumentation:name", Text, &[r#""otel-go""#, r#""""#]),
    intrinsic("instrumentation:version", Text, &[r#""1.2""#, r#""2.0""#]),
    intrinsic("nestedSetParent", Number, &["-1", "0"]),
];

fn field(r: &mut Random) -> &'static Field {
    &FIELDS[r.below(FIELDS.len() as u64) as usize]
}

fn one_of(r: &mut Random, kinds: &[Kind]) -> &'static Field {
    loop {
        let found = field(r);
        if kinds.contains(&found.kind) {
            return found;
        }
    }
}

fn comparison(r: &mut Random) -> String {
    let f = field(r);
    match r.below(14) {
        0 if f.attribute => return format!("{} != nil", f.name),
        1 if f.attribute && f.name != "resource.service.name" => return format!("{} = nil", f.name),
        2 if f.attribute && f.kind == Bool => return f.name.to_owned(),
        4 if f.kind == Number || f.kind == Duration => {
            let other = one_of(r, &[Number, Duration]);
            return format!("{} {} {}", f.name, order(r), arithmetic(r, other));
        }
        5 if f.kind == Text => {
            let other = one_of(r, &[Text]);
            return format!("{} {} {}", f.name, r.pick(&["=", "!="]), other.name);
        }
        _ => {}
    }
    let literal = r.pick(f.literals);
    match f.kind {
        Text if r.one_in(3) => {
            let regex = r.pick(&[
                r#""s.*""#,
                r#"".*e.*""#,
                r#""GET|POST""#,
                r#""(?i)get.*""#,
                r#"".+""#,
                r#"".*""#,
                r#""g.*d""#,
            ]);
            format!("{} {} {regex}", f.name, r.pick(&["=~", "!~"]))
        }
        Text if r.one_in(5) => format!("{} {} {literal}", f.name, order(r)),
        Text | Bool | Word => match r.one_in(6) {
            true => format!("{literal} {} {}", r.pick(&["=", "!="]), f.name),
            false => format!("{} {} {literal}", f.name, r.pick(&["=", "=", "!="])),
        },
        Number | Fraction | Duration => format!("{} {} {literal}", f.name, order(r)),
    }
}

fn order<'a>(r: &mut Random) -> &'a str {
    r.pick(&["=", "!=", "<", "<=", ">", ">="])
}

fn arithmetic(r: &mut Random, f: &Field) -> String {
    let n = r.pick(&["2", "3", "0.5", "10"]);
    match r.below(5) {
        0 => f.name.to_owned(),
        1 => format!("-{}", f.name),
        2 => format!("({} {} {n})", f.name, r.pick(&["+", "-", "*", "/", "%", "^"])),
        3 => format!("{} {} {n}", f.name, r.pick(&["+", "-", "*", "/"])),
        _ => format!("{n} * {}", f.name),
    }
}

fn condition(r: &mut Random, depth: u64) -> String {
    if depth == 0 {
        return comparison(r);
    }
    match r.below(7) {
        0..=2 => comparison(r),
        3 | 4 => format!("{} && {}", condition(r, depth - 1), condition(r, depth - 1)),
        5 => format!("{} || {}", condition(r, depth - 1), condition(r, depth - 1)),
        _ => format!("({})", condition(r, depth - 1)),
    }
}

fn filter(r: &mut Random) -> String {
    match r.below(12) {
        0 => "{}".to_owned(),
        1 => "{ true }".to_owned(),
        n => format!("{{ {} }}", condition(r, n % 3)),
    }
}

/// A filter that is likely to leave a few spans.
fn simple(r: &mut Random) -> String {
    let filters = [
        "{ kind = server }",
        "{ status = error }",
        "{ resource.service.name = \"shop\" }",
        "{ resource.service.name != \"shop\" }",
        "{ span.http.method = \"GET\" }",
        "{ duration > 100ms }",
        "{ duration < 1ms }",
        "{ nestedSetParent < 0 }",
        "{ .level = \"gold\" }",
        "{ event:name = \"exception\" }",
        "{ span.cached }",
        "{ .retries > 1 }",
        "{ name = \"SELECT\" }",
        "{ span.nothing = 1 }",
        "{}",
    ];
    r.pick(&filters).to_owned()
}

fn spansets(r: &mut Random, depth: u64) -> String {
    if depth == 0 {
        return if r.one_in(3) { filter(r) } else { simple(r) };
    }
    let operators = [
        ">", "<", ">>", "<<", "~", "!>", "!<", "!>>", "!<<", "!~", "&>", "&<", "&>>", "&<<", "&~", "&&", "||",
    ];
    let left = spansets(r, depth - 1);
    let below = r.below(depth);
    let right = spansets(r, below);
    let left = if depth > 1 && r.one_in(2) {
        format!("({left})")
    } else {
        left
    };
    format!("{left} {} {right}", r.pick(&operators))
}

const GROUPS: &[&str] = &[
    "resource.service.name",
    ".service.name",
    "name",
    "status",
    "kind",
    "span.http.method",
    "span.http.status_code",
    ".level",
    "span.missing",
    "span.cached",
    "rootServiceName",
    "span.ratio",
    "resource.\"odd name\"",
    "instrumentation:name",
    "span:childCount",
];

const NUMBERS: &[&str] = &[
    "duration",
    "span:duration",
    "span.http.status_code",
    ".retries",
    "span.ratio",
    "span.db.rows",
    "resource.host.cpus",
    "span.http.method",
    "span.missing",
    "span:childCount",
    "traceDuration",
    "event.attempt",
    "event:timeSinceStart",
];

fn aggregate(r: &mut Random) -> String {
    if r.one_in(2) {
        return format!("count() {} {}", order(r), r.pick(&["0", "1", "2", "3", "5"]));
    }
    let of = NUMBERS[r.below(7) as usize];
    let literal = match of {
        "duration" | "span:duration" => r.pick(&["1ms", "100ms", "1s"]),
        _ => r.pick(&["0", "1", "2.5", "300"]),
    };
    format!(
        "{}({of}) {} {literal}",
        r.pick(&["avg", "min", "max", "sum"]),
        r.pick(&["<", ">", ">=", "!="])
    )
}

fn stage(r: &mut Random) -> String {
    match r.below(9) {
        0..=2 => aggregate(r),
        3 | 4 => format!("by({})", r.pick(GROUPS)),
        5 => "coalesce()".to_owned(),
        6 => format!("select({})", field(r).name),
        7 => format!("select({}, {}, {})", field(r).name, field(r).name, r.pick(GROUPS)),
        _ => filter(r),
    }
}

/// A query for spans.
pub(super) fn search(r: &mut Random) -> String {
    match r.below(10) {
        0..=3 => filter(r),
        4 | 5 => spansets(r, 1),
        6 => spansets(r, 2),
        7 => format!("{} | {}", filter(r), stage(r)),
        8 => format!("{} | {} | {}", spansets(r, 1), stage(r), stage(r)),
        _ => {
            let group = r.pick(GROUPS);
            let then = if r.one_in(2) { " | coalesce()" } else { "" };
            format!("{} | by({group}) | {}{then}", filter(r), aggregate(r))
        }
    }
}

/// A query for series.
pub(super) fn metrics(r: &mut Random) -> String {
    match r.below(12) {
        0 => compare(r),
        1 => mathematics(r),
        2 => {
            let n = r.pick(&["1", "2", "3"]);
            format!("{} | {}({n})", grouped(r), r.pick(&["topk", "bottomk"]))
        }
        3 => {
            let n = r.pick(&["0", "0.01", "0.1", "1", "2.5"]);
            format!("{} {} {n}", grouped(r), order(r))
        }
        _ => {
            let from = if r.one_in(4) { spansets(r, 1) } else { filter(r) };
            format!("{from} | {}", function(r))
        }
    }
}

fn grouped(r: &mut Random) -> String {
    let by = r.pick(GROUPS);
    format!("{} | {} by({by})", simple(r), ungrouped(r))
}

fn ungrouped(r: &mut Random) -> String {
    let of = r.pick(NUMBERS);
    match r.below(6) {
        0 | 1 => "rate()".to_owned(),
        2 => "count_over_time()".to_owned(),
        _ => format!("{}_over_time({of})", r.pick(&["min", "max", "avg", "sum"])),
    }
}

fn function(r: &mut Random) -> String {
    let of = r.pick(NUMBERS);
    let by = match r.below(4) {
        0 => String::new(),
        1 => format!(" by({}, {})", r.pick(GROUPS), r.pick(GROUPS)),
        _ => format!(" by({})", r.pick(GROUPS)),
    };
    let function = match r.below(8) {
        0 => format!(
            "quantile_over_time({of}, {})",
            r.pick(&["0.5", "0.5, 0.99", "0, 1", "0.25, 0.75, 0.9"])
        ),
        1 => format!("histogram_over_time({of})"),
        _ => ungrouped(r),
    };
    format!("{function}{by}")
}

fn compare(r: &mut Random) -> String {
    let top = r.pick(&["", ", 3", ", 10", ", 100"]);
    format!("{} | compare({}{top})", simple(r), simple(r))
}

fn mathematics(r: &mut Random) -> String {
    let by = match r.one_in(3) {
        true => String::new(),
        false => format!(" by({})", r.pick(GROUPS)),
    };
    let left = format!("({} | {}{by})", simple(r), ungrouped(r));
    let right = match r.below(3) {
        0 => r.pick(&["2", "100", "0.5", "-1"]).to_owned(),
        _ => format!("({} | {}{by})", simple(r), ungrouped(r)),
    };
    format!("{left} {} {right}", r.pick(&["+", "-", "*", "/"]))
}
