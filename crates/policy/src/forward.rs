//! Which addresses a forward proxy may connect to for a client: none that leads where the client could not go itself.
//!
//! Sources of the lists: the IANA registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890 and what was added since). What they call globally
//! reachable may be reached; of IPv6 nothing outside of the space that is given out for the Internet (2000::/3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use farthing_types::{Network, reasons};

reasons! {
    /// Why an address must not be connected to.
    Unreachable {
        /// It leads to a port of this very process.
        Ourselves = "ourselves",
        /// It is one of this machine's own.
        OwnAddress = "own-address",
        /// `0.0.0.0`, `::` and their networks.
        Unspecified = "unspecified",
        /// The machine itself.
        Loopback = "loopback",
        /// The wire alone; clouds keep credentials of machines there.
        LinkLocal = "link-local",
        /// Networks of organisations, and those of carriers.
        Private = "private",
        /// Many at once.
        Multicast = "multicast",
        /// Kept for documents, tests, protocols, or for nothing yet; addresses that carry another one within.
        Reserved = "reserved",
    }
}

/// What is known of the machine, and what the operator allows.
#[derive(Clone, Copy, Debug)]
pub struct Reach<'a> {
    /// Addresses and ports that this process answers on.
    pub ours: &'a [SocketAddr],
    /// Whether the address in question is one of this machine.
    pub own: bool,
    /// Networks that may be reached whatever they are.
    pub allowed: &'a [Network],
}

impl Reach<'_> {
    /// Whether `addr` may be connected to. No network that is allowed leads to this process itself: the admin port trusts its own machine, and the data port
    /// would ask itself.
    ///
    /// # Errors
    /// Why not.
    pub fn may(&self, addr: SocketAddr) -> Result<(), Unreachable> {
        let ip = addr.ip().to_canonical();
        let own = self.own || ip.is_loopback() || ip.is_unspecified();
        if self.ours.iter().any(|ours| ours.port() == addr.port() && (own || ours.ip().to_canonical() == ip)) {
            return Err(Unreachable::Ourselves);
        }
        if self.allowed.iter().any(|network| network.contains(ip)) {
            return Ok(());
        }
        match special(ip) {
            Some(why) => Err(why),
            None if self.own => Err(Unreachable::OwnAddress),
            None => Ok(()),
        }
    }
}

/// What an address is, where it is not one of the public Internet.
fn special(ip: IpAddr) -> Option<Unreachable> {
    match ip {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    }
}

fn special_v4(ip: Ipv4Addr) -> Option<Unreachable> {
    let octets = ip.octets();
    Some(match octets {
        [0, ..] => Unreachable::Unspecified,
        [127, ..] => Unreachable::Loopback,
        [169, 254, ..] => Unreachable::LinkLocal,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Unreachable::Private,
        [224..=239, ..] => Unreachable::Multicast,
        [192, 0, 0 | 2, _] | [192, 88, 99, _] | [198, 18 | 19, ..] | [198, 51, 100, _] | [203, 0, 113, _] | [240..=255, ..] => {
            Unreachable::Reserved
        }
        _ => return None,
    })
}

