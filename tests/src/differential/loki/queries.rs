//! The queries: first every stage, function and operator over streams that show what it does, then compositions at random.

use super::case::{Case, Shape};
use super::vocabulary::{FAMILIES, Family, LINE_TEMPLATES, VALUE_TEMPLATES, WORDS};
use crate::differential::random::Random;

/// All cases for a seed.
pub(crate) fn cases(seed: u64) -> Vec<Case> {
    let mut maker = Maker {
        random: Random::new(seed).fork("queries"),
        out: Vec::new(),
    };
    maker.selectors();
    maker.line_filters();
    maker.parsers();
    maker.label_filters();
    maker.formatting();
    maker.unwrapping();
    maker.range_aggregations();
    maker.vector_aggregations();
    maker.operators();
    maker.errors();
    maker.parameters();
    maker.random_logs(900);
    maker.random_metrics(1300);
    maker.broken(250);
    maker.out.extend(super::endpoints::cases());
    maker.out
}

struct Maker {
    random: Random,
    out: Vec<Case>,
}

const RANGE_FUNCTIONS: &[&str] = &[
    "count_over_time",
    "rate",
    "bytes_over_time",
    "bytes_rate",
    "absent_over_time",
];
const UNWRAPPED_FUNCTIONS: &[&str] = &[
    "sum_over_time",
    "avg_over_time",
    "min_over_time",
    "max_over_time",
    "rate",
    "rate_counter",
    "stddev_over_time",
    "stdvar_over_time",
    "first_over_time",
    "last_over_time",
    "absent_over_time",
    "quantile_over_time",
];
const AGGREGATIONS: &[&str] = &[
    "sum",
    "avg",
    "count",
    "max",
    "min",
    "stddev",
    "stdvar",
    "topk",
    "bottomk",
    "sort",
    "sort_desc",
];
const OPERATORS: &[&str] = &[
    "+", "-", "*", "/", "%", "^", "==", "!=", ">", ">=", "<", "<=", "and", "or", "unless",
];

impl Maker {
    fn log(&mut self, query: impl Into<String>) {
        let shape = match self.random.below(4) {
            0 => Shape::Forward,
            1 => Shape::Categorized,
            _ => Shape::Backward,
        };
        self.out.push(Case::log(query.into(), shape, &mut self.random));
    }

    fn instant(&mut self, query: impl Into<String>) {
        self.out.push(Case::instant(query.into(), &mut self.random));
    }

    fn range(&mut self, query: impl Into<String>) {
        self.out.push(Case::range(query.into(), &mut self.random));
    }

    fn metric(&mut self, query: impl Into<String>) {
        match self.random.one_in(2) {
            true => self.instant(query),
            false => self.range(query),
        }
    }

    fn selectors(&mut self) {
        for selector in [
            r#"{app="shop"}"#,
            r#"{app=~"shop|flat"}"#,
            r#"{app=~"s.*",env!="dev"}"#,
            r#"{app=~".+",env=~"prod|",level!~"err.*"}"#,
            r#"{app="shop",level=~"(?i)ERROR"}"#,
            r#"{env="dev",env=~"d.."}"#,
            r#"{app="odd",quote="a\"b\\c"}"#,
            r#"{uni=~"za.*"}"#,
            "{app=`odd`}",
            r#"{service_name="checkout"}"#,
            r#"{service_name="unknown_service"}"#,
            r#"{nothing=~"kn.wn"}"#,
            r#"{missing="",app="tty"}"#,
            r#"{missing="x"}"#,
            r#"{app=~"sho"}"#,
            r#"{k8s_pod_name="checkout-7f"}"#,
            r#"{service_name="box2"}"#,
            r#"{app="equal-times"}"#,
            r#"{app="out-of-order"}"#,
            r#"{app="levels"} | detected_level="error""#,
            r#"{app="levels"} | detected_level=~"warn|info""#,
            r#"{job="nginx"} # a comment"#,
            "{ job = \"nginx\" ,\n host =~ `web-.` }",
        ] {
            self.out
                .push(Case::log(selector.into(), Shape::Backward, &mut self.random));
            self.out
                .push(Case::log(selector.into(), Shape::Forward, &mut self.random));
            self.out
                .push(Case::log(selector.into(), Shape::Categorized, &mut self.random));
            self.metric(format!("count_over_time({selector}[10m])"));
        }
        for stream in [
            "shop",
            "flat",
            "java",
            "tty",
            "packed",
            "numbers",
            "extremes",
            "odd",
            "levels",
            "traced",
            "few-users",
        ] {
            self.out.push(Case::all(format!("{{app=\"{stream}\"}}")));
        }
        for selector in [
            "{job=\"api\"}",
            "{service_name=\"checkout\"}",
            "{service_name=\"box2\"}",
            "{cluster=\"c1\"}",
        ] {
            self.out.push(Case::all(selector.into()));
        }
    }

