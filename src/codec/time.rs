//! Times as events carry them: RFC 3339 (cut to milliseconds; no zone means UTC), a date, or epoch milliseconds. And back:
//! RFC 3339 UTC with milliseconds. Days are counted by the civil calendar algorithms of Howard Hinnant
//! (<https://howardhinnant.github.io/date_algorithms.html>).

use crate::domain::ids::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// Reads a date (`2026-11-24`) or an RFC 3339 date and time, the `T` also as `t` or a blank. None if it is neither.
#[must_use]
pub fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let date = bytes.get(..10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let (year, month, day) = (number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) {
        return None;
    }
    let midnight = days_from_civil(year, month, day) * DAY_MS;
    if bytes.len() == 10 {
        return Some(Timestamp(midnight));
    }
    if !matches!(bytes[10], b'T' | b't' | b' ') {
        return None;
    }
    let clock = bytes.get(11..19)?;
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let (hour, minute, second) = (number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..8])?);
    // RFC 3339 allows second 60 for leap seconds; it counts as the last millisecond it can be told apart from.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millis, rest) = fraction(&bytes[19..])?;
    let offset = zone_minutes(rest)?;
    let seconds = (hour * 60 + minute - offset) * 60 + second.min(59);
    let millis = if second == 60 { 999 } else { millis };
    Some(Timestamp(midnight + seconds * 1000 + millis))
}

/// Writes RFC 3339 UTC with milliseconds, years beyond 0000 to 9999 with their sign as ISO 8601 does.
#[must_use]
pub fn format_time(time: Timestamp) -> String {
    let (days, millis) = (time.0.div_euclid(DAY_MS), time.0.rem_euclid(DAY_MS));
    let (year, month, day) = civil_from_days(days);
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let year = if (0..=9999).contains(&year) { format!("{year:04}") } else { format!("{year:+07}") };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

fn number(digits: &[u8]) -> Option<i64> {
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0')))
}

/// Milliseconds of `.123456`, cut, and what follows.
fn fraction(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let Some(digits) = bytes.strip_prefix(b".") else { return Some((0, bytes)) };
    let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if len == 0 {
        return None;
    }
    let padded = digits[..len].iter().copied().chain(std::iter::repeat(b'0'));
    let millis = padded.take(3).fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some((millis, &digits[len..]))
}

/// Minutes east of UTC.
fn zone_minutes(zone: &[u8]) -> Option<i64> {
    match zone {
        b"" | b"Z" | b"z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            let east = (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)?;
            Some(if *sign == b'-' { -east } else { east })
        }
        _ => None,
    }
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = of_era + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_and_without_zones_fractions_and_clock() {
        let at = |text| parse_time(text).map(|time| time.0);
        assert_eq!(at("1970-01-01"), Some(0));
        assert_eq!(at("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(at("2026-11-24T09:58:12.004Z"), Some(1_795_514_292_004));
        assert_eq!(at("2026-11-24T09:58:12.0049999"), Some(1_795_514_292_004));
        assert_eq!(at("2026-11-24t10:58:12.004+01:00"), Some(1_795_514_292_004));
        assert_eq!(at("2026-11-24 04:28:12.004-05:30"), Some(1_795_514_292_004));
        assert_eq!(at("1948-02-29T00:00:00Z"), Some(-689_212_800_000));
        assert_eq!(at("0000-03-01"), Some(-62_162_035_200_000));
        for wrong in [
            "",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-11-24T",
            "2026-11-24T24:00:00Z",
            "2026-11-24T1:00:00Z",
            "2026-11-24T10:00:00.Z",
            "2026-11-24T10:00:00+0100",
            "2026-11-24T10:00:00 Z",
            "2026-11-24X10:00:00Z",
            "１970-01-01",
        ] {
            assert_eq!(at(wrong), None, "{wrong}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_time_is_read_back_as_it_was_written(ms in -62_167_219_200_000i64..253_402_300_800_000) {
            proptest::prop_assert_eq!(parse_time(&format_time(Timestamp(ms))), Some(Timestamp(ms)));
        }
    }
}
