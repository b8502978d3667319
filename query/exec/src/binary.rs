//! Binary operators: scalar with scalar, vector with scalar, vector with vector.

use hashbrown::HashMap;
use model::LabelSet;

use crate::cell_operators::Operator;
use crate::matching::MatchGroups;
use crate::remarks::Latest;
use crate::set_operators::{presence, set_operator};
use crate::{Cardinality, Cells, Context, Dialect, ExecError, Grid, Matching, Matrix, Remarks, Row};

/// Binary operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Gt,
    Lt,
    Ge,
    Le,
    And,
    Or,
    Unless,
    /// `</` cuts what a histogram observed above a number; numbers have no such thing.
    TrimUpper,
    /// `>/` cuts what a histogram observed below a number.
    TrimLower,
}

impl BinaryOp {
    /// Whether it compares.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Gt | Lt | Ge | Le)
    }
    /// Whether it is `and`, `or` or `unless`.
    pub fn is_set(self) -> bool {
        use BinaryOp::*;
        matches!(self, And | Or | Unless)
    }
    /// Whether it cuts histograms.
    pub fn is_trim(self) -> bool {
        matches!(self, BinaryOp::TrimUpper | BinaryOp::TrimLower)
    }
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Gt => ">",
            BinaryOp::Lt => "<",
            BinaryOp::Ge => ">=",
            BinaryOp::Le => "<=",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
        }
    }
}

/// Vector with vector. `return_bool` for comparisons with `bool`. Errors when matching is ambiguous; what it met on the
/// way goes to `remarks`.
#[allow(clippy::too_many_arguments)]
pub fn binary(
    context: &Context,
    op: BinaryOp,
    matching: &Matching,
    return_bool: bool,
    left: Matrix,
    right: Matrix,
    dialect: Dialect,
    remarks: &mut Remarks,
) -> Result<Matrix, ExecError> {
    if op.is_set() {
        return set_operator(context, op, matching, left, right, dialect);
    }
    let grid = left.grid;
    let groups = MatchGroups::of(matching, &left.rows, &right.rows, dialect);
    let operator = Operator {
        op,
        return_bool,
        dialect,
    };
    let mut join = Join {
        matching,
        operator,
        taken: Taken::new(groups.count),
        out: Matrix::empty(grid),
        remarks: Latest::default(),
    };
    let swapped = matching.cardinality == Cardinality::OneToMany;
    let (many, one) = if swapped { (&right, &left) } else { (&left, &right) };
    let (many_groups, one_groups) = if swapped {
        (&groups.right, &groups.left)
    } else {
        (&groups.left, &groups.right)
    };

    let mut partners: Vec<Vec<usize>> = vec![Vec::new(); groups.count];
    for (row, &group) in one_groups.iter().enumerate() {
        partners[group as usize].push(row);
    }
    refuse_duplicates(context, matching, &one.rows, &many.rows, &partners, grid, dialect)?;

    for (row, &group) in many.rows.iter().zip(many_groups) {
        for &partner in &partners[group as usize] {
            context.check("expression evaluation")?;
            join.meet(group as usize, row, &one.rows[partner])?;
        }
    }
    // Who has no partner meets one that is made up: the labels of the group, and the value to fill in.
    // As Prometheus has it, sides trade places under `group_right` before they are filled: `fill_left` is always the many side's.
    let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
    if let Some(v) = fill_one {
        let there = presence(one, one_groups, groups.count);
        for (row, &group) in many.rows.iter().zip(many_groups) {
            context.check("expression evaluation")?;
            let made_up = join.made_up(row, v);
            join.meet(group as usize, &alone(row, &there[group as usize]), &made_up)?;
        }
    }
    if let Some(v) = fill_many {
        let there = presence(many, many_groups, groups.count);
        for (row, &group) in one.rows.iter().zip(one_groups) {
            context.check("expression evaluation")?;
            let made_up = join.made_up(row, v);
            join.meet(group as usize, &made_up, &alone(row, &there[group as usize]))?;
        }
    }
    join.remarks.tell(remarks);
    let mut out = join.out;
    out.merge_same_labels()?;
    Ok(out)
}

