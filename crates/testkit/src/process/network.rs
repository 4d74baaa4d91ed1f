//! A network of its own for each server of an ensemble, whose links can be cut: network namespaces on a bridge.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A hardware address that nobody has: what is sent there vanishes.
const NOWHERE: &str = "02:00:00:00:00:fe";
/// The clients' place in the network: this process.
pub const CLIENTS: usize = 0;

/// A process that keeps a network namespace. It ends with the value, or with this process.
#[derive(Debug)]
struct Namespace {
    holder: Child,
}

impl Namespace {
    fn new() -> io::Result<Namespace> {
        let mut holder = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready && read -r _"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("stdout is piped");
        let read = BufReader::new(stdout).read_line(&mut line);
        let namespace = Namespace { holder };
        read?;
        match line.as_str() {
            "ready\n" => Ok(namespace),
            _ => Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a network namespace cannot be made",
            )),
        }
    }

    fn wrapper(&self) -> Vec<OsString> {
        ["nsenter", "--net", "--target", &self.holder.id().to_string()]
            .map(OsString::from)
            .into()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // What cannot be killed has ended.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A network of places: the clients (this process) and each server. Any link can be cut in either direction:
/// what is sent over it vanishes without an error, as behind a broken switch.
#[derive(Debug)]
pub struct Network {
    /// The third byte of all addresses.
    subnet: u8,
    /// Where the bridge is. All links end there, so they go away with it.
    switch: Namespace,
    /// Of server 1, server 2 and so on.
    servers: Vec<Namespace>,
    /// Links cut, (from, to).
    cut: Vec<(usize, usize)>,
}

impl Network {
    /// A network for so many servers. Needs root, and `unshare`, `nsenter` and `ip`.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] without the right to make namespaces, other errors when a command is
    /// missing or fails.
    pub fn create(servers: usize) -> io::Result<Network> {
        let switch = Namespace::new()?;
        run(&switch.wrapper(), "ip link add br0 type bridge")?;
        run(&switch.wrapper(), "ip link set br0 up")?;
        let mut network = Network {
            subnet: free_subnet(),
            switch,
            servers: Vec::new(),
            cut: Vec::new(),
        };
        network.connect(CLIENTS, std::process::id())?;
        for id in 1..=servers {
            let server = Namespace::new()?;
            let pid = server.holder.id();
            run(&server.wrapper(), "ip link set lo up")?;
            network.servers.push(server);
            network.connect(id, pid)?;
        }
        Ok(network)
    }

    /// Puts a cable between the namespace of a process and the bridge.
    fn connect(&self, place: usize, pid: u32) -> io::Result<()> {
        let device = self.device(place);
        let switch = self.switch.wrapper();
        let add = format!("ip link add p{place} type veth peer name {device} netns {pid}");
        run(&switch, &add)?;
        run(&switch, &format!("ip link set p{place} master br0 up"))?;
        let own = self.wrapper(place);
        run(&own, &format!("ip addr add {}/24 dev {device}", self.host(place)))?;
        run(&own, &format!("ip link set {device} up"))
    }

    /// The device of a place.
    fn device(&self, place: usize) -> String {
        match place {
            CLIENTS => clients_device(self.subnet),
            _ => "eth0".to_owned(),
        }
    }

    /// The address of a server, or of the clients.
    pub fn host(&self, place: usize) -> Ipv4Addr {
        let last = match place {
            CLIENTS => 254,
            _ => u8::try_from(place).expect("few servers"),
        };
        // Of the range for measurements of networks (RFC 2544), which nobody else should use.
        Ipv4Addr::new(198, 18, self.subnet, last)
    }

    /// The command that runs another at a server's place; nothing for the clients' place.
    pub fn wrapper(&self, place: usize) -> Vec<OsString> {
        match place {
            CLIENTS => Vec::new(),
            id => self.servers[id - 1].wrapper(),
        }
    }

    /// From now on nothing that one place sends to the other arrives.
    ///
    /// # Errors
    /// When the command fails.
    pub fn cut(&mut self, from: usize, to: usize) -> io::Result<()> {
        if !self.cut.contains(&(from, to)) {
            let (host, device) = (self.host(to), self.device(from));
            let command = format!("ip neigh replace {host} lladdr {NOWHERE} dev {device} nud permanent");
            run(&self.wrapper(from), &command)?;
            self.cut.push((from, to));
        }
        Ok(())
    }

    /// As [`Network::cut`] in both directions.
    ///
    /// # Errors
    /// When a command fails.
    pub fn cut_both(&mut self, one: usize, other: usize) -> io::Result<()> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    /// All links work again.
    ///
    /// # Errors
    /// When a command fails.
    pub fn heal(&mut self) -> io::Result<()> {
        while let Some((from, to)) = self.cut.pop() {
            let (host, device) = (self.host(to), self.device(from));
            run(&self.wrapper(from), &format!("ip neigh del {host} dev {device}"))?;
        }
        Ok(())
    }
}

/// The device of the clients, which is in the namespace of this process, among others.
fn clients_device(subnet: u8) -> String {
    format!("oxkeeper{subnet}")
}

fn free_subnet() -> u8 {
    let is_taken = |subnet: &u8| Path::new("/sys/class/net").join(clients_device(*subnet)).exists();
    let mut drawn = std::iter::repeat_with(|| fastrand::u8(..)).take(1_000);
    // When all are taken, making the device says so.
    drawn.find(|subnet| !is_taken(subnet)).unwrap_or(0)
}

/// Runs a command of words without blanks.
fn run(wrapper: &[OsString], command: &str) -> io::Result<()> {
    let words = wrapper
        .iter()
        .cloned()
        .chain(command.split(' ').map(OsString::from));
    let words: Vec<OsString> = words.collect();
    let (program, arguments) = words.split_first().expect("a command has a word");
    let output = Command::new(program).args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{command}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether one packet and its answer pass, from one server to another.
    fn reaches(network: &Network, from: usize, to: usize, within: &str) -> bool {
        let script = format!("echo > /dev/tcp/{}/9", network.host(to));
        let wrapper = network.wrapper(from);
        let mut words = wrapper.clone();
        words.extend(["timeout", within, "bash", "-c", &script].map(OsString::from));
        let output = Command::new(&words[0]).args(&words[1..]).output().unwrap();
        // A refusal is an answer.
        String::from_utf8_lossy(&output.stderr).contains("refused")
    }

    #[test]
    fn links_are_cut_in_the_directions_asked_for_and_heal() {
        let mut network = match Network::create(3) {
            Ok(network) => network,
            // Only root may; there is nothing to be seen without.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            Err(error) => panic!("{error}"),
        };
        let passes = |network: &Network, from, to| reaches(network, from, to, "10");
        let is_lost = |network: &Network, from, to| !reaches(network, from, to, "0.3");
        for (from, to) in [(1, 2), (2, 1), (CLIENTS, 3), (3, 1)] {
            assert!(passes(&network, from, to), "{from} to {to}");
        }
        network.cut(1, 2).unwrap();
        assert!(is_lost(&network, 1, 2), "the question is lost");
        assert!(is_lost(&network, 2, 1), "the answer is lost");
        assert!(passes(&network, 1, 3) && passes(&network, 3, 2) && passes(&network, CLIENTS, 1));
        network.heal().unwrap();
        assert!(passes(&network, 1, 2));
        network.cut_both(CLIENTS, 3).unwrap();
        assert!(is_lost(&network, CLIENTS, 3));
        assert!(passes(&network, 1, 3));
    }
}
