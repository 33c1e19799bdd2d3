//! JSON numbers by their exact text (RFC 8259 section 6). Nothing goes through f64: `1.10`, `-0`, `1e400` and
//! integers of forty digits come out as they came in (DESIGN.md rule 8).
//!
//! Invariant: a text that is the canonical decimal of an `i64` is always `Repr::Int`, every other text never;
//! so equal texts have one form and the derived `==` is equality of text.

mod order;
#[cfg(test)]
mod tests;

use super::decimal::Decimal;
use super::text::{self, Text};
use std::cmp::Ordering;
use std::fmt;

/// A JSON number with its exact text. `==` compares the text, [`Number::eq_value`] the value.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Number(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Int(i64),
    Text(Text),
}

/// Why a number cannot be read, or has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    /// The text does not follow the grammar of RFC 8259.
    #[error("not a JSON number")]
    Syntax,
    /// The value or result needs more than 38 digits, or more than 38 digits after the point.
    #[error("the number does not fit in 38 decimal digits")]
    Overflow,
    /// The divisor of `/` or `%` is zero.
    #[error("division by zero")]
    DivisionByZero,
    /// An operand of `%` has a fraction.
    #[error("the operands of `%` must be integers")]
    NotAnInteger,
}

impl Number {
    /// The number with this exact text.
    ///
    /// # Errors
    /// [`NumberError::Syntax`] if the text is not one JSON number and nothing else.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        match scan(text.as_bytes(), 0) {
            Ok((end, true)) if end == text.len() => Ok(Self::of_integer(text)),
            Ok((end, false)) if end == text.len() => Ok(Self::of_fraction(text)),
            _ => Err(NumberError::Syntax),
        }
    }

    /// The number of digits, perhaps with a minus, that [`scan`] has found.
    pub(super) fn of_integer(text: &str) -> Self {
        let (digits, negative) = match text.strip_prefix('-') {
            Some(digits) => (digits.as_bytes(), true),
            None => (text.as_bytes(), false),
        };
        if digits.len() > 18 || (negative && digits == b"0") {
            // Nineteen digits may be too many, and `-0` is no integer's text.
            let canonical = text.parse().ok().filter(|_| text != "-0");
            return Self(canonical.map_or_else(|| Repr::Text(text.into()), Repr::Int));
        }
        let magnitude = digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
        Self(Repr::Int(if negative { -magnitude } else { magnitude }))
    }

    /// The number with a fraction or an exponent that [`scan`] has found.
    pub(super) fn of_fraction(text: &str) -> Self {
        Self(Repr::Text(text.into()))
    }

    /// The integer, if the text is the canonical decimal of an `i64` (`1.0`, `1e2` and `-0` are not).
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match self.0 {
            Repr::Int(integer) => Some(integer),
            Repr::Text(_) => None,
        }
    }

    /// Appends the exact text.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match &self.0 {
            Repr::Int(integer) => write_integer(*integer, out),
            Repr::Text(text) => out.extend_from_slice(text.as_bytes()),
        }
    }

    /// The value as a decimal to compute with: `1.10` has scale 2, `1e3` is 1000 with scale 0.
    ///
    /// # Errors
    /// [`NumberError::Overflow`] if it needs more than 38 digits, or more than 38 after the point.
    pub fn to_decimal(&self) -> Result<Decimal, NumberError> {
        match &self.0 {
            Repr::Int(integer) => Ok(Decimal::from(*integer)),
            Repr::Text(text) => short_decimal(text).map_or_else(|| decimal_of(&Parts::of(text)), Ok),
        }
    }

    /// Exact order by value, whatever the size: `1.0` equals `1`, `-0` equals `0`. The time is linear in the
    /// texts; exponents are never expanded.
    #[must_use]
    pub fn cmp_value(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Repr::Int(a), Repr::Int(b)) => a.cmp(b),
            (Repr::Int(a), Repr::Text(b)) => order::compare(&a.to_string(), b),
            (Repr::Text(a), Repr::Int(b)) => order::compare(a, &b.to_string()),
            (Repr::Text(a), Repr::Text(b)) => order::compare(a, b),
        }
    }

    /// Whether both have the same value: `1 == 1.0`.
    #[must_use]
    pub fn eq_value(&self, other: &Self) -> bool {
        self.cmp_value(other).is_eq()
    }

    /// Length of the exact text in bytes.
    #[must_use]
    pub fn text_len(&self) -> usize {
        match &self.0 {
            Repr::Int(integer) => {
                let digits = integer.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
                digits + usize::from(*integer < 0)
            }
            Repr::Text(text) => text.len(),
        }
    }

    /// Bytes held outside of the number itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match &self.0 {
            Repr::Int(_) => 0,
            Repr::Text(text) => text::heap_bytes(text),
        }
    }
}

