//! What single operators give, as a user of an instant query sees it.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use model::LabelSet;
use query_exec::*;

fn context() -> Context {
    let limits = Limits {
        samples_max: 1 << 20,
        series_max: 1 << 20,
        bytes_max: 1 << 20,
    };
    Context::new(Duration::from_secs(60), limits)
}

/// `name a=1 b=2 : 3.5`, a row each.
fn vector(rows: &[&str]) -> Matrix {
    let mut out = Matrix::empty(Grid::instant(0));
    for row in rows {
        let (labels, value) = row.split_once(':').unwrap();
        let pairs = labels
            .split_whitespace()
            .map(|l| l.split_once('=').unwrap_or(("__name__", l)));
        let cells = Cells::full(vec![value.trim().parse().unwrap()]);
        out.rows.push(Row::new(LabelSet::from_pairs(pairs), cells));
    }
    out
}

fn text(result: Result<Matrix, ExecError>) -> String {
    match result {
        Ok(m) => {
            let row = |r: &Row| format!("{} {}", r.labels, r.cells.get(0).unwrap());
            m.rows.iter().map(row).collect::<Vec<_>>().join("; ")
        }
        Err(e) => format!("error: {e}"),
    }
}

fn check_aggregate(op: AggregateOp, by: Grouping, rows: &[&str], want: &str) {
    assert_eq!(
        text(aggregate(
            &context(),
            &op,
            &by,
            vector(rows),
            PROMQL,
            &mut Remarks::new()
        )),
        want,
        "{op:?} {by:?}"
    );
}

