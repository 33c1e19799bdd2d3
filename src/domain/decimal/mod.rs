//! Decimals of up to 38 digits with their scale, the arithmetic of reducers (API.md section 3). Every result
//! is exact, but for a quotient that does not end within 38 digits: it is rounded half-even.
//!
//! Invariants: `|mantissa| <= 10^38 - 1` and `scale <= 38`. There is no negative zero.
//!
//! Why 128 bits are enough for every intermediate: 10^38 fits three times in a `u128`, so sums of two
//! magnitudes, a doubled remainder, and an aligned operand that could still cancel to a result in range
//! (below 2 * 10^38) all fit; whatever does not is out of range for certain.

#[cfg(test)]
mod tests;

use super::number::NumberError;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Neg;

/// `mantissa / 10^scale`. Equality and order are by value: 1.10 equals 1.1.
#[derive(Clone, Copy)]
pub struct Decimal {
    mantissa: i128,
    scale: u8,
}

type Result<T> = std::result::Result<T, NumberError>;

impl Decimal {
    /// The largest mantissa: 38 nines.
    pub const MANTISSA_MAX: i128 = 10_i128.pow(38) - 1;
    /// The largest scale.
    pub const SCALE_MAX: u32 = 38;
    /// Fraction digits of a quotient that has to be rounded; fewer where the integer part leaves less room.
    pub const QUOTIENT_SCALE_MAX: u32 = 28;
    /// 0 with scale 0.
    pub const ZERO: Self = Self { mantissa: 0, scale: 0 };

    /// `mantissa / 10^scale`.
    ///
    /// # Errors
    /// [`NumberError::Overflow`] beyond 38 digits or a scale of 38.
    pub fn new(mantissa: i128, scale: u32) -> Result<Self> {
        let in_range = mantissa.unsigned_abs() <= MAX && scale <= Self::SCALE_MAX;
        if in_range { Ok(Self { mantissa, scale: scale as u8 }) } else { Err(NumberError::Overflow) }
    }

    /// All digits as one integer.
    #[must_use]
    pub fn mantissa(self) -> i128 {
        self.mantissa
    }

    /// How many of the digits are after the point.
    #[must_use]
    pub fn scale(self) -> u32 {
        u32::from(self.scale)
    }

    /// Whether the value is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// The value if it is an integer, whatever its scale: 2.00 is 2.
    #[must_use]
    pub fn to_integer(self) -> Option<i128> {
        let unit = 10_i128.pow(self.scale());
        (self.mantissa % unit == 0).then(|| self.mantissa / unit)
    }

    /// The sum, with the larger scale: 1.10 + 0 = 1.10.
    ///
    /// # Errors
    /// [`NumberError::Overflow`].
    pub fn checked_add(self, other: Self) -> Result<Self> {
        let scale = self.scale().max(other.scale());
        let (a, b) = (self.magnitude_at(scale)?, other.magnitude_at(scale)?);
        let (negative, magnitude) = if (self.mantissa < 0) == (other.mantissa < 0) {
            (self.mantissa < 0, a.checked_add(b).ok_or(NumberError::Overflow)?)
        } else if a >= b {
            (self.mantissa < 0, a - b)
        } else {
            (other.mantissa < 0, b - a)
        };
        Self::from_magnitude(negative, magnitude, scale)
    }

    /// The difference, with the larger scale.
    ///
    /// # Errors
    /// [`NumberError::Overflow`].
    pub fn checked_sub(self, other: Self) -> Result<Self> {
        self.checked_add(-other)
    }

    /// The product; the scales add up.
    ///
    /// # Errors
    /// [`NumberError::Overflow`].
    pub fn checked_mul(self, other: Self) -> Result<Self> {
        let mantissa = self.mantissa.checked_mul(other.mantissa).ok_or(NumberError::Overflow)?;
        Self::new(mantissa, self.scale() + other.scale())
    }

