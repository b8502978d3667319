//! `printf` with Go's verbs.

use super::TEXT_BYTES_MAX;
use super::builtin::kind;
use super::spelling::{print_float, quote};
use super::value::Value;

pub(crate) fn too_long() -> String {
    format!("the text would be longer than {TEXT_BYTES_MAX} bytes")
}

/// The verbs that templates use: `%s %v %q %d %x %f %e %g %t %%`, with flags, width and precision.
pub(crate) fn printf(format: &str, arguments: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut arguments_left = arguments.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (mut minus, mut zero, mut plus, mut space, mut sharp) = (false, false, false, false, false);
        while let Some(flag) = chars.peek() {
            match flag {
                '-' => minus = true,
                '0' => zero = true,
                '+' => plus = true,
                ' ' => space = true,
                '#' => sharp = true,
                _ => break,
            }
            chars.next();
        }
        let mut number = |out: &mut std::iter::Peekable<std::str::Chars<'_>>| -> Option<usize> {
            if out.peek() == Some(&'*') {
                out.next();
                return arguments_left.next().and_then(|v| usize::try_from(v.int()).ok());
            }
            let mut n = None;
            while let Some(d) = out.peek().and_then(|c| c.to_digit(10)) {
                n = Some(n.unwrap_or(0usize).saturating_mul(10).saturating_add(d as usize));
                out.next();
            }
            n
        };
        let width = number(&mut chars).unwrap_or(0);
        let precision = if chars.peek() == Some(&'.') {
            chars.next();
            Some(number(&mut chars).unwrap_or(0))
        } else {
            None
        };
        if width > 10_000 || precision.is_some_and(|p| p > 10_000) {
            return Err("width or precision too large".into());
        }
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(value) = arguments_left.next() else {
            out.push_str(&format!("%!{verb}(MISSING)"));
            continue;
        };
        let signed = |t: String, positive: bool| match (positive, plus, space) {
            (true, true, _) => format!("+{t}"),
            (true, false, true) => format!(" {t}"),
            _ => t,
        };
        let (t, numeric) = match (verb, value) {
            ('v', Value::Text(t)) if sharp => (quote(t), false),
            ('v', v) => (v.text_or_nil(), matches!(v, Value::Int(_) | Value::Float(_))),
            (verb, Value::Nil) if verb != 'v' => (format!("%!{verb}(<nil>)"), false),
            ('s', v @ (Value::Int(_) | Value::Float(_) | Value::Bool(_))) => {
                (format!("%!s({}={})", kind(v), v.text()), false)
            }
            ('s', v) => {
                let t = v.text_or_nil();
                (precision.map_or(t.clone(), |p| t.chars().take(p).collect()), false)
            }
            ('q', v) => (quote(&v.text()), false),
            ('d', Value::Int(n)) => (signed(n.to_string(), *n >= 0), true),
            ('x', Value::Int(n)) => (format!("{n:x}"), true),
            ('X', Value::Int(n)) => (format!("{n:X}"), true),
            ('o', Value::Int(n)) => (format!("{n:o}"), true),
            ('b', Value::Int(n)) => (format!("{n:b}"), true),
            ('c', Value::Int(n)) => (
                u32::try_from(*n)
                    .ok()
                    .and_then(char::from_u32)
                    .unwrap_or('\u{fffd}')
                    .to_string(),
                false,
            ),
            ('x', v @ Value::Text(_)) => (v.text().bytes().map(|b| format!("{b:02x}")).collect(), false),
            ('X', v @ Value::Text(_)) => (v.text().bytes().map(|b| format!("{b:02X}")).collect(), false),
            ('f' | 'F' | 'e' | 'g' | 'E' | 'G', Value::Float(v)) if !v.is_finite() => (print_float(*v), false),
            ('f' | 'F', Value::Float(v)) => (signed(format!("{v:.*}", precision.unwrap_or(6)), *v >= 0.0), true),
            ('e', Value::Float(v)) => (
                signed(exponent(&format!("{v:.*e}", precision.unwrap_or(6))), *v >= 0.0),
                true,
            ),
            ('E', Value::Float(v)) => (
                signed(
                    exponent(&format!("{v:.*e}", precision.unwrap_or(6))).to_uppercase(),
                    *v >= 0.0,
                ),
                true,
            ),
            ('g', Value::Float(v)) => {
                let t = precision.map_or_else(|| print_float(*v), |p| print_float_short(*v, p));
                (signed(t, *v >= 0.0), true)
            }
            ('G', Value::Float(v)) => {
                let t = precision.map_or_else(|| print_float(*v), |p| print_float_short(*v, p));
                (signed(t.to_uppercase(), *v >= 0.0), true)
            }
            ('t', Value::Bool(b)) => (b.to_string(), false),
            ('T', v) => (kind(v).to_owned(), false),
            (verb, v) => (format!("%!{verb}({}={})", kind(v), v.text_or_nil()), false),
        };
        let missing = width.saturating_sub(t.chars().count());
        if minus {
            out.push_str(&t);
            out.extend(std::iter::repeat_n(' ', missing));
        } else if zero && numeric {
            let sign = usize::from(t.starts_with(['+', '-']));
            out.push_str(&t[..sign]);
            out.extend(std::iter::repeat_n('0', missing));
            out.push_str(&t[sign..]);
        } else {
            out.extend(std::iter::repeat_n(if zero { '0' } else { ' ' }, missing));
            out.push_str(&t);
        }
        if out.len() > TEXT_BYTES_MAX {
            return Err(too_long());
        }
    }
    let extra: Vec<String> = arguments_left
        .map(|v| format!("{}={}", kind(v), v.text_or_nil()))
        .collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

/// With at most so many significant digits, as `%.4g` prints: trailing zeros go, and what is far from 1 gets an exponent.
pub fn print_float_short(v: f64, digits: usize) -> String {
    if !v.is_finite() || v == 0.0 {
        return print_float(v);
    }
    let digits = digits.clamp(1, 1000);
    let scientific = format!("{v:.*e}", digits - 1);
    let (mantissa, power) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let power: i64 = power.parse().unwrap_or(0);
    let trimmed = |t: &str| match t.contains('.') {
        true => t.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => t.to_owned(),
    };
    if power < -4 || power >= digits as i64 {
        return exponent(&format!("{}e{power}", trimmed(mantissa)));
    }
    let decimals = usize::try_from(digits as i64 - 1 - power).unwrap_or(0);
    trimmed(&format!("{v:.decimals$}"))
}

/// `1.5e3` as `1.5e+03`.
fn exponent(t: &str) -> String {
    match t.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => t.to_owned(),
    }
}

impl Value {
    fn text_or_nil(&self) -> String {
        match self {
            Value::Nil => "<nil>".into(),
            other => other.text().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_in_few_digits() {
        for (v, want) in [
            (1_234_567.0, "1.235e+06"),
            (1.0, "1"),
            (0.12, "0.12"),
            (123.45, "123.5"),
            (9999.9, "1e+04"),
            (1234.0, "1234"),
            (0.000_012_345, "1.234e-05"),
            (-22.222, "-22.22"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(print_float_short(v, 4), want);
        }
    }
}
