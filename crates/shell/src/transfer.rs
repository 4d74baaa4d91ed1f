//! Copies of subtrees: to another place, into a file, out of a file.
//!
//! A file has one JSON object per line (docs/shell.md, "The format of exports"): a head, one line per znode with its
//! path below the root, data and ACL, each behind its parent, and an end with their number.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use oxkeeper_types::ROOT_PATH;
use serde_json::{Value, json};
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, Error};

use crate::acl::{acl_json, parse_permissions};
use crate::command::IfExists;
use crate::failure::{Failure, Outcome};
use crate::output::Output;
use crate::progress::Progress;
use crate::text::{escape, insert_data, json_line};
use crate::walk::{MayBeLost, REQUESTS_AT_ONCE, acl_again, checked, children_of, or_again};

const FORMAT: &str = "oxkeeper-export";
const FORMAT_VERSION: u64 = 1;
/// The longest line an import takes; the largest znode of a server with the usual limits needs a tenth of it.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// How much data an import has under way at once, but for the last znode of it.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A znode on its way.
struct Znode {
    /// The path below the root of the subtree: empty for the root itself, else with a leading slash.
    below: String,
    data: Vec<u8>,
    acl: Vec<Acl>,
}

/// Reads a subtree, some znodes at a time, each behind its parent. Ephemerals belong to their sessions and are left out.
struct Source<'a> {
    client: &'a Client,
    root: &'a str,
    /// Paths below the root that are still to be read, the next ones last.
    open: Vec<String>,
    ephemerals: u64,
    /// Znodes whose ACL the server showed without its password hashes.
    hidden_digests: u64,
}

impl<'a> Source<'a> {
    fn new(client: &'a Client, root: &'a str) -> Source<'a> {
        Source {
            client,
            root,
            open: vec![String::new()],
            ephemerals: 0,
            hidden_digests: 0,
        }
    }

    /// How many znodes there are, if the server can count them.
    async fn count(&self) -> Option<u64> {
        let below = self.client.count_descendants_number(self.root).await.ok()?;
        Some(below as u64 + 1)
    }

    /// The next znodes; none at the end.
    async fn next(&mut self) -> Outcome<Vec<Znode>> {
        let first = self.open.len().saturating_sub(REQUESTS_AT_ONCE);
        let mut batch = self.open.split_off(first);
        batch.reverse();
        let paths: Vec<String> = batch.iter().map(|below| joined(self.root, below)).collect();
        let asked: Vec<_> = paths
            .iter()
            .map(|path| (self.client.get_data(path), self.client.get_acl(path)))
            .collect();
        let names = children_of(self.client, &paths).await?;
        let mut znodes = Vec::with_capacity(batch.len());
        let mut children = Vec::new();
        for (((below, path), (data, acl)), names) in batch.into_iter().zip(&paths).zip(asked).zip(names) {
            let data = or_again(data.await, || self.client.get_data(path)).await;
            let acl = or_again(acl.await, || self.client.get_acl(path)).await;
            let found = match (data, acl) {
                (Ok(data), Ok(acl)) => Ok((data, acl)),
                (Err(error), _) | (_, Err(error)) => Err(error),
            };
            let ((data, stat), (acl, _)) = match found {
                Ok(found) => found,
                Err(Error::NoNode) if !below.is_empty() => continue,
                Err(error) => return Err(Failure::of(&error, path)),
            };
            if stat.ephemeral_owner != 0 && !below.is_empty() {
                self.ephemerals += 1;
                continue;
            }
            if acl
                .iter()
                .any(|entry| entry.scheme() == "digest" && entry.id().ends_with(":x"))
            {
                self.hidden_digests += 1;
            }
            let mut names = names.unwrap_or_default();
            names.sort();
            let reserved = path == ROOT_PATH;
            children.extend(
                names
                    .iter()
                    .filter(|name| !(reserved && *name == "zookeeper"))
                    .map(|name| format!("{below}/{name}")),
            );
            znodes.push(Znode { below, data, acl });
        }
        self.open.extend(children.into_iter().rev());
        Ok(znodes)
    }

    fn tell(&self, output: Output) {
        if self.ephemerals > 0 {
            output.note(&format!(
                "{} ephemerals were left out: they belong to their sessions",
                self.ephemerals
            ));
        }
        if self.hidden_digests > 0 {
            output.note(&format!(
                "{} znodes have ACLs whose password hashes the server shows only to their administrators; `addauth` first",
                self.hidden_digests
            ));
        }
    }
}

