//! One test per row of the table of damage (storage spec, section 5), and the rules of order and repetition.

use std::sync::Arc;
use std::time::Duration;

use oxkeeper_types::{SessionId, Txn, TxnHeader, Zxid};
use oxkeeper_wire::encode_txn_entry;

use crate::log_reader::{LogEnd, LogReader, ReadLimits, follows};
use crate::record::{self, FILE_HEADER};
use crate::{Disk, SimDisk, StorageError};

/// The zxid `counter` of epoch 0, or of another as `0x2_0000_0001`.
fn entry(zxid: i64) -> Vec<u8> {
    entry_with(
        zxid,
        Txn::SetData {
            path: format!("/znode{zxid}"),
            data: Some(vec![7; 40].into()),
            version: 1,
        },
    )
}

fn entry_with(zxid: i64, txn: Txn) -> Vec<u8> {
    let header = TxnHeader {
        session: SessionId(9),
        cxid: 1,
        zxid: Zxid(zxid),
        time: 1_700_000_000_000,
    };
    let mut bytes = Vec::new();
    encode_txn_entry(&mut bytes, &header, &txn, None);
    bytes
}

fn record(zxid: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    record::encode(&mut bytes, &entry(zxid));
    bytes
}

/// A log file with these txns and zeros behind them.
fn file(zxids: impl IntoIterator<Item = i64>) -> Vec<u8> {
    let mut bytes = FILE_HEADER.to_vec();
    for zxid in zxids {
        bytes.extend(record(zxid));
    }
    padded(bytes)
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len() + 5000, 0);
    bytes
}

/// Where the record of the `n`th txn begins in a [`file`] of txns of one digit.
fn record_offset(n: usize) -> usize {
    FILE_HEADER.len() + n * record(1).len()
}

fn disk(files: &[(&str, Vec<u8>)]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir("version-2").unwrap();
    for (name, bytes) in files {
        disk.put(&format!("version-2/{name}"), bytes);
    }
    disk
}

fn read(files: &[(&str, Vec<u8>)], after: i64) -> Result<(Vec<i64>, LogEnd), StorageError> {
    let disk: Arc<dyn Disk> = Arc::new(disk(files));
    let mut reader = LogReader::open(disk, ReadLimits::default(), Zxid(after)).unwrap();
    let mut zxids = Vec::new();
    while let Some(found) = reader.next_entry()? {
        assert_eq!(record::zxid_and_type(found.bytes).unwrap().0, found.zxid);
        zxids.push(found.zxid.0);
    }
    let end = reader.finish();
    assert_eq!(end.entries, zxids.len() as u64);
    Ok((zxids, end))
}

/// Reads, and expects these txns and one cut at this offset of this file, for a reason with this text.
fn check_cut(
    files: &[(&str, Vec<u8>)],
    zxids: impl IntoIterator<Item = i64>,
    name: &str,
    offset: usize,
    why: &str,
) {
    let (found, end) = read(files, 0).unwrap();
    assert_eq!(found, zxids.into_iter().collect::<Vec<_>>());
    let [cut] = &end.cuts[..] else {
        panic!("{:?}", end.cuts)
    };
    assert!(cut.file.ends_with(name), "{cut:?}");
    assert_eq!(cut.offset, offset as u64, "{cut:?}");
    assert!(cut.reason.contains(why), "{cut:?}");
}

