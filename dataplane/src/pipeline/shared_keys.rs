//! Keys that Fluent Bit takes in every section, although only some plugins do something with them.
//!
//! A plugin that reads one of them lists it among its own keys, and then that entry counts. On any other plugin
//! the key is checked, so that a typo is found, and said to have no effect, or refused where it would have one.

use config::{KeySpec, Problem, Problems, Seconds, Section, Settings, nearest};

use super::build::read_engine_keys;

config::config_map! {
    /// Where an instance listens or connects.
    pub struct PlaceKeys {
        /// Address to listen on.
        "listen" => listen: String, optional;
        /// Host to connect to.
        "host" => host: String, optional;
        /// Port of either.
        "port" => port: u16, optional;
        /// Whether IPv6 is used.
        "ipv6" => ipv6: bool, optional;
        /// Switches filters off; inputs and outputs run all the same, as in Fluent Bit.
        "active" => active: String, optional;
    }
}

config::config_map! {
    /// Network settings of inputs.
    pub struct ListenerKeys {
        /// Lets other processes listen on the port too.
        "net.share_port" => later "false";
        /// Connections that may wait to be accepted.
        "net.backlog" => later "128";
        /// Time a silent connection is kept.
        "net.io_timeout" => later "0s";
        /// Time a handshake may take.
        "net.accept_timeout" => later "10s";
        /// Logs connections that took too long.
        "net.accept_timeout_log_error" => later "true";
        /// Keeps connections open.
        "net.keepalive" => later "true";
    }
}

config::config_map! {
    /// Network settings of outputs.
    pub struct ConnectorKeys {
        /// Protocol of name lookups.
        "net.dns.mode" => later "UDP";
        /// Who looks names up.
        "net.dns.resolver" => later "async";
        /// Prefers IPv4 addresses.
        "net.dns.prefer_ipv4" => later "false";
        /// Prefers IPv6 addresses.
        "net.dns.prefer_ipv6" => later "false";
        /// Keeps connections open.
        "net.keepalive" => later "true";
        /// Time an unused connection is kept.
        "net.keepalive_idle_timeout" => later "30s";
        /// Probes silent connections.
        "net.tcp_keepalive" => later "off";
        /// Time before the first probe.
        "net.tcp_keepalive_time" => later "-1";
        /// Time between probes.
        "net.tcp_keepalive_interval" => later "-1";
        /// Probes before a connection is given up.
        "net.tcp_keepalive_probes" => later "-1";
        /// Time a connection may be silent.
        "net.io_timeout" => later "0s";
        /// Time a connection may take to be made.
        "net.connect_timeout" => later "10s";
        /// Logs connections that took too long.
        "net.connect_timeout_log_error" => later "true";
        /// Address to connect from.
        "net.source_address" => later;
        /// Uses of a connection before it is made anew.
        "net.keepalive_max_recycle" => later "2000";
        /// Connections a worker may have.
        "net.max_worker_connections" => later "0";
        /// Passes over the proxy that the environment names.
        "net.proxy_env_ignore" => later "false";
    }
}

config::config_map! {
    /// TLS: everything but the switch has no effect while it is off.
    pub struct TlsKeys {
        /// Encrypts connections.
        "tls" => later "off";
        /// Checks the peer's certificate.
        "tls.verify" => verify: bool, default "on";
        /// Checks the peer's name.
        "tls.verify_hostname" => verify_hostname: bool, default "off";
        /// Asks clients for certificates.
        "tls.verify_client_cert" => verify_client_cert: bool, default "off";
        /// Log level of the TLS library.
        "tls.debug" => debug: u64, default "1";
        /// Name of the server.
        "tls.vhost" => vhost: String, optional;
        /// Folder of authorities.
        "tls.ca_path" => ca_path: String, optional;
        /// File of authorities.
        "tls.ca_file" => ca_file: String, optional;
        /// Certificate.
        "tls.crt_file" => crt_file: String, optional;
        /// Key of the certificate.
        "tls.key_file" => key_file: String, optional;
        /// Password of the key.
        "tls.key_passwd" => key_passwd: String, optional;
        /// Oldest version.
        "tls.min_version" => min_version: String, optional;
        /// Newest version.
        "tls.max_version" => max_version: String, optional;
        /// Ciphers.
        "tls.ciphers" => ciphers: String, optional;
        /// Checks the proxy's certificate.
        "tls.proxy.verify" => proxy_verify: bool, default "on";
        /// Checks the proxy's name.
        "tls.proxy.verify_hostname" => proxy_verify_hostname: bool, default "on";
        /// Folder of the proxy's authorities.
        "tls.proxy.ca_path" => proxy_ca_path: String, optional;
        /// File of the proxy's authorities.
        "tls.proxy.ca_file" => proxy_ca_file: String, optional;
        /// Only for Windows.
        "tls.windows.certstore_name" => windows_certstore_name: String, optional;
        /// Only for Windows.
        "tls.windows.use_enterprise_store" => windows_use_enterprise_store: bool, optional;
        /// Only for Windows.
        "tls.windows.client_thumbprints" => windows_client_thumbprints: String, optional;
    }
}

