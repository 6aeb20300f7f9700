//! The keys `host`, `port` and `net.*` as all outputs that connect somewhere share them.
//!
//! A plugin adds [`NetKeys`] to its own table with [`config::join_keys`], and reads both with
//! [`read_with_net`].

use std::time::Duration;

use config::{KeySpec, Problems, Seconds, Section, Settings};

use crate::reactor::net::ConnectAddress;
use crate::wire::upstream::{Keepalive, UpstreamRules};

config::value_enum! {
    /// `net.dns.resolver`.
    pub enum Resolver {
        /// The system's.
        Legacy = "legacy",
        /// Fluent Bit's own.
        Async = "async",
    }
}

config::config_map! {
    /// What outputs that connect somewhere are told.
    pub struct NetKeys {
        /// Host to connect to, a name or an address.
        "host" => host: String, default "127.0.0.1";
        /// Port to connect to.
        "port" => port: u16, optional;
        /// Keeps connections open between flushes.
        "net.keepalive" => keepalive: bool, default "true";
        /// Time an idle connection is kept.
        "net.keepalive_idle_timeout" => keepalive_idle_timeout: Seconds, default "30s";
        /// How often a connection is used again before it is replaced; 0 for no limit.
        "net.keepalive_max_recycle" => keepalive_max_recycle: u64, default "2000";
        /// Time a connection, with its handshake, may take to be there; 0 for no limit.
        "net.connect_timeout" => connect_timeout: Seconds, default "10s";
        /// Whether a connection that took too long is an error in the log, else a debug line.
        "net.connect_timeout_log_error" => connect_timeout_log_error: bool, default "true";
        /// Time one read or write may take; 0 for no limit.
        "net.io_timeout" => io_timeout: Seconds, default "0";
        /// Names are always resolved by the system, off the shard: nothing to set.
        "net.dns.resolver" => resolver: Resolver, default "async";
        /// Protocol of name lookups.
        "net.dns.mode" => later "UDP";
        /// Tries IPv4 addresses of a name first.
        "net.dns.prefer_ipv4" => later "false";
        /// Tries IPv6 addresses of a name first.
        "net.dns.prefer_ipv6" => later "false";
        /// Probes of the kernel on silent connections.
        "net.tcp_keepalive" => later "off";
        /// Time before the first probe.
        "net.tcp_keepalive_time" => later "-1";
        /// Time between probes.
        "net.tcp_keepalive_interval" => later "-1";
        /// Probes before a connection counts as lost.
        "net.tcp_keepalive_probes" => later "-1";
        /// Local address to connect from.
        "net.source_address" => later;
        /// Connections one worker may have: a shard never has more than flushes under way.
        "net.max_worker_connections" => later "0";
        /// Proxies of the environment are never used: nothing to set.
        "net.proxy_env_ignore" => proxy_env_ignore: bool, default "false";
        /// Takes only IPv6 addresses of a name.
        "ipv6" => later "off";
        /// Encrypts connections.
        "tls" => later "off";
        /// Checks the peer's certificate.
        "tls.verify" => later "on";
        /// Checks the name in the peer's certificate.
        "tls.verify_hostname" => later "off";
        /// Verbosity of TLS.
        "tls.debug" => later "1";
        /// File of certificates that are trusted.
        "tls.ca_file" => later;
        /// Folder of certificates that are trusted.
        "tls.ca_path" => later;
        /// Own certificate.
        "tls.crt_file" => later;
        /// Key of the own certificate.
        "tls.key_file" => later;
        /// Password of the key.
        "tls.key_passwd" => later;
        /// Name asked for.
        "tls.vhost" => later;
        /// Oldest version of TLS.
        "tls.min_version" => later;
        /// Newest version of TLS.
        "tls.max_version" => later;
        /// Ciphers.
        "tls.ciphers" => later;
    }
}

impl NetKeys {
    /// Where to connect, with the plugin's own port where none is set.
    pub fn address(&self, default_port: u16) -> ConnectAddress {
        ConnectAddress::Tcp(self.host.clone(), self.port.unwrap_or(default_port))
    }

    /// How connections are made and kept.
    pub fn rules(&self) -> UpstreamRules {
        let limit = |time: Seconds| Some(time.0).filter(|time| *time > Duration::ZERO);
        let keepalive = Keepalive {
            idle_wait: self.keepalive_idle_timeout.0,
            reuses_max: self.keepalive_max_recycle,
        };
        UpstreamRules {
            connect_wait: limit(self.connect_timeout),
            io_wait: limit(self.io_timeout),
            keepalive: self.keepalive.then_some(keepalive),
        }
    }
}

/// Reads a plugin's own keys and those of [`NetKeys`]; a key of neither is said once.
pub fn read_with_net<K: Settings>(
    section: &Section,
    engine_keys: &[&[KeySpec]],
    problems: &mut Problems,
) -> Option<(K, NetKeys)> {
    let is_net = |key: &str| NetKeys::KEYS.iter().any(|spec| spec.name.eq_ignore_ascii_case(key));
    let mut of_net = section.clone();
    of_net.properties.retain(|property| is_net(&property.key));
    let others = [engine_keys, &[NetKeys::KEYS]].concat();
    let own = K::read(section, &others, problems);
    let net = NetKeys::read(&of_net, &[], problems);
    own.zip(net)
}