/// A row where none of its group's other side is.
fn alone(row: &Row, others: &[u64]) -> Row {
    let mut row = row.clone();
    row.cells.keep(others.iter().map(|word| !word));
    row
}

/// Pairs that meet, and what comes of them.
struct Join<'a> {
    matching: &'a Matching,
    operator: Operator,
    taken: Taken,
    out: Matrix,
    remarks: Latest,
}

impl Join<'_> {
    fn made_up(&self, partner: &Row, v: f64) -> Row {
        let labels = self.matching.group_of(&partner.labels, self.operator.dialect);
        Row::new(labels, Cells::full(vec![v; self.out.grid.len()]))
    }

    fn meet(&mut self, group: usize, many: &Row, one: &Row) -> Result<(), ExecError> {
        let (matching, operator) = (self.matching, self.operator);
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let (left, right) = match matching.cardinality {
            Cardinality::OneToMany => (one, many),
            _ => (many, one),
        };
        let cells = operator.combine(&left.cells, &right.cells, &mut self.remarks);
        // What a filter takes out has met all the same; what an operator has no meaning for has not.
        let met = operator
            .filters()
            .then(|| operator.comparable(&left.cells, &right.cells));
        if one_to_one {
            self.taken.take_once(group, met.as_ref().unwrap_or(&cells))?;
        } else if let Some(met) = met {
            let labels = result_labels(operator.op, matching, &many.labels, &one.labels, operator.dialect);
            self.taken.take(group, &Row::new(labels, met))?;
        }
        if cells.all_absent() {
            return Ok(());
        }
        let mut result = Row {
            labels: result_labels(operator.op, matching, &many.labels, &one.labels, operator.dialect),
            cells,
            drop_name: many.drop_name,
        };
        if operator.return_bool {
            result.remove_name(operator.dialect);
        }
        if !one_to_one && !operator.filters() {
            self.taken.take(group, &result)?;
        }
        self.out.rows.push(result);
        Ok(())
    }
}

/// Vector with scalar (one value per step); `scalar_left` tells on which side it stands. Comparisons filter unless
/// `return_bool`. What it met on the way goes to `remarks`.
#[allow(clippy::too_many_arguments)]
pub fn binary_scalar(
    context: &Context,
    op: BinaryOp,
    return_bool: bool,
    mut vector: Matrix,
    scalar: &[f64],
    scalar_left: bool,
    dialect: Dialect,
    remarks: &mut Remarks,
) -> Result<Matrix, ExecError> {
    let operator = Operator {
        op,
        return_bool,
        dialect,
    };
    let keeps_names = operator.filters() || op.is_trim();
    let mut met = Latest::default();
    for row in &mut vector.rows {
        context.check("expression evaluation")?;
        operator.combine_scalar(&mut row.cells, scalar, scalar_left, &mut met);
        if !keeps_names {
            row.remove_name(dialect);
        }
    }
    met.tell(remarks);
    vector.drop_absent();
    if !keeps_names {
        vector.merge_same_labels()?;
    }
    Ok(vector)
}

/// Scalar with scalar, one step. Comparisons give 0 or 1.
#[inline]
pub fn apply(op: BinaryOp, left: f64, right: f64, dialect: Dialect) -> f64 {
    let truth = |b: bool| f64::from(u8::from(b));
    match op {
        BinaryOp::Add => left + right,
        BinaryOp::Sub => left - right,
        BinaryOp::Mul => left * right,
        // Loki answers NaN here where Prometheus answers Inf; Dialect keeps the two apart.
        BinaryOp::Div | BinaryOp::Mod if right == 0.0 && dialect.division_by_zero_is_nan => f64::NAN,
        BinaryOp::Div => left / right,
        BinaryOp::Mod => left % right,
        BinaryOp::Pow => left.powf(right),
        BinaryOp::Atan2 => left.atan2(right),
        BinaryOp::Eq => truth(left == right),
        BinaryOp::Ne => truth(left != right),
        BinaryOp::Gt => truth(left > right),
        BinaryOp::Lt => truth(left < right),
        BinaryOp::Ge => truth(left >= right),
        BinaryOp::Le => truth(left <= right),
        // Set operators look at presence, never at values; of two numbers they have nothing to say.
        BinaryOp::And | BinaryOp::Or | BinaryOp::Unless => f64::NAN,
        // Numbers have no buckets.
        BinaryOp::TrimUpper | BinaryOp::TrimLower => f64::NAN,
    }
}

