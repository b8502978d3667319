//! `label_replace` and `label_join`: functions that look at labels only.

use model::{LabelSet, METRIC_NAME, Regex};

use crate::{Context, ExecError, Matrix};

/// Bytes of all values that one call may write. A replacement can name a group many thousand times.
const VALUES_BYTES_MAX: usize = 64 << 20;

/// `label_replace(v, dst, replacement, src, regex)`. The expression is one that matches whole values and
/// finds groups. Fails on a bad label name, when two rows become one, or when the values take too much memory.
pub fn label_replace(
    context: &Context,
    mut input: Matrix,
    dst: &str,
    replacement: &str,
    src: &str,
    regex: &Regex,
) -> Result<Matrix, ExecError> {
    let data = |text| Err(ExecError::Data(text));
    if dst.is_empty() {
        return data(format!("invalid destination label name in label_replace(): {dst}"));
    }
    let mut room = Room::new("label_replace");
    let groups = replacement.matches('$').count();
    let mut value = String::new();
    let mut found = regex.new_captures();
    for row in &mut input.rows {
        context.check("expression evaluation")?;
        let labels = row.labels.clone();
        let text = labels.get(src).unwrap_or("");
        if !regex.captures(text, &mut found) {
            continue;
        }
        room.fits(groups.saturating_mul(text.len()).saturating_add(replacement.len()))?;
        value.clear();
        found.expand(text, replacement, &mut value);
        room.take(value.len())?;
        relabel(row, without_empty(labels.with(dst, &value)), dst);
    }
    input.merge_same_labels()?;
    Ok(input)
}

/// LogQL's labels may be there and empty; none of them outlives a replacement.
fn without_empty(labels: LabelSet) -> LabelSet {
    let has_empty = labels.iter().any(|(_, value)| value.is_empty());
    if has_empty {
        LabelSet::from_pairs(labels.iter())
    } else {
        labels
    }
}

/// `label_join(v, dst, separator, src...)`. Fails on a bad label name, when two rows become one, or when the values take
/// too much memory.
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
    let mut room = Room::new("label_join");
    for row in &mut input.rows {
        context.check("expression evaluation")?;
        let values: Vec<&str> = src.iter().map(|n| row.labels.get(n.as_ref()).unwrap_or("")).collect();
        room.take(values.iter().map(|v| v.len() + separator.len()).sum())?;
        let labels = row.labels.with(dst, &values.join(separator));
        relabel(row, labels, dst);
    }
    input.merge_same_labels()?;
    Ok(input)
}

/// What is left of [`VALUES_BYTES_MAX`].
struct Room {
    function: &'static str,
    bytes: usize,
}

impl Room {
    fn new(function: &'static str) -> Room {
        Room {
            function,
            bytes: VALUES_BYTES_MAX,
        }
    }

    fn fits(&self, bytes: usize) -> Result<(), ExecError> {
        if bytes > self.bytes {
            return Err(ExecError::Limit(format!(
                "{} would write more than {VALUES_BYTES_MAX} bytes of label values; ask for fewer series or shorter values",
                self.function
            )));
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), ExecError> {
        self.fits(bytes)?;
        self.bytes -= bytes;
        Ok(())
    }
}

fn relabel(row: &mut crate::Row, labels: LabelSet, dst: &str) {
    row.labels = labels;
    // Who writes the name wants it.
    if dst == METRIC_NAME {
        row.drop_name = false;
    }
}
