//! What happens to the servers: one fault at a time or two, and everything whole again after it.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use crate::crash::cut_log;
use crate::process::{CLIENTS, Ensemble, ServerError, ServerOptions, ServerProcess, TinyDisk};

/// How long a server may take to stop after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// How long a server whose disk is full may take to notice under load.
const FULL_WITHIN: Duration = Duration::from_secs(10);

/// A fault that a seed may draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// kill -9 of the leader.
    KillLeader,
    /// kill -9 of another server.
    KillOther,
    /// kill -9 of all servers, one right after the other.
    KillAll,
    /// SIGTERM to the leader.
    StopLeader,
    /// SIGTERM to another server.
    StopOther,
    /// SIGSTOP of the leader.
    PauseLeader,
    /// SIGSTOP of another server.
    PauseOther,
    /// The leader and the other servers do not hear of one another; clients reach all.
    IsolateLeader,
    /// The same of another server.
    IsolateOther,
    /// The other servers do not hear the leader, but it hears them.
    MuteLeader,
    /// The leader does not hear the other servers, but they hear it.
    DeafenLeader,
    /// Two servers do not hear of one another, and all others hear both.
    CutLink,
    /// A server and the clients do not hear of one another.
    CutClients,
    /// The disk of one server's log is full.
    FullDisk,
}

impl Fault {
    /// All that can be done here.
    pub(super) fn possible(has_network: bool, has_disk: bool) -> Vec<Fault> {
        use Fault::*;
        let mut faults = vec![
            KillLeader,
            KillOther,
            KillAll,
            StopLeader,
            StopOther,
            PauseLeader,
            PauseOther,
        ];
        if has_network {
            faults.extend([
                IsolateLeader,
                IsolateOther,
                MuteLeader,
                DeafenLeader,
                CutLink,
                CutClients,
            ]);
        }
        if has_disk {
            faults.push(FullDisk);
        }
        faults
    }

    /// Whether it may leave a leader in place that is none any more.
    pub(super) fn splits(self) -> bool {
        use Fault::*;
        match self {
            KillLeader | KillOther | KillAll | StopLeader | StopOther | CutClients | FullDisk => false,
            PauseLeader | PauseOther | IsolateLeader | IsolateOther | MuteLeader | DeafenLeader | CutLink => {
                true
            }
        }
    }
}

/// Why a fault could not be made: the harness failed, or a server did something by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum FaultError {
    /// The harness cannot do it.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The harness cannot do it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A server did what it must not.
    #[error("{0}")]
    Violation(String),
}

/// The servers, and what is wrong with them just now.
pub(super) struct Patient {
    pub(super) ensemble: Ensemble,
    /// Of the log of a server.
    pub(super) disk: Option<(usize, TinyDisk)>,
    down: Vec<usize>,
    paused: Vec<usize>,
    is_full: bool,
    /// Cut so many bytes off the logs of all when all are killed. For the test of the harness.
    cut_log_bytes: u64,
}

impl Patient {
    pub(super) fn new(ensemble: Ensemble, disk: Option<(usize, TinyDisk)>, cut_log_bytes: u64) -> Patient {
        Patient {
            ensemble,
            disk,
            down: Vec::new(),
            paused: Vec::new(),
            is_full: false,
            cut_log_bytes,
        }
    }

    /// Makes a fault and tells to whom.
    pub(super) fn strike(&mut self, fault: Fault, rng: &mut fastrand::Rng) -> Result<String, FaultError> {
        let count = self.ensemble.ids().count();
        let any = rng.usize(1..=count);
        let leader = self.ensemble.leader().unwrap_or(any);
        let other = if count == 1 {
            leader
        } else {
            (leader + rng.usize(0..count - 1)) % count + 1
        };
        let victims = match fault {
            Fault::KillLeader | Fault::StopLeader | Fault::PauseLeader => vec![leader],
            Fault::IsolateLeader | Fault::MuteLeader | Fault::DeafenLeader => vec![leader],
            Fault::KillOther | Fault::StopOther | Fault::PauseOther | Fault::IsolateOther => vec![other],
            Fault::CutLink => vec![leader, other],
            Fault::CutClients => vec![any],
            Fault::KillAll => self.ensemble.ids().collect(),
            Fault::FullDisk => self.disk.iter().map(|(id, _)| *id).collect(),
        };
        match fault {
            Fault::KillLeader | Fault::KillOther | Fault::KillAll => {
                for id in &victims {
                    self.take_down(*id, Ensemble::server_mut, |server| server.kill().map(drop))?;
                }
                if fault == Fault::KillAll && self.cut_log_bytes > 0 {
                    for id in &victims {
                        cut_log(&self.ensemble.server(*id).version_dir(), self.cut_log_bytes)?;
                    }
                }
            }
            Fault::StopLeader | Fault::StopOther => {
                for id in &victims {
                    self.take_down(*id, Ensemble::server_mut, |server| {
                        server.terminate(STOP_WITHIN).map(drop)
                    })?;
                }
            }
            Fault::PauseLeader | Fault::PauseOther => {
                for id in &victims {
                    if !self.down.contains(id) && !self.paused.contains(id) {
                        self.ensemble.server(*id).pause()?;
                        self.paused.push(*id);
                    }
                }
            }
            Fault::IsolateLeader | Fault::IsolateOther => self.cut_from_others(victims[0], true, true)?,
            Fault::MuteLeader => self.cut_from_others(victims[0], true, false)?,
            Fault::DeafenLeader => self.cut_from_others(victims[0], false, true)?,
            Fault::CutLink | Fault::CutClients => {
                let with = *victims.get(1).unwrap_or(&CLIENTS);
                if let Some(network) = self.ensemble.network_mut().filter(|_| with != victims[0]) {
                    network.cut_both(victims[0], with)?;
                }
            }
            Fault::FullDisk => {
                if let Some((_, disk)) = &self.disk {
                    disk.fill()?;
                    self.is_full = true;
                }
            }
        }
        Ok(format!("{fault:?} of {victims:?}"))
    }

