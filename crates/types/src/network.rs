//! Networks, as addresses are compared with them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    first: IpAddr,
    bits: u8,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no network: write an address, or one with the length of its prefix, such as 10.0.0.0/8")]
pub struct BadNetwork;

impl Network {
    /// The addresses that have the first `bits` of `addr`; `None` where it has not so many.
    pub fn new(addr: IpAddr, bits: u8) -> Option<Self> {
        let longest = if addr.is_ipv4() { 32 } else { 128 };
        (bits <= longest).then(|| Self { first: masked(addr, bits), bits })
    }

    /// Whether `addr` is one of them. An IPv4 address is the same whether it is written as one of IPv6 or not.
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        addr.is_ipv4() == self.first.is_ipv4() && masked(addr, self.bits) == self.first
    }
}

/// Whose connections are counted together: the address itself, or the /64 network of an IPv6 address, since one host has a whole one.
pub fn neighbours(addr: IpAddr) -> IpAddr {
    let addr = addr.to_canonical();
    if addr.is_ipv4() { addr } else { masked(addr, 64) }
}

fn masked(addr: IpAddr, bits: u8) -> IpAddr {
    match addr {
        IpAddr::V4(v4) => IpAddr::V4(Ipv4Addr::from(u32::from(v4) & u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0))),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from(u128::from(v6) & u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0))),
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().map_err(|_| BadNetwork)?;
        let whole = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(whole), |bits| bits.parse().map_err(|_| BadNetwork))?;
        // `10.1.2.3/8` is a slip more often than a wish.
        Self::new(addr, bits).filter(|network| network.first == addr).ok_or(BadNetwork)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_as_it_does() {
        for (network, addr, within) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("0.0.0.0/0", "203.0.113.9", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("fd00::/8", "fdff::1", true),
            ("::/0", "::1", true),
            ("::1", "::2", false),
        ] {
            assert_eq!(network.parse::<Network>().unwrap().contains(addr.parse().unwrap()), within, "{network} {addr}");
        }
        for text in ["", "10", "10.0.0.0/33", "10.1.2.3/8", "10.0.0.0/-1", "10.0.0.0/8/8", "localhost", "::/129", "::1/64"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