fn check_binary(op: BinaryOp, on: &Matching, left: &[&str], right: &[&str], want: &str) {
    let result = binary(
        &context(),
        op,
        on,
        false,
        vector(left),
        vector(right),
        PROMQL,
        &mut Remarks::new(),
    );
    assert_eq!(text(result), want, "{op:?} {on:?}");
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

#[test]
fn groups_come_in_order_of_their_first_rows() {
    let rows = ["m j=b i=1: 1", "m j=a i=1: 2", "m j=b i=2: 4"];
    let by = |l| Grouping::By(names(l));
    check_aggregate(AggregateOp::Sum, by(&["j"]), &rows, r#"{j="b"} 5; {j="a"} 2"#);
    check_aggregate(AggregateOp::Avg, by(&[]), &rows, "{} 2.3333333333333335");
    let without = Grouping::Without(names(&["i"]));
    check_aggregate(AggregateOp::Count, without, &rows, r#"{j="b"} 2; {j="a"} 1"#);
    check_aggregate(AggregateOp::Group, by(&["none"]), &rows, "{} 1");
    check_aggregate(AggregateOp::Sum, by(&[]), &[], "");
}

#[test]
fn nan_loses_against_numbers() {
    let rows = ["m i=1: NaN", "m i=2: 3", "m i=3: 1"];
    let all = || Grouping::By(Vec::new());
    check_aggregate(AggregateOp::Max, all(), &rows, "{} 3");
    check_aggregate(AggregateOp::Min, all(), &rows, "{} 1");
    check_aggregate(AggregateOp::Min, all(), &rows[..1], "{} NaN");
    check_aggregate(AggregateOp::Quantile(vec![0.5]), all(), &rows, "{} 1");
    let m = |i, v| format!(r#"{{__name__="m", i="{i}"}} {v}"#);
    let want = [m(2, "3"), m(3, "1"), m(1, "NaN")].join("; ");
    check_aggregate(AggregateOp::TopK(vec![9.0]), all(), &rows, &want);
    check_aggregate(AggregateOp::BottomK(vec![1.0]), all(), &rows, &m(3, "1"));
}

#[test]
fn a_parameter_that_counts_must_be_a_number() {
    let all = || Grouping::By(Vec::new());
    check_aggregate(
        AggregateOp::TopK(vec![f64::NAN]),
        all(),
        &["m: 1"],
        "error: Parameter value is NaN",
    );
    check_aggregate(
        AggregateOp::TopK(vec![1e300]),
        all(),
        &["m: 1"],
        "error: Scalar value 1e+300 overflows int64",
    );
    check_aggregate(
        AggregateOp::LimitRatio(vec![f64::NAN]),
        all(),
        &["m: 1"],
        "error: Ratio value is NaN",
    );
    check_aggregate(AggregateOp::TopK(vec![0.5]), all(), &["m: 1"], "");
    let counted = AggregateOp::CountValues("v".into());
    check_aggregate(
        counted,
        all(),
        &["m i=1: 1e21", "m i=2: 1e21"],
        r#"{v="1000000000000000000000"} 2"#,
    );
}

#[test]
fn limit_ratio_splits_the_rows_in_two() {
    let rows: Vec<String> = (0..200).map(|i| format!("m i={i}: {i}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let all = Grouping::By(Vec::new());
    let take = |r: f64| {
        aggregate(
            &context(),
            &AggregateOp::LimitRatio(vec![r]),
            &all,
            vector(&rows),
            PROMQL,
            &mut Remarks::new(),
        )
        .unwrap()
    };
    let (some, rest) = (take(0.3), take(-0.7));
    assert_eq!(some.rows.len() + rest.rows.len(), 200);
    assert!((40..80).contains(&some.rows.len()), "{}", some.rows.len());
}

#[test]
fn arithmetic_drops_names_and_filters_keep_them() {
    let on = Matching::default();
    check_binary(
        BinaryOp::Add,
        &on,
        &["m a=1: 1", "m a=2: 5"],
        &["n a=1: 2"],
        r#"{a="1"} 3"#,
    );
    check_binary(
        BinaryOp::Lt,
        &on,
        &["m a=1: 1"],
        &["n a=1: 2"],
        r#"{__name__="m", a="1"} 1"#,
    );
    check_binary(
        BinaryOp::And,
        &on,
        &["m a=1: 1", "m a=2: 5"],
        &["n a=2: 2"],
        r#"{__name__="m", a="2"} 5"#,
    );
    check_binary(
        BinaryOp::Unless,
        &on,
        &["m a=1: 1", "m a=2: 5"],
        &["n a=2: 2"],
        r#"{__name__="m", a="1"} 1"#,
    );
    let or = r#"{__name__="m", a="1"} 1; {__name__="n", a="2"} 2"#;
    check_binary(BinaryOp::Or, &on, &["m a=1: 1"], &["n a=1: 7", "n a=2: 2"], or);
}

#[test]
fn many_meet_one_only_when_asked() {
    let mut on = Matching {
        on: true,
        labels: names(&["a"]),
        ..Matching::default()
    };
    let many = ["m a=1 b=1: 1", "m a=1 b=2: 2"];
    let one = ["n a=1 c=x: 10"];
    let explicit = "error: multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)";
    check_binary(BinaryOp::Mul, &on, &many, &one, explicit);
    let duplicate = "error: found duplicate series for the match group {a=\"1\"} on the right hand-side of the operation: \
        [{__name__=\"m\", a=\"1\", b=\"1\"}, {__name__=\"m\", a=\"1\", b=\"2\"}]\
        ;many-to-many matching not allowed: matching labels must be unique on one side";
    check_binary(BinaryOp::Mul, &on, &one, &many, duplicate);
    on.cardinality = Cardinality::ManyToOne;
    on.include = names(&["c"]);
    check_binary(
        BinaryOp::Mul,
        &on,
        &many,
        &one,
        r#"{a="1", b="1", c="x"} 10; {a="1", b="2", c="x"} 20"#,
    );
    on.cardinality = Cardinality::OneToMany;
    check_binary(
        BinaryOp::Sub,
        &on,
        &one,
        &many,
        r#"{a="1", b="1", c="x"} 9; {a="1", b="2", c="x"} 8"#,
    );
    // The one side has no `b`: the label goes, and two results become one.
    on.include = names(&["b"]);
    let ensure = "error: multiple matches for labels: grouping labels must ensure unique matches";
    check_binary(BinaryOp::Sub, &on, &one, &many, ensure);
}

#[test]
fn division_by_zero_is_a_matter_of_language() {
    assert_eq!(apply(BinaryOp::Div, 1.0, 0.0, PROMQL), f64::INFINITY);
    assert!(apply(BinaryOp::Div, 1.0, 0.0, LOGQL).is_nan());
    assert_eq!(apply(BinaryOp::Mod, -7.0, 3.0, PROMQL), -1.0);
    assert_eq!(apply(BinaryOp::Ne, f64::NAN, f64::NAN, PROMQL), 1.0);
}

fn regex(pattern: &str) -> model::Regex {
    model::anchored_regex(pattern).unwrap()
}

#[test]
fn labels_are_replaced_and_joined() {
    let rows = ["m a=x-1: 1", "m a=y: 2"];
    let replaced = label_replace(&context(), vector(&rows), "n", "$2:$1", "a", &regex("(.)-(.)"));
    assert_eq!(
        text(replaced),
        r#"{__name__="m", a="x-1", n="1:x"} 1; {__name__="m", a="y"} 2"#
    );
    let same = label_replace(&context(), vector(&rows), "a", "", "a", &regex(".*"));
    assert_eq!(
        text(same),
        "error: vector cannot contain metrics with the same labelset"
    );
    let long = label_replace(
        &context(),
        vector(&rows),
        "n",
        &"$1".repeat(40 << 20),
        "a",
        &regex("(.*)"),
    );
    assert!(text(long).contains("more than 67108864 bytes of label values"));
    let many = vec!["a"; 40 << 20];
    let long = label_join(&context(), vector(&rows), "n", "--", &many);
    assert!(text(long).contains("more than 67108864 bytes of label values"));
    let joined = label_join(&context(), vector(&rows[..1]), "a", "/", &["a", "none", "__name__"]);
    assert_eq!(text(joined), r#"{__name__="m", a="x-1//m"} 1"#);
}

#[test]
fn sorting_puts_nan_last_both_ways() {
    let rows = ["m i=1: NaN", "m i=2: 3", "m i=3: 1"];
    let sorted = |descending| {
        let mut m = vector(&rows);
        sort_by_value(&mut m, descending);
        m.rows
            .iter()
            .map(|r| r.labels.get("i").unwrap().to_owned())
            .collect::<String>()
    };
    assert_eq!((sorted(false), sorted(true)), ("321".into(), "231".into()));
}