fn special_v6(ip: Ipv6Addr) -> Option<Unreachable> {
    let segments = ip.segments();
    Some(match segments {
        [0, 0, 0, 0, 0, 0, 0, 0] => Unreachable::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Unreachable::Loopback,
        [0xfe80..=0xfebf, ..] => Unreachable::LinkLocal,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Unreachable::Private,
        [0xff00..=0xffff, ..] => Unreachable::Multicast,
        // Documents, Teredo, ORCHID and benchmarks, 6to4: the last and the second carry an IPv4 address that nobody has looked at.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => Unreachable::Reserved,
        [0x2000..=0x3fff, ..] => return None,
        _ => Unreachable::Reserved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn may(addr: &str, own: bool, allowed: &[&str]) -> Result<(), Unreachable> {
        let ours: Vec<SocketAddr> = vec!["0.0.0.0:8787".parse().unwrap(), "127.0.0.1:8788".parse().unwrap()];
        let allowed: Vec<Network> = allowed.iter().map(|network| network.parse().unwrap()).collect();
        Reach { ours: &ours, own, allowed: &allowed }.may(addr.parse().unwrap())
    }

    #[test]
    fn what_is_not_of_the_internet_is_not_reached() {
        use Unreachable as U;
        for (addr, expected) in [
            ("93.184.216.34:443", Ok(())),
            ("172.15.0.1:80", Ok(())),
            ("172.32.0.1:80", Ok(())),
            ("100.63.0.1:80", Ok(())),
            ("100.128.0.1:80", Ok(())),
            ("[2606:4700::1111]:443", Ok(())),
            ("0.0.0.0:80", Err(U::Unspecified)),
            ("0.1.2.3:80", Err(U::Unspecified)),
            ("127.0.0.1:80", Err(U::Loopback)),
            ("127.255.255.254:80", Err(U::Loopback)),
            ("169.254.169.254:80", Err(U::LinkLocal)),
            ("10.0.0.1:80", Err(U::Private)),
            ("172.16.0.1:80", Err(U::Private)),
            ("172.31.255.255:80", Err(U::Private)),
            ("192.168.1.1:80", Err(U::Private)),
            ("100.64.0.1:80", Err(U::Private)),
            ("224.0.0.1:80", Err(U::Multicast)),
            ("255.255.255.255:80", Err(U::Reserved)),
            ("192.0.2.1:80", Err(U::Reserved)),
            ("198.18.0.1:80", Err(U::Reserved)),
            ("[::]:80", Err(U::Unspecified)),
            ("[::1]:80", Err(U::Loopback)),
            ("[::ffff:127.0.0.1]:80", Err(U::Loopback)),
            ("[::ffff:169.254.169.254]:80", Err(U::LinkLocal)),
            ("[::ffff:93.184.216.34]:80", Ok(())),
            ("[::127.0.0.1]:80", Err(U::Reserved)),
            ("[64:ff9b::7f00:1]:80", Err(U::Reserved)),
            ("[64:ff9b:1::a]:80", Err(U::Reserved)),
            ("[2002:7f00:1::]:80", Err(U::Reserved)),
            ("[2001:0:53aa::1]:80", Err(U::Reserved)),
            ("[2001:db8::1]:80", Err(U::Reserved)),
            ("[fe80::1]:80", Err(U::LinkLocal)),
            ("[fd00::1]:80", Err(U::Private)),
            ("[fd00:ec2::254]:80", Err(U::Private)),
            ("[ff02::1]:80", Err(U::Multicast)),
            ("[4000::1]:80", Err(U::Reserved)),
        ] {
            assert_eq!(may(addr, false, &[]), expected, "{addr}");
        }
    }

    #[test]
    fn the_machines_own_addresses_need_a_network_and_its_ports_are_never_reached() {
        assert_eq!(may("93.184.216.34:443", true, &[]), Err(Unreachable::OwnAddress));
        assert_eq!(may("93.184.216.34:443", true, &["93.184.216.0/24"]), Ok(()));
        assert_eq!(may("127.0.0.1:9000", true, &["127.0.0.0/8"]), Ok(()));
        assert_eq!(may("10.1.1.1:80", false, &["10.0.0.0/8"]), Ok(()));
        assert_eq!(may("[::ffff:10.1.1.1]:80", false, &["10.0.0.0/8"]), Ok(()));
        // Another machine may have the same port.
        assert_eq!(may("10.1.1.1:8788", false, &["10.0.0.0/8"]), Ok(()));
        for addr in ["127.0.0.1:8788", "127.0.0.2:8788", "[::1]:8788", "[::ffff:127.0.0.1]:8788", "0.0.0.0:8788", "93.184.216.34:8787"] {
            assert_eq!(may(addr, true, &["0.0.0.0/0", "::/0"]), Err(Unreachable::Ourselves), "{addr}");
        }
    }
}