    fn line_filters(&mut self) {
        let filters = [
            r#"|= "error""#,
            r#"|= """#,
            r#"!= """#,
            r#"!= "info""#,
            r#"|~ "err|warn""#,
            r#"|~ "(?i)ERROR""#,
            r#"|~ """#,
            r#"!~ """#,
            r#"|~ "^.*$""#,
            r#"|~ "\\d{3}""#,
            r"|~ `\d{3}\b`",
            r#"!~ "a.*b""#,
            r#"|~ ".*o.*""#,
            r#"|~ "a+b*(c|d)?""#,
            r#"|~ "status=(4|5)""#,
            r#"|= "a" or "b" or "zz""#,
            r#"!= "a" or "e""#,
            r#"|~ "x.z" or "inf.""#,
            r#"!~ "inf." or "war.""#,
            r#"|= "GET" != "users""#,
            r#"|= "GET" |~ "2\\d\\d" !~ "curl""#,
            r#"|= ip("10.0.0.0/16")"#,
            r#"|= ip("10.0.0.7")"#,
            r#"!= ip("10.0.0.0-10.0.1.255")"#,
            r#"|= ip("2001:db8::/32")"#,
            r#"|= ip("::1")"#,
            r#"|= ip("8.8.8.8") or ip("192.168.0.0/16")"#,
            r#"|= "GET" or ip("8.8.8.8")"#,
            r#"|> "<_>level=<_>""#,
            r#"|> "<_>GET<_>""#,
            r#"|> "level=<_>""#,
            r#"!> "<_>error<_>""#,
            r#"|> "<_> - <_> [<_>] \"<_>\" 200 <_>""#,
            r#"|> "<_>info<_>" or "<_>error<_>""#,
            r#"|> "text <_> of <_>""#,
            r#"|> """#,
            r#"!> """#,
            r#"|> "<_>""#,
            r#"|= "żółć""#,
            r#"|= "\n""#,
            r#"|~ "two.lines""#,
            r#"|~ "(?s)two.lines""#,
            r#"|~ "^two$""#,
            r#"|~ "(?m)^two$""#,
            r#"|= "ERROR""#,
            r#"|~ "(?i)żółć""#,
            r#"|= "needle""#,
            r#"|~ "n[e]+dle""#,
            "|= `\\`",
        ];
        for filter in filters {
            let family = self.family();
            let selector = family.selector(&mut self.random);
            self.log(format!("{selector} {filter}"));
            self.log(format!("{{app=~\"odd|java|long\"}} {filter}"));
            self.log(format!(
                "{{app=~\".+\"}} | logfmt | line_format \"{{{{.msg}}}}{{{{.user}}}}\" {filter}"
            ));
            self.metric(format!("sum(count_over_time({selector} {filter} [5m]))"));
        }
    }

