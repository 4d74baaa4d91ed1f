//! The numbers at the end of sequential names, and the order they stand for.
//!
//! A server appends the parent's counter with `%010d`. The counter is a signed 32-bit number that goes on from
//! 2147483647 to -2147483648, so neither the order of the names nor that of the numbers is the order of creation
//! for ever. The order here goes around that circle: it begins after the largest gap, which is right as long as
//! the names present were made within 2^31 creations of each other. Curator and kazoo compare the digits as text
//! and go wrong at the overflow; before and after it all agree.

/// The number after the last `marker` in a name, when all that follows is a number as servers write it.
///
/// ```
/// use oxkeeper_recipes::sequence;
///
/// assert_eq!(sequence::of("_c_8d1f-lock-0000000007", "lock-"), Some(7));
/// assert_eq!(sequence::of("_c_8d1f-lock--2147483648", "lock-"), Some(i32::MIN));
/// assert_eq!(sequence::of("_c_8d1f-lock-", "lock-"), None);
/// ```
pub fn of(name: &str, marker: &str) -> Option<i32> {
    let (_, digits) = name.rsplit_once(marker)?;
    let magnitude = digits.strip_prefix('-').unwrap_or(digits);
    let is_written_by_server = digits.len() >= 10 && magnitude.bytes().all(|byte| byte.is_ascii_digit());
    is_written_by_server.then(|| digits.parse().ok()).flatten()
}

/// As a server writes it.
pub fn format(sequence: i32) -> String {
    format!("{sequence:010}")
}

/// Sorts by sequence, oldest first, and by name where sequences are the same.
pub fn sort<T: AsRef<str>>(names: &mut [(i32, T)]) {
    // On the circle, as unsigned numbers: the order of creation but for where it begins.
    let place = |sequence: i32| sequence.cast_unsigned();
    let mut places: Vec<u32> = names.iter().map(|(sequence, _)| place(*sequence)).collect();
    places.sort_unstable();
    let before_first = |index: usize| places[(index + places.len() - 1) % places.len()];
    let first = (0..places.len())
        .max_by_key(|index| {
            let gap = places[*index].wrapping_sub(before_first(*index));
            // With one place alone the gap is the whole circle; of equal gaps the first counts.
            (gap, std::cmp::Reverse(*index))
        })
        .map_or(0, |index| places[index]);
    names.sort_by(|(a, a_name), (b, b_name)| {
        let key = |sequence: i32| place(sequence).wrapping_sub(first);
        key(*a)
            .cmp(&key(*b))
            .then_with(|| a_name.as_ref().cmp(b_name.as_ref()))
    });
}

/// The children whose names have a number after `marker`, oldest first.
pub fn sorted(children: Vec<String>, marker: &str) -> Vec<String> {
    let mut numbered: Vec<(i32, String)> = children
        .into_iter()
        .filter_map(|name| Some((of(&name, marker)?, name)))
        .collect();
    sort(&mut numbered);
    numbered.into_iter().map(|(_, name)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(sequences: &[i32]) -> Vec<i32> {
        let mut names: Vec<(i32, String)> = sequences.iter().map(|n| (*n, format(*n))).collect();
        sort(&mut names);
        names.into_iter().map(|(sequence, _)| sequence).collect()
    }

    #[test]
    fn numbers_are_read_as_servers_write_them() {
        for sequence in [
            0,
            1,
            999_999_999,
            i32::MAX,
            i32::MIN,
            -1,
            -999_999_999,
            -1_234_567_890,
        ] {
            assert_eq!(
                of(&format!("_c_x-lock-{}", format(sequence)), "lock-"),
                Some(sequence)
            );
        }
        for name in [
            "lock-",
            "lock-12",
            "lock-00000000x1",
            "other",
            "lock-99999999999",
            "lock-+000000001",
        ] {
            assert_eq!(of(name, "lock-"), None, "{name}");
        }
    }

    #[test]
    fn names_are_sorted_by_number_not_by_what_stands_before_it() {
        let names = [
            "_c_ff-lock-0000000001",
            "_c_00-lock-0000000002",
            "junk",
            "aa-lock-0000000000",
        ];
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let sorted = sorted(names, "lock-");
        assert_eq!(
            sorted,
            [
                "aa-lock-0000000000",
                "_c_ff-lock-0000000001",
                "_c_00-lock-0000000002"
            ]
        );
    }

    #[test]
    fn the_order_goes_on_over_the_overflow() {
        assert_eq!(
            order(&[i32::MIN + 1, i32::MAX, i32::MIN, i32::MAX - 5]),
            [i32::MAX - 5, i32::MAX, i32::MIN, i32::MIN + 1]
        );
        assert_eq!(order(&[1, -1, 0, -2]), [-2, -1, 0, 1]);
        assert_eq!(order(&[i32::MAX, 0]), [0, i32::MAX]);
        assert_eq!(order(&[7]), [7]);
        assert_eq!(order(&[]), Vec::<i32>::new());
    }

    #[test]
    fn any_set_of_numbers_has_one_order() {
        for _ in 0..200 {
            let mut numbers: Vec<i32> = (0..20).map(|_| fastrand::i32(..)).collect();
            let first = order(&numbers);
            fastrand::shuffle(&mut numbers);
            assert_eq!(order(&numbers), first);
        }
    }
}