fn joined(root: &str, below: &str) -> String {
    match (root, below) {
        (ROOT_PATH, "") => ROOT_PATH.to_owned(),
        (ROOT_PATH, below) => below.to_owned(),
        (root, below) => format!("{root}{below}"),
    }
}

/// Makes a subtree.
struct Target<'a> {
    client: &'a Client,
    root: &'a str,
    if_exists: IfExists,
    made: u64,
    existed: u64,
}

impl Target<'_> {
    /// Makes znodes, all asked for at once; parents come first, and a server does one session's requests in order.
    ///
    /// What is lost with its connection may be done. Where it may be done twice it is asked again; else one would not
    /// know whose the znode is that exists then.
    async fn put(&mut self, znodes: &[Znode]) -> Outcome {
        let paths: Vec<String> = znodes
            .iter()
            .map(|znode| joined(self.root, &znode.below))
            .collect();
        let client = self.client;
        let mut asked = Vec::with_capacity(znodes.len());
        for (znode, path) in znodes.iter().zip(&paths) {
            // The root of the tree exists; the client does not even ask.
            let exists = path == ROOT_PATH;
            asked.push((!exists).then(|| create(client, path, znode)));
        }
        let mut is_any_lost = false;
        for ((znode, path), answer) in znodes.iter().zip(&paths).zip(asked) {
            let mut answer = match answer {
                Some(answer) => answer.await,
                None => Err(Error::NodeExists),
            };
            if self.if_exists != IfExists::Fail {
                is_any_lost |= answer.as_ref().is_err_and(MayBeLost::is_lost);
                // What the client had not sent yet it sent over the next connection, before its lost parent was
                // asked for again.
                if is_any_lost && answer == Err(Error::NoNode) {
                    answer = create(client, path, znode).await;
                }
                answer = or_again(answer, || create(client, path, znode)).await;
                // Servers look first whether one may create there, then whether it exists.
                if answer == Err(Error::NoAuth) && self.exists(path).await? {
                    answer = Err(Error::NodeExists);
                }
            }
            match (answer, self.if_exists) {
                (Ok(()), _) => self.made += 1,
                (Err(Error::NodeExists), IfExists::Keep) => self.existed += 1,
                (Err(Error::NodeExists), IfExists::Overwrite) => {
                    self.overwrite(path, znode).await?;
                    self.existed += 1;
                }
                (Err(error), _) => return Err(self.failure(&error, path)),
            }
        }
        Ok(())
    }

    async fn exists(&self, path: &str) -> Outcome<bool> {
        let ask = || self.client.check_stat(path);
        let found = or_again(ask().await, ask).await;
        Ok(found.map_err(|error| self.failure(&error, path))?.is_some())
    }

    /// The ACL first, so that the new data is never open to those whom only the old ACL let in.
    async fn overwrite(&self, path: &str, znode: &Znode) -> Outcome {
        let failure = |error: Error| self.failure(&error, path);
        let set = self.client.set_acl(path, &znode.acl, None).await.map(drop);
        let set = acl_again(self.client, path, &znode.acl, set).await;
        set.map_err(failure)?;
        let set_data = || self.client.set_data(path, &znode.data, None);
        or_again(set_data().await, set_data).await.map_err(|error| match error {
            Error::NoAuth => self.failure(&error, path).hint(
                "it has the new ACL, which does not let you write, and the old data; `addauth` may, then run this again",
            ),
            error => self.failure(&error, path),
        })?;
        Ok(())
    }

    fn failure(&self, error: &Error, path: &str) -> Failure {
        let failure = Failure::of(error, path);
        let so_far = match self.existed {
            0 => format!("{} znodes were made before", self.made),
            existed => format!(
                "{} znodes were made and {existed} {} before",
                self.made,
                self.done_to_existing()
            ),
        };
        // With -k an -o that broke off would leave the rest as it was.
        let option = match self.if_exists {
            IfExists::Overwrite => "-o",
            IfExists::Fail | IfExists::Keep => "-k",
        };
        match error {
            Error::NodeExists => {
                failure.hint(format!("{so_far}; -k keeps what exists and goes on, -o overwrites it"))
            }
            Error::NoNode if path == self.root => {
                failure.hint("its parent is missing; `create` makes it, then run this again")
            }
            Error::NoAuth => failure.hint(format!(
                "{so_far}; an ACL does not let you, its own or that of its parent: `addauth` may, and {option} goes on from here"
            )),
            _ => failure.hint(format!("{so_far}; run it again with {option} to go on")),
        }
    }

    fn done_to_existing(&self) -> &'static str {
        match self.if_exists {
            IfExists::Overwrite => "overwritten",
            IfExists::Fail | IfExists::Keep => "kept",
        }
    }

    fn tell(&self, output: Output, what: &str) -> Outcome {
        let mut text = format!("{what} {} znodes to {}", self.made, escape(self.root));
        if self.existed > 0 {
            text += &format!(", {} existed and were {}", self.existed, self.done_to_existing());
        }
        output.result(
            &text,
            &json!({ "path": self.root, "created": self.made, "existed": self.existed }),
        )
    }
}

