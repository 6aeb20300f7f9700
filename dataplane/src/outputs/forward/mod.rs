//! `forward`: sends events to Fluent Bit, Fluentd and everything else that speaks their protocol.
//!
//! [`frame`] puts a chunk into a frame, by reference where the stored form is what goes on the wire;
//! [`deliver`] is one flush: a connection, its handshake, the frame, the ack.

mod deliver;
mod frame;

use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use config::{KeySpec, Problem, Problems, Section, Settings, Words, join_keys};

use crate::outputs::forward::deliver::{Delivery, Peer};
use crate::outputs::forward::frame::{Compression, EntryForm, FrameRules};
use crate::outputs::net_keys::{NetKeys, read_with_net};
use crate::plugin::descriptor::{BuildContext, OutputPlugin, Placement};
use crate::plugin::output::{Flush, LocalOutput, OutputDefinition, OutputPlace};
use crate::reactor::net::ConnectAddress;
use crate::wire::fluent::Credentials;
use crate::wire::upstream::{Upstream, UpstreamRules};

/// The `forward` output.
pub static PLUGIN: OutputPlugin = OutputPlugin {
    name: "forward",
    summary: "sends events over the forward protocol of Fluentd and Fluent Bit",
    keys: &KEYS,
    placement: Placement::EveryShard,
    build,
};

const KEY_COUNT: usize = ForwardSettings::KEYS.len() + NetKeys::KEYS.len();
static KEYS: [KeySpec; KEY_COUNT] = join_keys(ForwardSettings::KEYS, NetKeys::KEYS);

/// Port of the forward protocol.
const PORT: u16 = 24224;

config::value_enum! {
    /// `compress`.
    pub enum Compress {
        /// As it is.
        Text = "text",
        /// Packed entries, compressed.
        Gzip = "gzip",
    }
}

config::config_map! {
    /// What `forward` is told.
    pub struct ForwardSettings {
        /// Path of a unix socket to connect to instead of host and port.
        "unix_path" => unix_path: PathBuf, optional;
        /// File that lists several peers.
        "upstream" => later;
        /// Tag that is sent instead of that of the events.
        "tag" => tag: String, optional;
        /// Sends times as whole seconds, for Fluentd 0.12; metadata is left out.
        "time_as_integer" => time_as_integer: bool, default "false";
        /// Sends events with their metadata, a form Fluentd cannot read; on if not set, unless `fluentd_compat` is.
        "retain_metadata_in_forward_mode" => retain_metadata: bool, optional;
        /// Sends what Fluentd can read: events without metadata.
        "fluentd_compat" => fluentd_compat: bool, default "false";
        /// text, or gzip for packed and compressed entries.
        "compress" => compress: Compress, default "text";
        /// Sends the protocol's options with each frame.
        "send_options" => send_options: bool, default "false";
        /// A name and a value that are put among the options; repeat it for more.
        "add_option" => add_options: Words, repeat;
        /// Waits until the peer has confirmed each frame.
        "require_ack_response" => require_ack: bool, default "false";
        /// Key that the peer must know too.
        "shared_key" => shared_key: String, optional;
        /// Does the handshake with an empty key.
        "empty_shared_key" => empty_shared_key: bool, default "false";
        /// Name of this client in the handshake.
        "self_hostname" => self_hostname: String, default "localhost";
        /// User the peer asks for.
        "username" => username: String, optional;
        /// Password of the user.
        "password" => password: String, optional;
    }
}

