//! A disk in memory that keeps only what it must, for tests and the simulator. All chance comes from one seed.
//!
//! What it does to those who trust too much:
//!
//! - A crash of the machine ([`SimDisk::crash`]) loses what was not synced: of each file the changes survive up to
//!   a random one, and a write that is hit survives up to a random byte, although the length the file was given
//!   later may already be there. The same for names in a directory that was not synced.
//! - The power can go at a given operation ([`SimDisk::cut_power_after`]), so that every point can be tried.
//! - A sync can fail ([`SimDisk::fail_sync_after`]); as on Linux, what was written is then lost for good, though
//!   it can still be read until the crash and later syncs succeed. (New lengths and names are not lost: they are
//!   in the journal of a file system.)
//! - Writes can find no space ([`SimDisk::set_free_bytes`]), and leave a part of what they were given.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, EntryKind, OpenMode};

/// See the module documentation. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    random: fastrand::Rng,
    /// How often machine or process have ended; what was opened before is of no use any more.
    life: u64,
    /// The names as a process sees them.
    names: BTreeMap<String, Node>,
    /// The names as they are after a crash, if none of the changes survives.
    durable_names: BTreeMap<String, Node>,
    name_changes: Vec<NameChange>,
    /// Files by number; one without a name is kept until a crash because it may be open, or come back.
    files: Vec<File>,
    free_bytes: Option<u64>,
    syncs_until_failure: Option<u64>,
    changes_until_power_cut: Option<u64>,
    changes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Directory,
    File(usize),
}

impl Node {
    fn file(&self) -> Option<usize> {
        match *self {
            Node::File(file) => Some(file),
            Node::Directory => None,
        }
    }
}

#[derive(Debug)]
enum NameChange {
    Make(String, Node),
    Remove(String),
    Rename(String, String),
}

#[derive(Debug, Default)]
struct File {
    content: Vec<u8>,
    durable: Vec<u8>,
    /// What leads from `durable` to `content`, unless a sync failed.
    changes: Vec<ContentChange>,
}