    fn parsers(&mut self) {
        let parsers = [
            "| json",
            r#"| json status, user="req.remote.ip", p="req[\"path\"]""#,
            r#"| json a="tags[0]", b="tags[1]", c="tags[2]", d="tags[9]", o="req", t="tags", n="none""#,
            r#"| json missing="x.y", level"#,
            r#"| json app="level""#,
            r#"| json ua="req[\"user-agent\"]""#,
            "| logfmt",
            "| logfmt --strict",
            "| logfmt --keep-empty",
            "| logfmt --strict --keep-empty",
            "| logfmt status, level",
            r#"| logfmt lvl="level", u="user", none="nope""#,
            r#"| logfmt --strict m="msg""#,
            r#"| logfmt --keep-empty empty, bare"#,
            r#"| logfmt env="status""#,
            r#"| regexp "(?P<first>\\w+) (?P<second>\\w+)""#,
            r#"| regexp "status=(?P<status>\\d+)""#,
            r"| regexp `(?P<method>GET|POST) (?P<path>\S+)`",
            r#"| regexp "(?P<empty>x?)""#,
            r#"| regexp "(?P<app>\\w+)""#,
            r#"| regexp "(?<k>[a-z]+)=(?<v>[^ ]*)""#,
            r#"| pattern "<ip> - <user> [<_>] \"<method> <path> <_>\" <status> <size> <_>""#,
            r#"| pattern "level=<level> <rest>""#,
            r#"| pattern "<a> <b>""#,
            r#"| pattern "<a>=<b> <c>=<d>""#,
            r#"| pattern "<app> <_>""#,
            r#"| pattern "<_>user=<user> <_>""#,
            "| unpack",
            "| unpack | logfmt",
            "| unpack | json",
            "| json | logfmt",
            "| logfmt | json",
            "| logfmt | logfmt",
            "| json | json",
            r#"| json | line_format "{{.msg}}" | pattern "<what> <n> <_>""#,
            r#"| logfmt | line_format "{{.msg}}" | regexp "call (?P<n>\\d+)""#,
            "| json | __error__=\"\"",
            "| json | __error__!=\"\"",
            "| json | __error__=\"JSONParserErr\"",
            "| json | __error__=~\".+\"",
            "| json | __error_details__=~\".*found.*\"",
            "| logfmt --strict | __error__!=\"\"",
            "| logfmt --strict | __error__=\"LogfmtParserErr\" | drop __error__, __error_details__",
            "| json | drop __error__",
            "| json | keep app",
        ];
        for parser in parsers {
            for stream in [
                "{app=~\"shop|flat\"}",
                "{job=\"api\"}",
                "{app=\"odd\"}",
                "{cluster=~\".+\"}",
                "{app=\"packed\"}",
            ] {
                self.log(format!("{stream} {parser}"));
            }
            let family = self.family();
            let selector = family.selector(&mut self.random);
            self.log(format!("{selector} {parser}"));
            self.metric(format!("count_over_time({selector} {parser} [10m])"));
            self.metric(format!("sum(rate({selector} {parser} [5m]))"));
            self.metric(format!(
                "sum by (level, status) (count_over_time({selector} {parser} [10m]))"
            ));
            self.metric(format!(
                "sum by (user) (count_over_time({selector} {parser} | __error__=\"\" [10m]))"
            ));
        }
        for stream in ["traced", "few-users", "odd", "packed", "levels"] {
            for parser in [
                "| json",
                "| logfmt",
                "| unpack",
                "| pattern \"<user> <zone>\"",
                "| json user, zone",
                "| logfmt user, zone=\"status\"",
            ] {
                self.log(format!("{{app=\"{stream}\"}} {parser}"));
                self.out.push(Case::log(
                    format!("{{app=\"{stream}\"}} {parser}"),
                    Shape::Categorized,
                    &mut self.random,
                ));
                self.metric(format!("sum by (user, user_extracted, zone, zone_extracted) (count_over_time({{app=\"{stream}\"}} {parser} [10m]))"));
                self.metric(format!(
                    "sum without (trace_id) (count_over_time({{app=\"{stream}\"}} {parser} | __error__=\"\" [10m]))"
                ));
            }
        }
    }

    fn label_filters(&mut self) {
        for filter in [
            r#"status=200"#,
            r#"status="200""#,
            r#"status>=400"#,
            r#"status!=200"#,
            r#"status==200.0"#,
            r#"status<3e2"#,
            r#"status=~"4.*|5..""#,
            r#"status!~"2..""#,
            r#"duration>1s"#,
            r#"duration>=850us"#,
            r#"duration<1.5s"#,
            r#"duration==12ms"#,
            r#"duration!=12ms"#,
            r#"duration>1h1m"#,
            r#"duration<2m3s and duration>1ms"#,
            r#"size>1KB"#,
            r#"size>=1.5MB"#,
            r#"size<3MB"#,
            r#"size==12kB"#,
            r#"size!=0B"#,
            r#"size=77B"#,
            r#"ip=ip("10.0.0.0/8")"#,
            r#"ip!=ip("10.0.0.0/8")"#,
            r#"ip=ip("2001:db8::/32")"#,
            r#"ip=ip("8.8.8.8-8.8.8.9")"#,
            r#"missing="""#,
            r#"missing!="""#,
            r#"missing>1"#,
            r#"missing=ip("::1")"#,
            r#"user="ann" or status=500"#,
            r#"user="ann" and status=500"#,
            r#"user="ann", status=500"#,
            r#"user="ann" status=500"#,
            r#"user="ann", status=500 or level="info""#,
            r#"user="ann" or status=500, level="info""#,
            r#"user="ann" or status=500 and level="info""#,
            r#"(user="ann" or status=500) and level="info""#,
            r#"user="ann" and (status=500 or level="info")"#,
            r#"user="ann" and level="info" or status=404"#,
            r#"duration>1s or status>=500 and size>1KB"#,
            r#"user=~"a.*" | status>=300 | level!="debug""#,
            r#"level>1"#,
            r#"level>1 or status=200"#,
            r#"status=200 or level>1"#,
            r#"user>1s"#,
            r#"user>1KB"#,
            r#"user=ip("1.2.3.4")"#,
            r#"n>20 n<=50"#,
            r#"n%=1"#,
            r#"__error__="" or status=200"#,
            r#"detected_level="error""#,
            r#"detected_level!="""#,
            r#"app="flat""#,
            r#"env=~"p.*""#,
            r#"price>20.5"#,
            r#"latency>1 and latency<2"#,
        ] {
            self.log(format!("{{app=~\"flat|shop\"}} | json | {filter}"));
            self.log(format!("{{job=\"api\"}} | logfmt | {filter}"));
            let parser = self.random.pick(&["", "| logfmt", "| json", "| json | logfmt"]);
            let family = self.family();
            let selector = family.selector(&mut self.random);
            self.log(format!("{selector} {parser} | {filter}"));
            self.metric(format!(
                "sum by (level) (count_over_time({{app=\"flat\"}} | json | {filter} [10m]))"
            ));
            self.metric(format!(
                "sum by (status) (rate({{job=\"api\"}} | logfmt | {filter} | __error__=\"\" [10m]))"
            ));
        }
    }

