//! Durations and sizes as the configuration writes them: a number with its unit. Bare numbers are errors,
//! because nobody can tell seconds from milliseconds by looking.

/// Units of a duration and their milliseconds.
const DURATIONS: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
/// Units of a size and their bytes.
const SIZES: &[(&str, u64)] = &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// A duration in milliseconds.
///
/// # Errors
/// What is wrong and how to fix it.
pub(super) fn duration_ms(text: &str) -> Result<u64, (String, String)> {
    scaled(
        text,
        DURATIONS,
        "duration",
        "write a whole number and `ms`, `s`, `m`, `h` or `d`, as in `250ms` or `10m`",
    )
}

/// A size in bytes.
///
/// # Errors
/// What is wrong and how to fix it.
pub(super) fn size_bytes(text: &str) -> Result<u64, (String, String)> {
    scaled(text, SIZES, "size", "write a whole number and `KiB`, `MiB` or `GiB`, as in `64KiB`")
}

fn scaled(text: &str, units: &[(&str, u64)], what: &str, hint: &str) -> Result<u64, (String, String)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor);
    let wrong = |message: String| (message, hint.to_owned());
    match (number.parse::<u64>(), factor) {
        (Ok(number), Some(factor)) => {
            number.checked_mul(factor).ok_or_else(|| wrong(format!("`{text}` is too large for a {what}")))
        }
        (Ok(_), None) if unit.is_empty() => Err(wrong(format!("`{text}` has no unit"))),
        (Ok(_), None) => Err(wrong(format!("`{unit}` is not a unit of a {what}"))),
        (Err(_), _) => Err(wrong(format!("`{text}` is not a {what}"))),
    }
}

/// Bytes as the configuration writes them, or a plain number of bytes where no unit fits.
#[must_use]
pub fn show_bytes(bytes: u64) -> String {
    let fits = |(_, factor): &&(&str, u64)| bytes > 0 && bytes.is_multiple_of(*factor);
    let unit = SIZES.iter().rev().find(fits).map(|(unit, factor)| format!("{}{unit}", bytes / factor));
    unit.unwrap_or_else(|| format!("{bytes} B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_need_a_unit() {
        for (text, ms) in
            [("250ms", 250), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration_ms(text), Ok(ms));
        }
        for (text, bytes) in [("64KiB", 64 << 10), ("8MiB", 8 << 20), ("1GiB", 1 << 30)] {
            assert_eq!(size_bytes(text), Ok(bytes));
            assert_eq!(show_bytes(bytes), text);
        }
        for wrong in
            ["10", "10 s", "1.5s", "-1s", "s", "", "10sec", "99999999999999999999s", "18446744073709551615d"]
        {
            assert!(duration_ms(wrong).is_err(), "{wrong}");
        }
        for wrong in ["10", "10MB", "10mib", "KiB", "18446744073709551615GiB"] {
            assert!(size_bytes(wrong).is_err(), "{wrong}");
        }
    }
}
