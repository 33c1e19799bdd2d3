//! Times as text: RFC 3339 in UTC with milliseconds, and back. Calendar arithmetic on the proleptic Gregorian
//! calendar (Howard Hinnant, "chrono-compatible low-level date algorithms"): days are counted in years that
//! start in March.

use crate::domain::ids::Timestamp;
use std::fmt::Write;

const DAY_MS: i64 = 86_400_000;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;
/// Days of 400 years.
const ERA_DAYS: i64 = 146_097;

/// `2026-11-24T10:00:00.000Z`; always three digits of milliseconds. Years beyond 9999 have more digits.
#[must_use]
pub fn format(time: Timestamp) -> String {
    let (days, ms) = (time.0.div_euclid(DAY_MS), time.0.rem_euclid(DAY_MS));
    let (year, month, day) = date_of(days);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    let mut text = String::with_capacity(24);
    let sign = if year < 0 { "-" } else { "" };
    let year = year.unsigned_abs();
    write!(text, "{sign}{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
        .expect("a String takes all that is written");
    text
}

/// Reads RFC 3339 (digits beyond milliseconds are cut off, a missing zone is UTC, a leap second is the next
/// second) or a date, which is its first millisecond. `None` for everything else.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.as_bytes().split_first_chunk::<10>()?;
    let &[y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = date else { return None };
    let days = days_of(digits([y1, y2, y3, y4])?, digits([m1, m2])?, digits([d1, d2])?)?;
    let Some((separator, rest)) = rest.split_first() else { return Some(Timestamp(days * DAY_MS)) };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (clock, rest) = rest.split_first_chunk::<8>()?;
    let &[h1, h2, b':', m1, m2, b':', s1, s2] = clock else { return None };
    let (hour, minute, second) = (digits([h1, h2])?, digits([m1, m2])?, digits([s1, s2])?);
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (ms, zone) = match rest.split_first() {
        Some((b'.', rest)) => {
            let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            let (fraction, zone) = rest.split_at(length);
            let thousandths = fraction.iter().chain(b"00").take(3);
            let ms = thousandths.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
            (length > 0).then_some((ms, zone))?
        }
        _ => (0, rest),
    };
    let clock_ms = ((hour * 60 + minute) * 60 + second) * 1_000 + ms;
    Some(Timestamp(days * DAY_MS + clock_ms - offset_minutes(zone)? * 60_000))
}

/// Minutes that `Z`, `+02:00` or nothing is ahead of UTC.
fn offset_minutes(zone: &[u8]) -> Option<i64> {
    match *zone {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits([h1, h2])?, digits([m1, m2])?);
            let ahead = hours * 60 + minutes;
            (hours < 24 && minutes < 60).then_some(if sign == b'-' { -ahead } else { ahead })
        }
        _ => None,
    }
}

/// The number of so many digits.
fn digits<const N: usize>(text: [u8; N]) -> Option<i64> {
    let is_number = text.iter().all(u8::is_ascii_digit);
    is_number.then(|| text.iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')))
}

/// Year, month and day of a day counted from 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, day_of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

/// The day counted from 1970-01-01, if there is such a date.
fn days_of(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    let (shifted, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * ERA_DAYS + day_of_era - EPOCH_DAYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_instants_have_their_known_texts() {
        let known = [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_700_000_000_123, "2023-11-14T22:13:20.123Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
        ];
        for (ms, text) in known {
            assert_eq!(format(Timestamp(ms)), text);
            assert_eq!(parse(text), Some(Timestamp(ms)));
        }
    }

    #[test]
    fn zones_dates_and_long_fractions_are_read() {
        assert_eq!(parse("2026-11-24T10:00:00+02:00"), parse("2026-11-24T08:00:00Z"));
        assert_eq!(parse("2026-11-24T10:00:00-00:30"), parse("2026-11-24T10:30:00Z"));
        assert_eq!(parse("2026-11-24"), parse("2026-11-24T00:00:00"));
        assert_eq!(parse("2026-11-24T10:00:00.1239999Z"), parse("2026-11-24T10:00:00.123Z"));
        assert_eq!(parse("2016-12-31T23:59:60Z"), parse("2017-01-01T00:00:00Z"));
        assert_eq!(parse("2026-11-24T10:00:00.5Z"), parse("2026-11-24T10:00:00.500Z"));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2023-02-29",
            "2026-11-24T",
            "2026-11-24T24:00:00Z",
            "2026-11-24T10:00:00.Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("2026-11-24T10:00:00+2:00"), None);
        assert_eq!(parse("äääääääääääää"), None);
    }

    proptest! {
        #[test]
        fn every_time_of_four_digits_survives_its_text(ms in -62_167_219_200_000_i64..253_402_300_800_000) {
            prop_assert_eq!(parse(&format(Timestamp(ms))), Some(Timestamp(ms)));
        }
    }
}