    fn formatting(&mut self) {
        for template in LINE_TEMPLATES {
            self.log(format!("{{app=\"flat\"}} | json | line_format {template}"));
            self.log(format!("{{job=\"api\"}} | logfmt | line_format {template}"));
        }
        for template in VALUE_TEMPLATES {
            self.log(format!(
                "{{job=\"api\"}} | logfmt | label_format out={template} | keep out, user"
            ));
            self.log(format!("{{app=\"odd\"}} | label_format out={template}"));
        }
        for stage in [
            r#"| label_format u=user"#,
            r#"| label_format u=user, v="{{.u}}-{{.user}}""#,
            r#"| label_format u=user, user="{{.status}}""#,
            r#"| label_format x=missing"#,
            r#"| label_format status="{{.level}}", level="{{.status}}""#,
            r#"| label_format app="new""#,
            r#"| label_format env=user"#,
            r#"| label_format user=env"#,
            r#"| label_format a="1", b="{{.a}}""#,
            r#"| label_format x="{{div 1 0}}""#,
            r#"| label_format x="{{.user | substr 2 1}}""#,
            r#"| label_format empty="{{.nope}}""#,
            r#"| label_format user="" "#,
            r#"| label_format detected_level="x""#,
            r#"| label_format service_name=user"#,
            r#"| line_format "{{div 1 0}}" "#,
            r#"| line_format "{{div 1 0}}" | __error__="TemplateFormatErr""#,
            r#"| line_format "" "#,
            r#"| decolorize"#,
            r#"| drop user"#,
            r#"| drop user, status, missing"#,
            r#"| drop level="error""#,
            r#"| drop level=~"e.*|w.*", user!="ann""#,
            r#"| drop app"#,
            r#"| drop env, app, job, instance, service_name"#,
            r#"| keep user"#,
            r#"| keep level="error", user"#,
            r#"| keep app, level=~"w.*""#,
            r#"| keep missing"#,
            r#"| drop detected_level"#,
            r#"| keep detected_level"#,
            r#"| keep level | line_format "{{.level}} {{.user}}""#,
        ] {
            self.log(format!("{{app=\"flat\"}} | json {stage}"));
            self.log(format!("{{job=\"api\"}} | logfmt {stage}"));
            self.log(format!("{{app=\"traced\"}} {stage}"));
            self.out.push(Case::log(
                format!("{{app=~\"traced|few-users\"}} | logfmt {stage}"),
                Shape::Categorized,
                &mut self.random,
            ));
            self.log(format!("{{app=\"tty\"}} {stage}"));
            self.metric(format!(
                "count_over_time({{app=\"flat\"}} | json {stage} | __error__=\"\" [20m])"
            ));
            self.metric(format!(
                "sum by (user, level) (count_over_time({{job=\"api\"}} | logfmt {stage} [10m]))"
            ));
        }
    }