config::config_map! {
    /// Of inputs: what goes with a feature that is off.
    pub struct IdleInputKeys {
        /// Pauses at a number of chunks; has no effect without storage on disk.
        "storage.pause_on_chunks_overlimit" => pause_on_chunks_overlimit: bool, default "off";
        /// Ring of a threaded input; inputs have no threads of their own here.
        "thread.ring_buffer.capacity" => ring_capacity: u64, default "1024";
        /// Ring of a threaded input; inputs have no threads of their own here.
        "thread.ring_buffer.window" => ring_window: u64, default "5";
        /// Rate measuring; has no effect while rate_gate is off.
        "rate_window" => rate_window: Seconds, default "1s";
        /// Rate limiting; has no effect while rate_gate is off.
        "rate_gate.max_bytes" => rate_max_bytes: config::Size, default "0";
        /// Rate limiting; has no effect while rate_gate is off.
        "rate_gate.max_records" => rate_max_records: u64, default "0";
        /// Rate limiting; has no effect while rate_gate is off.
        "rate_gate.backpressure" => rate_backpressure: bool, default "on";
        /// Rate limiting; has no effect while rate_gate is off.
        "rate_gate.resume_ratio" => rate_resume_ratio: f64, default "0.80";
    }
}

/// Tables that stand beside the keys of an input.
pub const OF_INPUTS: [&[KeySpec]; 4] =
    [PlaceKeys::KEYS, ListenerKeys::KEYS, TlsKeys::KEYS, IdleInputKeys::KEYS];
/// Tables that stand beside the keys of an output.
pub const OF_OUTPUTS: [&[KeySpec]; 3] = [PlaceKeys::KEYS, ConnectorKeys::KEYS, TlsKeys::KEYS];

/// Checks the shared keys of an input.
pub fn check_input(section: &Section, plugin_keys: &[KeySpec], problems: &mut Problems) {
    // What is read is only checked: nothing here has an effect.
    let _ = read_engine_keys::<IdleInputKeys>(section, plugin_keys, problems);
    match is_network(plugin_keys) {
        true => drop(read_engine_keys::<ListenerKeys>(section, plugin_keys, problems)),
        false => say_idle(section, plugin_keys, ListenerKeys::KEYS, problems),
    }
    check_both(section, plugin_keys, problems);
}

/// Checks the shared keys of an output.
pub fn check_output(section: &Section, plugin_keys: &[KeySpec], problems: &mut Problems) {
    match is_network(plugin_keys) {
        true => drop(read_engine_keys::<ConnectorKeys>(section, plugin_keys, problems)),
        false => say_idle(section, plugin_keys, ConnectorKeys::KEYS, problems),
    }
    check_both(section, plugin_keys, problems);
}

/// Checks the `net.*` keys of a loaded plugin by their names, as Fluent Bit does although the plugin never sees them.
pub fn check_net_names(section: &Section, problems: &mut Problems) {
    let known = || ConnectorKeys::KEYS.iter().map(|spec| spec.name);
    for property in &section.properties {
        let is_net = property.key.get(..4).is_some_and(|front| front.eq_ignore_ascii_case("net."));
        if is_net && !known().any(|name| property.is(name)) {
            let problem =
                Problem::error(property.key_span, format!("unknown property `{}`", property.key));
            problems.push(match nearest(&property.key, known()) {
                Some(near) => problem.with_help(format!("did you mean `{near}`?")),
                None => problem,
            });
        }
    }
}

fn check_both(section: &Section, plugin_keys: &[KeySpec], problems: &mut Problems) {
    let _ = read_engine_keys::<PlaceKeys>(section, plugin_keys, problems);
    let _ = read_engine_keys::<TlsKeys>(section, plugin_keys, problems);
    say_idle(section, plugin_keys, PlaceKeys::KEYS, problems);
}

fn is_network(plugin_keys: &[KeySpec]) -> bool {
    plugin_keys.iter().any(|spec| spec.name == "port")
}

/// Fluent Bit takes these in silence.
fn say_idle(section: &Section, plugin_keys: &[KeySpec], idle: &[KeySpec], problems: &mut Problems) {
    let plugin = section.plugin_name().map_or("", |name| name.value.as_str());
    for property in &section.properties {
        let is_idle = idle.iter().any(|spec| property.is(spec.name));
        if is_idle && !plugin_keys.iter().any(|spec| property.is(spec.name)) {
            let message = format!("`{}` has no effect on `{plugin}`", property.key);
            problems.push(Problem::warning(property.key_span, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use config::{Property, SourceMap, Span};

    use super::*;

    #[test]
    fn a_loaded_plugins_net_keys_are_checked_by_name() {
        let mut sources = SourceMap::default();
        let span = Span::new(sources.add("t", ""), 0, 0);
        let mut section = Section::new("OUTPUT", span);
        for key in ["Net.Keepalive", "net.keepalife", "network", "custom"] {
            let (key, value) = (key.to_owned(), "x".to_owned());
            section.properties.push(Property { key, value, key_span: span, value_span: span });
        }
        let mut problems = Problems::default();
        check_net_names(&section, &mut problems);
        let said: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(said, ["unknown property `net.keepalife`"]);
    }
}