/// Reads, and expects to be stopped at this offset of this file with this text and something to do.
fn check_refused(files: &[(&str, Vec<u8>)], name: &str, at: usize, text: &str) {
    match read(files, 0) {
        Err(error @ StorageError::Corrupt { .. }) => {
            let message = error.to_string();
            let StorageError::Corrupt {
                file,
                offset,
                what,
                remedy,
            } = &error
            else {
                unreachable!()
            };
            assert!(file.ends_with(name), "{message}");
            assert_eq!(*offset, at as u64, "{message}");
            assert!(what.contains(text), "{message}");
            assert!(
                remedy.contains("Restore") && remedy.contains(&format!("truncate -s {at}")),
                "{message}"
            );
            assert_eq!(error.exit_code(), 1);
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn whole_files_are_read_in_order_with_and_without_padding() {
    let unpadded = file(1..=3)[..record_offset(3)].to_vec();
    for first in [unpadded, file(1..=3)] {
        let (zxids, end) = read(&[("log.1", first), ("log.4", file(4..=9))], 0).unwrap();
        assert_eq!(zxids, (1..=9).collect::<Vec<_>>());
        assert_eq!(
            (end.last_zxid, end.cuts.len(), end.recordless.len()),
            (Zxid(9), 0, 0)
        );
    }
}

#[test]
fn reading_begins_after_the_wanted_zxid_with_the_file_before_it() {
    // The oldest file is damaged; it is not looked at because log.4 has all that is wanted.
    let files = [
        ("log.1", b"rubbish".to_vec()),
        ("log.4", file(4..=6)),
        ("log.7", file(7..=8)),
    ];
    for (after, first) in [(3, 4), (4, 5), (5, 6), (6, 7), (7, 8)] {
        if after == 3 {
            assert!(read(&files, after).is_err(), "log.1 might hold what follows 3");
            continue;
        }
        assert_eq!(read(&files, after).unwrap().0, (first..=8).collect::<Vec<_>>());
    }
    let (zxids, end) = read(&files, 8).unwrap();
    assert_eq!((zxids.len(), end.last_zxid), (0, Zxid(8)));
    assert_eq!(read(&[], 5).unwrap().1.last_zxid, Zxid(5));
}

#[test]
fn row_file_ends_inside_a_record_of_the_newest_file_is_cut() {
    let whole = &file(1..=3)[..record_offset(3)];
    for length in record_offset(2) + 1..record_offset(3) {
        let torn = [("log.1", whole[..length].to_vec())];
        // The first bytes of the checksum are zeros, which are not a torn record but nothing at all.
        let (zxids, end) = read(&torn, 0).unwrap();
        assert_eq!(zxids, [1, 2], "cut to {length}");
        assert_eq!(
            end.cuts.len(),
            usize::from(length > record_offset(2) + 4),
            "cut to {length}"
        );
        assert!(end.cuts.iter().all(|cut| cut.offset == record_offset(2) as u64));
    }
}

#[test]
fn row_record_torn_within_the_padding_is_cut() {
    let whole = file(1..=3);
    for length in record_offset(2)..record_offset(3) {
        let torn = padded(whole[..length].to_vec());
        let (zxids, end) = read(&[("log.1", torn)], 0).unwrap();
        assert_eq!(zxids, [1, 2], "torn at {length}");
        assert_eq!(end.last_zxid, Zxid(2));
        assert_eq!(
            end.cuts.len(),
            usize::from(length > record_offset(2) + 4),
            "torn at {length}"
        );
    }
}

#[test]
fn row_length_zero_ends_the_file() {
    let (zxids, end) = read(&[("log.1", file(1..=3))], 0).unwrap();
    assert_eq!((zxids.len(), end.cuts.len()), (3, 0));
    let mut torn_after_checksum = file(1..=2);
    torn_after_checksum[record_offset(2) + 6] = 1;
    check_cut(
        &[("log.1", torn_after_checksum)],
        1..=2,
        "log.1",
        record_offset(2),
        "after its checksum",
    );
}

#[test]
fn row_missing_end_byte_of_the_last_record_is_a_tear_but_before_valid_records_it_is_refused() {
    let mut bytes = file(1..=3);
    bytes[record_offset(3) - 1] = 0;
    check_cut(
        &[("log.1", bytes)],
        1..=2,
        "log.1",
        record_offset(2),
        "no end byte",
    );
    let mut bytes = file(1..=5);
    bytes[record_offset(3) - 1] = 0;
    check_refused(
        &[("log.1", bytes)],
        "log.1",
        record_offset(2),
        "valid txn 0x4 stands behind",
    );
}

#[test]
fn row_wrong_end_byte_is_refused_even_in_the_last_record_because_no_tear_explains_it() {
    for count in [3, 5] {
        let mut bytes = file(1..=count);
        bytes[record_offset(3) - 1] = b'C';
        check_refused(
            &[("log.1", bytes)],
            "log.1",
            record_offset(2),
            "its checksum is right",
        );
    }
}

#[test]
fn row_wrong_checksum_is_refused_in_the_middle_and_in_the_last_record() {
    for count in [3, 5] {
        for at in [record_offset(2) + 7, record_offset(2) + 30, record_offset(3) - 2] {
            let mut bytes = file(1..=count);
            bytes[at] ^= 1;
            check_refused(&[("log.1", bytes)], "log.1", record_offset(2), "checksum is");
        }
    }
}

#[test]
fn row_length_minus_one_is_refused() {
    let mut bytes = file(1..=3);
    bytes[record_offset(2) + 8..][..4].copy_from_slice(&(-1i32).to_be_bytes());
    check_refused(&[("log.1", bytes)], "log.1", record_offset(2), "a length of -1");
}

#[test]
fn row_impossible_length_is_refused() {
    for length in [-2, i32::MIN, i32::MAX, 64 * 1024 * 1024 + 1] {
        let mut bytes = file(1..=3);
        bytes[record_offset(2) + 8..][..4].copy_from_slice(&length.to_be_bytes());
        check_refused(
            &[("log.1", bytes)],
            "log.1",
            record_offset(2),
            &format!("a length of {length}"),
        );
    }
}

#[test]
fn a_length_beyond_the_file_is_a_tear_only_when_nothing_valid_stands_behind() {
    let mut bytes = file(1..=3);
    bytes[record_offset(2) + 8..][..4].copy_from_slice(&1_000_000i32.to_be_bytes());
    check_cut(
        &[("log.1", bytes)],
        1..=2,
        "log.1",
        record_offset(2),
        "ends inside a record",
    );
    let mut bytes = file(1..=4);
    bytes[record_offset(2) + 8..][..4].copy_from_slice(&1_000_000i32.to_be_bytes());
    check_refused(
        &[("log.1", bytes)],
        "log.1",
        record_offset(2),
        "valid txn 0x4 stands behind",
    );
}

#[test]
fn row_entry_too_short_for_a_txn_is_refused() {
    for later in [0, 3] {
        let mut bytes = file(1..=2)[..record_offset(2)].to_vec();
        record::encode(&mut bytes, &entry(3)[..31]);
        bytes.extend((4..4 + later).flat_map(record));
        check_refused(
            &[("log.1", padded(bytes))],
            "log.1",
            record_offset(2),
            "too short for a txn",
        );
    }
}

#[test]
fn an_entry_that_cannot_be_decoded_is_refused_with_its_place() {
    let disk: Arc<dyn Disk> = Arc::new(disk(&[("log.1", file(1..=3))]));
    let mut reader = LogReader::open(disk, ReadLimits::default(), Zxid(0)).unwrap();
    reader.next_entry().unwrap();
    reader.next_entry().unwrap();
    match reader.refuse_entry("its type is 99") {
        StorageError::Corrupt {
            file, offset, what, ..
        } => {
            assert!(file.ends_with("version-2/log.1"));
            assert_eq!(offset, record_offset(1) as u64);
            assert!(what.contains("0x2") && what.contains("its type is 99"), "{what}");
        }
        other => panic!("{other}"),
    }
}

#[test]
fn row_bad_magic_is_refused() {
    let mut bytes = file(1..=3);
    bytes[0] = b'X';
    check_refused(&[("log.1", bytes)], "log.1", 0, "ZKLG");
    // Version and dbid are not looked at.
    let mut bytes = file(1..=3);
    bytes[7] = 9;
    bytes[15] = 9;
    assert_eq!(read(&[("log.1", bytes)], 0).unwrap().0, [1, 2, 3]);
}

#[test]
fn row_newest_file_of_zero_bytes_is_reported_and_to_be_removed() {
    let files = [("log.1", file(1..=3)), ("log.4", Vec::new())];
    check_cut(&files, 1..=3, "log.4", 0, "empty");
    assert_eq!(read(&files, 0).unwrap().1.recordless, ["version-2/log.4"]);
}

#[test]
fn row_newest_file_with_a_part_of_the_header_was_never_begun() {
    // Java does not start from these; but they are what a crash leaves, and no txn was ever in them.
    for length in 1..FILE_HEADER.len() {
        for tail in [0, 5000] {
            let mut bytes = FILE_HEADER[..length].to_vec();
            bytes.resize(length + tail, 0);
            let (zxids, end) = read(&[("log.1", file(1..=3)), ("log.4", bytes)], 0).unwrap();
            assert_eq!(zxids, [1, 2, 3]);
            assert_eq!(end.recordless, ["version-2/log.4"], "{length} bytes");
        }
    }
    for rubbish in [&b"x"[..], b"ZKLX", b"ZKLG\0\0\0\x02\0\0\0\0\0\0\x01"] {
        let text = if rubbish.len() < 4 {
            "not the begin of a log"
        } else {
            ""
        };
        check_refused(
            &[("log.1", file(1..=3)), ("log.4", rubbish.to_vec())],
            "log.4",
            0,
            text,
        );
    }
}

#[test]
fn row_newest_file_of_zeros_was_never_begun_but_with_content_behind_it_is_refused() {
    let files = [("log.1", file(1..=3)), ("log.4", vec![0; 5000])];
    check_cut(&files, 1..=3, "log.4", 0, "torn");
    let mut bytes = file(4..=5);
    bytes[..16].fill(0);
    check_refused(&[("log.1", file(1..=3)), ("log.4", bytes)], "log.4", 0, "ZKLG");
}

#[test]
fn row_newest_file_with_the_header_only_has_no_txn() {
    let files = [("log.1", file(1..=3)), ("log.4", FILE_HEADER.to_vec())];
    let (zxids, end) = read(&files, 0).unwrap();
    assert_eq!((zxids.len(), end.cuts.len()), (3, 0));
    assert_eq!(end.recordless, ["version-2/log.4"]);
}

#[test]
fn row_older_file_of_zero_bytes_is_accepted_only_if_nothing_is_missing() {
    let nothing_missing = [
        ("log.1", file(1..=3)),
        ("log.3", Vec::new()),
        ("log.4", file(4..=5)),
    ];
    check_cut(&nothing_missing, 1..=5, "log.3", 0, "empty");
    let missing = [
        ("log.1", file(1..=3)),
        ("log.4", Vec::new()),
        ("log.6", file(6..=7)),
    ];
    check_refused(&missing, "log.6", 16, "a hole: txn 0x6 stands after 0x3");
}

#[test]
fn a_torn_tail_of_an_older_file_is_a_crash_when_the_next_file_continues() {
    let torn = padded(file(1..=3)[..record_offset(3) - 9].to_vec());
    let files = [("log.1", torn.clone()), ("log.3", file(3..=5))];
    check_cut(&files, 1..=5, "log.1", record_offset(2), "no end byte");
    // Two crashes at the same place.
    let torn_again = padded(file([3])[..40].to_vec());
    let (zxids, end) = read(&[("log.1", torn.clone()), ("log.3", torn_again)], 0).unwrap();
    assert_eq!((zxids, end.cuts.len()), (vec![1, 2], 2));
    assert_eq!(end.recordless, ["version-2/log.3"]);
    // The next file skips a txn: that one was in the torn place, or in a lost file.
    check_refused(
        &[("log.1", torn), ("log.4", file(4..=5))],
        "log.4",
        16,
        "a hole: txn 0x4 stands after 0x2",
    );
}

#[test]
fn records_that_java_gave_up_are_dropped_when_the_next_file_continues_before_them() {
    // Java took the bad end byte of 3 for the end, and has gone on with another 3.
    let mut given_up = file(1..=5);
    given_up[record_offset(3) - 1] = b'C';
    let other = padded([&FILE_HEADER[..], &record(3), &record(4)].concat());
    check_cut(
        &[("log.1", given_up), ("log.3", other)],
        1..=4,
        "log.1",
        record_offset(2),
        "instead of 0x42",
    );
}

#[test]
fn an_older_file_before_a_new_epoch_may_be_torn_but_not_damaged() {
    let epoch_2 = file([0x2_0000_0001, 0x2_0000_0002]);
    let torn = padded(file(1..=3)[..record_offset(3) - 9].to_vec());
    let files = [("log.1", torn), ("log.200000001", epoch_2.clone())];
    check_cut(
        &files,
        [1, 2, 0x2_0000_0001, 0x2_0000_0002],
        "log.1",
        record_offset(2),
        "no end byte",
    );

    let mut damaged = file(1..=3);
    damaged[record_offset(3) - 5] ^= 1;
    check_refused(
        &[("log.1", damaged), ("log.200000001", epoch_2.clone())],
        "log.1",
        record_offset(2),
        "checksum",
    );

    let mut hole = file(1..=4);
    hole[record_offset(2)..record_offset(3)].fill(0);
    check_refused(
        &[("log.1", hole), ("log.200000001", epoch_2)],
        "log.1",
        record_offset(2),
        "0x4 stands behind",
    );
}

#[test]
fn zeros_in_the_middle_of_the_newest_file_are_a_hole_when_a_valid_record_stands_behind() {
    for wiped in [
        record_offset(2)..record_offset(3),
        record_offset(2)..record_offset(3) + 20,
    ] {
        let mut bytes = file(1..=5);
        let valid_behind = if wiped.end > record_offset(3) {
            "0x5"
        } else {
            "0x4"
        };
        bytes[wiped].fill(0);
        check_refused(
            &[("log.1", bytes)],
            "log.1",
            record_offset(2),
            &format!("valid txn {valid_behind} stands"),
        );
    }
    // What is not a record of a later txn does not count: the rest of a torn batch whose begin was lost.
    let mut bytes = file(1..=5);
    bytes[record_offset(2)..record_offset(4) + 20].fill(0);
    let (zxids, _) = read(&[("log.1", bytes)], 0).unwrap();
    assert_eq!(zxids, [1, 2]);
}

#[test]
fn a_hole_between_valid_records_is_refused() {
    check_refused(
        &[("log.1", file([1, 2, 4]))],
        "log.1",
        record_offset(2),
        "txn 0x4 stands after 0x2",
    );
    check_refused(
        &[("log.1", file(1..=2)), ("log.4", file(4..=5))],
        "log.4",
        16,
        "txn 0x4 stands after 0x2",
    );
    // Not even the first txn may be missing.
    check_refused(&[("log.2", file(2..=3))], "log.2", 16, "txn 0x2 stands after 0x0");
    check_refused(
        &[("log.1", file([1, 0x2_0000_0002]))],
        "log.1",
        record_offset(1),
        "0x200000002 stands after 0x1",
    );
}

#[test]
fn records_up_to_the_snapshot_need_not_be_whole_in_number() {
    // The log of a member that got a snapshot of txn 7 from its leader.
    let files = [("log.1", file(1..=3)), ("log.8", file(8..=9))];
    assert_eq!(read(&files, 7).unwrap().0, [8, 9]);
    assert!(read(&files, 3).is_err(), "with an older snapshot it is a hole");
}

#[test]
fn a_repeated_txn_is_handed_out_once_and_a_different_one_is_refused() {
    let (zxids, end) = read(&[("log.1", file([1, 2, 3, 2, 3, 4]))], 0).unwrap();
    assert_eq!((zxids, end.repeated), (vec![1, 2, 3, 4], 2));
    let (zxids, end) = read(&[("log.1", file(1..=4)), ("log.3", file(3..=6))], 0).unwrap();
    assert_eq!((zxids, end.repeated), (vec![1, 2, 3, 4, 5, 6], 2));
    // Java logs a request it cannot decode under the zxid of the txn before.
    let mut bytes = file(1..=2)[..record_offset(2)].to_vec();
    record::encode(&mut bytes, &entry_with(2, Txn::Error { code: -5 }));
    bytes.extend(record(3));
    let (zxids, end) = read(&[("log.1", padded(bytes.clone()))], 0).unwrap();
    assert_eq!((zxids, end.repeated), (vec![1, 2, 3], 1));
    let at = bytes.len();
    record::encode(
        &mut bytes,
        &entry_with(
            3,
            Txn::Delete {
                path: "/znode1".to_owned(),
                by_server: false,
            },
        ),
    );
    check_refused(&[("log.1", padded(bytes.clone()))], "log.1", at, "a second time");
}

#[test]
fn order_is_the_next_counter_or_the_first_of_a_later_epoch() {
    assert!(follows(Zxid(0), Zxid(1)) && follows(Zxid(7), Zxid(8)));
    assert!(follows(Zxid::new(5, 0), Zxid::new(5, 1)) && follows(Zxid::new(5, 9), Zxid::new(7, 1)));
    assert!(!follows(Zxid(7), Zxid(7)) && !follows(Zxid(7), Zxid(9)) && !follows(Zxid(7), Zxid(6)));
    assert!(!follows(Zxid::new(5, 9), Zxid::new(6, 2)) && !follows(Zxid::new(5, 9), Zxid::new(4, 1)));
    assert!(!follows(Zxid::new(5, u32::MAX), Zxid::new(6, 0)));
}

#[test]
fn records_longer_than_what_is_read_at_once_are_whole() {
    let disk = SimDisk::new(1);
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir("version-2").unwrap();
    let mut log = crate::TxnLog::new(
        shared.clone(),
        crate::LogSettings::default(),
        ReadLimits::default(),
        Zxid(0),
        Box::new(|| Duration::ZERO),
    );
    let lengths = [10, 300_000, 255_990, 262_144, 1, 3_000_000, 2_000_000, 5];
    for (zxid, length) in (1..).zip(lengths) {
        let data: Vec<u8> = (0..length).map(|i: u32| (i % 251) as u8).collect();
        let txn = Txn::SetData {
            path: "/a".to_owned(),
            data: Some(data.into()),
            version: 1,
        };
        log.append(Zxid(zxid), &entry_with(zxid, txn)).unwrap();
    }
    log.commit().unwrap();
    let mut reader = LogReader::open(shared, ReadLimits::default(), Zxid(0)).unwrap();
    for length in lengths {
        let found = reader.next_entry().unwrap().unwrap();
        assert_eq!(found.bytes.len(), 32 + 4 + 2 + 4 + length as usize + 4);
    }
    assert!(reader.next_entry().unwrap().is_none());
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any damage of one stretch of a log either leaves a prefix of the txns, or is refused; txns are never
        /// invented, reordered or skipped.
        #[test]
        fn damage_leaves_a_prefix_or_is_refused(
            at in 0usize..700, damage in prop::collection::vec(any::<u8>(), 1..60), cut in prop::option::of(0usize..900),
        ) {
            let mut bytes = file(1..=8);
            bytes.truncate(1200);
            bytes[at..at + damage.len()].copy_from_slice(&damage);
            if let Some(cut) = cut {
                bytes.truncate(cut);
            }
            if let Ok((zxids, _)) = read(&[("log.1", bytes)], 0) {
                prop_assert_eq!(&zxids, &(1..=zxids.len() as i64).collect::<Vec<_>>());
            }
        }

        /// No bytes make the reader panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600), has_header: bool) {
            let bytes = if has_header { [&FILE_HEADER[..], &bytes].concat() } else { bytes };
            let _ = read(&[("log.1", bytes)], 0);
        }
    }
}