    fn unwrapping(&mut self) {
        for unwrap in [
            "{app=\"numbers\"} | logfmt | unwrap value",
            "{app=\"numbers\"} | logfmt | unwrap value | __error__=\"\"",
            "{app=\"numbers\"} | logfmt | unwrap k",
            "{app=\"numbers\"} | logfmt | unwrap duration(dur)",
            "{app=\"numbers\"} | logfmt | unwrap duration_seconds(dur) | __error__=\"\"",
            "{app=\"numbers\"} | logfmt | unwrap bytes(size)",
            "{app=\"numbers\"} | logfmt | unwrap bytes(size) | __error__=\"\"",
            "{app=\"numbers\"} | logfmt | unwrap group | __error__=\"\"",
            "{app=\"numbers\"} | logfmt | unwrap missing",
            "{app=\"numbers\"} | logfmt | group=\"x\" | unwrap k | kind=\"a\"",
            "{app=\"numbers\"} | logfmt k, group | unwrap k",
            "{app=\"extremes\"} | json | unwrap v | __error__=\"\"",
            "{app=\"extremes\"} | json | unwrap v",
            "{app=\"extremes\"} | json | unwrap k",
            "{app=\"flat\"} | json | unwrap status",
            "{app=\"flat\"} | json | unwrap duration(duration) | __error__=\"\"",
            "{app=\"flat\"} | json | unwrap bytes(size) | __error__=\"\"",
            "{app=\"flat\"} | json | unwrap n",
            "{app=\"counter\"} | logfmt | unwrap total",
            "{app=\"counter\"} | logfmt | drop every | unwrap total",
            "{app=\"traced\"} | unwrap duration(took) | __error__=\"\"",
            "{app=\"traced\"} | drop trace_id | unwrap status",
            "{app=\"few-users\"} | logfmt | unwrap v",
            "{app=\"out-of-order\"} | logfmt | unwrap late",
            "{app=\"ticks\"} | logfmt | unwrap tick",
            "{service_name=\"checkout\"} | unwrap ratio",
            "{job=\"api\"} | logfmt | label_format n=\"{{len .msg}}\" | unwrap n",
            "{job=\"nginx\"} | pattern \"<_> - <user> [<_>] \\\"<method> <_>\\\" <status> <size> <_>\" | unwrap size",
        ] {
            for function in UNWRAPPED_FUNCTIONS {
                let q = match *function == "quantile_over_time" {
                    true => self.random.pick(&["0.5,", "0.99,", "0,", "1,", "1.5,", "0.123,"]),
                    false => "",
                };
                let d = self.random.pick(&["1m", "5m", "10m", "90s"]);
                let grouping = match *function {
                    "avg_over_time" | "stddev_over_time" | "stdvar_over_time" | "quantile_over_time"
                    | "max_over_time" | "min_over_time" | "first_over_time" | "last_over_time"
                        if self.random.one_in(2) =>
                    {
                        self.random.pick(&[
                            " by (group)",
                            " by (app)",
                            " by ()",
                            " without (k, user)",
                            " by (kind, instance)",
                            " without (value)",
                        ])
                    }
                    _ => "",
                };
                let query = format!("{function}({q}{unwrap} [{d}]){grouping}");
                match self.random.below(4) {
                    0 => self.instant(query),
                    1 => self.range(query),
                    2 => self.metric(format!("sum by (group, user, instance) ({query})")),
                    _ => self.metric(format!("max({query})")),
                }
            }
        }
    }

    fn range_aggregations(&mut self) {
        for function in RANGE_FUNCTIONS {
            for selector in [
                "{app=\"ticks\"}",
                "{app=\"equal-times\"}",
                "{app=\"out-of-order\"}",
                "{job=\"api\"} |= \"GET\"",
                "{app=\"odd\"}",
                "{app=\"traced\"}",
                "{app=\"nothing\"}",
                "{app=\"tty\"} | decolorize",
                "{app=\"long\"}",
                "{app=~\"ticks|tty\"} | drop app, service_name",
                "{app=\"shop\"} | json | line_format \"{{.msg}}\" | __error__=\"\" | keep env",
            ] {
                for d in ["1m", "7m", "33s", "1500ms", "1h"] {
                    let offset = self
                        .random
                        .pick(&["", "", "", " offset 3m", " offset -2m", " offset 1m30s"]);
                    self.metric(format!("{function}({selector} [{d}]{offset})"));
                }
                self.metric(format!("{function}({selector}[2m] offset 5m)"));
            }
        }
        for query in [
            r#"count_over_time({app="ticks"}[1m] |= "tick")"#,
            r#"count_over_time(({app="ticks"} |= "1")[5m])"#,
            r#"(count_over_time({app="ticks"}[5m]))"#,
            r#"count_over_time({app="ticks"}[5m] offset 2m | logfmt)"#,
            r#"absent_over_time({app="none",env="x",env="y"}[5m])"#,
            r#"absent_over_time({app="none",env=~"x.*",job!="y"}[5m])"#,
            r#"absent_over_time({app="none"} | json | x="y" [5m])"#,
            r#"sum(absent_over_time({app="none"}[5m]))"#,
            r#"absent_over_time({app="numbers"} | logfmt | unwrap nope [5m])"#,
            r#"rate({app="counter"} | logfmt | unwrap total [1m])"#,
            r#"rate_counter({app="counter"} | logfmt | unwrap total [3m])"#,
            r#"sum(rate_counter({app="counter"} | logfmt | unwrap total [3m]))"#,
            r#"quantile_over_time(0.9, {app="numbers"} | logfmt | unwrap k [5m]) by (kind)"#,
            r#"quantile_over_time(0.9, {app="numbers"} | logfmt | unwrap k [5m]) without (value, group)"#,
            r#"first_over_time({app="equal-times"} | regexp "(?P<n>\\d+)" | unwrap n [30m]) by (app)"#,
            r#"last_over_time({app="equal-times"} | regexp "(?P<n>\\d+)" | unwrap n [30m]) by (app)"#,
            r#"first_over_time({app="out-of-order"} | logfmt | unwrap n [30m]) by (app)"#,
            r#"last_over_time({app="out-of-order"} | logfmt | unwrap n [30m]) by (app)"#,
        ] {
            self.instant(query);
            self.range(query);
        }
    }

