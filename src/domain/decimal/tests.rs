//! Decimals against exact fractions of big integers, and the examples of API.md section 3.

use super::*;
use crate::domain::number::Number;
use num_bigint::BigInt;
use num_rational::BigRational;
use proptest::prelude::*;

fn dec(text: &str) -> Decimal {
    Number::parse(text).unwrap().to_decimal().unwrap()
}

fn shown(result: Result<Decimal>) -> String {
    result.map_or_else(|error| format!("{error:?}"), |decimal| decimal.to_string())
}

#[test]
fn sums_keep_the_larger_scale_and_products_add_the_scales() {
    for (a, b, sum, difference, product) in [
        ("1.10", "0", "1.10", "1.10", "0.00"),
        ("1.10", "-1.10", "0.00", "2.20", "-1.2100"),
        ("-0.5", "0.25", "-0.25", "-0.75", "-0.125"),
        ("1e3", "-0", "1000", "1000", "0"),
    ] {
        assert_eq!(shown(dec(a).checked_add(dec(b))), sum);
        assert_eq!(shown(dec(a).checked_sub(dec(b))), difference);
        assert_eq!(shown(dec(a).checked_mul(dec(b))), product);
    }
}

#[test]
fn quotients_are_exact_if_they_end_and_half_even_at_28_digits_if_not() {
    let nines = "9".repeat(38);
    for (a, b, quotient) in [
        ("10", "5", "2"),
        ("1.10", "1", "1.10"),
        ("1.00", "0.50", "2"),
        ("12.50", "2", "6.25"),
        ("1", "8", "0.125"),
        ("0.00", "7", "0.00"),
        ("1", "3", "0.3333333333333333333333333333"),
        ("-2", "3", "-0.6666666666666666666666666667"),
        ("1", "1e37", "0.0000000000000000000000000000000000001"),
        // 38 digits leave 26 after the point for an integer part of twelve.
        ("1000000000000", "3", "333333333333.33333333333333333333333333"),
        (&nines, "0.1", "Overflow"),
        (&nines, "7", "14285714285714285714285714285714285714"),
        ("1", "0.00", "DivisionByZero"),
    ] {
        assert_eq!(shown(dec(a).checked_div(dec(b))), quotient, "{a} / {b}");
    }
}

#[test]
fn remainders_are_for_integers_and_have_the_sign_of_the_dividend() {
    for (a, b, remainder) in [
        ("7", "3", "1"),
        ("-7", "3", "-1"),
        ("7", "-3", "1"),
        ("7.00", "2.0", "1"),
        ("7.5", "2", "NotAnInteger"),
        ("7", "0.5", "NotAnInteger"),
        ("7", "0.0", "DivisionByZero"),
    ] {
        assert_eq!(shown(dec(a).checked_rem(dec(b))), remainder, "{a} % {b}");
    }
}

#[test]
fn thirty_eight_digits_are_the_bound() {
    let nines = dec(&"9".repeat(38));
    assert_eq!(shown(nines.checked_add(dec("1"))), "Overflow");
    assert_eq!(shown(nines.checked_add(dec("0.0"))), "Overflow");
    assert_eq!(shown(nines.checked_mul(dec("10"))), "Overflow");
    assert_eq!(shown(nines.checked_sub(nines)), "0");
    assert_eq!(shown(Decimal::new(i128::MIN, 0)), "Overflow");
    assert_eq!(shown(Decimal::new(0, 39)), "Overflow");
    assert_eq!(shown(dec("1e-20").checked_mul(dec("1e-19"))), "Overflow");
}

#[test]
fn equality_and_order_are_by_value() {
    assert_eq!(dec("1.10"), dec("1.1"));
    assert_eq!(dec("0.00"), dec("-0"));
    assert!(dec("-1.10") < dec("-1.09"));
    assert!(dec(&"9".repeat(38)) > dec("1e-38"));
    assert!(-dec(&"9".repeat(38)) < dec("-1e-38"));
}

fn decimals() -> impl Strategy<Value = Decimal> {
    // Digits and scale first, so that every size is as likely as any other; runs of nines and zeros are where
    // it hurts.
    let mantissa = (0_u32..=38, any::<i128>(), 0_u8..4).prop_map(|(digits, random, shape)| {
        let bound = 10_i128.pow(digits);
        match shape {
            0 => bound - 1,
            1 => -(bound - 1),
            2 => (bound / 10).max(1) * (random % 10).max(1),
            _ => random % bound,
        }
    });
    (mantissa, prop_oneof![0_u32..=38, 0_u32..=4])
        .prop_map(|(mantissa, scale)| Decimal::new(mantissa, scale).unwrap())
}