#[derive(Debug)]
enum ContentChange {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

impl SimDisk {
    /// An empty disk. The same seed and the same calls give the same disk.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk {
            root: PathBuf::from("/sim"),
            state: Arc::new(Mutex::new(State {
                random: fastrand::Rng::with_seed(seed),
                life: 0,
                names: BTreeMap::new(),
                durable_names: BTreeMap::new(),
                name_changes: Vec::new(),
                files: Vec::new(),
                free_bytes: None,
                syncs_until_failure: None,
                changes_until_power_cut: None,
                changes: 0,
            })),
        }
    }

    /// The machine loses power and starts again: open files are dead, what was not synced is lost in part or
    /// whole, and no fault is planned any more.
    pub fn crash(&self) {
        let state = &mut *self.lock();
        state.end_life();
        let changes = std::mem::take(&mut state.name_changes);
        // Each directory keeps a prefix of its changes.
        let mut kept: BTreeMap<String, usize> = BTreeMap::new();
        for change in &changes {
            *kept.entry(parent(change.path()).to_owned()).or_default() += 1;
        }
        for count in kept.values_mut() {
            *count = state.random.usize(0..=*count);
        }
        for change in changes {
            if let Some(count) = kept.get_mut(parent(change.path()))
                && *count > 0
            {
                *count -= 1;
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let names = state.names.clone();
        state.names.retain(|path, _| {
            std::iter::successors(Some(parent(path)), |&dir| (!dir.is_empty()).then(|| parent(dir)))
                .all(|dir| dir.is_empty() || names.get(dir) == Some(&Node::Directory))
        });
        state.durable_names = state.names.clone();
        let named: BTreeSet<usize> = state.names.values().filter_map(|node| node.file()).collect();
        for (number, file) in state.files.iter_mut().enumerate() {
            if named.contains(&number) {
                file.lose_some(&mut state.random);
                file.content.clone_from(&file.durable);
            } else {
                *file = File::default();
            }
        }
    }

    /// The process ends, the machine goes on: open files are dead, nothing is lost.
    pub fn kill_process(&self) {
        self.lock().end_life();
    }

    /// The sync after `count` further ones fails, of a file or a directory.
    pub fn fail_sync_after(&self, count: u64) {
        self.lock().syncs_until_failure = Some(count);
    }

    /// After `count` further changes and syncs everything fails until [`SimDisk::crash`].
    pub fn cut_power_after(&self, count: u64) {
        self.lock().changes_until_power_cut = Some(count);
    }

    /// How many changes and syncs there have been.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// How many bytes can still be written; `None` for any number.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.lock().free_bytes = bytes;
    }

    /// The content of a file as a process sees it.
    pub fn content(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        let file = state.file_number(path).ok()?;
        Some(state.files[file].content.clone())
    }

    /// Gives a file a content, durably; for damage, and for files from elsewhere.
    pub fn put(&self, path: &str, content: &[u8]) {
        let state = &mut *self.lock();
        let file = state.files.len();
        state.files.push(File {
            content: content.to_vec(),
            durable: content.to_vec(),
            changes: Vec::new(),
        });
        for names in [&mut state.names, &mut state.durable_names] {
            let mut dir = parent(path);
            while !dir.is_empty() {
                names.insert(dir.to_owned(), Node::Directory);
                dir = parent(dir);
            }
            names.insert(path.to_owned(), Node::File(file));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory a path is in.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(dir, _)| dir)
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no {path}"))
}

impl State {
    fn end_life(&mut self) {
        self.life += 1;
        self.syncs_until_failure = None;
        self.changes_until_power_cut = None;
    }

    /// To be called before each change and sync.
    fn count_change(&mut self) -> io::Result<()> {
        match &mut self.changes_until_power_cut {
            Some(0) => return Err(io::Error::other("the power is off")),
            Some(left) => *left -= 1,
            None => {}
        }
        self.changes += 1;
        Ok(())
    }

    fn count_sync(&mut self) -> io::Result<bool> {
        self.count_change()?;
        match &mut self.syncs_until_failure {
            Some(0) => {
                self.syncs_until_failure = None;
                Ok(false)
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    fn file_number(&self, path: &str) -> io::Result<usize> {
        match self.names.get(path) {
            Some(&Node::File(file)) => Ok(file),
            Some(Node::Directory) => Err(io::Error::from(io::ErrorKind::IsADirectory)),
            None => Err(not_found(path)),
        }
    }

    fn change_name(&mut self, change: NameChange) -> io::Result<()> {
        self.count_change()?;
        change.apply(&mut self.names);
        self.name_changes.push(change);
        Ok(())
    }

    fn require_directory(&self, dir: &str) -> io::Result<()> {
        match self.names.get(dir) {
            _ if dir.is_empty() => Ok(()),
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
            None => Err(not_found(dir)),
        }
    }
}

impl NameChange {
    /// A path in the directory that changes; renames stay in one.
    fn path(&self) -> &str {
        match self {
            NameChange::Make(path, _) | NameChange::Remove(path) | NameChange::Rename(path, _) => path,
        }
    }

    fn apply(&self, names: &mut BTreeMap<String, Node>) {
        match self {
            NameChange::Make(path, node) => {
                names.insert(path.clone(), *node);
            }
            NameChange::Remove(path) => {
                names.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(node) = names.remove(from) {
                    names.insert(to.clone(), node);
                }
            }
        }
    }
}

impl ContentChange {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            ContentChange::Write(offset, bytes) => {
                let end = offset + bytes.len();
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[*offset..end].copy_from_slice(bytes);
            }
            ContentChange::SetLen(length) => content.resize(*length, 0),
        }
    }
}

impl File {
    fn change(&mut self, change: ContentChange) {
        change.apply(&mut self.content);
        self.changes.push(change);
    }

    /// Makes a random part of the changes durable and forgets the others.
    fn lose_some(&mut self, random: &mut fastrand::Rng) {
        let changes = std::mem::take(&mut self.changes);
        let survivors = random.usize(0..=changes.len());
        for change in &changes[..survivors] {
            change.apply(&mut self.durable);
        }
        if let Some(ContentChange::Write(offset, bytes)) = changes.get(survivors) {
            let part = bytes[..random.usize(0..=bytes.len())].to_vec();
            ContentChange::Write(*offset, part).apply(&mut self.durable);
        }
        for change in &changes[survivors..] {
            // A new length is in another place of the disk than the content, and may be there first.
            if let ContentChange::SetLen(length) = change
                && *length > self.durable.len()
                && random.bool()
            {
                change.apply(&mut self.durable);
            }
        }
    }
}

impl Disk for SimDisk {
    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.lock();
        state.require_directory(dir)?;
        let names = state.names.keys().filter(|path| parent(path) == dir);
        Ok(names
            .map(|path| path.rsplit('/').next().unwrap_or_default().to_owned())
            .collect())
    }

    fn kind(&self, path: &str) -> io::Result<Option<EntryKind>> {
        Ok(match self.lock().names.get(path) {
            _ if path.is_empty() => Some(EntryKind::Directory),
            Some(Node::Directory) => Some(EntryKind::Directory),
            Some(Node::File(_)) => Some(EntryKind::File),
            None => None,
        })
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let state = &mut *self.lock();
        let file = match (state.file_number(path), mode) {
            (Ok(file), OpenMode::Create) => {
                state.count_change()?;
                state.files[file].change(ContentChange::SetLen(0));
                file
            }
            (Err(error), OpenMode::Create) if error.kind() == io::ErrorKind::NotFound => {
                state.require_directory(parent(path))?;
                let file = state.files.len();
                state.change_name(NameChange::Make(path.to_owned(), Node::File(file)))?;
                state.files.push(File::default());
                file
            }
            (file, _) => file?,
        };
        Ok(Box::new(SimFile {
            state: self.state.clone(),
            file,
            life: state.life,
            is_writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let state = &mut *self.lock();
        let mut end = 0;
        while end < dir.len() {
            end = dir[end + 1..].find('/').map_or(dir.len(), |at| end + 1 + at);
            let path = &dir[..end];
            if state.names.get(path) != Some(&Node::Directory) {
                state.require_directory(parent(path))?;
                state.change_name(NameChange::Make(path.to_owned(), Node::Directory))?;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        assert_eq!(parent(from), parent(to), "names change within one directory");
        let state = &mut *self.lock();
        state.file_number(from)?;
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let state = &mut *self.lock();
        state.file_number(path)?;
        state.change_name(NameChange::Remove(path.to_owned()))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let state = &mut *self.lock();
        if !state.count_sync()? {
            return Err(io::Error::other("the simulated disk failed a sync"));
        }
        let changes = std::mem::take(&mut state.name_changes);
        for change in changes {
            if parent(change.path()) == dir {
                change.apply(&mut state.durable_names);
            } else {
                state.name_changes.push(change);
            }
        }
        Ok(())
    }
}

struct SimFile {
    state: Arc<Mutex<State>>,
    file: usize,
    life: u64,
    is_writable: bool,
}

impl SimFile {
    fn lock(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.life == self.life {
            Ok(state)
        } else {
            Err(io::Error::other("the process that opened this file is gone"))
        }
    }

    fn lock_to_write(&self) -> io::Result<MutexGuard<'_, State>> {
        assert!(self.is_writable, "the file was opened to be read");
        let mut state = self.lock()?;
        state.count_change()?;
        Ok(state)
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.lock()?.files[self.file].content.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.lock()?;
        let content = &state.files[self.file].content;
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let count = buffer.len().min(content.len() - begin);
        buffer[..count].copy_from_slice(&content[begin..begin + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock_to_write()?;
        let offset = usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let mut fitting = bytes.len();
        if let Some(free) = &mut state.free_bytes {
            fitting = fitting.min(usize::try_from(*free).unwrap_or(usize::MAX));
            *free -= fitting as u64;
        }
        state.files[self.file].change(ContentChange::Write(offset, bytes[..fitting].to_vec()));
        if fitting == bytes.len() {
            Ok(())
        } else {
            Err(io::Error::from(io::ErrorKind::StorageFull))
        }
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        self.lock_to_write()?.files[self.file].change(ContentChange::SetLen(length));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let state = &mut *self.lock()?;
        let succeeds = state.count_sync()?;
        let file = &mut state.files[self.file];
        if succeeds {
            for change in std::mem::take(&mut file.changes) {
                change.apply(&mut file.durable);
            }
            Ok(())
        } else {
            file.lose_some(&mut state.random);
            if file.durable.len() != file.content.len() {
                // The length is in the journal of the file system, which did not fail.
                file.changes.push(ContentChange::SetLen(file.content.len()));
            }
            Err(io::Error::other("the simulated disk failed a sync"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surviving(seed: u64, work: impl FnOnce(&SimDisk)) -> Option<Vec<u8>> {
        let disk = SimDisk::new(seed);
        work(&disk);
        disk.crash();
        disk.content("f")
    }

    #[test]
    fn unsynced_content_survives_up_to_any_byte_and_synced_content_whole() {
        let mut lengths = BTreeSet::new();
        for seed in 0..500 {
            let content = surviving(seed, |disk| {
                let file = disk.open("f", OpenMode::Create).unwrap();
                file.write_at(0, b"kept").unwrap();
                file.sync_data().unwrap();
                disk.sync_dir("").unwrap();
                file.write_at(4, b"lost?").unwrap();
            })
            .unwrap();
            assert!(b"keptlost?".starts_with(&content) && content.len() >= 4);
            lengths.insert(content.len());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn a_synced_file_in_an_unsynced_directory_may_vanish() {
        let work = |disk: &SimDisk| {
            let file = disk.open("f", OpenMode::Create).unwrap();
            file.write_at(0, b"x").unwrap();
            file.sync_data().unwrap();
        };
        let survived = (0..100).filter(|&seed| surviving(seed, work).is_some()).count();
        assert!((1..100).contains(&survived), "{survived} of 100");
    }

    #[test]
    fn a_failed_sync_loses_what_a_later_one_seems_to_save() {
        let mut lost = 0;
        for seed in 0..100 {
            let content = surviving(seed, |disk| {
                let file = disk.open("f", OpenMode::Create).unwrap();
                disk.sync_dir("").unwrap();
                disk.fail_sync_after(0);
                file.write_at(0, b"a").unwrap();
                file.sync_data().unwrap_err();
                file.sync_data().unwrap();
                assert_eq!(disk.content("f").unwrap(), b"a", "it can still be read");
            });
            lost += usize::from(content.unwrap() != b"a");
        }
        assert!((1..100).contains(&lost), "{lost} of 100");
    }

    #[test]
    fn files_opened_before_a_crash_are_dead_and_a_killed_process_loses_nothing() {
        let disk = SimDisk::new(1);
        disk.create_dir("a/b").unwrap();
        let file = disk.open("a/b/f", OpenMode::Create).unwrap();
        file.write_at(2, b"x").unwrap();
        disk.kill_process();
        assert_eq!(disk.content("a/b/f").unwrap(), b"\0\0x");
        assert_eq!(disk.list("a").unwrap(), ["b"]);
        file.write_at(0, b"y").unwrap_err();
        file.sync_data().unwrap_err();
    }

    #[test]
    fn a_full_disk_takes_a_part() {
        let disk = SimDisk::new(1);
        let file = disk.open("f", OpenMode::Create).unwrap();
        disk.set_free_bytes(Some(3));
        let error = file.write_at(0, b"12345").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert_eq!(disk.content("f").unwrap(), b"123");
    }
}
