//! What must hold of the guarded writes that the servers did, and of what contenders believed.

use std::collections::BTreeMap;
use std::time::Instant;

/// A guarded write that the servers did, and whose it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Written {
    pub(crate) token: i64,
    pub(crate) contender: usize,
    pub(crate) is_shared: bool,
}

/// A span during which a contender saw itself hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Believed {
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    pub(crate) contender: usize,
    pub(crate) is_shared: bool,
}

/// That of those whose tokens are not greater than a holder's own, fewer than `leases` write after its first write;
/// readers do not count for readers. With one lease: tokens never go back.
pub(crate) fn check_written(written: &[Written], leases: usize) -> Result<(), String> {
    let mut spans = BTreeMap::new();
    for (index, one) in written.iter().enumerate() {
        spans.entry(*one).or_insert((index, index)).1 = index;
    }
    for (holder, (first, _)) in &spans {
        let may_not = |(earlier, (_, last)): &(&Written, &(usize, usize))| {
            let is_another = (earlier.token, earlier.contender) != (holder.token, holder.contender);
            let excludes = !(earlier.is_shared && holder.is_shared);
            earlier.token <= holder.token && is_another && excludes && last > first
        };
        let late: Vec<_> = spans.iter().filter(may_not).collect();
        if late.len() >= leases {
            return Err(format!(
                "{holder:?} wrote first at {first}, and later yet {late:?}"
            ));
        }
    }
    Ok(())
}

/// That never more than `leases` saw themselves hold at once; readers do not count for readers.
pub(crate) fn check_believed(believed: &[Believed], leases: usize) -> Result<(), String> {
    for one in believed {
        let holds_too = |other: &&Believed| {
            let is_at_once = other.from <= one.from && one.from < other.to;
            other.contender != one.contender && is_at_once && !(other.is_shared && one.is_shared)
        };
        let others: Vec<_> = believed.iter().filter(holds_too).collect();
        if others.len() >= leases {
            return Err(format!("{one:?} began to hold while these did: {others:?}"));
        }
    }
    Ok(())
}

#[test]
fn the_checker_finds_what_it_is_for() {
    let alone = |token| Written {
        token,
        contender: 0,
        is_shared: false,
    };
    let shared = |token| Written {
        is_shared: true,
        ..alone(token)
    };
    let is_fine = |written: &[Written], leases| check_written(written, leases).is_ok();
    assert!(is_fine(&[alone(5), alone(5), alone(7)], 1));
    assert!(!is_fine(&[alone(5), alone(7), alone(5)], 1), "a late write");
    let other = Written {
        contender: 1,
        ..alone(5)
    };
    assert!(!is_fine(&[alone(5), other, alone(5)], 1), "one token of two");
    assert!(is_fine(&[alone(5), shared(5), shared(6), shared(5), alone(8)], 1));
    assert!(
        !is_fine(&[shared(5), alone(6), shared(5)], 1),
        "a reader in a writer's time"
    );
    assert!(
        !is_fine(&[alone(5), shared(6), alone(5)], 1),
        "a writer in a reader's time"
    );
    assert!(is_fine(
        &[alone(1), alone(2), alone(1), alone(3), alone(2), alone(3)],
        2
    ));
    assert!(
        !is_fine(&[alone(1), alone(2), alone(3), alone(1), alone(2)], 2),
        "three at once"
    );

    let now = Instant::now();
    let believed = |from, to, contender| Believed {
        from: now + std::time::Duration::from_millis(from),
        to: now + std::time::Duration::from_millis(to),
        contender,
        is_shared: false,
    };
    let overlap = [believed(0, 10, 1), believed(9, 20, 2)];
    assert!(check_believed(&overlap, 1).is_err());
    assert!(check_believed(&overlap, 2).is_ok());
    assert!(check_believed(&[believed(0, 10, 1), believed(10, 20, 2)], 1).is_ok());
    assert!(
        check_believed(
            &overlap.map(|one| Believed {
                is_shared: true,
                ..one
            }),
            1
        )
        .is_ok()
    );
}