fn result_labels(op: BinaryOp, matching: &Matching, many: &LabelSet, one: &LabelSet, dialect: Dialect) -> LabelSet {
    let mut labels = many.clone();
    if dialect.metric_names && !op.is_comparison() && !op.is_trim() {
        labels = dialect.without_name(&labels);
    }
    if matching.cardinality == Cardinality::OneToOne {
        labels = if matching.on {
            labels.keep(&matching.labels)
        } else {
            labels.without(&matching.labels)
        };
    }
    for name in &matching.include {
        labels = labels.with(name, one.get(name).unwrap_or(""));
    }
    labels
}

/// Fails where two rows of the "one" side share a match group and a step at which the other side has anything.
fn refuse_duplicates(
    context: &Context,
    matching: &Matching,
    one: &[Row],
    many: &[Row],
    partners: &[Vec<usize>],
    grid: Grid,
    dialect: Dialect,
) -> Result<(), ExecError> {
    let fills = matching.fill_left.or(matching.fill_right).is_some();
    let mut asked: Option<Cells> = None;
    for group in partners.iter().filter(|group| group.len() > 1) {
        let mut owner: Vec<Option<usize>> = vec![None; grid.len()];
        for &row in group {
            context.check("expression evaluation")?;
            for i in one[row].cells.steps() {
                let Some(first) = owner[i].replace(row) else { continue };
                let asked = asked.get_or_insert_with(|| {
                    let mut any = Cells::absent(grid.len());
                    many.iter()
                        .flat_map(|row| row.cells.steps())
                        .for_each(|i| any.set(i, 1.0));
                    any
                });
                if fills || asked.has(i) {
                    return Err(many_to_many(matching, &one[first].labels, &one[row].labels, dialect));
                }
            }
        }
    }
    Ok(())
}

fn many_to_many(matching: &Matching, a: &LabelSet, b: &LabelSet, dialect: Dialect) -> ExecError {
    let side = if matching.cardinality == Cardinality::OneToMany {
        "left"
    } else {
        "right"
    };
    let (first, second) = if a <= b { (a, b) } else { (b, a) };
    ExecError::Data(format!(
        "found duplicate series for the match group {} on the {side} hand-side of the operation: [{first}, {second}]\
         ;many-to-many matching not allowed: matching labels must be unique on one side",
        matching.group_of(a, dialect)
    ))
}

/// Which steps of a match group have a result already.
struct Taken {
    once: Vec<Option<Cells>>,
    by_labels: Vec<HashMap<LabelSet, Cells>>,
}

impl Taken {
    fn new(groups: usize) -> Taken {
        Taken {
            once: vec![None; groups],
            by_labels: vec![HashMap::new(); groups],
        }
    }

    /// One to one, a group has room for one meeting at each step.
    fn take_once(&mut self, group: usize, met: &Cells) -> Result<(), ExecError> {
        match &mut self.once[group] {
            Some(taken) if taken.meets(met) => Err(ExecError::Data(
                "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                    .to_owned(),
            )),
            Some(taken) => {
                taken.absorb(met);
                Ok(())
            }
            slot => {
                *slot = Some(met.clone());
                Ok(())
            }
        }
    }

    /// Many to one, a group has room for one result per label set at each step.
    fn take(&mut self, group: usize, result: &Row) -> Result<(), ExecError> {
        match self.by_labels[group].entry(result.labels.clone()) {
            hashbrown::hash_map::Entry::Vacant(slot) => {
                slot.insert(result.cells.clone());
            }
            hashbrown::hash_map::Entry::Occupied(slot) if slot.get().meets(&result.cells) => {
                return Err(ExecError::Data(
                    "multiple matches for labels: grouping labels must ensure unique matches".to_owned(),
                ));
            }
            hashbrown::hash_map::Entry::Occupied(mut slot) => slot.get_mut().absorb(&result.cells),
        }
        Ok(())
    }
}
