//! `label_replace` and `label_join`: functions that look at labels only.

use model::{LabelSet, METRIC_NAME};

use crate::{Context, ExecError, Matrix};

/// `label_replace(v, dst, replacement, src, regex)`. Fails on a bad regex or label name, or when two rows become one.
pub fn label_replace(
    context: &Context,
    mut input: Matrix,
    dst: &str,
    replacement: &str,
    src: &str,
    regex: &str,
) -> Result<Matrix, ExecError> {
    let data = |text| Err(ExecError::Data(text));
    let Ok(compiled) = model::anchored_regex(regex) else {
        return data(format!("invalid regular expression in label_replace(): {regex}"));
    };
    if dst.is_empty() {
        return data(format!("invalid destination label name in label_replace(): {dst}"));
    }
    let mut value = String::new();
    for row in &mut input.rows {
        context.check("expression evaluation")?;
        let labels = row.labels.clone();
        let Some(found) = compiled.captures(labels.get(src).unwrap_or("")) else {
            continue;
        };
        value.clear();
        found.expand(replacement, &mut value);
        relabel(row, labels.with(dst, &value), dst);
    }
    input.merge_same_labels()?;
    Ok(input)
}

/// `label_join(v, dst, separator, src...)`. Fails on a bad label name, or when two rows become one.
pub fn label_join<S: AsRef<str>>(
    context: &Context,
    mut input: Matrix,
    dst: &str,
    separator: &str,
    src: &[S],
) -> Result<Matrix, ExecError> {
    if dst.is_empty() {
        return Err(ExecError::Data(format!(
            "invalid destination label name in label_join(): {dst}"
        )));
    }
    if src.iter().any(|name| name.as_ref().is_empty()) {
        return Err(ExecError::Data(
            "invalid source label name in label_join(): ".to_owned(),
        ));
    }
    for row in &mut input.rows {
        context.check("expression evaluation")?;
        let values: Vec<&str> = src.iter().map(|n| row.labels.get(n.as_ref()).unwrap_or("")).collect();
        let labels = row.labels.with(dst, &values.join(separator));
        relabel(row, labels, dst);
    }
    input.merge_same_labels()?;
    Ok(input)
}

fn relabel(row: &mut crate::Row, labels: LabelSet, dst: &str) {
    row.labels = labels;
    // Who writes the name wants it.
    if dst == METRIC_NAME {
        row.drop_name = false;
    }
}