    /// The quotient. If it ends within 38 digits it is exact, with the smallest scale that is at least the
    /// difference of the scales (1.10 / 1 = 1.10, 1 / 8 = 0.125, 10 / 5 = 2). Else it is rounded half-even to
    /// 28 digits after the point, or to as many as the 38 digits leave after a long integer part.
    ///
    /// # Errors
    /// [`NumberError::DivisionByZero`], [`NumberError::Overflow`].
    pub fn checked_div(self, other: Self) -> Result<Self> {
        if other.mantissa == 0 {
            return Err(NumberError::DivisionByZero);
        }
        let negative = (self.mantissa < 0) != (other.mantissa < 0);
        let (a, b) = (self.mantissa.unsigned_abs(), other.mantissa.unsigned_abs());
        let shift = i32::from(self.scale) - i32::from(other.scale);
        let (magnitude, scale) = match exact_quotient(a, b, shift)? {
            Some(exact) => exact,
            None => rounded_quotient(a, b, shift)?,
        };
        Self::from_magnitude(negative, magnitude, scale)
    }

    /// The remainder of the integer division that truncates, so it has the sign of the dividend; its scale is
    /// 0.
    ///
    /// # Errors
    /// [`NumberError::NotAnInteger`] if an operand has a fraction that is not zero,
    /// [`NumberError::DivisionByZero`].
    pub fn checked_rem(self, other: Self) -> Result<Self> {
        let a = self.to_integer().ok_or(NumberError::NotAnInteger)?;
        let b = other.to_integer().ok_or(NumberError::NotAnInteger)?;
        if b == 0 {
            return Err(NumberError::DivisionByZero);
        }
        Self::new(a % b, 0)
    }

    /// The magnitude in units of `10^-scale`, for a scale that is not below this one's.
    fn magnitude_at(self, scale: u32) -> Result<u128> {
        if scale == self.scale() {
            return Ok(self.mantissa.unsigned_abs());
        }
        let factor = 10_u128.pow(scale - self.scale());
        self.mantissa.unsigned_abs().checked_mul(factor).ok_or(NumberError::Overflow)
    }

    /// Gives `take` plain digits, exactly `scale` of them after the point.
    pub(super) fn with_text<T>(self, take: impl FnOnce(&str) -> T) -> T {
        // A minus, a digit, the point and 38 digits at the most.
        let mut text = [0; 41];
        let (mut at, mut rest) = (text.len(), self.mantissa.unsigned_abs());
        for place in 0.. {
            if place == self.scale && place > 0 {
                at -= 1;
                text[at] = b'.';
            }
            // COST: a division of 64 bits is many times cheaper than one of 128.
            let digit;
            (rest, digit) = match u64::try_from(rest) {
                Ok(rest) => (u128::from(rest / 10), (rest % 10) as u8),
                Err(_) => (rest / 10, (rest % 10) as u8),
            };
            at -= 1;
            text[at] = b'0' + digit;
            if rest == 0 && place >= self.scale {
                break;
            }
        }
        if self.mantissa < 0 {
            at -= 1;
            text[at] = b'-';
        }
        take(std::str::from_utf8(&text[at..]).expect("digits are ASCII"))
    }

    fn from_magnitude(negative: bool, magnitude: u128, scale: u32) -> Result<Self> {
        let mantissa = i128::try_from(magnitude).map_err(|_| NumberError::Overflow)?;
        Self::new(if negative { -mantissa } else { mantissa }, scale)
    }
}

const MAX: u128 = Decimal::MANTISSA_MAX.unsigned_abs();