/// Asks for a znode to be made, when called, not when awaited.
fn create<'a>(
    client: &'a Client,
    path: &'a str,
    znode: &Znode,
) -> impl Future<Output = Result<(), Error>> + use<'a> {
    let options = CreateMode::Persistent.with_acls(Acls::new(&znode.acl));
    let asked = client.create(path, &znode.data, &options);
    async { asked.await.map(|_| ()) }
}

/// Copies a subtree.
pub(crate) async fn copy(
    client: &Client,
    output: Output,
    from: &str,
    to: &str,
    if_exists: IfExists,
) -> Outcome {
    let below = to
        .strip_prefix(from)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || from == ROOT_PATH);
    if below {
        return Err(Failure::new(
            "BadArguments",
            format!("{} is inside {}", escape(to), escape(from)),
        )
        .hint("a copy inside its own source would never end; choose another target"));
    }
    let mut source = Source::new(client, from);
    let mut target = Target {
        client,
        root: to,
        if_exists,
        made: 0,
        existed: 0,
    };
    let mut progress = Progress::new(output, "copied", source.count().await);
    loop {
        let znodes = source.next().await?;
        // A batch may consist of ephemerals alone.
        if znodes.is_empty() && source.open.is_empty() {
            break;
        }
        target.put(&znodes).await?;
        progress.add(znodes.len() as u64);
    }
    progress.finish();
    source.tell(output);
    target.tell(output, "copied")
}

fn file_failure(file: &str, doing: &str, error: &io::Error) -> Failure {
    let failure = Failure::new("File", format!("{} cannot be {doing}: {error}", escape(file)));
    match error.kind() {
        io::ErrorKind::AlreadyExists => failure.hint("-f replaces it"),
        io::ErrorKind::NotFound => {
            failure.hint("name a file in a directory that exists; - is stdin or stdout")
        }
        _ => failure.hint("is there room, and may you? - is stdin or stdout"),
    }
}

/// Where an export goes. A file gets its name when it is complete.
enum Sink {
    Stdout(io::Stdout),
    File {
        writer: BufWriter<File>,
        unfinished: PathBuf,
        name: PathBuf,
        overwrite: bool,
    },
}

impl Sink {
    fn open(file: &str, overwrite: bool) -> io::Result<Sink> {
        if file == "-" {
            return Ok(Sink::Stdout(io::stdout()));
        }
        let name = PathBuf::from(file);
        if !overwrite && name.symlink_metadata().is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let mut unfinished = name.clone().into_os_string();
        unfinished.push(format!(".{}.unfinished", std::process::id()));
        let unfinished = PathBuf::from(unfinished);
        let writer = BufWriter::new(File::create_new(&unfinished)?);
        Ok(Sink::File {
            writer,
            unfinished,
            name,
            overwrite,
        })
    }

