//! Decimal numbers as bytes.

/// The number that `digits` are: nothing but digits, at least one, and no more than fit.
#[inline]
pub(crate) fn decimal(digits: &[u8]) -> Option<u64> {
    let number = digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(digit.into()) }
    });
    number.filter(|_| !digits.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_read_as_the_standard_library_reads_it(text in "[0-9]{0,22}|[0-9 +,.:/x-]{0,6}|\\PC{0,3}") {
            let plain = text.bytes().all(|byte| byte.is_ascii_digit());
            prop_assert_eq!(decimal(text.as_bytes()), text.parse().ok().filter(|_| plain));
        }
    }

    #[test]
    fn the_largest_number_fits_and_the_next_does_not() {
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(decimal(b"18446744073709551616"), None);
    }
}
