//! A connection to PostgreSQL: its address, TLS, and how long things may take.

use std::fmt;

use farthing_types::Span;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;

use super::{PostgresSpec, fault};
use crate::Fault;
use crate::tls::client_config;

/// How a server is reached.
pub struct Connector {
    config: Config,
    /// `None`: without TLS.
    tls: Option<MakeRustlsConnect>,
    deadline: Span,
    tasks: TaskTracker,
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

impl Connector {
    /// Of a description; what is wrong with it, without the password.
    pub fn new(spec: &PostgresSpec, deadline: Span) -> Result<Self, String> {
        let mut config: Config = spec.url.parse().map_err(|error: tokio_postgres::Error| format!("the URL cannot be read: {error}"))?;
        if let Some(password) = &spec.password {
            config.password(&**password);
        }
        // What is not said is safe: nothing goes over a network in the clear.
        if !spec.url.contains("sslmode=") {
            let local = config.get_hosts().iter().all(is_local);
            config.ssl_mode(if local { SslMode::Disable } else { SslMode::Require });
        }
        config.application_name("farthing").connect_timeout(deadline).keepalives_idle(Span::from_secs(30));
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(client_config(spec.authorities.as_deref())?)),
        };
        Ok(Self { config, tls, deadline, tasks: TaskTracker::new() })
    }

    /// Connects. What this connection does is bounded on the server, too, where a transaction of somebody who vanished would hold locks.
    pub async fn connect(&self) -> Result<Client, Fault> {
        let client = match &self.tls {
            Some(tls) => {
                let (client, connection) = self.config.connect(tls.clone()).await.map_err(fault)?;
                self.tasks.spawn(connection);
                client
            }
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(fault)?;
                self.tasks.spawn(connection);
                client
            }
        };
        let millis = self.deadline.as_millis();
        let bounds = format!(
            "SET statement_timeout = {millis}; SET lock_timeout = {}; SET idle_in_transaction_session_timeout = {millis}; \
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3",
            (millis / 2).max(1)
        );
        client.batch_execute(&bounds).await.map_err(fault)?;
        Ok(client)
    }
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        Host::Unix(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(url: &str) -> Result<Connector, String> {
        Connector::new(&PostgresSpec { url: url.to_owned(), ..PostgresSpec::default() }, Span::from_secs(1))
    }

    #[test]
    fn nothing_goes_over_a_network_in_the_clear_unless_said() {
        for (url, tls) in [
            ("postgres://u@db.example.com/d", true),
            ("postgres://u@db.example.com/d?sslmode=disable", false),
            ("postgres://u@10.0.0.1/d", true),
            ("postgres://u@localhost/d", false),
            ("postgres://u@127.0.0.1:5433/d", false),
            ("postgres://u@127.0.0.1/d?sslmode=require", true),
            ("postgres:///d?host=/run/postgresql&user=u", false),
        ] {
            assert_eq!(connector(url).unwrap().tls.is_some(), tls, "{url}");
        }
        let spec = PostgresSpec { authorities: Some("none".to_owned()), url: "postgres://u@h/d".to_owned(), ..PostgresSpec::default() };
        assert!(Connector::new(&spec, Span::from_secs(1)).unwrap_err().contains("no certificate"));
        assert!(connector("postgres://u@h:port/d").unwrap_err().contains("cannot be read"));
    }
}