fn fraction(decimal: Decimal) -> BigRational {
    BigRational::new(decimal.mantissa().into(), power(decimal.scale()))
}

fn power(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

/// The decimal of this scale if it is in range.
fn in_range(mantissa: &BigInt, scale: u32) -> Result<(i128, u32)> {
    let mantissa = i128::try_from(mantissa).map_err(|_| NumberError::Overflow)?;
    let fits = mantissa.unsigned_abs() < 10_u128.pow(38) && scale <= 38;
    if fits { Ok((mantissa, scale)) } else { Err(NumberError::Overflow) }
}

fn parts(decimal: Decimal) -> (i128, u32) {
    (decimal.mantissa(), decimal.scale())
}

fn half_even(value: &BigRational) -> BigInt {
    let two = BigInt::from(2);
    let floor = value.floor();
    let doubled = (value - &floor) * BigRational::from(two.clone());
    let odd = floor.numer() % &two != BigInt::from(0);
    let up = match doubled.cmp(&BigRational::from(BigInt::from(1))) {
        Ordering::Less => false,
        Ordering::Equal => odd,
        Ordering::Greater => true,
    };
    floor.to_integer() + BigInt::from(u8::from(up))
}

fn quotient(a: Decimal, b: Decimal) -> Result<(i128, u32)> {
    let exact = fraction(a) / fraction(b);
    let at = |scale| &exact * BigRational::from(power(scale));
    let first = a.scale().saturating_sub(b.scale());
    for scale in first..=38 {
        if at(scale).is_integer()
            && let Ok(quotient) = in_range(&at(scale).to_integer(), scale)
        {
            return Ok(quotient);
        }
    }
    let rounded = (0..=28).rev().map(|scale| in_range(&half_even(&at(scale)), scale));
    rounded.into_iter().find(Result::is_ok).unwrap_or(Err(NumberError::Overflow))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn arithmetic_agrees_with_exact_fractions(a in decimals(), b in decimals()) {
        let scale = a.scale().max(b.scale());
        let unit = BigRational::from(power(scale));
        let sum = ((fraction(a) + fraction(b)) * &unit).to_integer();
        let difference = ((fraction(a) - fraction(b)) * &unit).to_integer();
        prop_assert_eq!(a.checked_add(b).map(parts), in_range(&sum, scale));
        prop_assert_eq!(a.checked_sub(b).map(parts), in_range(&difference, scale));
        let product = BigInt::from(a.mantissa()) * BigInt::from(b.mantissa());
        prop_assert_eq!(a.checked_mul(b).map(parts), in_range(&product, a.scale() + b.scale()));
        if !b.is_zero() {
            prop_assert_eq!(a.checked_div(b).map(parts), quotient(a, b));
        }
        prop_assert_eq!(a.cmp(&b), fraction(a).cmp(&fraction(b)));
    }

    #[test]
    fn small_quotients_agree_with_exact_fractions(
        a in -1_000_000_i128..1_000_000, b in 1_i128..10_000, scale in 0_u32..4, other in 0_u32..4,
    ) {
        let (a, b) = (Decimal::new(a, scale).unwrap(), Decimal::new(b, other).unwrap());
        prop_assert_eq!(a.checked_div(b).map(parts), quotient(a, b));
        prop_assert_eq!(a.checked_div(-b).map(parts), quotient(a, -b));
    }

    #[test]
    fn remainders_agree_with_big_integers(a in decimals(), b in decimals()) {
        let whole = (fraction(a), fraction(b));
        let expected = match (whole.0.is_integer(), whole.1.is_integer(), b.is_zero()) {
            (true, true, false) => in_range(&(whole.0.to_integer() % whole.1.to_integer()), 0),
            (true, true, true) => Err(NumberError::DivisionByZero),
            _ => Err(NumberError::NotAnInteger),
        };
        prop_assert_eq!(a.checked_rem(b).map(parts), expected);
    }

    #[test]
    fn texts_of_decimals_are_numbers_that_give_them_back(a in decimals()) {
        let number = Number::from(a);
        prop_assert_eq!(&Number::parse(&a.to_string()).unwrap(), &number);
        prop_assert_eq!(parts(number.to_decimal().unwrap()), parts(a));
    }
}
