//! Texts of what Avro keeps in binary: decimals, dates, times, durations, UUIDs and bytes. All exact: the
//! text says no more and no less than the bytes.

use super::schema::Fraction;
use crate::domain::ids::Timestamp;
use crate::domain::moment;
use crate::domain::text::Text;
use std::fmt::Write;

const DAY_MS: i64 = 86_400_000;
/// Years that are written with four digits: 0000 to 9999, in milliseconds.
const YEARS_MS: std::ops::Range<i64> = -62_167_219_200_000..253_402_300_800_000;
/// Longest integer of a decimal in bytes: 617 digits.
const DECIMAL_BYTES_MAX: usize = 256;

impl Fraction {
    /// So many of it are a second.
    fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }

    fn digits(self) -> usize {
        match self {
            Self::Millis => 3,
            Self::Micros => 6,
            Self::Nanos => 9,
        }
    }
}

/// `2026-11-24`; none beyond years of four digits.
pub(super) fn date(days: i32) -> Option<Text> {
    let ms = i64::from(days) * DAY_MS;
    YEARS_MS.contains(&ms).then(|| moment::format(Timestamp(ms))[..10].into())
}

/// `10:15:30.000`; none where it is no time of a day.
pub(super) fn time_of_day(since_midnight: i64, fraction: Fraction) -> Option<Text> {
    let per_second = fraction.per_second();
    let (seconds, rest) = (since_midnight.div_euclid(per_second), since_midnight.rem_euclid(per_second));
    (0..86_400).contains(&seconds).then(|| {
        let clock = &moment::format(Timestamp(seconds * 1_000))[11..19];
        with_fraction(clock, rest, fraction, "")
    })
}

/// `2026-11-24T10:15:30.000` and `zone`; none beyond years of four digits.
pub(super) fn instant(since_epoch: i64, fraction: Fraction, zone: &str) -> Option<Text> {
    let per_second = fraction.per_second();
    let (seconds, rest) = (since_epoch.div_euclid(per_second), since_epoch.rem_euclid(per_second));
    let ms = seconds.checked_mul(1_000).filter(|ms| YEARS_MS.contains(ms))?;
    Some(with_fraction(&moment::format(Timestamp(ms))[..19], rest, fraction, zone))
}

fn with_fraction(seconds: &str, rest: i64, fraction: Fraction, zone: &str) -> Text {
    let mut text = Text::from(seconds);
    write!(text, ".{rest:0digits$}{zone}", digits = fraction.digits()).expect("a text takes all");
    text
}

/// `P3M2DT1.500S`.
pub(super) fn duration(bytes: &[u8; 12]) -> Text {
    let [months, days, ms] =
        [0, 4, 8].map(|at| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]));
    let mut text = Text::default();
    write!(text, "P{months}M{days}DT{}.{:03}S", ms / 1_000, ms % 1_000).expect("a text takes all");
    text
}

/// `067e6162-3b6f-4ae2-a171-2470b63dff00`.
pub(super) fn uuid(bytes: &[u8; 16]) -> Text {
    let mut text = Text::default();
    for (at, byte) in bytes.iter().enumerate() {
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        write!(text, "{dash}{byte:02x}").expect("a text takes all");
    }
    text
}

/// One character for each byte, U+0000 to U+00FF, as Avro's own JSON has it.
pub(super) fn latin(bytes: &[u8]) -> Text {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// The number that the two's complement integer is, with its last `scale` digits after a point. None where it
/// is too long.
pub(super) fn decimal(bytes: &[u8], scale: usize) -> Option<Text> {
    if bytes.len() > DECIMAL_BYTES_MAX {
        return None;
    }
    let is_negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let digits =
        if bytes.len() <= 16 { short_digits(bytes, is_negative) } else { digits(bytes, is_negative) };
    let mut text = Text::with_capacity(digits.len().max(scale) + 3);
    if is_negative {
        text.push('-');
    }
    match digits.len().checked_sub(scale) {
        Some(whole) if whole > 0 => {
            text.push_str(&digits[..whole]);
            if scale > 0 {
                text.push('.');
                text.push_str(&digits[whole..]);
            }
        }
        _ => write!(text, "0.{digits:0>scale$}").expect("a text takes all"),
    }
    Some(text)
}

/// Digits of the magnitude of an integer of at most 16 bytes.
fn short_digits(bytes: &[u8], is_negative: bool) -> String {
    let mut whole = [if is_negative { 0xff } else { 0 }; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    let magnitude = i128::from_be_bytes(whole).unsigned_abs();
    // COST: most are short, and dividing 128 bits takes several times as long.
    u64::try_from(magnitude).map_or_else(|_| magnitude.to_string(), |short| short.to_string())
}

/// Digits of the magnitude of an integer of any length.
///
/// COST: the square of the length, which is why that is bounded.
fn digits(bytes: &[u8], is_negative: bool) -> String {
    const GROUP: u64 = 1_000_000_000;
    // The magnitude of a negative one: all bits turned, plus one.
    let mut magnitude: Vec<u8> = bytes.iter().map(|byte| if is_negative { !byte } else { *byte }).collect();
    if is_negative {
        for byte in magnitude.iter_mut().rev() {
            let (sum, carries) = byte.overflowing_add(1);
            *byte = sum;
            if !carries {
                break;
            }
        }
    }
    // Nine digits each, the lowest first.
    let mut groups: Vec<u64> = Vec::new();
    for byte in magnitude {
        let mut carry = u64::from(byte);
        for group in &mut groups {
            let sum = *group * 256 + carry;
            *group = sum % GROUP;
            carry = sum / GROUP;
        }
        if carry > 0 {
            groups.push(carry);
        }
    }
    let mut text = groups.pop().unwrap_or(0).to_string();
    for group in groups.iter().rev() {
        write!(text, "{group:09}").expect("a String takes all that is written");
    }
    text
}