    fn vector_aggregations(&mut self) {
        let inner = [
            r#"count_over_time({app="flat"} | json | keep level, status, user [10m])"#,
            r#"sum by (level, user) (count_over_time({job="api"} | logfmt [5m]))"#,
            r#"rate({cluster=~"c."}[7m])"#,
            r#"bytes_over_time({env=~"prod|dev"}[10m])"#,
            r#"sum_over_time({app="numbers"} | logfmt group, k | unwrap k [10m])"#,
            r#"avg_over_time({app="extremes"} | json | unwrap v | __error__="" [20m])"#,
            r#"max_over_time({app="extremes"} | json | drop k | unwrap v | __error__="" [20m])"#,
        ];
        for aggregation in AGGREGATIONS {
            for inner in inner {
                let k = match *aggregation {
                    "topk" | "bottomk" => self.random.pick(&["1,", "2,", "3,", "100,"]),
                    _ => "",
                };
                let groupings: &[&str] = match aggregation.starts_with("sort") {
                    true => &[""],
                    false => &[
                        "",
                        " by (level)",
                        " by (user, group, env)",
                        " without (user)",
                        " by ()",
                        " without ()",
                        " by (missing)",
                        " without (level, status, group)",
                    ],
                };
                for grouping in groupings {
                    let query = match self.random.one_in(2) {
                        true => format!("{aggregation}{grouping} ({k}{inner})"),
                        false => format!("{aggregation}({k}{inner}){grouping}"),
                    };
                    self.metric(query);
                }
                self.instant(format!("{aggregation}({k}{inner})"));
            }
        }
        for query in [
            r#"sort(sum by (level) (count_over_time({job="api"} | logfmt [30m])))"#,
            r#"sort_desc(sum by (level, user) (count_over_time({job="api"} | logfmt [30m])))"#,
            r#"topk(2, sum by (user) (count_over_time({job="api"} | logfmt [30m])))"#,
            r#"sort_desc(topk(3, sum by (user) (count_over_time({job="api"} | logfmt [30m]))))"#,
            r#"sum(sum by (a) (count_over_time({job="api"}[30m])))"#,
            r#"max by (x) (label_replace(rate({job="api"}[30m]), "x", "$1", "instance", "(.*)"))"#,
            r#"label_replace(rate({job="api"}[30m]), "x", "$1-${2}", "env", "(.)(.*)")"#,
            r#"label_replace(rate({job="api"}[30m]), "env", "", "env", ".*")"#,
            r#"label_replace(rate({job="api"}[30m]), "x", "none", "missing", "")"#,
            r#"label_replace(rate({job="api"}[30m]), "x", "none", "env", "ro")"#,
            r#"label_replace(vector(1), "x", "y", "z", ".*")"#,
            r#"vector(1)"#,
            r#"vector(1.5) + vector(2)"#,
            r#"vector(1)+vector(1)"#,
            r#"1+1"#,
            r#"2^3^2"#,
            r#"-1"#,
            r#"1/0"#,
            r#"0/0"#,
            r#"1%0"#,
            r#"-2^2"#,
            r#"1 > 2"#,
            r#"1 < bool 2"#,
            r#"(1 + 2) * 3 - 4 / 8"#,
            r#"1e3"#,
            r#"0.1+0.2"#,
            r#"1 == 1"#,
            r#"sum(vector(3))"#,
            r#"sum(count_over_time({app="nothing"}[5m])) or vector(0)"#,
            r#"sum(count_over_time({app="ticks"}[1m])) or vector(0)"#,
            r#"vector(0) or sum(count_over_time({app="ticks"}[1m]))"#,
            r#"approx_topk(2, sum by (user) (count_over_time({job="api"} | logfmt [30m])))"#,
            r#"variants(count_over_time({job="api"}[5m])) of ({job="api"}[5m])"#,
        ] {
            self.instant(query);
            self.range(query);
        }
    }

