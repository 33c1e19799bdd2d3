//! Numbers by text and by value, against big integers.

use super::*;
use num_bigint::BigInt;
use proptest::prelude::*;

fn number(text: &str) -> Number {
    Number::parse(text).unwrap()
}

#[test]
fn every_number_keeps_its_exact_text() {
    for text in [
        "0",
        "-0",
        "7",
        "-1",
        "1.10",
        "1e400",
        "1E+2",
        "1e-0",
        "-0.0e-0",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "-9223372036854775809",
        "999999999999999999",
        "1234567890123456789012345678901234567890",
        "1.000000000000000000000000000000000000000000000000001",
    ] {
        assert_eq!(number(text).to_string(), text);
        let mut bytes = Vec::new();
        number(text).write_to(&mut bytes);
        assert_eq!(bytes, text.as_bytes());
        assert_eq!(number(text).text_len(), text.len());
    }
}

#[test]
fn what_is_not_in_the_grammar_is_not_a_number() {
    for text in [
        "", "-", "+1", "01", "-01", "00", ".5", "1.", "1.e3", "1e", "1e+", "1e1.5", "0x10", " 1", "1 ",
        "1_000", "NaN", "Infinity", "--1", "1-", "1..2", "1ee2", "\u{661}",
    ] {
        assert_eq!(Number::parse(text), Err(NumberError::Syntax), "{text}");
    }
}

#[test]
fn integers_are_integers_by_their_text() {
    assert_eq!(number("-9223372036854775808").as_i64(), Some(i64::MIN));
    assert_eq!(number("1000000000000000000").as_i64(), Some(1_000_000_000_000_000_000));
    for text in ["-0", "1.0", "1e2", "9223372036854775808"] {
        assert_eq!(number(text).as_i64(), None, "{text}");
    }
    assert_eq!(Number::from(u64::MAX).to_string(), "18446744073709551615");
    assert_eq!(Number::from(7_u64), Number::from(7_i64));
    assert_eq!(size_of::<Number>(), 24);
}

#[test]
fn texts_become_decimals_with_their_scale() {
    for (text, mantissa, scale) in [
        ("1.10", 110, 2),
        ("1e3", 1000, 0),
        ("1.5e1", 15, 0),
        ("1.10e-2", 110, 4),
        ("-0", 0, 0),
        ("0e99999999999999999999", 0, 0),
        ("0.00", 0, 2),
        ("12E+0", 12, 0),
        ("-1e-38", -1, 38),
    ] {
        let decimal = number(text).to_decimal().unwrap();
        assert_eq!((decimal.mantissa(), decimal.scale()), (mantissa, scale), "{text}");
    }
    for text in ["1e38", "1e400", "1e999999999999999999999", "1e-39", "0e-99999999999999999999", "0.1e-38"] {
        assert_eq!(number(text).to_decimal(), Err(NumberError::Overflow), "{text}");
    }
    assert_eq!(number(&"9".repeat(39)).to_decimal(), Err(NumberError::Overflow));
}

#[test]
fn values_are_compared_whatever_their_size() {
    let ascending = [
        "-1e99999999999999999999999999999999999999999999",
        "-1e999999999",
        "-9223372036854775809",
        "-1.1",
        "-1",
        "-1e-999999999",
        "0",
        "1e-10000000000000000000000000000000000000000000",
        "1e-9999999999999999999999999999999999999999999",
        "0.001",
        "1",
        "1.0000000000000000000000000000000000000000000001",
        "9223372036854775807",
        "9223372036854775808",
        "1e999999999",
        "1.1e999999999",
        "9e9999999999999999999999999999999999999999999",
        "1e10000000000000000000000000000000000000000000",
    ];
    for (i, a) in ascending.iter().enumerate() {
        for (j, b) in ascending.iter().enumerate() {
            assert_eq!(number(a).cmp_value(&number(b)), i.cmp(&j), "{a} {b}");
        }
    }
    for (a, b) in [
        ("1", "1.0"),
        ("0", "-0.0e5"),
        ("1e3", "1000"),
        ("0.0012e2", "12e-2"),
        ("10e9999999999999999999999999999999999999999999", "1e10000000000000000000000000000000000000000000"),
        (
            "100e-10000000000000000000000000000000000000000001",
            "0.1e-9999999999999999999999999999999999999999998",
        ),
    ] {
        assert!(number(a).eq_value(&number(b)), "{a} {b}");
        assert_ne!(number(a), number(b));
    }
}

/// A number as digits and a power of ten, where the power may be larger than any machine integer.
fn scientific() -> impl Strategy<Value = (i64, BigInt)> {
    let edge = (29_u32..48, -3_i64..3).prop_map(|(digits, near)| BigInt::from(10).pow(digits) + near);
    let small = (-40_i64..40).prop_map(BigInt::from);
    let power = prop_oneof![small, edge.clone(), edge.prop_map(|power| -power)];
    (prop_oneof![-200_i64..200, any::<i64>()], power)
}

/// Where the point is put must not matter: `digits[..point].digits[point..]` with the power corrected.
fn text(digits: i64, power: &BigInt, point: usize) -> String {
    let (sign, digits) = (if digits < 0 { "-" } else { "" }, digits.unsigned_abs().to_string());
    let fraction = point % digits.len();
    let (integer, rest) = digits.split_at(digits.len() - fraction);
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{integer}{point}{rest}e{}", power + fraction)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn order_agrees_with_big_integers(
        a in scientific(), b in scientific(), near in any::<Option<i8>>(), points in any::<[usize; 2]>(),
    ) {
        // Mostly close powers, where order is decided by digits.
        let b = near.map_or(b.clone(), |near| (b.0, &a.1 + near / 8));
        let least = if a.1 < b.1 { &a.1 } else { &b.1 };
        let gaps = [&a.1 - least, &b.1 - least].map(|gap| u32::try_from(gap).unwrap_or(100).min(100));
        let expanded = |digits: i64, gap| BigInt::from(digits) * BigInt::from(10).pow(gap);
        let expected = expanded(a.0, gaps[0]).cmp(&expanded(b.0, gaps[1]));
        let numbers = [number(&text(a.0, &a.1, points[0])), number(&text(b.0, &b.1, points[1]))];
        prop_assert_eq!(numbers[0].cmp_value(&numbers[1]), expected);
    }

    #[test]
    fn every_integer_round_trips(integer in any::<i64>(), shift in 0_u32..64) {
        let integer = integer >> shift;
        let mut bytes = Vec::new();
        Number::from(integer).write_to(&mut bytes);
        prop_assert_eq!(String::from_utf8_lossy(&bytes), integer.to_string());
        prop_assert_eq!(Number::from(integer).text_len(), bytes.len());
        prop_assert_eq!(number(&integer.to_string()), Number::from(integer));
    }
}
