//! What is expected beside what was found, a line each: `-` is missing, `+` is there and should not be.

use std::fmt::Write;

use query_exec::go_number;

use super::{FiringAlert, Sample, SampleValue};

/// Most lines of one difference; the rest is counted.
const LINES_MAX: usize = 100;

/// `None`: the same alerts, in whatever order.
pub(super) fn of_alerts(expected: &[FiringAlert], found: &[FiringAlert]) -> Option<String> {
    let (mut missing, mut surplus) = (sorted(expected), sorted(found));
    cancel(&mut missing, &mut surplus, |a, b| a == b);
    if missing.is_empty() && surplus.is_empty() {
        return None;
    }
    let mut lines = Lines::default();
    // Alerts whose labels agree differ in their annotations: they are shown as one.
    missing.retain(|want| {
        let Some(at) = surplus.iter().position(|got| got.labels == want.labels) else {
            return true;
        };
        let got = surplus.remove(at);
        lines.add(' ', &braces(&want.labels));
        for (name, value) in &want.annotations {
            let same = got.annotations.contains(&(name.clone(), value.clone()));
            lines.add(if same { ' ' } else { '-' }, &format!("  {name}: {value}"));
        }
        for pair @ (name, value) in &got.annotations {
            if !want.annotations.contains(pair) {
                lines.add('+', &format!("  {name}: {value}"));
            }
        }
        false
    });
    for (sign, alerts) in [('-', &missing), ('+', &surplus)] {
        for alert in alerts {
            lines.add(sign, &braces(&alert.labels));
            for (name, value) in &alert.annotations {
                lines.add(sign, &format!("  {name}: {value}"));
            }
        }
    }
    Some(lines.done())
}

/// `None`: the same elements, in whatever order. `fuzzy`: numbers may differ in their last bit.
pub(super) fn of_samples(expected: &[Sample], found: &[Sample], fuzzy: bool) -> Option<String> {
    let by_labels = |samples: &[Sample]| {
        let mut sorted = samples.to_vec();
        sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
        sorted
    };
    let (mut missing, mut surplus) = (by_labels(expected), by_labels(found));
    cancel(&mut missing, &mut surplus, |a, b| {
        a.labels == b.labels && same_value(&a.value, &b.value, fuzzy)
    });
    if missing.is_empty() && surplus.is_empty() {
        return None;
    }
    let mut lines = Lines::default();
    let mut surplus = surplus.into_iter().peekable();
    for want in missing {
        while let Some(got) = surplus.next_if(|got| got.labels < want.labels) {
            lines.add('+', &sample_text(&got));
        }
        lines.add('-', &sample_text(&want));
    }
    for got in surplus {
        lines.add('+', &sample_text(&got));
    }
    Some(lines.done())
}

/// Takes out of both what is in both.
fn cancel<T>(missing: &mut Vec<T>, surplus: &mut Vec<T>, same: impl Fn(&T, &T) -> bool) {
    missing.retain(|want| match surplus.iter().position(|got| same(want, got)) {
        Some(at) => {
            surplus.remove(at);
            false
        }
        None => true,
    });
}

fn same_value(a: &SampleValue, b: &SampleValue, fuzzy: bool) -> bool {
    match (a, b) {
        (SampleValue::Float(a), SampleValue::Float(b)) => {
            a == b || a.is_nan() && b.is_nan() || fuzzy && (a.next_down() == *b || a.next_up() == *b)
        }
        (SampleValue::Histogram(a), SampleValue::Histogram(b)) => a == b,
        _ => false,
    }
}

fn sorted(alerts: &[FiringAlert]) -> Vec<FiringAlert> {
    let mut sorted = alerts.to_vec();
    sorted.sort();
    sorted
}

fn sample_text(sample: &Sample) -> String {
    let value = match &sample.value {
        SampleValue::Float(v) => go_number(*v),
        SampleValue::Histogram(text) => text.clone(),
    };
    format!("{} {value}", sample.labels)
}

fn braces(labels: &[(String, String)]) -> String {
    let each: Vec<String> = labels.iter().map(|(n, v)| format!("{n}={v:?}")).collect();
    format!("{{{}}}", each.join(", "))
}

#[derive(Default)]
struct Lines {
    text: String,
    count: usize,
}

impl Lines {
    fn add(&mut self, sign: char, text: &str) {
        self.count += 1;
        if self.count <= LINES_MAX {
            let _ = writeln!(self.text, "    {sign} {}", text.replace('\n', "\n      "));
        }
    }

    fn done(mut self) -> String {
        if self.count > LINES_MAX {
            let _ = writeln!(self.text, "    and {} lines more", self.count - LINES_MAX);
        }
        self.text.truncate(self.text.trim_end().len());
        self.text
    }
}
