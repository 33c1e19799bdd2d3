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
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = fields(date, '-', [4, 2, 2])?;
    let days = days_of(year, month, day)?;
    if rest.is_empty() {
        return Some(Timestamp(days * DAY_MS));
    }
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = fields(clock, ':', [2, 2, 2])?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (ms, zone) = match rest.strip_prefix('.') {
        None => (0, rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (fraction, zone) = rest.split_at(digits);
            let thousandths = fraction.bytes().chain(*b"00").take(3);
            let ms = thousandths.fold(0, |ms, digit| ms * 10 + i64::from(digit - b'0'));
            (digits > 0).then_some((ms, zone))?
        }
    };
    let clock_ms = ((hour * 60 + minute) * 60 + second) * 1_000 + ms;
    Some(Timestamp(days * DAY_MS + clock_ms - offset_minutes(zone)? * 60_000))
}

/// Minutes that `Z`, `+02:00` or nothing is ahead of UTC.
fn offset_minutes(zone: &str) -> Option<i64> {
    if matches!(zone, "" | "Z" | "z") {
        return Some(0);
    }
    let (sign, rest) =
        zone.strip_prefix('+').map(|rest| (1, rest)).or(zone.strip_prefix('-').map(|rest| (-1, rest)))?;
    let [hours, minutes] = fields(rest, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes))
}

/// Numbers of exactly so many digits, with one separator between them.
fn fields<const N: usize>(text: &str, separator: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(separator);
    let mut numbers = [0; N];
    for (number, width) in numbers.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *number = part.bytes().all(|byte| byte.is_ascii_digit()).then(|| part.parse().ok())??;
    }
    parts.next().is_none().then_some(numbers)
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
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (shifted, month_from_march) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, year_of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = era * ERA_DAYS + day_of_era - EPOCH_DAYS;
    (date_of(days) == (year, month, day)).then_some(days)
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
