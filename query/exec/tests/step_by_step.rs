//! The law of the vector algebra: an operator over a range gives, at each step, what it gives for that step alone.
//! It is what makes range queries trustworthy, because instant queries are easy to check by hand.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use model::{Buckets, CUSTOM_BUCKETS, Histogram, LabelSet, ResetHint};
use proptest::prelude::*;
use query_exec::*;

const STEPS: usize = 5;

fn context() -> Context {
    let limits = Limits {
        samples_max: 1 << 20,
        series_max: 1 << 20,
        bytes_max: 1 << 20,
    };
    Context::new(Duration::from_secs(60), limits)
}

#[derive(Clone, Debug)]
enum Value {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Histograms of several layouts, some of which cannot be added up.
fn histogram() -> impl Strategy<Value = Arc<Histogram>> {
    let counts = proptest::collection::vec(0u32..4, 3);
    (counts, 0usize..4, 0usize..3).prop_map(|(counts, layout, hint)| {
        let (schema, bounds): (i32, &[f64]) = [
            (0, &[][..]),
            (1, &[]),
            (CUSTOM_BUCKETS, &[1.0, 2.0]),
            (CUSTOM_BUCKETS, &[2.0, 3.0]),
        ][layout];
        let total: f64 = counts.iter().map(|c| f64::from(*c)).sum();
        let counts = counts.iter().enumerate().map(|(i, c)| (i as i32, f64::from(*c)));
        let mut h = Histogram {
            reset: [ResetHint::Reset, ResetHint::NotReset, ResetHint::Gauge][hint],
            schema,
            bounds: bounds.into(),
            count: total,
            sum: total / 2.0,
            positive: Buckets::from_indexed(counts),
            ..Histogram::stale()
        };
        h.compact();
        Arc::new(h)
    })
}

/// A handful of series over few labels, with gaps, equal values, special ones and histograms.
fn matrix() -> impl Strategy<Value = Matrix> {
    let value = prop_oneof![
        6 => (0i32..5).prop_map(|v| Some(Value::Float(f64::from(v)))),
        1 => Just(Some(Value::Float(f64::NAN))),
        1 => Just(Some(Value::Float(f64::INFINITY))),
        2 => histogram().prop_map(|h| Some(Value::Histogram(h))),
        3 => Just(None),
    ];
    let row = ("[mn]", "[xy]?", "[pq]?", proptest::collection::vec(value, STEPS));
    proptest::collection::vec(row, 0..7).prop_map(|rows| {
        let mut out = Matrix::empty(Grid::range(0, STEPS as i64 - 1, 1));
        for (name, a, b, values) in rows {
            let labels = LabelSet::from_pairs([("__name__", name), ("a", a), ("b", b)]);
            let mut cells = Cells::absent(STEPS);
            for (i, v) in values.into_iter().enumerate() {
                match v {
                    Some(Value::Float(v)) => cells.set(i, v),
                    Some(Value::Histogram(h)) => cells.set_histogram(i, h),
                    None => {}
                }
            }
            if out.rows.iter().all(|r| r.labels != labels) && !cells.all_absent() {
                out.rows.push(Row::new(labels, cells));
            }
        }
        out
    })
}

fn at_step(m: &Matrix, i: usize) -> Matrix {
    let mut out = Matrix::empty(Grid::instant(i as i64));
    for row in &m.rows {
        if let Some(cell) = row.cells.cell(i) {
            out.rows.push(Row::new(row.labels.clone(), Cells::repeated(cell, 1)));
        }
    }
    out
}

fn sorted(mut m: Matrix) -> Vec<(String, String)> {
    m.sort_by_labels();
    let value = |row: &Row| match row.cells.cell(0) {
        Some(Cell::Float(v)) if v.is_nan() => "NaN".to_owned(),
        Some(Cell::Float(v)) => v.to_string(),
        Some(Cell::Histogram(h)) => format!("{} {:?} schema {} {:?}", text_of(h), h.reset, h.schema, h.bounds),
        None => String::new(),
    };
    m.rows.iter().map(|row| (row.labels.to_string(), value(row))).collect()
}

/// `whole` over the range against `one` at each step. The range fails exactly if a step does.
fn same(
    whole: Result<Matrix, ExecError>,
    one: impl Fn(usize) -> Result<Matrix, ExecError>,
) -> Result<(), TestCaseError> {
    let steps: Result<Vec<Matrix>, ExecError> = (0..STEPS).map(one).collect();
    match (whole, steps) {
        (Ok(whole), Ok(steps)) => {
            for (i, step) in steps.into_iter().enumerate() {
                prop_assert_eq!(sorted(at_step(&whole, i)), sorted(step), "step {}", i);
            }
        }
        (Err(_), Err(_)) => {}
        (whole, steps) => prop_assert!(false, "range: {:?}, steps: {:?}", whole, steps),
    }
    Ok(())
}

fn aggregate_op() -> impl Strategy<Value = AggregateOp> {
    let k = proptest::collection::vec(-1.0f64..4.0, STEPS);
    prop_oneof![
        Just(AggregateOp::Sum),
        Just(AggregateOp::Avg),
        Just(AggregateOp::Min),
        Just(AggregateOp::Max),
        Just(AggregateOp::Count),
        Just(AggregateOp::Group),
        Just(AggregateOp::Stddev),
        Just(AggregateOp::Stdvar),
        Just(AggregateOp::CountValues("b".into())),
        k.clone().prop_map(AggregateOp::Quantile),
        k.clone().prop_map(AggregateOp::TopK),
        k.clone().prop_map(AggregateOp::BottomK),
        k.clone().prop_map(AggregateOp::LimitK),
        k.prop_map(AggregateOp::LimitRatio),
    ]
}

fn op_at(op: &AggregateOp, i: usize) -> AggregateOp {
    match op {
        AggregateOp::Quantile(k) => AggregateOp::Quantile(vec![k[i]]),
        AggregateOp::TopK(k) => AggregateOp::TopK(vec![k[i]]),
        AggregateOp::BottomK(k) => AggregateOp::BottomK(vec![k[i]]),
        AggregateOp::LimitK(k) => AggregateOp::LimitK(vec![k[i]]),
        AggregateOp::LimitRatio(k) => AggregateOp::LimitRatio(vec![k[i]]),
        other => other.clone(),
    }
}

fn grouping() -> impl Strategy<Value = Grouping> {
    let labels = proptest::sample::subsequence(vec!["a".to_owned(), "b".into(), "__name__".into()], 0..3);
    (labels, any::<bool>()).prop_map(|(l, by)| if by { Grouping::By(l) } else { Grouping::Without(l) })
}

fn matching() -> impl Strategy<Value = Matching> {
    let labels = proptest::sample::subsequence(vec!["a".to_owned(), "b".into(), "__name__".into()], 0..4);
    let include = proptest::sample::subsequence(vec!["b".to_owned()], 0..2);
    let fill = || prop_oneof![3 => Just(None), 1 => Just(Some(2.0))];
    let fills = (fill(), fill());
    (any::<bool>(), labels, 0..3, include, fills).prop_map(|(on, labels, cardinality, include, fills)| {
        let (fill_left, fill_right) = fills;
        let cardinality = [Cardinality::OneToOne, Cardinality::ManyToOne, Cardinality::OneToMany][cardinality as usize];
        let include = if cardinality == Cardinality::OneToOne {
            Vec::new()
        } else {
            include
        };
        Matching {
            on,
            labels,
            cardinality,
            include,
            fill_left,
            fill_right,
        }
    })
}

fn binary_op() -> impl Strategy<Value = BinaryOp> {
    use BinaryOp::*;
    proptest::sample::select(vec![
        Add, Sub, Mul, Div, Mod, Eq, Ne, Gt, Le, And, Or, Unless, TrimUpper, TrimLower,
    ])
}

fn dialect() -> impl Strategy<Value = Dialect> {
    let delayed = Dialect {
        delayed_name_removal: true,
        ..PROMQL
    };
    proptest::sample::select(vec![PROMQL, LOGQL, delayed])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn aggregations(m in matrix(), op in aggregate_op(), by in grouping(), dialect in dialect()) {
        let whole = aggregate(&context(), &op, &by, m.clone(), dialect, &mut Remarks::new());
        same(whole, |i| aggregate(&context(), &op_at(&op, i), &by, at_step(&m, i), dialect, &mut Remarks::new()))?;
    }

    #[test]
    fn vector_with_vector(
        l in matrix(), r in matrix(), op in binary_op(), mut on in matching(), bool_ in any::<bool>(), dialect in dialect(),
    ) {
        if op.is_set() {
            on.cardinality = Cardinality::ManyToMany;
            on.include.clear();
            (on.fill_left, on.fill_right) = (None, None);
        }
        let bool_ = bool_ && op.is_comparison();
        let whole = binary(&context(), op, &on, bool_, l.clone(), r.clone(), dialect, &mut Remarks::new());
        same(whole, |i| binary(&context(), op, &on, bool_, at_step(&l, i), at_step(&r, i), dialect, &mut Remarks::new()))?;
    }

    #[test]
    fn vector_with_scalar(
        m in matrix(), s in proptest::collection::vec(-1i32..4, STEPS), op in binary_op(), bool_ in any::<bool>(), left in any::<bool>(),
    ) {
        prop_assume!(!op.is_set());
        let s: Vec<f64> = s.into_iter().map(f64::from).collect();
        let bool_ = bool_ && op.is_comparison();
        let whole = binary_scalar(&context(), op, bool_, m.clone(), &s, left, PROMQL, &mut Remarks::new());
        same(whole, |i| binary_scalar(&context(), op, bool_, at_step(&m, i), &s[i..=i], left, PROMQL, &mut Remarks::new()))?;
    }
}
