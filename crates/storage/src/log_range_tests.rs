//! Parts of a log that is written meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use oxkeeper_types::Zxid;

use crate::recovery_tests::*;
use crate::*;

const ALL: usize = usize::MAX;

fn zxids(storage: &Storage, from: i64, to: i64) -> Option<Vec<i64>> {
    let found = storage.read_range(Zxid(from), Zxid(to), ALL, ALL).unwrap()?;
    assert!(found.iter().all(|(zxid, bytes)| *bytes == entry(zxid.0, 20)));
    Some(found.into_iter().map(|(zxid, _)| zxid.0).collect())
}

#[test]
fn a_range_is_all_of_it_or_nothing_over_files_and_epochs() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(4096));
    assert_eq!(zxids(&storage, 1, 1), None, "there is no log yet");
    let (second, last) = (Zxid::new(2, 1).0, Zxid::new(2, 2).0);
    append(&mut log, 1..=3);
    log.commit().unwrap();
    log.roll().unwrap();
    append(&mut log, 4..=6);
    log.commit().unwrap();
    log.roll().unwrap();
    append(&mut log, [second, last]);
    assert_eq!(zxids(&storage, 6, second), None, "it is not written yet");
    log.commit().unwrap();

    let all = [1, 2, 3, 4, 5, 6, second, last];
    for (from, &first) in all.iter().enumerate() {
        for (to, &end) in all.iter().enumerate() {
            let expected = (from <= to).then(|| all[from..=to].to_vec());
            assert_eq!(zxids(&storage, first, end), expected, "{first} {end}");
        }
        for absent in [0, 7, Zxid::new(1, 3).0, Zxid::new(2, 0).0, Zxid::new(2, 3).0, -1] {
            assert_eq!(zxids(&storage, first, absent), None, "{first} {absent}");
            assert_eq!(zxids(&storage, absent, first), None, "{absent} {first}");
        }
    }
    let bytes = 3 * entry(1, 20).len();
    let read = |entries, bytes| {
        storage
            .read_range(Zxid(2), Zxid(4), entries, bytes)
            .unwrap()
            .is_some()
    };
    assert!(read(3, bytes) && !read(2, bytes) && !read(3, bytes - 1) && !read(0, 0));
}

#[test]
fn a_record_that_is_half_written_is_not_there_yet_and_is_left_alone() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    append(&mut log, 1..=2);
    log.commit().unwrap();
    let whole = disk.content("version-2/log.1").unwrap();
    let second = 16 + (whole.len() - 16) / 2;
    for written in 0..whole.len() {
        for padding in [0, 100] {
            let mut part = whole[..written].to_vec();
            part.resize(written + padding, 0);
            disk.put("version-2/log.1", &part);
            let expected = (written >= second).then(|| vec![1]);
            assert_eq!(zxids(&storage, 1, 1), expected, "{written}");
            assert_eq!(zxids(&storage, 1, 2), None, "{written}");
            assert_eq!(disk.content("version-2/log.1").unwrap(), part);
        }
    }
}

#[test]
fn what_is_damaged_purged_or_missing_between_is_not_there() {
    let disk = SimDisk::new(1);
    let (storage, mut log) = fresh_log(&disk, small_log(0));
    for begin in [1, 4, 7] {
        append(&mut log, begin..begin + 3);
        log.commit().unwrap();
        log.roll().unwrap();
    }
    assert_eq!(zxids(&storage, 2, 8).unwrap().len(), 7);
    let middle = disk.content("version-2/log.4").unwrap();
    let mut damaged = middle.clone();
    damaged[70] ^= 1;
    disk.put("version-2/log.4", &damaged);
    assert_eq!(zxids(&storage, 2, 8), None);
    assert_eq!(zxids(&storage, 2, 3), Some(vec![2, 3]));
    disk.remove("version-2/log.4").unwrap();
    assert_eq!(zxids(&storage, 2, 8), None);
    assert_eq!(zxids(&storage, 5, 8), None);
    disk.put("version-2/log.4", &[]);
    assert_eq!(zxids(&storage, 2, 7), None);
    disk.put("version-2/log.4", &middle);
    disk.remove("version-2/log.1").unwrap();
    assert_eq!(zxids(&storage, 2, 8), None);
    assert_eq!(zxids(&storage, 4, 8).unwrap().len(), 5);
}

#[test]
fn what_is_durable_can_be_read_while_another_thread_appends() {
    let directory = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()));
    let storage = Storage::open(disk, None, small_log(2000)).unwrap();
    write_snapshot(&storage, 0);
    let (_, mut log) = replay(&storage, Zxid(0)).unwrap();
    let durable = AtomicI64::new(0);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut random = fastrand::Rng::with_seed(1);
            let mut reads_ahead = 0;
            while reads_ahead < 300 {
                let known = durable.load(Ordering::Acquire);
                if known == 0 {
                    std::thread::yield_now();
                    continue;
                }
                // Also just what is being written.
                let to = (known + random.i64(-40..9)).max(1);
                let from = random.i64((to - 60).max(1)..=to);
                match zxids(&storage, from, to) {
                    Some(found) => assert_eq!(found, (from..=to).collect::<Vec<_>>()),
                    None => assert!(to > known, "{from}..={to} of {known}"),
                }
                reads_ahead += i64::from(to > known);
            }
        });
        let mut zxid = 0;
        while !reader.is_finished() {
            for _ in 0..zxid % 7 + 1 {
                zxid += 1;
                append(&mut log, [zxid]);
            }
            log.commit().unwrap();
            durable.store(zxid, Ordering::Release);
            if zxid % 50 == 0 {
                log.roll().unwrap();
            }
        }
    });
    let end = durable.into_inner();
    assert_eq!(zxids(&storage, 1, end).unwrap().len() as i64, end);
}