/// `a / b / 10^shift` as magnitude and scale, if it ends within 38 digits.
fn exact_quotient(a: u128, b: u128, shift: i32) -> Result<Option<(u128, u32)>> {
    let ideal = shift.max(0);
    if a == 0 {
        return Ok(Some((0, ideal.unsigned_abs())));
    }
    let common = gcd(a, b);
    let (a, mut rest) = (a / common, b / common);
    let twos = rest.trailing_zeros();
    rest >>= twos;
    let mut fives = 0;
    while rest.is_multiple_of(5) {
        rest /= 5;
        fives += 1;
    }
    if rest != 1 {
        return Ok(None);
    }
    // a / (2^twos 5^fives) = a 2^(digits-twos) 5^(digits-fives) / 10^digits, and no smaller power of ten will
    // do.
    let digits = twos.max(fives);
    let complement = 2_u128.checked_pow(digits - twos).zip(5_u128.checked_pow(digits - fives));
    let magnitude = complement.and_then(|(two, five)| two.checked_mul(five)?.checked_mul(a));
    let Some(mut magnitude) = magnitude.filter(|magnitude| *magnitude <= MAX) else { return Ok(None) };
    let mut scale = digits.cast_signed() + shift;
    if scale > Decimal::SCALE_MAX.cast_signed() {
        return Ok(None);
    }
    while scale < ideal {
        // Only an integer can fail here: at a positive ideal scale the magnitude is at most the dividend's.
        let larger = magnitude.checked_mul(10).filter(|larger| *larger <= MAX);
        magnitude = larger.ok_or(NumberError::Overflow)?;
        scale += 1;
    }
    Ok(Some((magnitude, scale.unsigned_abs())))
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// `a / b / 10^shift` rounded half-even, as magnitude and scale.
fn rounded_quotient(a: u128, b: u128, shift: i32) -> Result<(u128, u32)> {
    let target = Decimal::QUOTIENT_SCALE_MAX.cast_signed();
    let (mut quotient, mut rest, mut scale) = (a / b, a % b, shift);
    while scale < target && quotient <= MAX / 10 {
        let (digit, next) = next_digit(rest, b);
        // MAX / 10 has 37 nines, so one more digit is at most 38 nines.
        quotient = quotient * 10 + digit;
        rest = next;
        scale += 1;
    }
    if scale < 0 {
        return Err(NumberError::Overflow);
    }
    let (half, sticky) = if scale > target {
        let unit = 10_u128.pow((scale - target).unsigned_abs());
        let dropped = quotient % unit;
        quotient /= unit;
        scale = target;
        ((dropped * 2).cmp(&unit), rest != 0)
    } else {
        ((rest * 2).cmp(&b), false)
    };
    let odd = quotient % 2 == 1;
    let up = half.is_gt() || (half.is_eq() && (sticky || odd));
    quotient += u128::from(up);
    if quotient > MAX && scale > 0 {
        // All nines went up to 10^38: one digit less says the same.
        return Ok((quotient / 10, scale.unsigned_abs() - 1));
    }
    Ok((quotient, scale.unsigned_abs()))
}

/// One step of long division: the digit and remainder of `10 * rest / b`, for `rest < b`. Ten is doubled and
/// added up (binary 1010), because `10 * rest` itself may not fit.
fn next_digit(rest: u128, b: u128) -> (u128, u128) {
    let (mut digit, mut sum) = (0, 0);
    for term in [rest, 0, rest, 0] {
        digit *= 2;
        for addend in [sum, term] {
            sum += addend;
            if sum >= b {
                sum -= b;
                digit += 1;
            }
        }
    }
    (digit, sum)
}

impl Neg for Decimal {
    type Output = Self;
    fn neg(self) -> Self {
        Self { mantissa: -self.mantissa, ..self }
    }
}

impl From<i64> for Decimal {
    fn from(integer: i64) -> Self {
        Self { mantissa: i128::from(integer), scale: 0 }
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let scale = self.scale().max(other.scale());
        let by_sign = self.mantissa.signum().cmp(&other.mantissa.signum());
        let by_size = match (self.magnitude_at(scale), other.magnitude_at(scale)) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            // What does not fit at the other's scale is larger than anything at that scale.
            (Err(_), _) => Ordering::Greater,
            (Ok(_), Err(_)) => Ordering::Less,
        };
        by_sign.then(if self.mantissa < 0 { by_size.reverse() } else { by_size })
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Decimal {}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_text(|text| f.pad(text))
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