    fn line(&mut self, value: &Value) -> io::Result<()> {
        let line = json_line(value);
        match self {
            Sink::Stdout(stdout) => writeln!(stdout, "{line}"),
            Sink::File { writer, .. } => writeln!(writer, "{line}"),
        }
    }

    fn finish(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(stdout) => stdout.flush(),
            Sink::File {
                writer,
                unfinished,
                name,
                overwrite,
            } => {
                writer.flush()?;
                writer.get_ref().sync_all()?;
                if *overwrite {
                    fs::rename(&unfinished, &name)
                } else {
                    // Unlike a rename, a link fails when somebody made a file of that name meanwhile.
                    fs::hard_link(&unfinished, &name)
                }
            }
        }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        if let Sink::File { unfinished, .. } = self {
            // After a rename there is none.
            let _ = fs::remove_file(unfinished);
        }
    }
}

/// Writes a subtree into a file.
pub(crate) async fn export(
    client: &Client,
    output: Output,
    file: &str,
    root: &str,
    overwrite: bool,
) -> Outcome {
    let failure = |error: io::Error| match file {
        "-" => Failure::output(&error),
        file => file_failure(file, "written", &error),
    };
    let mut source = Source::new(client, root);
    let first = source.next().await?;
    let mut sink = Sink::open(file, overwrite).map_err(failure)?;
    let mut progress = Progress::new(output, "exported", source.count().await);
    sink.line(&json!({ "format": FORMAT, "version": FORMAT_VERSION, "root": root }))
        .map_err(failure)?;
    let (mut znodes, mut count) = (first, 0_u64);
    while !(znodes.is_empty() && source.open.is_empty()) {
        for znode in &znodes {
            sink.line(&znode_json(znode)).map_err(failure)?;
        }
        count += znodes.len() as u64;
        progress.add(znodes.len() as u64);
        znodes = source.next().await?;
    }
    sink.line(&json!({ "znodes": count })).map_err(failure)?;
    sink.finish().map_err(failure)?;
    progress.finish();
    source.tell(output);
    let told = format!(
        "exported {count} znodes from {} to {}",
        escape(root),
        escape(file)
    );
    if file == "-" {
        output.note(&told);
        return Ok(());
    }
    output.result(&told, &json!({ "path": root, "file": file, "znodes": count }))
}

fn znode_json(znode: &Znode) -> Value {
    let mut value = json!({ "path": znode.below, "acl": acl_json(&znode.acl) });
    insert_data(&mut value, &znode.data);
    value
}

/// A line of an export.
enum Line {
    Znode(Znode),
    End,
}

/// Reads what [`export`] wrote, and says of what is wrong in which line it is.
struct Reader<R> {
    input: R,
    line: u64,
    znodes: u64,
    bytes: u64,
}

impl<R: BufRead> Reader<R> {
    fn new(input: R) -> Outcome<Reader<R>> {
        let mut reader = Reader {
            input,
            line: 0,
            znodes: 0,
            bytes: 0,
        };
        let head = reader.value()?;
        if head["format"] != FORMAT {
            return Err(reader.wrong("this is not the head of an export"));
        }
        if head["version"] != FORMAT_VERSION {
            return Err(reader.wrong("this version of the format is not known; a newer oxkeeper may know it"));
        }
        Ok(reader)
    }

    fn wrong(&self, what: &str) -> Failure {
        Failure::new("Format", format!("line {}: {what}", self.line))
            .hint("import takes files that `export` wrote; docs/shell.md has the format")
    }

    fn value(&mut self) -> Outcome<Value> {
        self.line += 1;
        let mut bytes = Vec::new();
        let length = (&mut self.input)
            .take(LINE_BYTES_MAX + 1)
            .read_until(b'\n', &mut bytes)
            .map_err(|error| self.wrong(&format!("it cannot be read: {error}")))?;
        self.bytes += length as u64;
        if length == 0 {
            return Err(self.wrong("the file ends here, before its end mark; the export was cut off"));
        }
        if length as u64 > LINE_BYTES_MAX {
            return Err(self.wrong(&format!("it is longer than {LINE_BYTES_MAX} bytes")));
        }
        serde_json::from_slice(&bytes).map_err(|error| self.wrong(&format!("it is not JSON: {error}")))
    }