    fn take_down(
        &mut self,
        id: usize,
        server: impl FnOnce(&mut Ensemble, usize) -> &mut ServerProcess,
        end: impl FnOnce(&mut ServerProcess) -> Result<(), ServerError>,
    ) -> Result<(), FaultError> {
        if self.down.contains(&id) {
            return Ok(());
        }
        self.check_running(id)?;
        if let Some(index) = self.paused.iter().position(|paused| *paused == id) {
            // SIGKILL ends a paused process too, but SIGTERM waits until it goes on.
            self.ensemble.server(id).resume()?;
            self.paused.swap_remove(index);
        }
        end(server(&mut self.ensemble, id))?;
        self.down.push(id);
        Ok(())
    }

    fn cut_from_others(&mut self, id: usize, outgoing: bool, incoming: bool) -> Result<(), FaultError> {
        let others: Vec<usize> = self.ensemble.ids().filter(|other| *other != id).collect();
        let Some(network) = self.ensemble.network_mut() else {
            return Ok(());
        };
        for other in others {
            if outgoing {
                network.cut(id, other)?;
            }
            if incoming {
                network.cut(other, id)?;
            }
        }
        Ok(())
    }

    /// A server that nobody ended must run. One whose disk is full may end.
    fn check_running(&mut self, id: usize) -> Result<(), FaultError> {
        let may_end = self.is_full && self.disk.as_ref().is_some_and(|(full, _)| *full == id);
        match self.ensemble.server_mut(id).try_wait()? {
            Some(status) if !may_end => Err(FaultError::Violation(format!(
                "server {id} ended by itself: {status}"
            ))),
            _ => Ok(()),
        }
    }

    /// Makes everything whole: links, disk, paused servers, and starts who is down, with other settings; one may
    /// be killed once more while it starts.
    pub(super) fn heal(&mut self, rng: &mut fastrand::Rng) -> Result<(), FaultError> {
        if let Some(network) = self.ensemble.network_mut() {
            network.heal()?;
        }
        for id in self.paused.drain(..) {
            self.ensemble.server(id).resume()?;
        }
        if let Some((id, disk)) = &self.disk
            && self.is_full
        {
            // Only what it writes tells it.
            let _noticed = self.ensemble.server_mut(*id).wait_for_exit(FULL_WITHIN);
            disk.make_room()?;
            if !self.down.contains(id) {
                // A server that goes on with half a record in its log must be found out, so it starts anew.
                self.ensemble.server_mut(*id).kill()?;
                self.down.push(*id);
            }
            self.is_full = false;
        }
        for id in self.ensemble.ids() {
            if !self.down.contains(&id) {
                self.check_running(id)?;
            }
        }
        rng.shuffle(&mut self.down);
        for id in std::mem::take(&mut self.down) {
            let server = self.ensemble.server_mut(id);
            vary(server.options_mut(), rng);
            server.respawn()?;
            if rng.u8(0..5) == 0 {
                sleep(Duration::from_millis(rng.u64(0..800)));
                if let Some(status) = server.try_wait()? {
                    let text = format!("server {id} ended by itself at its start: {status}");
                    return Err(FaultError::Violation(text));
                }
                server.respawn()?;
            }
        }
        Ok(())
    }
}

/// Other settings of snapshots, log and synchronisation for each start: all so small that files are begun all the
/// time, and sometimes a learner that lacks little gets a snapshot all the same.
pub(super) fn vary(options: &mut ServerOptions, rng: &mut fastrand::Rng) {
    options.replace("snapCount", rng.u32(100..=2_000));
    // The limit is for the size with padding: were that larger, each commit would begin a file, and the small disk be
    // full in seconds.
    options.replace("preAllocSize", rng.u32(16..=80));
    options.replace("txnLogSizeLimitInKb", if rng.bool() { "-1" } else { "100" });
    options.replace(
        "snapshotSizeFactor",
        if rng.u8(0..3) == 0 { "-1" } else { "0.33" },
    );
}