/// Where the longest number ends that starts at `start`, and whether it is of digits alone; the error is the
/// offset of the first byte that does not belong.
pub(super) fn scan(bytes: &[u8], start: usize) -> Result<(usize, bool), usize> {
    let first = start + usize::from(bytes.get(start) == Some(&b'-'));
    let end = digits(bytes, first)?;
    if end - first > 1 && bytes[first] == b'0' {
        return Err(first + 1);
    }
    if matches!(bytes.get(end), Some(b'.' | b'e' | b'E')) {
        return Ok((fraction_and_exponent(bytes, end)?, false));
    }
    Ok((end, true))
}

/// Where the fraction and exponent that start at `at` end.
fn fraction_and_exponent(bytes: &[u8], mut at: usize) -> Result<usize, usize> {
    if bytes.get(at) == Some(&b'.') {
        at = digits(bytes, at + 1)?;
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let signed = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
        at = digits(bytes, at + 1 + usize::from(signed))?;
    }
    Ok(at)
}

/// The end of at least one digit.
fn digits(bytes: &[u8], start: usize) -> Result<usize, usize> {
    let rest = bytes.get(start..).unwrap_or_default();
    let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 { Err(start) } else { Ok(start + count) }
}

fn write_integer(integer: i64, out: &mut Vec<u8>) {
    let mut text = [0; 20];
    let mut at = text.len();
    let mut rest = integer.unsigned_abs();
    loop {
        at -= 1;
        // The remainder of a division by ten is one digit.
        text[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if integer < 0 {
        at -= 1;
        text[at] = b'-';
    }
    out.extend_from_slice(&text[at..]);
}

/// A valid number text, cut where the grammar cuts it.
struct Parts<'a> {
    negative: bool,
    integer: &'a str,
    fraction: &'a str,
    /// With its sign, empty if there is none.
    exponent: &'a str,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Self {
        let unsigned = text.strip_prefix('-');
        let (digits, exponent) =
            unsigned.unwrap_or(text).split_once(['e', 'E']).unwrap_or((unsigned.unwrap_or(text), ""));
        let (integer, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        Self { negative: unsigned.is_some(), integer, fraction, exponent }
    }
}

/// The decimal of a text without an exponent whose digits fit in 64 bits: of most.
fn short_decimal(text: &str) -> Option<Decimal> {
    let (digits, negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    if digits.len() > 18 {
        return None;
    }
    let (mut mantissa, mut fraction) = (0_i64, 0_u32);
    for (at, byte) in digits.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => mantissa = mantissa * 10 + i64::from(byte - b'0'),
            b'.' => fraction = (digits.len() - at - 1) as u32,
            _ => return None,
        }
    }
    Decimal::new(i128::from(if negative { -mantissa } else { mantissa }), fraction).ok()
}

fn decimal_of(parts: &Parts<'_>) -> Result<Decimal, NumberError> {
    let mut mantissa = 0_i128;
    for digit in parts.integer.bytes().chain(parts.fraction.bytes()) {
        if mantissa > Decimal::MANTISSA_MAX / 10 {
            return Err(NumberError::Overflow);
        }
        mantissa = mantissa * 10 + i128::from(digit - b'0');
    }
    let negative_exponent = parts.exponent.starts_with('-');
    let beyond = if negative_exponent { i64::MIN } else { i64::MAX };
    let exponent = if parts.exponent.is_empty() { 0 } else { parts.exponent.parse().unwrap_or(beyond) };
    let fraction_digits = i64::try_from(parts.fraction.len()).unwrap_or(i64::MAX);
    let scale = fraction_digits.saturating_sub(exponent);
    let mantissa = if parts.negative { -mantissa } else { mantissa };
    if scale >= 0 {
        return Decimal::new(mantissa, u32::try_from(scale).unwrap_or(u32::MAX));
    }
    if mantissa == 0 {
        return Ok(Decimal::ZERO);
    }
    let zeros = u32::try_from(scale.unsigned_abs()).unwrap_or(u32::MAX);
    let factor = 10_i128.checked_pow(zeros).ok_or(NumberError::Overflow)?;
    Decimal::new(mantissa.checked_mul(factor).ok_or(NumberError::Overflow)?, 0)
}

impl From<i64> for Number {
    fn from(integer: i64) -> Self {
        Self(Repr::Int(integer))
    }
}

impl From<u64> for Number {
    fn from(integer: u64) -> Self {
        Self(i64::try_from(integer).map_or_else(|_| Repr::Text(integer.to_string().into()), Repr::Int))
    }
}

impl From<Decimal> for Number {
    /// Plain digits with exactly `scale` of them after the point.
    fn from(decimal: Decimal) -> Self {
        match (decimal.scale(), i64::try_from(decimal.mantissa())) {
            (0, Ok(integer)) => Self(Repr::Int(integer)),
            _ => Self(Repr::Text(decimal.with_text(|text| text.into()))),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Int(integer) => integer.fmt(f),
            Repr::Text(text) => f.pad(text),
        }
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