    fn next(&mut self) -> Outcome<Line> {
        let value = self.value()?;
        if let Some(count) = value.get("znodes") {
            if *count != self.znodes {
                return Err(self.wrong(&format!(
                    "the end mark counts {count} znodes and {} came",
                    self.znodes
                )));
            }
            return Ok(Line::End);
        }
        let below = value["path"]
            .as_str()
            .ok_or_else(|| self.wrong("it has no path"))?
            .to_owned();
        if below.is_empty() != (self.znodes == 0) {
            return Err(self.wrong("the first znode, and no other, is the root with an empty path"));
        }
        if !below.is_empty() {
            checked(below.clone()).map_err(|failure| self.wrong(&failure.message))?;
        }
        let data = match (value["data"].as_str(), value["base64"].as_str()) {
            (Some(text), None) => text.as_bytes().to_vec(),
            (None, Some(text)) => BASE64
                .decode(text)
                .map_err(|error| self.wrong(&format!("its base64 is wrong: {error}")))?,
            _ => return Err(self.wrong("it must have data or base64")),
        };
        let entries = value["acl"].as_array().filter(|acl| !acl.is_empty());
        let mut acl = Vec::new();
        for entry in entries.ok_or_else(|| self.wrong("it has no acl"))? {
            let part = |name: &str| entry[name].as_str();
            let (Some(scheme), Some(id), Some(perms)) = (part("scheme"), part("id"), part("perms")) else {
                return Err(self.wrong("an entry of its acl must have scheme, id and perms"));
            };
            let permission =
                parse_permissions(perms).ok_or_else(|| self.wrong("its perms must be letters of cdrwa"))?;
            acl.push(Acl::new(permission, AuthId::new(scheme, id)));
        }
        self.znodes += 1;
        Ok(Line::Znode(Znode { below, data, acl }))
    }
}

