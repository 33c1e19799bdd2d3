//! One column of numbers, on disk and in memory.
//!
//! Both forms say `base + divisor * n` with n in the fewest whole bytes: a constant column takes none, days
//! since 1970 in milliseconds take two. In memory rows stand side by side, so that row i is found at once; on
//! disk bytes of equal weight stand side by side, which compresses better, and a column may hold differences
//! instead of values.

use crate::codec::wire::{Cursor, put_varint, put_zigzag};
use crate::domain::error::{Error, Result};

const VALUES: u8 = 0;
const DIFFERENCES: u8 = 1;
/// The most bytes of transform, base, divisor and width.
const HEAD_LEN: usize = 22;

/// Numbers by row; 64-bit unsigned ones are kept as the signed number with the same bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Column {
    base: i64,
    divisor: u64,
    width: usize,
    rows: Box<[u8]>,
}

impl Column {
    pub(super) fn new(values: &[i64]) -> Self {
        let (base, divisor, width) = measure(values);
        let mut rows = Vec::with_capacity(values.len() * width);
        for value in values {
            rows.extend_from_slice(&scaled(*value, base, divisor).to_le_bytes()[..width]);
        }
        Self { base, divisor, width, rows: rows.into() }
    }

    /// The number in row `at`, which must be one of the rows the column was made of.
    pub(super) fn get(&self, at: usize) -> i64 {
        let mut bytes = [0; 8];
        bytes[..self.width].copy_from_slice(&self.rows[at * self.width..][..self.width]);
        unscaled(u64::from_le_bytes(bytes), self.base, self.divisor)
    }

    /// Bytes of memory beside the struct itself.
    pub(super) fn heap_len(&self) -> usize {
        self.rows.len()
    }
}

fn scaled(value: i64, base: i64, divisor: u64) -> u64 {
    value.wrapping_sub(base) as u64 / divisor
}

fn unscaled(n: u64, base: i64, divisor: u64) -> i64 {
    base.wrapping_add(n.wrapping_mul(divisor) as i64)
}

/// The least value, the greatest common divisor of the distances from it, and the bytes the largest multiple
/// takes.
fn measure(values: &[i64]) -> (i64, u64, usize) {
    let base = values.iter().copied().min().unwrap_or_default();
    let (mut divisor, mut largest) = (0, 0);
    for value in values {
        let distance = value.wrapping_sub(base) as u64;
        largest = largest.max(distance);
        // COST: mostly the first few have nothing in common, and nothing can follow that.
        if divisor != 1 {
            divisor = greatest_common_divisor(divisor, distance);
        }
    }
    let divisor = divisor.max(1);
    (base, divisor, (64 - (largest / divisor).leading_zeros()).div_ceil(8) as usize)
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A column's bytes: transform, base, divisor, width, then planes from the heaviest byte to the lightest.
pub(super) fn encode(values: &[i64]) -> Vec<u8> {
    let measured = measure(values);
    let mut previous = 0_i64;
    let differences = values.iter().map(|value| value.wrapping_sub(std::mem::replace(&mut previous, *value)));
    // COST: a column that is constant has no shorter form.
    let differences: Vec<i64> = if measured.2 == 0 { Vec::new() } else { differences.collect() };
    let of_differences = measure(&differences);
    let (transform, numbers, (base, divisor, width)) = match of_differences.2 < measured.2 {
        true => (DIFFERENCES, &differences[..], of_differences),
        false => (VALUES, values, measured),
    };
    let mut out = Vec::with_capacity(HEAD_LEN + width * numbers.len());
    out.push(transform);
    put_zigzag(&mut out, base);
    put_varint(&mut out, divisor);
    out.push(width as u8);
    for plane in (0..width).rev() {
        out.extend(numbers.iter().map(|value| scaled(*value, base, divisor).to_le_bytes()[plane]));
    }
    out
}

/// The `rows` numbers of a column's bytes. Memory: 8 bytes a row, so the caller bounds `rows` first.
pub(super) fn decode(bytes: &[u8], rows: usize) -> Result<Vec<i64>> {
    let mut cursor = Cursor::new(bytes);
    let transform = cursor.u8()?;
    let (base, divisor, width) = (cursor.zigzag()?, cursor.varint()?, usize::from(cursor.u8()?));
    if transform > DIFFERENCES || divisor == 0 || width > 8 {
        return Err(Error::corrupt(format!("a column of transform `{transform}` and width `{width}`")));
    }
    let planes = cursor.take(rows as u64 * width as u64)?;
    cursor.finish()?;
    let mut previous = 0_i64;
    let row = |at: usize| {
        let n = (0..width).fold(0, |n, plane| n << 8 | u64::from(planes[plane * rows + at]));
        let number = unscaled(n, base, divisor);
        previous = if transform == DIFFERENCES { previous.wrapping_add(number) } else { number };
        previous
    };
    Ok((0..rows).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values() -> impl Strategy<Value = Vec<i64>> {
        let value = prop_oneof![any::<i64>(), -3..3_i64, (0..99_i64).prop_map(|day| day * 86_400_000)];
        prop_oneof![prop::collection::vec(value, 0..40), prop::collection::vec(7..8_i64, 0..40)]
    }

    proptest! {
        #[test]
        fn a_column_gives_back_its_numbers_from_disk_and_memory(values in values()) {
            prop_assert_eq!(&decode(&encode(&values), values.len()).unwrap(), &values);
            let column = Column::new(&values);
            let rows: Vec<_> = (0..values.len()).map(|at| column.get(at)).collect();
            prop_assert_eq!(rows, values);
        }

        #[test]
        fn garbage_is_an_error_or_numbers_and_never_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..60),
            rows in 0..40_usize,
        ) {
            if let Ok(values) = decode(&bytes, rows) {
                prop_assert_eq!(values.len(), rows);
            }
        }
    }

    #[test]
    fn constant_and_steady_columns_take_no_bytes_per_row() {
        assert_eq!(encode(&[9; 1_000]).len(), 4);
        assert_eq!(Column::new(&[-9; 1_000]).heap_len(), 0);
        let days: Vec<i64> = (0..1_000).map(|day| day * 86_400_000).collect();
        assert_eq!(Column::new(&days).heap_len(), 2_000);
    }
}
