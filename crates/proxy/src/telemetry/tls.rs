//! Handshakes with clients, and the certificates that they are shown.

use farthing_tls::Handshake;

use super::Family;
use crate::listeners::Listeners;

/// Families about TLS towards clients; without rows where no port speaks it.
pub fn families(listeners: &Listeners) -> [Family<'_>; 3] {
    let mut handshakes = Family::counter("tls_handshakes", "Handshakes with clients, by how they ended");
    let mut expires = Family::gauge("tls_certificate_expires_timestamp_seconds", "When the first certificate in force ends");
    let mut renewals =
        Family::counter("tls_renewals", "Changed files of certificates: put in force, or refused because they cannot be used");
    for certificates in listeners.all() {
        let table = certificates.table();
        for outcome in Handshake::ALL {
            handshakes.add(vec![("table", table), ("outcome", outcome.as_str())], certificates.handshakes(*outcome) as f64);
        }
        expires.add(vec![("table", table)], certificates.expires().secs_f64());
        for (outcome, count) in ["applied", "refused"].into_iter().zip(certificates.renewals()) {
            renewals.add(vec![("table", table), ("outcome", outcome)], count as f64);
        }
    }
    [handshakes, expires, renewals]
}
