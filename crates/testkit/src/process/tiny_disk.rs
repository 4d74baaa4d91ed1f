//! A small disk that a test can fill.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Mounts the disk, says so, mounts it again with another size for each line it reads, and ends with its input.
const HOLDER: &str = r#"
mount -t tmpfs -o "size=$2" oxkeeper-tiny-disk "$1" && echo mounted || exit 1
while read -r size; do
  mount -o "remount,size=$size" "$1" && echo mounted || exit 1
done
"#;

/// A tmpfs of a given size in a mount namespace of its own: only processes started through
/// [`TinyDisk::wrapper`] see it. It goes away with the value, or with the test's process.
#[derive(Debug)]
pub struct TinyDisk {
    holder: Child,
    answers: BufReader<std::process::ChildStdout>,
    mount_point: PathBuf,
}

impl TinyDisk {
    /// Mounts a disk of `bytes` at `mount_point`, a directory. Needs the right to mount (root), and `unshare` and
    /// `nsenter` of util-linux.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] when it is not permitted, other errors when a command is missing.
    pub fn mount(mount_point: &Path, bytes: u64) -> io::Result<TinyDisk> {
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", HOLDER, "sh"])
            .arg(mount_point)
            .arg(bytes.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let answers = BufReader::new(holder.stdout.take().expect("stdout is piped"));
        let mut disk = TinyDisk {
            holder,
            answers,
            mount_point: mount_point.to_owned(),
        };
        disk.wait_until_mounted()?;
        Ok(disk)
    }

    fn wait_until_mounted(&mut self) -> io::Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match line.as_str() {
            "mounted\n" => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("a tmpfs cannot be mounted at {}", self.mount_point.display()),
            )),
        }
    }

    /// Makes the disk larger or smaller; what it holds stays.
    ///
    /// # Errors
    /// When it holds more already.
    pub fn resize(&mut self, bytes: u64) -> io::Result<()> {
        let input = self.holder.stdin.as_mut().expect("stdin is piped");
        writeln!(input, "{bytes}")?;
        self.wait_until_mounted()
    }

    /// Takes all that is left of it.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn fill(&self) -> io::Result<()> {
        // It ends with an error when nothing is left.
        self.run(r#"cat /dev/zero >"$0/filler" 2>/dev/null || true"#)
    }

    /// Gives back what [`TinyDisk::fill`] took.
    ///
    /// # Errors
    /// When the command cannot be run.
    pub fn make_room(&self) -> io::Result<()> {
        self.run(r#"rm -f "$0/filler""#)
    }

    fn run(&self, script: &str) -> io::Result<()> {
        let wrapper = self.wrapper();
        let (program, arguments) = wrapper.split_first().expect("a command");
        let mut command = Command::new(program);
        let status = command
            .args(arguments)
            .args(["sh", "-c", script])
            .arg(&self.mount_point)
            .status()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{script}: {status}"))),
        }
    }

    /// The command that runs another in its own place, where it sees the disk; for
    /// [`crate::process::ServerOptions::wrapper`].
    pub fn wrapper(&self) -> Vec<OsString> {
        [
            "nsenter".into(),
            "--mount".into(),
            "--target".into(),
            self.holder.id().to_string().into(),
        ]
        .into()
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        // What cannot be killed has ended.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_in(disk: &TinyDisk, command: &[&str]) -> bool {
        let wrapper = disk.wrapper();
        let (program, arguments) = wrapper.split_first().expect("a command");
        let status = Command::new(program)
            .args(arguments)
            .args(command)
            .stderr(Stdio::null())
            .status();
        status.expect("nsenter runs").success()
    }

    #[test]
    fn a_tiny_disk_is_full_soon_and_can_grow() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut disk = match TinyDisk::mount(dir.path(), 64 << 10) {
            Ok(disk) => disk,
            // Mounting takes root; there is nothing to be seen without.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            Err(error) => panic!("{error}"),
        };
        let file = dir.path().join("file").display().to_string();
        let of = format!("of={file}");
        let fill = ["dd", "if=/dev/zero", &of, "bs=1024", "count=100"];
        assert!(!run_in(&disk, &fill));
        disk.resize(256 << 10).expect("it grows");
        assert!(run_in(&disk, &fill));
        disk.fill().expect("it is filled");
        let append = [
            "dd",
            "if=/dev/zero",
            &of,
            "bs=1024",
            "count=8",
            "oflag=append",
            "conv=notrunc",
        ];
        assert!(!run_in(&disk, &append));
        disk.make_room().expect("it has room again");
        assert!(run_in(&disk, &append));
        assert!(
            !dir.path().join("file").exists(),
            "the disk is to be seen in its namespace only"
        );
    }
}