/// Makes a subtree out of a file. A file is checked as a whole first; stdin and pipes cannot be.
pub(crate) async fn import(
    client: &Client,
    output: Output,
    file: &str,
    root: &str,
    if_exists: IfExists,
) -> Outcome {
    let failure = |error: io::Error| file_failure(file, "read", &error);
    let (input, size): (Box<dyn BufRead + Send>, Option<u64>) = if file == "-" {
        (Box::new(BufReader::new(io::stdin())), None)
    } else {
        let mut opened = File::open(Path::new(file)).map_err(failure)?;
        let found = opened.metadata().map_err(failure)?;
        if found.is_file() {
            let mut reader = Reader::new(BufReader::new(&opened))?;
            while let Line::Znode(_) = reader.next()? {}
            opened.rewind().map_err(failure)?;
        }
        let size = found.is_file().then_some(found.len());
        (Box::new(BufReader::new(opened)), size)
    };
    let mut reader = Reader::new(input)?;
    let mut target = Target {
        client,
        root,
        if_exists,
        made: 0,
        existed: 0,
    };
    let mut progress = Progress::new(output, "read bytes", size);
    let (mut batch, mut bytes) = (Vec::new(), 0);
    loop {
        let line = reader.next()?;
        let at_end = matches!(line, Line::End);
        if let Line::Znode(znode) = line {
            checked(joined(root, &znode.below))?;
            bytes += znode.data.len();
            batch.push(znode);
        }
        if at_end || batch.len() == REQUESTS_AT_ONCE || bytes >= BATCH_BYTES {
            target.put(&batch).await?;
            batch.clear();
            bytes = 0;
            progress.add(std::mem::take(&mut reader.bytes));
        }
        if at_end {
            break;
        }
    }
    progress.finish();
    target.tell(output, "imported")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = r#"{"format":"oxkeeper-export","version":1,"root":"/a"}"#;
    const OPEN: &str = r#""acl":[{"scheme":"world","id":"anyone","perms":"cdrwa"}]"#;

    fn read(lines: &[&str]) -> Outcome<Vec<Znode>> {
        let text = lines.join("\n");
        let mut reader = Reader::new(text.as_bytes())?;
        let mut znodes = Vec::new();
        while let Line::Znode(znode) = reader.next()? {
            znodes.push(znode);
        }
        Ok(znodes)
    }

    fn refused(lines: &[&str]) -> String {
        read(lines).err().expect("it is refused").message
    }

    #[test]
    fn an_export_is_read_line_by_line() {
        let (root, leaf) = (
            format!(r#"{{"path":"","data":"x",{OPEN}}}"#),
            format!(r#"{{"path":"/b","base64":"AP8=",{OPEN}}}"#),
        );
        let znodes = read(&[HEAD, &root, &leaf, r#"{"znodes":2}"#]).unwrap();
        assert_eq!(
            (znodes[1].below.as_str(), znodes[1].data.as_slice()),
            ("/b", &[0_u8, 255][..])
        );
        assert_eq!(
            acl_json(&znodes[0].acl).to_string(),
            r#"[{"id":"anyone","perms":"cdrwa","scheme":"world"}]"#
        );
    }

    #[test]
    fn what_is_not_a_whole_export_is_refused_with_its_line() {
        let root = format!(r#"{{"path":"","data":"x",{OPEN}}}"#);
        let bad_path = format!(r#"{{"path":"/../b","data":"x",{OPEN}}}"#);
        assert_eq!(refused(&["{}"]), "line 1: this is not the head of an export");
        assert!(refused(&[r#"{"format":"oxkeeper-export","version":2}"#]).contains("not known"));
        assert!(refused(&[HEAD, &root]).starts_with("line 3: the file ends here"));
        assert!(refused(&[HEAD, &root, r#"{"znodes":2}"#]).contains("counts 2 znodes and 1 came"));
        assert!(refused(&[HEAD, &root, &root]).contains("the first znode, and no other"));
        assert!(refused(&[HEAD, &root, &bad_path]).contains("must not have . or .."));
        assert!(refused(&[HEAD, r#"{"path":"","data":"x","acl":[]}"#]).contains("no acl"));
        assert!(
            refused(&[HEAD, r#"{"path":"","acl":[{"scheme":"a","id":""}],"data":""}"#])
                .contains("scheme, id and perms")
        );
        assert!(
            refused(&[
                HEAD,
                r#"{"path":"","acl":[{"scheme":"a","id":"","perms":"rx"}],"data":""}"#
            ])
            .contains("letters of cdrwa")
        );
        assert!(refused(&[HEAD, &format!(r#"{{"path":"",{OPEN}}}"#)]).contains("data or base64"));
        assert!(refused(&["nonsense"]).contains("not JSON"));
    }

    #[test]
    fn a_line_that_never_ends_is_refused() {
        let endless = BufReader::new(io::repeat(b' '));
        assert!(
            Reader::new(endless)
                .err()
                .expect("it is refused")
                .message
                .contains("longer than")
        );
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            names in proptest::collection::vec("[a-z ü]{1,9}", 0..9),
            data in proptest::collection::vec(any::<u8>(), 0..60),
            id in ".*",
            letters in proptest::sample::subsequence(vec!['c', 'd', 'r', 'w', 'a'], 0..=5),
        ) {
            let permission = parse_permissions(&letters.iter().collect::<String>()).unwrap();
            let acl = vec![Acl::new(permission, AuthId::new("x509", &id)), Acl::new(permission, AuthId::anyone())];
            let paths = std::iter::once(String::new()).chain(names.iter().map(|name| format!("/{name}")));
            let written: Vec<Znode> =
                paths.map(|below| Znode { below, data: data.clone(), acl: acl.clone() }).collect();
            let mut lines = vec![HEAD.to_owned()];
            lines.extend(written.iter().map(|znode| json_line(&znode_json(znode))));
            lines.push(json!({ "znodes": written.len() }).to_string());
            let read = read(&lines.iter().map(String::as_str).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(read.len(), written.len());
            for (read, written) in read.iter().zip(&written) {
                prop_assert_eq!(&read.below, &written.below);
                prop_assert_eq!(&read.data, &written.data);
                prop_assert_eq!(&read.acl, &written.acl);
            }
        }

        #[test]
        fn no_file_makes_the_reader_panic(text in "(.|\n){0,200}", data in proptest::collection::vec(any::<u8>(), 0..99)) {
            let _ = read(&[HEAD, &text]);
            let _ = Reader::new(data.as_slice());
        }
    }
}
