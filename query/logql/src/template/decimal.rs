//! Arithmetic of `addf`, `subf`, `mulf` and `divf`: decimal, as Loki's, so that 0.1 + 0.2 is 0.3.

use query_template::Value;

/// Digits after the point that a quotient keeps.
const QUOTIENT_DIGITS: u32 = 16;

/// `mantissa / 10^scale`
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decimal {
    mantissa: i128,
    scale: u32,
}

type Operation = fn(Decimal, Decimal) -> Option<Decimal>;

/// The arguments from the left; in floats where decimals do not reach.
pub(super) fn fold(arguments: &[Value], exact: Operation, rough: fn(f64, f64) -> f64) -> Value {
    let mut numbers = arguments.iter().map(Value::float);
    let mut total = numbers.next().unwrap_or(0.0);
    let mut decimal = Decimal::of(total);
    for number in numbers {
        decimal = match (decimal, Decimal::of(number)) {
            (Some(a), Some(b)) => exact(a, b),
            _ => None,
        };
        total = decimal.map_or_else(|| rough(total, number), Decimal::float);
    }
    Value::Float(total)
}

pub(super) fn add(a: Decimal, b: Decimal) -> Option<Decimal> {
    let scale = a.scale.max(b.scale);
    let mantissa = a.at(scale)?.checked_add(b.at(scale)?)?;
    Some(Decimal { mantissa, scale })
}

pub(super) fn sub(a: Decimal, b: Decimal) -> Option<Decimal> {
    add(
        a,
        Decimal {
            mantissa: b.mantissa.checked_neg()?,
            ..b
        },
    )
}

pub(super) fn mul(a: Decimal, b: Decimal) -> Option<Decimal> {
    Some(Decimal {
        mantissa: a.mantissa.checked_mul(b.mantissa)?,
        scale: a.scale + b.scale,
    })
}

/// Rounded half away from zero.
pub(super) fn div(a: Decimal, b: Decimal) -> Option<Decimal> {
    let dividend = a.at(a.scale + b.scale + QUOTIENT_DIGITS)?;
    let divisor = b.at(a.scale + b.scale)?;
    let quotient = dividend.checked_div(divisor)?;
    let rest = dividend.checked_rem(divisor)?;
    let away = rest.unsigned_abs() >= divisor.unsigned_abs() - rest.unsigned_abs();
    let step = if (dividend < 0) == (divisor < 0) { 1 } else { -1 };
    Some(Decimal {
        mantissa: if away { quotient.checked_add(step)? } else { quotient },
        scale: QUOTIENT_DIGITS,
    })
}

impl Decimal {
    /// The shortest decimal that reads as the float; `None` for what is none or too large.
    fn of(v: f64) -> Option<Decimal> {
        if !v.is_finite() || v.abs() > 1e18 || v != 0.0 && v.abs() < 1e-18 {
            return None;
        }
        let text = format!("{v}");
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        Some(Decimal {
            mantissa: format!("{whole}{fraction}").parse().ok()?,
            scale: u32::try_from(fraction.len()).ok()?,
        })
    }

    fn at(self, scale: u32) -> Option<i128> {
        self.mantissa
            .checked_mul(10i128.checked_pow(scale.checked_sub(self.scale)?)?)
    }

    fn float(self) -> f64 {
        format!("{}e-{}", self.mantissa, self.scale).parse().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_do_not_drift() {
        let run = |exact: Operation, a: f64, b: f64| fold(&[Value::Float(a), Value::Float(b)], exact, |_, _| f64::NAN);
        assert_eq!(run(add, 0.1, 0.2), Value::Float(0.3));
        assert_eq!(run(sub, 0.3, 0.1), Value::Float(0.2));
        assert_eq!(run(mul, 1.1, 1.1), Value::Float(1.21));
        assert_eq!(run(div, 20.2, 5.25), Value::Float(3.8476190476190477));
        assert_eq!(run(div, -1.0, 3.0), Value::Float(-0.3333333333333333));
        assert!(matches!(run(div, 1.0, 0.0), Value::Float(v) if v.is_nan()));
        assert!(matches!(run(mul, 1e18, 1e300), Value::Float(v) if v.is_nan()));
    }
}
