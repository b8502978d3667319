//! The data: some forty streams over forty minutes that have everything a parser can stumble over.
//!
//! JSON, flat, nested and broken; logfmt, quoted and broken; access lines, Java's and ANSI-coloured lines, packed lines;
//! numbers, durations and sizes to unwrap, counters with resets; lines that are empty, very long, of several lines or of odd
//! characters; equal timestamps, duplicates, streams that arrive out of order; structured metadata that collides with labels
//! and with what the lines hold; records that come as OTLP.

use super::{LENGTH_NS, T0_NS};
use crate::differential::random::Random;

const SECOND: i64 = 1_000_000_000;

/// One stream.
#[derive(Clone, Debug)]
pub(crate) struct Stream {
    /// Name and value.
    pub(crate) labels: Vec<(String, String)>,
    /// In the order in which they are sent.
    pub(crate) entries: Vec<Entry>,
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Nanoseconds since the epoch.
    pub(crate) time_ns: i64,
    /// The line.
    pub(crate) line: String,
    /// Structured metadata.
    pub(crate) metadata: Vec<(String, String)>,
}

/// All streams for a seed.
pub(crate) fn dataset(seed: u64) -> Vec<Stream> {
    let mut maker = Maker {
        random: Random::new(seed),
        out: Vec::new(),
    };
    maker.json();
    maker.logfmt();
    maker.access();
    maker.plain();
    maker.coloured();
    maker.packed();
    maker.numbers();
    maker.counters();
    maker.odd();
    maker.times();
    maker.metadata();
    maker.levels();
    maker.mixed();
    maker.out
}

struct Maker {
    random: Random,
    out: Vec<Stream>,
}

/// A line and its structured metadata.
type Made = (String, Vec<(String, String)>);

