//! The only door to the files: [`Disk`], and the one that opens onto the operating system, [`RealDisk`].
//! Tests and the simulator use [`crate::SimDisk`] instead.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file (or a link to one).
    File,
    /// A directory (or a link to one).
    Directory,
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// To read; it must exist.
    Read,
    /// To read and write; it must exist.
    Write,
    /// To read and write, made when missing and emptied when not.
    Create,
}

/// The files below one directory. Paths are relative to it, with `/` between their parts; `""` is the directory.
///
/// Nothing is durable before it is synced: the content of a file by [`DiskFile::sync_data`], the names in a
/// directory (new, renamed, removed) by [`Disk::sync_dir`].
pub trait Disk: Send + Sync {
    /// The directory, for messages.
    fn root(&self) -> &Path;
    /// The names in a directory, in no particular order. Names that are not UTF-8 are left out: none is ours.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// What `path` is, `None` when there is no such thing.
    fn kind(&self, path: &str) -> io::Result<Option<EntryKind>>;
    /// Opens a file.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// Makes a directory, and those above it that are missing.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Gives a file another name in one step, replacing what has that name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// The whole path of `path`, for messages.
    fn full_path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// The length in bytes.
    fn length(&self) -> io::Result<u64>;
    /// Reads at `offset` as many bytes as there are, at most a buffer full; fewer only at the end of the file.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`; what lies between the end of the file and `offset` becomes zeros.
    /// After an error any part of them may have been written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file, or lengthens it by zeros that take no space.
    fn set_len(&self, length: u64) -> io::Result<()>;
    /// Makes content and length durable. After an error nothing may be assumed of what was not durable before,
    /// not even when a later sync succeeds.
    fn sync_data(&self) -> io::Result<()>;
}

/// A directory of the operating system.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: PathBuf,
    syncs: bool,
}

impl RealDisk {
    /// The files below `root`, which need not exist yet.
    pub fn new(root: impl Into<PathBuf>) -> RealDisk {
        RealDisk {
            root: root.into(),
            syncs: true,
        }
    }

    /// The same without syncs: what was written survives the end of the process, but not that of the machine.
    pub fn without_syncs(root: impl Into<PathBuf>) -> RealDisk {
        RealDisk {
            root: root.into(),
            syncs: false,
        }
    }

    fn sync(&self, dir: &Path) -> io::Result<()> {
        match self.syncs {
            true => fs::File::open(dir)?.sync_all(),
            false => Ok(()),
        }
    }
}

impl Disk for RealDisk {
    fn root(&self) -> &Path {
        &self.root
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.full_path(dir))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn kind(&self, path: &str) -> io::Result<Option<EntryKind>> {
        match fs::metadata(self.full_path(path)) {
            Ok(metadata) if metadata.is_dir() => Ok(Some(EntryKind::Directory)),
            Ok(_) => Ok(Some(EntryKind::File)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = fs::OpenOptions::new();
        match mode {
            OpenMode::Read => options.read(true),
            OpenMode::Write => options.read(true).write(true),
            OpenMode::Create => options.read(true).write(true).create(true).truncate(true),
        };
        Ok(Box::new(RealFile {
            file: options.open(self.full_path(path))?,
            syncs: self.syncs,
        }))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let path = self.full_path(dir);
        let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.exists()).collect();
        fs::create_dir_all(&path)?;
        // The caller syncs within the root; what was made above it is nobody else's to sync (D3).
        for made in missing {
            let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
            self.sync(parent.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.full_path(from), self.full_path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.full_path(path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.sync(&self.full_path(dir))
    }
}

struct RealFile {
    file: fs::File,
    syncs: bool,
}

impl DiskFile for RealFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        match self.syncs {
            true => self.file.sync_data(),
            false => Ok(()),
        }
    }
}
