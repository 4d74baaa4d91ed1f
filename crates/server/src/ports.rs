//! Listening on the ports of a server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that may wait to be accepted when `clientPortListenBacklog` is not set. (Java has 50, which a reconnect
/// of a few hundred clients overflows.)
const BACKLOG_DEFAULT: u32 = 1024;

/// Listens on a port of an interface, or of all.
pub(crate) fn bind_port(
    ip: Option<IpAddr>,
    port: u16,
    backlog: Option<u32>,
) -> std::io::Result<(TcpListener, SocketAddr)> {
    match ip {
        Some(ip) => bind_to(SocketAddr::new(ip, port), backlog),
        None => bind_to(SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), backlog)
            .or_else(|_| bind_to(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port), backlog)),
    }
}

/// Listens on one address; with the unspecified one of IPv6, on IPv4 too.
pub(crate) fn bind_to(
    address: SocketAddr,
    backlog: Option<u32>,
) -> std::io::Result<(TcpListener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restarted server must get its port back at once.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog.unwrap_or(BACKLOG_DEFAULT)).unwrap_or(i32::MAX))?;
    let listener = TcpListener::from_std(socket.into())?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}
