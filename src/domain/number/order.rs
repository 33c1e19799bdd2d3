//! Order of JSON numbers by value, from their texts alone. A number is its sign, its significant digits and the place of
//! the first of them (0.d1d2d3... times ten to the `place`); equal places are decided digit by digit. Exponents may
//! themselves be too long for any integer, so they are kept as digits then.

use super::Parts;
use std::cmp::Ordering;

/// Compares two valid number texts by value.
pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    let by_sign = sign(&a).cmp(&sign(&b));
    if by_sign.is_ne() || sign(&a) == 0 {
        return by_sign;
    }
    let by_size = place(&a).compare(&place(&b)).then_with(|| compare_digits(&a, &b));
    if a.negative { by_size.reverse() } else { by_size }
}

fn sign(parts: &Parts<'_>) -> i8 {
    match significant(parts).next() {
        None => 0,
        Some(_) if parts.negative => -1,
        Some(_) => 1,
    }
}

/// The digits from the first that is not zero on.
fn significant<'a>(parts: &Parts<'a>) -> impl Iterator<Item = u8> + use<'a> {
    parts.integer.bytes().chain(parts.fraction.bytes()).skip_while(|digit| *digit == b'0')
}

fn compare_digits(a: &Parts<'_>, b: &Parts<'_>) -> Ordering {
    let (mut a, mut b) = (significant(a), significant(b));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) if a.unwrap_or(b'0') == b.unwrap_or(b'0') => {}
            (a, b) => return a.unwrap_or(b'0').cmp(&b.unwrap_or(b'0')),
        }
    }
}

fn place(parts: &Parts<'_>) -> Place {
    let shift = if parts.integer == "0" {
        let zeros = parts.fraction.bytes().take_while(|digit| *digit == b'0').count();
        -i128::try_from(zeros).expect("a text is shorter than 2^127 bytes")
    } else {
        i128::try_from(parts.integer.len()).expect("a text is shorter than 2^127 bytes")
    };
    let negative = parts.exponent.starts_with('-');
    let digits = parts.exponent.trim_start_matches(['+', '-']).trim_start_matches('0');
    Place::of(negative, digits.as_bytes(), shift)
}

/// Longest exponent that is computed as an integer; 30 digits plus any shift stay far below 2^127.
const SHORT_DIGITS_MAX: usize = 30;

/// A power of ten: `short`, or `long` digits of a power beyond `SHORT_DIGITS_MAX` digits, without leading zeros.
enum Place {
    Short(i128),
    Long { negative: bool, digits: Vec<u8> },
}

impl Place {
    fn of(negative: bool, digits: &[u8], shift: i128) -> Self {
        if digits.len() <= SHORT_DIGITS_MAX {
            let value = digits.iter().fold(0, |value, digit| value * 10 + i128::from(digit - b'0'));
            return Self::Short(if negative { shift - value } else { shift + value });
        }
        // A shift is smaller than 2^64 and the exponent has over 30 digits: the sign cannot change.
        let mut digits = digits.to_vec();
        let mut carry = if negative { -shift } else { shift };
        for digit in digits.iter_mut().rev() {
            let sum = i128::from(*digit - b'0') + carry;
            *digit = b'0' + u8::try_from(sum.rem_euclid(10)).expect("a remainder by ten is one digit");
            carry = sum.div_euclid(10);
        }
        if carry > 0 {
            digits.splice(0..0, carry.to_string().bytes());
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        Self::Long { negative, digits }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Short(a), Self::Short(b)) => a.cmp(b),
            (Self::Long { .. }, Self::Short(b)) => {
                self.compare_long(*b < 0, b.unsigned_abs().to_string().as_bytes())
            }
            (Self::Short(_), Self::Long { .. }) => other.compare(self).reverse(),
            (Self::Long { .. }, Self::Long { negative, digits }) => self.compare_long(*negative, digits),
        }
    }

    fn compare_long(&self, other_negative: bool, other: &[u8]) -> Ordering {
        let Self::Long { negative, digits } = self else { return Ordering::Equal };
        match (*negative, other_negative) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => digits.len().cmp(&other.len()).then_with(|| digits.as_slice().cmp(other)),
            (true, true) => other.len().cmp(&digits.len()).then_with(|| other.cmp(digits)),
        }
    }
}
