//! The numbers at the end of sequential names, and the order they stand for.
//!
//! A server appends the parent's counter of creations with `%010d`. The counter ends: after 2147483647 the servers,
//! Java's too, give that number again and again, or negative ones to requests that are in flight together. From
//! there on names do not tell who came first; the zxid of the creation does (Stat's `czxid`). The locks and elections
//! of this crate ask for it then; Curator and kazoo do not, and exclude nobody any more. A directory that came so far
//! is better given up for a new one.

/// Whether a name with this number may not be unique, nor in order.
pub fn is_exhausted(sequence: i32) -> bool {
    !(0..i32::MAX).contains(&sequence)
}

/// The number at the end of a name, as servers write it, when `marker` stands just before it.
///
/// ```
/// use oxkeeper_recipes::sequence;
///
/// assert_eq!(sequence::of("_c_8d1f-lock-0000000007", "lock-"), Some(7));
/// assert_eq!(sequence::of("_c_8d1f-lock--2147483648", "lock-"), Some(i32::MIN));
/// assert_eq!(sequence::of("_c_8d1f-lock-", "lock-"), None);
/// ```
pub fn of(name: &str, marker: &str) -> Option<i32> {
    // Found from the end: the marker may look like a part of the number. The smallest ones take a place more.
    [10, 11].into_iter().find_map(|length| {
        let (head, digits) = name.split_at_checked(name.len().checked_sub(length)?)?;
        let sequence = digits.parse().ok()?;
        (head.ends_with(marker) && format(sequence) == digits).then_some(sequence)
    })
}

/// As a server writes it.
pub fn format(sequence: i32) -> String {
    format!("{sequence:010}")
}

/// Sorts by sequence, oldest first, and by name where sequences are the same. Those that are
/// [exhausted](is_exhausted) come last, in no order that means something.
pub fn sort<T: AsRef<str>>(names: &mut [(i32, T)]) {
    // As unsigned numbers: the negative ones came last.
    names.sort_by(|(a, a_name), (b, b_name)| {
        let by_number = a.cast_unsigned().cmp(&b.cast_unsigned());
        by_number.then_with(|| a_name.as_ref().cmp(b_name.as_ref()))
    });
}

/// The children whose names have a number after `marker`, in the order of [`sort`].
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
        // Also where the marker is a number itself.
        for (name, marker, expected) in [
            ("n-00000000007", "0", Some(7)),
            ("n-10000000001", "1", Some(1)),
            ("n--2147483648", "-", Some(i32::MIN)),
            ("n---00000001", "-", None),
            ("n--000000001", "-", Some(-1)),
        ] {
            assert_eq!(of(name, marker), expected, "{name}");
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
    fn numbers_that_mean_nothing_come_last() {
        assert_eq!(
            order(&[i32::MIN + 1, i32::MAX, 7, i32::MIN, i32::MAX - 5, 0]),
            [0, 7, i32::MAX - 5, i32::MAX, i32::MIN, i32::MIN + 1]
        );
        assert_eq!(
            [0, 7, i32::MAX - 1, i32::MAX, i32::MIN, -1].map(is_exhausted),
            [false, false, false, true, true, true]
        );
    }
}