    fn operators(&mut self) {
        let sides = [
            r#"sum by (level) (count_over_time({job="api"} | logfmt [10m]))"#,
            r#"sum by (level) (count_over_time({app="flat"} | json [10m]))"#,
            r#"sum by (level, user) (count_over_time({app="flat"} | json [10m]))"#,
            r#"sum by (env, level) (rate({app="shop"}[10m]))"#,
            r#"sum(count_over_time({app="ticks"}[5m]))"#,
            r#"count_over_time({app="counter"}[5m])"#,
            r#"avg_over_time({app="extremes"} | json | keep v, k | unwrap v | __error__="" [20m]) by (k)"#,
            "2",
            "0",
            "-1.5",
            "vector(3)",
        ];
        for operator in OPERATORS {
            for _ in 0..14 {
                let (a, b) = (self.random.pick(&sides), self.random.pick(&sides));
                let is_set = ["and", "or", "unless"].contains(operator);
                let is_comparison = ["==", "!=", ">", ">=", "<", "<="].contains(operator);
                let bool = if is_comparison && self.random.one_in(2) {
                    " bool"
                } else {
                    ""
                };
                let matching = match self.random.below(10) {
                    0 => " on (level)",
                    1 => " ignoring (user)",
                    2 => " on ()",
                    3 if !is_set => " on (level) group_left",
                    4 if !is_set => " on (level) group_left (user)",
                    5 if !is_set => " on (level) group_right (env)",
                    6 if !is_set => " ignoring (user, env) group_right",
                    7 if !is_set => " ignoring (user) group_left ()",
                    _ => "",
                };
                self.metric(format!("{a} {operator}{bool}{matching} {b}"));
            }
        }
        for query in [
            r#"sum(rate({app="shop",level="error"}[10m])) / sum(rate({app="shop"}[10m]))"#,
            r#"sum by (level) (rate({app="shop"}[10m])) / ignoring (level) group_left sum(rate({app="shop"}[10m])) * 100"#,
            r#"sum by (level) (rate({app="shop"}[10m])) > 0.01 and sum by (level) (rate({app="shop"}[10m])) < 0.1"#,
            r#"1 + sum(count_over_time({app="ticks"}[5m])) * 2 ^ 2 % 5"#,
            r#"sum(count_over_time({app="ticks"}[5m])) > bool 1 + 1"#,
            r#"(sum(count_over_time({app="ticks"}[5m])) > 1) or (sum(count_over_time({app="tty"}[5m])))"#,
            r#"sum(count_over_time({app="ticks"}[5m])) - sum(count_over_time({app="ticks"}[5m] offset 5m))"#,
            r#"count_over_time({app="ticks"}[5m]) == 5"#,
            r#"5 == count_over_time({app="ticks"}[5m])"#,
            r#"5 > bool count_over_time({app="ticks"}[5m])"#,
            r#"count_over_time({app="ticks"}[5m]) unless count_over_time({app="tty"}[5m])"#,
            r#"count_over_time({app="ticks"}[5m]) and on () vector(1)"#,
        ] {
            self.instant(query);
            self.range(query);
        }
    }

    /// Queries that Loki refuses, and some that look as if it should.
    fn errors(&mut self) {
        for query in super::vocabulary::REFUSED {
            self.instant(*query);
            self.out
                .push(Case::log((*query).into(), Shape::Backward, &mut self.random));
        }
    }

    fn parameters(&mut self) {
        self.out.extend(super::endpoints::parameters());
    }

    fn family(&mut self) -> &'static Family {
        &FAMILIES[self.random.below(FAMILIES.len() as u64) as usize]
    }

    fn random_logs(&mut self, count: usize) {
        for _ in 0..count {
            let family = self.family();
            let query = format!(
                "{}{}",
                family.selector(&mut self.random),
                stages(family, &mut self.random, 4)
            );
            self.log(query);
        }
    }

    fn random_metrics(&mut self, count: usize) {
        for _ in 0..count {
            let depth = self.random.below(3);
            let query = metric(depth, &mut self.random);
            self.metric(query);
        }
    }

    /// Queries with a word taken out, doubled or swapped.
    fn broken(&mut self, count: usize) {
        for _ in 0..count {
            let query = match self.random.one_in(2) {
                true => metric(1, &mut self.random),
                false => {
                    let family = self.family();
                    format!(
                        "{}{}",
                        family.selector(&mut self.random),
                        stages(family, &mut self.random, 2)
                    )
                }
            };
            let mut tokens = tokens(&query);
            let at = self.random.below(tokens.len() as u64) as usize;
            match self.random.below(4) {
                0 => drop(tokens.remove(at)),
                1 => tokens.insert(at, tokens[at].clone()),
                2 => {
                    let other = self.random.below(tokens.len() as u64) as usize;
                    tokens.swap(at, other);
                }
                _ => {
                    tokens[at] = (*self.random.pick(&[
                        "|", "by", "5m", "\"x\"", "x", "1", "(", ")", "[", "}", "=", ",", "unwrap", "or", "$", "=",
                    ]))
                    .into()
                }
            }
            let query: String = tokens.concat();
            self.instant(query.clone());
            self.out.push(Case::format(query));
        }
    }
}