fn bare(line: impl Into<String>) -> Made {
    (line.into(), Vec::new())
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

const METHODS: &[&str] = &["GET", "POST", "PUT", "DELETE"];
const PATHS: &[&str] = &[
    "/",
    "/api/users",
    "/api/users/17",
    "/api/orders?page=2&size=50",
    "/health",
    "/static/app.js",
    "/żółw/été",
];
const STATUS: &[&str] = &["200", "201", "301", "404", "500", "503"];
const LEVELS: &[&str] = &["debug", "info", "warn", "error"];
const IPS: &[&str] = &[
    "10.0.0.7",
    "10.0.1.200",
    "192.168.4.1",
    "8.8.8.8",
    "2001:db8::1",
    "2001:db8:0:1::ff",
    "::1",
    "300.1.2.3",
];
const DURATIONS: &[&str] = &["12ms", "1.5s", "850us", "2m3s", "0s", "3ns", "1h2m", "17"];
const SIZES: &[&str] = &["512B", "12kB", "1.5MiB", "3MB", "0B", "1,024", "2 GB", "77"];
const USERS: &[&str] = &["ann", "bob", "eve", "Zoë"];

impl Maker {
    /// A stream whose entry `k` of `count` is `line(k, random)`, evenly paced, a few nanoseconds off.
    fn add(&mut self, labels: &[(&str, &str)], count: i64, mut line: impl FnMut(i64, &mut Random) -> Made) {
        let labels = pairs(labels);
        let mut random = self.random.fork(&format!("{labels:?}"));
        let pace = LENGTH_NS / count;
        let entries = (0..count).map(|k| {
            let jitter = random.below(pace as u64 / 2) as i64;
            let (line, metadata) = line(k, &mut random);
            Entry {
                time_ns: T0_NS + k * pace + jitter,
                line,
                metadata,
            }
        });
        let entries = entries.collect();
        self.out.push(Stream { labels, entries });
    }

    fn json(&mut self) {
        for (env, level) in [("prod", "info"), ("prod", "error"), ("dev", "info"), ("dev", "warn")] {
            self.add(&[("app", "shop"), ("env", env), ("level", level)], 60, |k, r| {
                bare(json_line(k, r))
            });
        }
        self.add(&[("app", "flat"), ("env", "prod")], 80, |k, r| {
            let (level, status) = (r.pick(LEVELS), r.pick(STATUS));
            let (duration, size, user) = (r.pick(DURATIONS), r.pick(SIZES), r.pick(USERS));
            bare(format!(
                r#"{{"level":"{level}","status":{status},"duration":"{duration}","size":"{size}","user":"{user}","n":{k},"ip":"{}"}}"#,
                r.pick(IPS)
            ))
        });
    }

    fn logfmt(&mut self) {
        for (env, instance) in [("prod", "a"), ("prod", "b"), ("dev", "a")] {
            let labels = [("job", "api"), ("env", env), ("instance", instance)];
            self.add(&labels, 80, |k, r| bare(logfmt_line(k, r)));
        }
        self.add(&[("job", "metrics-ish"), ("env", "prod")], 60, |k, r| {
            let (caller, level) = (r.pick(&["main.go:12", "http.go:99", "db.go:7"]), r.pick(LEVELS));
            bare(format!(
                r#"ts=2025-06-01T00:{:02}:00Z caller={caller} level={level} msg="request {k} done" dur={} bytes={} code={}"#,
                k % 60,
                r.pick(DURATIONS),
                r.below(100_000),
                r.pick(STATUS)
            ))
        });
    }

    fn access(&mut self) {
        for host in ["web-1", "web-2"] {
            self.add(&[("job", "nginx"), ("host", host)], 80, |k, r| {
                let (ip, method, path, status) = (r.pick(IPS), r.pick(METHODS), r.pick(PATHS), r.pick(STATUS));
                let agent = r.pick(&["curl/8.0", "Mozilla/5.0 (X11; Linux)", "-"]);
                bare(format!(
                    r#"{ip} - {} [01/Jun/2025:00:{:02}:07 +0000] "{method} {path} HTTP/1.1" {status} {} "-" "{agent}" {}.{:03}"#,
                    r.pick(USERS),
                    k % 60,
                    r.below(50_000),
                    r.below(3),
                    r.below(1000)
                ))
            });
        }
    }

    fn plain(&mut self) {
        self.add(&[("app", "java"), ("env", "prod"), ("pod", "java-0")], 60, |k, r| {
            let level = r.pick(&["DEBUG", "INFO ", "WARN ", "ERROR", "FATAL"]);
            let text = match r.below(4) {
                0 => format!("User {} logged in from {}", r.pick(USERS), r.pick(IPS)),
                1 => format!("Took {} to read {}", r.pick(DURATIONS), r.pick(SIZES)),
                2 => "java.lang.IllegalStateException: closed\n\tat com.example.Foo.bar(Foo.java:17)\n\tat com.example.Main.main(Main.java:3)".to_owned(),
                _ => format!("id={:08x} retry {}/3", r.next() as u32, r.below(4)),
            };
            bare(format!("2025-06-01 00:{:02}:{:02},{:03} {level} [main] com.example.Foo - {text}", k % 60, r.below(60), r.below(1000)))
        });
    }

    fn coloured(&mut self) {
        self.add(&[("app", "tty")], 40, |k, r| {
            let code = r.pick(&["31", "32;1", "0", "38;5;208"]);
            bare(format!(
                "\u{1b}[{code}m{}\u{1b}[0m step {k} \u{1b}[1m{}\u{1b}[22m",
                r.pick(LEVELS),
                r.pick(USERS)
            ))
        });
    }

    fn packed(&mut self) {
        self.add(&[("app", "packed"), ("env", "dev")], 40, |k, r| match r.below(6) {
            0 => bare(format!(r#"{{"_entry":"plain {k}","pod":"p-{}","n":3}}"#, r.below(3))),
            1 => bare(format!(r#"{{"pod":"p-{}","other":"x"}}"#, r.below(3))),
            2 => bare(format!("not packed {k}")),
            3 => bare(format!(
                r#"{{"_entry":"level=warn k={k}","env":"packed","pod":"p \"q\"","a.b":"c"}}"#
            )),
            _ => bare(format!(
                r#"{{"app":"inner","pod":"p-{}","_entry":"{{\"k\":{k},\"s\":\"t\"}}"}}"#,
                r.below(3)
            )),
        });
    }

    fn numbers(&mut self) {
        for kind in ["a", "b"] {
            self.add(&[("app", "numbers"), ("kind", kind)], 100, |k, r| {
                let value = match r.below(24) {
                    0 => "NaN".to_owned(),
                    1 => "-3.5".to_owned(),
                    2 => "1e3".to_owned(),
                    3 => "abc".to_owned(),
                    4 => String::new(),
                    _ => format!("{}", r.fraction(100)),
                };
                bare(format!(
                    "value={value} k={k} group={} dur={} size={} ok={}",
                    r.pick(&["x", "y", "z"]),
                    r.pick(&["12ms", "1.5s", "850us", "2m3s", "0s"]),
                    r.pick(&["512B", "12kB", "1.5MiB", "3MB", "77"]),
                    r.one_in(2)
                ))
            });
        }
        self.add(&[("app", "extremes")], 30, |k, r| {
            let list = [
                "+Inf", "-Inf", "NaN", "0", "-7", "1e308", "-1e308", "5e-324", "0x10", "1_000", " 7", "0.1",
            ];
            bare(format!(r#"{{"v":"{}","k":{k}}}"#, r.pick(&list)))
        });
    }

    fn counters(&mut self) {
        for instance in ["a", "b"] {
            let mut total = 0;
            self.add(&[("app", "counter"), ("instance", instance)], 90, |k, r| {
                total = if k % 30 == 29 { 0 } else { total + r.below(20) };
                bare(format!("total={total} every=1"))
            });
        }
    }

    fn odd(&mut self) {
        let lines = [
            "",
            " ",
            "\t",
            "żółć ünïcödé 日本語 🦀 level=error",
            "tab\there",
            "two\nlines level=warn",
            "quote \" backslash \\ nul \u{0} bell \u{7} del \u{7f}",
            "<html>&amp; & < > ' `",
            "\u{feff}bom",
            "line\u{2028}separator",
            "{}",
            "{\"a\":1}",
            "[1,2,3]",
            "null",
            "\"text\"",
            "{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":\"deep\"}}}}}",
            "{\"dup\":1,\"dup\":2,\"\":\"empty\",\"a b\":\"space\",\"1x\":\"digit\",\"é\":\"accent\"}",
            "{\"e\":\"\\u00e9\\n\\ud83e\\udd80\\u0000\",\"bad\":\"\\ud800\"}",
            "{\"t\":true,\"f\":false,\"z\":null,\"l\":[1,{\"q\":\"r\"}],\"o\":{}}",
            "{\"big\":123456789012345678901234567890,\"e\":1E5,\"neg\":-0.0}",
            "{\"a\":\"b\"} trailing",
            " {\"a\":\"b\"} ",
            "{\"a\":\"b\",}",
            "{\"a\" \"b\"}",
            "{\"a\":\"unclosed",
            "a=1 b= c d=\"\" e=\"x y\" f=\"q\\\"r\\n\" =g h=i=j k=\"open",
            "a=1 a=2 A=3 a.b=4 a-b=5 1a=6 é=7",
            "key='single' url=http://x/?a=b&c=d t=2025-06-01T00:00:00Z",
            "a=\"bad\\xescape\" b=2",
            "level=\"\" lvl=warning",
            "__error__=x app=y",
            "{\"__error__\":\"x\",\"app\":\"y\",\"app_extracted\":\"z\"}",
        ];
        self.add(
            &[("app", "odd"), ("quote", "a\"b\\c"), ("uni", "zażółć")],
            64,
            |k, _| bare(lines[k as usize % lines.len()]),
        );
        self.add(&[("app", "long")], 6, |k, r| {
            let word = r.pick(&["lorem", "ipsum=1", "dolor "]);
            let line: String = (0..1500).map(|i| if i == 700 { "needle " } else { word }).collect();
            bare(format!("{k} {line} end"))
        });
    }

    /// Equal timestamps, duplicates, and entries that arrive in any order.
    fn times(&mut self) {
        let mut entries = Vec::new();
        for k in 0..40 {
            let time_ns = T0_NS + (k / 4) * 200 * SECOND;
            let line = if k % 4 == 3 {
                format!("same {}", k - 1)
            } else {
                format!("same {k}")
            };
            entries.push(Entry {
                time_ns,
                line,
                metadata: Vec::new(),
            });
        }
        let labels = pairs(&[("app", "equal-times")]);
        self.out.push(Stream { labels, entries });

        let mut random = self.random.fork("backwards");
        let mut entries: Vec<Entry> = (0..60)
            .map(|k| Entry {
                time_ns: T0_NS + k * 39 * SECOND + 5,
                line: format!("n={k} late={}", random.below(5)),
                metadata: Vec::new(),
            })
            .collect();
        for i in (1..entries.len()).rev() {
            entries.swap(i, random.below(i as u64 + 1) as usize);
        }
        let labels = pairs(&[("app", "out-of-order")]);
        self.out.push(Stream { labels, entries });

        // On the boundaries of steps and ranges.
        let entries = (0..40).map(|k| Entry {
            time_ns: T0_NS + k * 60 * SECOND + [0, 1, -1][k as usize % 3],
            line: format!("tick={k}"),
            metadata: Vec::new(),
        });
        let entries = entries.filter(|e| e.time_ns >= T0_NS).collect();
        let labels = pairs(&[("app", "ticks")]);
        self.out.push(Stream { labels, entries });
    }

    fn metadata(&mut self) {
        self.add(&[("app", "traced"), ("env", "prod"), ("zone", "eu")], 80, |k, r| {
            let trace = format!("{:016x}{:016x}", r.next(), k);
            let mut metadata = pairs(&[("trace_id", &trace), ("user", r.pick(USERS))]);
            if r.one_in(3) {
                metadata.push(("zone".into(), "metadata".into()));
            }
            if r.one_in(3) {
                metadata.push(("status".into(), r.pick(STATUS).into()));
            }
            if r.one_in(4) {
                metadata.push(("took".into(), r.pick(DURATIONS).into()));
            }
            let line = match r.below(3) {
                0 => format!(
                    "user={} status={} zone=line trace={trace}",
                    r.pick(USERS),
                    r.pick(STATUS)
                ),
                1 => format!(
                    r#"{{"user":"{}","status":{},"zone":"line","env":"line"}}"#,
                    r.pick(USERS),
                    r.pick(STATUS)
                ),
                _ => format!("plain {k}"),
            };
            (line, metadata)
        });
        self.add(&[("app", "few-users"), ("env", "dev")], 60, |k, r| {
            let metadata = match r.below(3) {
                0 => pairs(&[("user", r.pick(USERS))]),
                1 => pairs(&[("user", r.pick(USERS)), ("dotted.name", "x"), ("1digit", "y")]),
                _ => Vec::new(),
            };
            (
                format!("event={} n={k} v={}", r.pick(&["login", "logout"]), r.below(50)),
                metadata,
            )
        });
    }

    /// Everything from which a level is detected.
    fn levels(&mut self) {
        let lines = [
            "level=debug a",
            "lvl=ERR x",
            "severity=Warning y",
            "{\"level\":\"CRITICAL\"}",
            "{\"log\":{\"level\":\"trace\"}}",
            "{\"a\":{\"b\":{\"level\":\"info\"}}}",
            "something [ERROR] failed",
            "WARN: careful",
            "no level here",
            "terror and information",
            "fatal: not a repository",
            "level=verbose hm",
            "Level=\"Info\" msg=\"error\"",
            "severity_text=DBG",
            "x error=nil info",
        ];
        self.add(&[("app", "levels")], 45, |k, _| bare(lines[k as usize % lines.len()]));
        self.add(&[("app", "levels"), ("severity", "Warn")], 5, |_, _| {
            bare("level=error")
        });
        self.add(&[("app", "levels"), ("level", "custom")], 5, |_, _| bare("level=error"));
        self.add(&[("app", "levels"), ("from", "metadata")], 30, |k, _| {
            let metadata = [
                pairs(&[("level", "ERROR")]),
                pairs(&[("severity_number", "9")]),
                pairs(&[("severity_number", "99")]),
                pairs(&[("severity_text", "fatal")]),
                pairs(&[("detected_level", "INFORMATION")]),
                pairs(&[("lvl", "odd one")]),
            ];
            ("level=debug".to_owned(), metadata[k as usize % 6].clone())
        });
    }

    /// Streams of one service whose lines are of every kind.
    fn mixed(&mut self) {
        for (cluster, namespace) in [("c1", "n1"), ("c1", "n2"), ("c2", "n1")] {
            let labels = [("cluster", cluster), ("namespace", namespace), ("container", "box")];
            self.add(&labels, 60, |k, r| match r.below(4) {
                0 => bare(json_line(k, r)),
                1 => bare(logfmt_line(k, r)),
                2 => bare(format!("{{{}", logfmt_line(k, r))),
                _ => bare(format!("text {k} of {}", r.pick(USERS))),
            });
        }
        // Nothing from which a service name could come.
        self.add(&[("nothing", "known")], 10, |k, _| bare(format!("k={k}")));
    }
}

fn json_line(k: i64, r: &mut Random) -> String {
    let (level, method, path, status) = (r.pick(LEVELS), r.pick(METHODS), r.pick(PATHS), r.pick(STATUS));
    let (duration, size, user, ip) = (r.pick(DURATIONS), r.pick(SIZES), r.pick(USERS), r.pick(IPS));
    let price = r.fraction(50);
    let line = format!(
        r#"{{"level":"{level}","msg":"order {k} \"{user}\" \u2713","status":{status},"duration":"{duration}","size":"{size}","price":{price},"ok":{},"tags":["a",{k},null],"none":null,"req":{{"method":"{method}","path":"{path}","remote":{{"ip":"{ip}","port":{}}},"user-agent":"x/{}"}},"env":"line"}}"#,
        r.one_in(2),
        r.below(65_536),
        r.below(4)
    );
    match r.below(12) {
        0 => line[..line.len() - 20].to_owned(),
        1 => format!("prefix {line}"),
        _ => line,
    }
}

fn logfmt_line(k: i64, r: &mut Random) -> String {
    let (level, method, path, status) = (r.pick(LEVELS), r.pick(METHODS), r.pick(PATHS), r.pick(STATUS));
    let (duration, size, user, ip) = (r.pick(DURATIONS), r.pick(SIZES), r.pick(USERS), r.pick(IPS));
    let line = format!(
        r#"level={level} msg="call {k} by \"{user}\"" method={method} path={path} status={status} duration={duration} size="{size}" user={user} ip={ip} latency={} empty= bare trace_id={:016x}"#,
        r.fraction(3),
        r.next()
    );
    match r.below(14) {
        0 => format!("{line} =broken after=1"),
        1 => format!("{line} open=\"never closed"),
        2 => format!("{line} level=again"),
        _ => line,
    }
}
