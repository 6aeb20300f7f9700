//! Which keys of its section a plugin sees, and how it finds them.
//!
//! Fluent Bit's core takes the keys below for itself and a plugin that asks for one gets nothing (rule: its
//! flb_output_set_property). Every other key is the plugin's, as it is written.

/// Keys of an output section that the core takes.
const RESERVED: [&str; 14] = [
    "name",
    "match",
    "match_regex",
    "alias",
    "log_level",
    "log_suppress_interval",
    "host",
    "port",
    "ipv6",
    "retry_limit",
    "workers",
    "storage.total_limit_size",
    "tls",
    "go.event_format",
];

/// `tls.*` keys that the core takes; others, such as `tls.verify_client_cert`, reach the plugin.
const RESERVED_TLS: [&str; 16] = [
    "verify",
    "verify_hostname",
    "debug",
    "vhost",
    "ca_path",
    "ca_file",
    "crt_file",
    "key_file",
    "key_passwd",
    "min_version",
    "max_version",
    "ciphers",
    "proxy.verify",
    "proxy.verify_hostname",
    "proxy.ca_path",
    "proxy.ca_file",
];

/// Whether a plugin never sees this key of its section.
pub fn is_reserved(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if ["net.", "oauth2", "_debug.http."].iter().any(|prefix| key.starts_with(prefix)) {
        return true;
    }
    match key.strip_prefix("tls.") {
        Some(rest) => RESERVED_TLS.contains(&rest),
        None => RESERVED.contains(&key.as_str()),
    }
}

/// Whether a plugin that asks for `asked` means the key `written`: any case, and a YAML key in camelCase is
/// found under its snake_case too, which is how Fluent Bit would have stored it.
pub fn is_meant(asked: &str, written: &str) -> bool {
    asked.eq_ignore_ascii_case(written) || asked.eq_ignore_ascii_case(&snake_case(written))
}

fn snake_case(key: &str) -> String {
    let is_camel =
        key.starts_with(|letter: char| letter.is_ascii_lowercase()) && !key.contains('_');
    if !is_camel {
        return key.to_owned();
    }
    let mut out = String::new();
    for letter in key.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_hidden_and_visible_keys_holds() {
        let hidden = [
            "Match",
            "match_regex",
            "alias",
            "host",
            "port",
            "ipv6",
            "log_level",
            "retry_limit",
            "workers",
            "net.keepalive",
            "oauth2x",
            "_debug.http.request_headers",
            "tls",
            "tls.verify",
            "tls.proxy.ca_file",
            "name",
            "storage.total_limit_size",
        ];
        let visible = [
            "listen",
            "mem_buf_limit",
            "routable",
            "storage.type",
            "tag",
            "threaded",
            "active",
            "http2",
            "tls.verify_client_cert",
            "storage.pause_on_chunks_overlimit",
            "networks",
            "custom",
        ];
        for key in hidden {
            assert!(is_reserved(key), "{key}");
        }
        for key in visible {
            assert!(!is_reserved(key), "{key}");
        }
    }

    #[test]
    fn a_key_is_found_in_any_case_and_either_spelling() {
        assert!(is_meant("licenseKey", "licenseKey"));
        assert!(is_meant("license_key", "licenseKey"));
        assert!(is_meant("LICENSEKEY", "licenseKey"));
        assert!(is_meant("Id", "id"));
        assert!(!is_meant("license", "licenseKey"));
    }
}