/// Words, strings, spaces and single signs.
fn tokens(query: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut rest = query.char_indices().peekable();
    while let Some((from, c)) = rest.next() {
        let mut to = from + c.len_utf8();
        if c == '"' {
            let mut escaped = false;
            for (i, d) in rest.by_ref() {
                to = i + d.len_utf8();
                match d {
                    '"' if !escaped => break,
                    '\\' => escaped = !escaped,
                    _ => escaped = false,
                }
            }
        } else if c.is_alphanumeric() || c == '_' {
            while let Some((i, d)) = rest.next_if(|(_, d)| d.is_alphanumeric() || *d == '_') {
                to = i + d.len_utf8();
            }
        }
        out.push(query[from..to].to_owned());
    }
    out
}

fn stages(family: &Family, r: &mut Random, most: u64) -> String {
    let mut out = String::new();
    let mut is_parsed = false;
    for _ in 0..=r.below(most) {
        let stage = match r.below(12) {
            0 | 1 => format!(" {} \"{}\"", r.pick(&["|=", "!=", "|~", "!~"]), r.pick(WORDS)),
            2 => format!(" |= \"{}\" or \"{}\"", r.pick(WORDS), r.pick(WORDS)),
            3..=5 if !is_parsed => {
                is_parsed = true;
                format!(" {}", r.pick(family.parsers))
            }
            3..=6 => format!(" | {}", family.filter(r, 2)),
            7 => format!(" | line_format {}", r.pick(LINE_TEMPLATES)),
            8 => format!(
                " | label_format {}={}",
                r.pick(&["out", "user", "level", "env"]),
                r.pick(VALUE_TEMPLATES)
            ),
            9 => format!(" | drop {}", family.names(r)),
            10 => format!(" | keep {}", family.names(r)),
            _ => (*r.pick(&[
                " | decolorize",
                " | __error__=\"\"",
                " | json",
                " | logfmt",
                " | __error__!=\"\"",
                " | unpack",
            ]))
            .to_owned(),
        };
        out.push_str(&stage);
    }
    out
}

fn metric(depth: u64, r: &mut Random) -> String {
    if depth == 0 {
        return range_aggregation(r);
    }
    match r.below(8) {
        0..=3 => {
            let aggregation = r.pick(&AGGREGATIONS[..9]);
            let k = if aggregation.ends_with('k') {
                r.pick(&["1, ", "3, ", "10, "])
            } else {
                ""
            };
            let grouping = match r.below(4) {
                0 => String::new(),
                1 => format!(" without ({})", labels(r)),
                _ => format!(" by ({})", labels(r)),
            };
            format!("{aggregation}{grouping}({k}{})", metric(depth - 1, r))
        }
        4 => format!(
            "label_replace({}, \"new\", \"$1\", \"{}\", \"(.*)\")",
            metric(depth - 1, r),
            r.pick(&["level", "app", "user"])
        ),
        5 => format!(
            "{} {} {}",
            metric(depth - 1, r),
            r.pick(OPERATORS),
            r.pick(&["1", "0.5", "vector(2)", "0"])
        ),
        6 => {
            let inner = metric(depth - 1, r);
            format!(
                "sum by (level) ({inner}) {} sum by (level) ({})",
                r.pick(OPERATORS),
                range_aggregation(r)
            )
        }
        _ => format!(
            "({} {} {})",
            range_aggregation(r),
            r.pick(&["or", "and", "unless"]),
            range_aggregation(r)
        ),
    }
}

fn labels(r: &mut Random) -> String {
    let names = [
        "level",
        "user",
        "status",
        "app",
        "env",
        "method",
        "detected_level",
        "group",
        "service_name",
        "instance",
        "missing",
    ];
    let list: Vec<&str> = (0..=r.below(2)).map(|_| r.pick(&names)).collect();
    list.join(", ")
}

fn range_aggregation(r: &mut Random) -> String {
    let family = &FAMILIES[r.below(FAMILIES.len() as u64) as usize];
    let d = r.pick(&["1m", "5m", "10m", "20m"]);
    let offset = r.pick(&["", "", "", "", " offset 2m"]);
    let selector = family.selector(r);
    if family.numbers.is_empty() || r.one_in(2) {
        let stages = if r.one_in(3) {
            String::new()
        } else {
            stages(family, r, 2)
        };
        return format!("{}({selector}{stages} [{d}]{offset})", r.pick(&RANGE_FUNCTIONS[..4]));
    }
    let function = r.pick(UNWRAPPED_FUNCTIONS);
    let q = if *function == *"quantile_over_time" {
        r.pick(&["0.5, ", "0.95, "])
    } else {
        ""
    };
    let parser = family.parsers[0];
    let filter = if r.one_in(3) {
        format!(" | {}", family.filter(r, 1))
    } else {
        String::new()
    };
    let unwrap = r.pick(family.numbers);
    let ok = if r.one_in(3) { "" } else { " | __error__=\"\"" };
    format!("{function}({q}{selector} {parser}{filter} | unwrap {unwrap}{ok} [{d}]{offset})")
}
