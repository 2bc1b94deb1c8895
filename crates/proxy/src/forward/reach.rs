//! Connections to hosts that clients name: looked up once, judged, and made to the very address that was judged.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use farthing_config::ForwardConfig;
use farthing_policy::forward::{Reach, Unreachable};
use http::StatusCode;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::{Destination, Forwarding, Refused, refusal};
use crate::problem::Problem;
use crate::state::State;

/// Addresses of a host that are tried, one after the other.
const TRIES: usize = 4;

/// A connection to `to`.
///
/// # Errors
/// 403 where no address of it may be reached; 502 and 504 where none can be.
pub(super) async fn connect(state: &State, forward: &ForwardConfig, to: &Destination) -> Result<TcpStream, (Refused, Problem)> {
    let Destination { host, port } = to;
    let until = Instant::now() + forward.connect_timeout;
    let late = |_| unreachable(to, StatusCode::GATEWAY_TIMEOUT, format!("nothing within {:?}", forward.connect_timeout));
    let found = timeout_at(until, look_up(state, to)).await.map_err(late)?;
    let found = found.map_err(|error| unreachable(to, StatusCode::BAD_GATEWAY, error.to_string()))?;
    let addresses = judged(&state.forwarding, forward, &found).map_err(|why| {
        let detail = format!(
            "{host}:{port} leads to an address that this proxy does not reach ({why}): where it shall, list its network in forward.networks",
            why = why.as_str()
        );
        refusal(Refused::Address, StatusCode::FORBIDDEN, detail)
    })?;
    let mut last = "it has no address".to_owned();
    let mut left = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
    for address in addresses {
        // Each has its part of the time, so that one that is silent leaves some for the next.
        let part = Instant::now() + until.saturating_duration_since(Instant::now()) / left.max(1);
        left -= 1;
        match timeout_at(part, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // Small writes must not wait for each other; where the system refuses, the connection still works.
                drop(stream.set_nodelay(true));
                return Ok(stream);
            }
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no connection in time".to_owned(),
        }
    }
    Err(unreachable(to, StatusCode::BAD_GATEWAY, last))
}

fn unreachable(to: &Destination, status: StatusCode, reason: String) -> (Refused, Problem) {
    refusal(Refused::Unreachable, status, format!("{}:{} cannot be reached: {reason}", to.host, to.port))
}

/// Every address of a host. A look holds one of the system's threads to its end, whoever still waits for it; so it keeps its turn till then.
async fn look_up(state: &State, to: &Destination) -> io::Result<Vec<SocketAddr>> {
    if let Ok(ip) = to.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, to.port)]);
    }
    let turn = state.forwarding.looks.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (host, port): (Arc<str>, u16) = (to.host.clone(), to.port);
    let looking = state.tasks.spawn(async move {
        let found = lookup_host((&*host, port)).await.map(Iterator::collect);
        drop(turn);
        found
    });
    looking.await.map_err(io::Error::other)?
}

/// The addresses that may be reached; why the first may not, where none may.
fn judged(forwarding: &Forwarding, forward: &ForwardConfig, found: &[SocketAddr]) -> Result<Vec<SocketAddr>, Unreachable> {
    let ours = forwarding.ours.read();
    let (mut good, mut why) = (Vec::new(), None);
    for address in found {
        match (Reach { ours: &ours, own: is_own(address.ip()), allowed: &forward.networks }).may(*address) {
            Ok(()) if good.len() < TRIES => good.push(*address),
            Ok(()) => {}
            Err(refused) => why = why.or(Some(refused)),
        }
    }
    match why {
        Some(why) if good.is_empty() => Err(why),
        _ => Ok(good),
    }
}

/// Whether an address is one of this machine: only then a socket may have it, unless the system lets sockets have any; or a datagram to it would come from it.
fn is_own(ip: IpAddr) -> bool {
    let binds = |ip: IpAddr| UdpSocket::bind((ip, 0)).is_ok();
    // Those of documents are nobody's.
    let (any, nobodys): (IpAddr, IpAddr) = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into()),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()),
    };
    // Nothing is sent: the socket is only told where it would.
    let source = || {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((ip, 9))?;
        socket.local_addr()
    };
    (binds(ip) && !binds(nobodys)) || source().is_ok_and(|source| source.ip() == ip)
}
