//! Parts of dates. Values are unix seconds, dates are UTC in the Gregorian calendar.

const DAY_S: u64 = 86_400;

/// Days from 1 March of the year -292,277,022,400 to 1 March of the year 0: whole cycles of 400 years.
const BEFORE_YEAR_0: i64 = 730_692_556 * 146_097;
/// Days from 1 March of the year 0 to 1970-01-01.
const TO_1970: i64 = 719_468;

/// A time as days since 1970-01-01 and seconds of that day.
///
/// Beyond the years that 64 bits of seconds hold, Prometheus (on x86-64) gives what its arithmetic gives, and so do we: what
/// does not fit, NaN included, is the smallest integer, and seconds are counted, modulo 2^64, from a year far back.
fn day_and_seconds(v: f64) -> (i64, i64) {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let unix = if (-LIMIT..LIMIT).contains(&v) {
        v as i64
    } else {
        i64::MIN
    };
    let seconds = (unix as u64).wrapping_add((BEFORE_YEAR_0 + TO_1970) as u64 * DAY_S);
    let day = (seconds / DAY_S) as i64 - BEFORE_YEAR_0 - TO_1970;
    (day, (seconds % DAY_S) as i64)
}

/// Year, month (1-12) and day of month (1-31) of a day counted from 1970-01-01.
fn civil(day: i64) -> (i64, i64, i64) {
    // Years are counted from March, so that the leap day is a year's last day; 400 years have 146,097 days.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_month)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_days(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn of(v: f64, part: impl Fn((i64, i64, i64)) -> i64) -> f64 {
    part(civil(day_and_seconds(v).0)) as f64
}

pub(crate) fn year(v: f64) -> f64 {
    of(v, |(year, _, _)| year)
}
pub(crate) fn month(v: f64) -> f64 {
    of(v, |(_, month, _)| month)
}
pub(crate) fn day_of_month(v: f64) -> f64 {
    of(v, |(_, _, day)| day)
}
/// 0 is Sunday.
pub(crate) fn day_of_week(v: f64) -> f64 {
    (day_and_seconds(v).0 + 4).rem_euclid(7) as f64
}
pub(crate) fn day_of_year(v: f64) -> f64 {
    of(v, |(year, month, day)| {
        (1..month).map(|m| month_days(year, m)).sum::<i64>() + day
    })
}
pub(crate) fn days_in_month(v: f64) -> f64 {
    of(v, |(year, month, _)| month_days(year, month))
}
pub(crate) fn hour(v: f64) -> f64 {
    (day_and_seconds(v).1 / 3600) as f64
}
pub(crate) fn minute(v: f64) -> f64 {
    (day_and_seconds(v).1 % 3600 / 60) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        let cases = [
            (0.0, (1970, 1, 1, 4, 1)),
            (951_782_400.0, (2000, 2, 29, 2, 60)),
            (1_704_067_199.0, (2023, 12, 31, 0, 365)),
            (-1.0, (1969, 12, 31, 3, 365)),
            (4_107_542_400.0, (2100, 3, 1, 1, 60)),
        ];
        for (t, want) in cases {
            let found = (year(t), month(t), day_of_month(t), day_of_week(t), day_of_year(t));
            let found = (
                found.0 as i64,
                found.1 as i64,
                found.2 as i64,
                found.3 as i64,
                found.4 as i64,
            );
            assert_eq!(found, want, "{t}");
        }
        assert_eq!(
            (days_in_month(951_782_400.0), hour(3_661.0), minute(3_661.0)),
            (29.0, 1.0, 1.0)
        );
        // As Prometheus answers.
        for v in [f64::INFINITY, f64::NAN, -1e300] {
            assert_eq!((year(v), month(v), hour(v)), (292_277_026_596.0, 12.0, 15.0), "{v}");
        }
    }
}
