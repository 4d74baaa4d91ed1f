use oxkeeper_types::{SessionId, TxnHeader, Zxid};

use super::*;

const TEXT: &str = "server.1=a:2888:3888:participant;0.0.0.0:2181\nserver.2=[::1]:2888:3888:observer\n\
                    server.3=b:1:2|c:3:4:participant;h:5\nversion=100000002";

#[test]
fn a_list_is_written_as_it_was_read() {
    let membership = Membership::parse(TEXT).unwrap();
    assert_eq!(membership.text(), TEXT);
    assert_eq!(membership.version, 0x1_0000_0002);
    assert_eq!(membership.of_role(true), [ServerId(2)].into());
    let configuration = membership.configuration().unwrap();
    assert_eq!(configuration_text(&configuration), TEXT);
    assert_eq!(configuration.quorum.voters(), &[1, 3].map(ServerId).into());
    assert_eq!(configuration.places[&ServerId(3)], "b:1|c:3");
    assert_eq!(read_configuration(TEXT.as_bytes()), Ok(Some(configuration)));
}

#[test]
fn groups_and_weights_are_kept() {
    let lines = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\ngroup.1=1\ngroup.2=2\nweight.1=1\nweight.2=3\n";
    let membership = Membership::parse(lines).unwrap();
    assert_eq!(membership.list(), lines);
    let quorum = membership.quorum().unwrap();
    assert!(
        !quorum.contains_quorum(&[ServerId(2)].into()),
        "both groups are needed"
    );
}

#[test]
fn what_java_lists_of_strangers_is_passed_over() {
    let text = "server.1=a:1:2:participant\nserver.2=b:1:2:observer\ngroup.1=1:2\nweight.2=1\nversion=0";
    let read = read_configuration(text.as_bytes()).unwrap().unwrap();
    assert!(read.quorum.contains_quorum(&[ServerId(1)].into()));

    // A whole group of them as well; what is left is written so that it can be read.
    let text = "server.1=a:1:2:participant\nserver.2=b:1:2:observer\ngroup.1=1\ngroup.2=2\nversion=0";
    let read = read_configuration(text.as_bytes()).unwrap().unwrap();
    assert!(read.quorum.contains_quorum(&[ServerId(1)].into()));
    let again = read_configuration(configuration_text(&read).as_bytes());
    assert_eq!(
        again.map(|again| again.map(|again| again.list)),
        Ok(Some(read.list))
    );
}

#[test]
fn lists_with_something_wrong_are_refused_and_empty_ones_tell_nothing() {
    for (text, what) in [
        ("server.1=a:1:2\nclientPort=2181", "no place"),
        ("server.1=a:1", "is not host"),
        ("server.x=a:1:2", "server number"),
        ("server.1=a:1:2\nversion=zz", "no version"),
        ("server.1=a:1:2\nversion=ffffffffffffffff", "no version"),
        ("nonsense", "no key=value"),
        ("server.1=a:1:2:participant\ngroup.1=7", "server 1 is in no group"),
    ] {
        let error = read_configuration(text.as_bytes()).expect_err(text);
        assert!(error.contains(what), "{text}: {error}");
    }
    assert_eq!(read_configuration(b"version=0"), Ok(None));
    let many: String = (0..=SERVERS_MAX)
        .map(|id| format!("server.{id}=a:1:2\n"))
        .collect();
    assert!(Membership::parse(&many).is_err());
}

#[test]
fn a_reconfig_txn_is_seen_among_others() {
    let zxid = Zxid::new(2, 5);
    let entry = |txn: &Txn| {
        let header = TxnHeader {
            session: SessionId(7),
            cxid: 1,
            zxid,
            time: 3,
        };
        let mut bytes = Vec::new();
        wire::encode_txn_entry(&mut bytes, &header, txn, None);
        Entry {
            zxid,
            txn: bytes.into(),
        }
    };
    let data = Some(TEXT.as_bytes().into());
    let (path, version) = (CONFIG_PATH.to_owned(), -1);
    let reconfig = Txn::Reconfig { path, data, version };
    let found = find_configuration(&entry(&reconfig)).expect("it is one");
    assert_eq!((found.version, found.quorum.voters().len()), (zxid.0, 2));
    let (path, data) = (CONFIG_PATH.to_owned(), Some(TEXT.as_bytes().into()));
    let set_data = Txn::SetData { path, data, version };
    assert_eq!(find_configuration(&entry(&set_data)), None);
    assert_eq!(find_configuration(&entry(&Txn::Error { code: -1 })), None);
}