struct Forward {
    address: ConnectAddress,
    rules: UpstreamRules,
    frame: Arc<FrameRules>,
    peer: Arc<Peer>,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<OutputDefinition> {
    let (settings, net) = read_with_net::<ForwardSettings>(section, context.engine_keys, problems)?;
    let add_options = check(&settings, section, problems)?;
    let address = match &settings.unix_path {
        Some(path) => ConnectAddress::Unix(path.clone()),
        None => net.address(PORT),
    };
    let shared_key = match settings.empty_shared_key {
        true => Some(String::new()),
        false => settings.shared_key.clone(),
    };
    let credentials = shared_key.map(|shared_key| Credentials {
        hostname: settings.self_hostname.clone(),
        shared_key,
        username: settings.username.clone().unwrap_or_default(),
        password: settings.password.clone().unwrap_or_default(),
    });
    let is_compressed = settings.compress == Compress::Gzip;
    let with_options =
        settings.send_options || settings.require_ack || is_compressed || !add_options.is_empty();
    let frame = FrameRules {
        tag: settings.tag.clone().map(String::into_bytes),
        form: match (settings.time_as_integer, settings.retain_metadata) {
            (true, _) => EntryForm::Seconds,
            (false, Some(true)) => EntryForm::Stored,
            (false, None) if !settings.fluentd_compat => EntryForm::Stored,
            (false, _) => EntryForm::Legacy,
        },
        compression: if is_compressed { Compression::Gzip } else { Compression::None },
        with_options,
        with_ack: settings.require_ack,
        add_options,
    };
    let peer = Peer { credentials, logs_slow_connects: net.connect_timeout_log_error };
    Some(OutputDefinition::Local(Arc::new(Forward {
        address,
        rules: net.rules(),
        frame: Arc::new(frame),
        peer: Arc::new(peer),
    })))
}

/// Refuses what cannot work; returns the options to add.
fn check(
    settings: &ForwardSettings,
    section: &Section,
    problems: &mut Problems,
) -> Option<Vec<(String, String)>> {
    let mut refuse = |key: &str, message: &str, help: &str| {
        let span = section.get(key).map(|property| property.value_span);
        problems.push(Problem::error(span, message).with_help(help));
    };
    let mut is_right = true;
    let has_key = settings.shared_key.is_some() || settings.empty_shared_key;
    let credentials = [("username", &settings.username), ("password", &settings.password)];
    if let Some((key, _)) = credentials.iter().find(|(_, value)| value.is_some())
        && !has_key
    {
        let message = format!("`{key}` needs `shared_key` or `empty_shared_key` beside it");
        refuse(key, &message, "users are part of the handshake, which these two switch on");
        is_right = false;
    }
    if settings.compress == Compress::Gzip && settings.time_as_integer {
        let message = "`compress gzip` does not go with `time_as_integer`";
        refuse("compress", message, "peers that need whole seconds cannot read compressed frames");
        is_right = false;
    }
    if settings.tag.as_ref().is_some_and(|tag| tag.contains('$')) {
        let message = "`tag` with parts of the record is not supported yet";
        refuse("tag", message, "write a fixed text");
        is_right = false;
    }
    let mut add_options = Vec::new();
    for Words(words) in &settings.add_options {
        match <[String; 2]>::try_from(words.clone()) {
            Ok([name, value]) => add_options.push((name, value)),
            Err(_) => {
                refuse(
                    "add_option",
                    "`add_option` needs a name and a value",
                    "add_option key text",
                );
                is_right = false;
            }
        }
    }
    is_right.then_some(add_options)
}

impl LocalOutput for Forward {
    fn default_workers(&self) -> usize {
        2
    }

    fn open(&self, place: &OutputPlace) -> Box<dyn Flush> {
        let upstream: Rc<Upstream> = Upstream::new(self.address.clone(), self.rules.clone());
        let (frame, peer) = (Arc::clone(&self.frame), Arc::clone(&self.peer));
        Box::new(Delivery::new(upstream, frame, peer, place.log.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::{context, section};

    fn problems(properties: &[(&str, &str)]) -> Vec<String> {
        let mut problems = Problems::default();
        let built = build(&section(properties), &context(), &mut problems);
        assert_eq!(built.is_none(), problems.has_errors());
        problems.iter().map(|problem| problem.message.clone()).collect()
    }

    #[test]
    fn what_cannot_work_is_refused_at_start() {
        assert_eq!(
            problems(&[("username", "ann")]),
            ["`username` needs `shared_key` or `empty_shared_key` beside it"]
        );
        assert_eq!(
            problems(&[("compress", "gzip"), ("time_as_integer", "on")]),
            ["`compress gzip` does not go with `time_as_integer`"]
        );
        assert_eq!(
            problems(&[("compress", "zstd")]),
            ["`compress`: `zstd` is none of `text`, `gzip`"]
        );
        assert_eq!(problems(&[("add_option", "lonely")]).len(), 1);
        assert_eq!(problems(&[("tag", "$app")]).len(), 1);
        for (key, value) in [
            ("upstream", "nodes.conf"),
            ("tls", "on"),
            ("net.source_address", "127.0.0.1"),
            ("net.tcp_keepalive", "on"),
            ("net.keepalive_idle_timeout", "soon"),
            ("net.keepalve", "on"),
            ("port", "70000"),
        ] {
            assert_eq!(problems(&[(key, value)]).len(), 1, "{key}");
        }
    }

    #[test]
    fn what_means_off_or_the_default_is_taken() {
        let taken = [
            ("host", "10.0.0.1"),
            ("port", "24224"),
            ("tls", "off"),
            ("net.keepalive", "off"),
            ("net.keepalive_idle_timeout", "10s"),
            ("net.keepalive_max_recycle", "7"),
            ("net.connect_timeout", "1"),
            ("net.io_timeout", "5s"),
            ("net.dns.resolver", "LEGACY"),
            ("net.tcp_keepalive", "false"),
            ("empty_shared_key", "on"),
            ("username", "ann"),
            ("add_option", "key text"),
        ];
        assert!(problems(&taken).is_empty(), "{:?}", problems(&taken));
    }
}
