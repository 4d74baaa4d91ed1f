//! Accepts connections, as far as the limits allow.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use oxkeeper_core::Client;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use crate::ServeError;
use crate::client_task;
use crate::config::ClientPortConfig;
use crate::ports::bind_port;
use crate::registry::Refused;
use crate::service::Service;

/// How long accepting rests after the system had no resources for another connection.
const RESOURCES_PAUSE: Duration = Duration::from_millis(50);

/// Binds the client port. Without an address all interfaces are served, IPv4 and IPv6 where there is IPv6.
pub(crate) fn bind(config: &ClientPortConfig) -> Result<(TcpListener, SocketAddr), ServeError> {
    bind_port(config.address, config.port, config.backlog).map_err(|cause| ServeError::Listen {
        address: SocketAddr::new(
            config.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            config.port,
        ),
        cause,
    })
}

/// Accepts connections for ever.
pub(crate) async fn run(listener: TcpListener, service: Arc<Service>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => admit(stream, peer, &service),
            Err(error) => {
                // One aborted connection, or no descriptors left: neither is a reason to stop serving the others.
                tracing::warn!("a connection could not be accepted: {error}");
                tokio::time::sleep(RESOURCES_PAUSE).await;
            }
        }
    }
}

fn admit(stream: TcpStream, peer: SocketAddr, service: &Arc<Service>) {
    let limits = &service.config.limits;
    let wake = Arc::new(Notify::new());
    let admitted = service.registry.admit(
        peer,
        limits.connections_per_address_max,
        limits.connections_max,
        |id| {
            let wake = wake.clone();
            let established_ms = service.clock.now().monotonic_ms;
            Arc::new(Client::new(
                id,
                peer,
                established_ms,
                Box::new(move || wake.notify_one()),
            ))
        },
    );
    let (client, place) = match admitted {
        Ok(admitted) => admitted,
        Err(refused) => {
            service.connections_rejected.fetch_add(1, Relaxed);
            let limit = match refused {
                Refused::Everybody => {
                    tracing::debug!(%peer, "connection refused, none is taken at the moment");
                    return;
                }
                Refused::PerAddress => "maxClientCnxns",
                Refused::Total => "maxCnxns",
            };
            tracing::warn!(%peer, "connection refused, the limit {limit} is reached");
            return;
        }
    };
    if let Err(error) = configure(&stream, service.config.client.tcp_keep_alive) {
        tracing::debug!(%peer, "connection lost while it was set up: {error}");
        return;
    }
    let service = service.clone();
    tokio::spawn(async move {
        client_task::run(stream, client, wake, service).await;
        drop(place);
    });
}

fn configure(stream: &TcpStream, keep_alive: bool) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    if keep_alive {
        SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new())?;
    }
    Ok(())
}
