//! Bytes of Java ZooKeeper 3.9.6 (golden/, made by golden/Recorder.java) against our decoders and encoders:
//! each record means what Java meant, and encodes to the same bytes.

mod records;
mod session;
mod storage;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use oxkeeper_wire::Encoder;

/// The lines of a golden file, and which of them a test has looked at.
struct Golden {
    lines: BTreeMap<String, Vec<u8>>,
    /// In the order of the file.
    names: Vec<String>,
    seen: RefCell<BTreeSet<String>>,
}

impl Golden {
    fn load(text: &str) -> Golden {
        let mut golden = Golden {
            lines: BTreeMap::new(),
            names: Vec::new(),
            seen: RefCell::default(),
        };
        for line in text.lines() {
            let (name, hex) = line.split_once(' ').expect("a name and bytes");
            let bytes = (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
                .collect();
            golden.names.push(name.to_owned());
            assert!(
                golden.lines.insert(name.to_owned(), bytes).is_none(),
                "{name} is there once"
            );
        }
        golden
    }

    fn bytes(&self, name: &str) -> &[u8] {
        self.seen.borrow_mut().insert(name.to_owned());
        self.lines.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// That every line was looked at that is `mine`.
    fn assert_seen(&self, mine: impl Fn(&str) -> bool) {
        let seen = self.seen.borrow();
        let missed: Vec<&String> = self
            .names
            .iter()
            .filter(|name| mine(name) && !seen.contains(*name))
            .collect();
        assert!(missed.is_empty(), "nobody looked at {missed:?}");
    }
}

fn encoded(encode: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut Encoder::new(&mut bytes));
    bytes
}
