//! `forward`: takes events from Fluent Bit, Fluentd and everything else that speaks their protocol.
//!
//! [`session`] is one connection: handshake, frames, acks. [`frame`] finds the parts of a frame,
//! [`inflate`] undoes compression within a bound, [`store`] appends entries to the chunk. Every entry is
//! checked before it is stored, and nothing is acked that was not appended.

mod frame;
mod inflate;
mod session;
mod store;

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use config::{Octal, Problem, Problems, Section, Settings, Size, Words};

use crate::inputs::forward::session::{Session, Shared};
use crate::limits::EVENT_BYTES_MAX;
use crate::log::Log;
use crate::plugin::descriptor::{BuildContext, InputPlugin, Placement};
use crate::plugin::input::{
    Framer, InputDefinition, InputPlace, InputTag, ListenAddress, Peer, Sharing, Source,
    StreamInput,
};
use crate::wire::fluent::User;

/// The `forward` input.
pub static PLUGIN: InputPlugin = InputPlugin {
    name: "forward",
    summary: "takes events over the forward protocol of Fluentd and Fluent Bit",
    keys: ForwardSettings::KEYS,
    placement: Placement::EveryShard,
    build,
};

config::config_map! {
    /// What `forward` is told.
    pub struct ForwardSettings {
        /// Address to listen on.
        "listen" => listen: String, default "0.0.0.0";
        /// Port to listen on.
        "port" => port: u16, default "24224";
        /// Path of a unix socket to listen on instead.
        "unix_path" => unix_path: PathBuf, optional;
        /// Permission bits of the unix socket, in octal.
        "unix_perm" => unix_perm: Octal, optional;
        /// Put before the tag that comes with a frame.
        "tag_prefix" => tag_prefix: String, optional;
        /// Key that clients must know.
        "shared_key" => shared_key: String, optional;
        /// Asks for the handshake with an empty key.
        "empty_shared_key" => empty_shared_key: bool, default "false";
        /// Name of this server in the handshake.
        "self_hostname" => self_hostname: String, default "localhost";
        /// A user and a password that clients may use; repeat it for more.
        "security.users" => users: Words, repeat;
        /// Bytes the buffer of a connection begins with.
        "buffer_chunk_size" => buffer_chunk_size: Size, default "1024000";
        /// Bytes a frame may have, as it comes and after decompression.
        "buffer_max_size" => buffer_max_size: Size, default "6144000";
        /// Connections are spread over all shards: nothing to set.
        "workers" => workers: u64, default "1";
        /// Lets other processes listen on the port too.
        "net.share_port" => share_port: bool, default "false";
        /// Connections that may wait to be accepted.
        "net.backlog" => later "128";
        /// Time a silent connection is kept.
        "net.io_timeout" => later "0";
        /// Time a handshake may take.
        "net.accept_timeout" => later "10s";
        /// Logs connections that took too long.
        "net.accept_timeout_log_error" => later "true";
        /// Keeps connections open.
        "net.keepalive" => later "true";
        /// Encrypts connections.
        "tls" => later "off";
        /// Checks the peer's certificate.
        "tls.verify" => later "on";
    }
}

struct Forward {
    address: ListenAddress,
    rules: Arc<Rules>,
}

/// What all connections of an instance have in common.
pub(crate) struct Rules {
    /// The key of the handshake; `None` asks for none.
    shared_key: Option<String>,
    users: Vec<User>,
    hostname: String,
    tag_prefix: Option<Vec<u8>>,
    buffer_bytes_initial: usize,
    buffer_bytes_max: usize,
}

fn build(
    section: &Section,
    context: &BuildContext<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn InputDefinition>> {
    let settings = ForwardSettings::read(section, context.engine_keys, problems)?;
    let mut refuse = |key: &str, message: String| {
        let span = section.get(key).map(|property| property.value_span);
        problems.push(Problem::error(span, message));
    };
    let shared_key = match settings.empty_shared_key {
        true => Some(String::new()),
        false => settings.shared_key.clone(),
    };
    let mut users = Vec::new();
    for Words(words) in &settings.users {
        match <[String; 2]>::try_from(words.clone()) {
            Ok([name, password]) => users.push(User { name, password }),
            Err(_) => {
                refuse("security.users", "`security.users` needs a user and a password".into());
                return None;
            }
        }
    }
    if shared_key.is_none() && !users.is_empty() {
        let message = "`security.users` needs `shared_key` or `empty_shared_key` beside it";
        refuse("security.users", message.into());
        return None;
    }
    let Size(most) = settings.buffer_max_size;
    let Size(initial) = settings.buffer_chunk_size;
    if most == 0 || initial == 0 || most.max(initial) > EVENT_BYTES_MAX as u64 / 2 {
        let message = format!(
            "`buffer_chunk_size` and `buffer_max_size` must lie between 1 and {} bytes",
            EVENT_BYTES_MAX / 2
        );
        refuse("buffer_max_size", message);
        return None;
    }
    let rules = Rules {
        shared_key,
        users,
        hostname: settings.self_hostname.clone(),
        tag_prefix: settings.tag_prefix.clone().map(String::into_bytes),
        buffer_bytes_initial: initial.min(most) as usize,
        buffer_bytes_max: most as usize,
    };
    Some(Arc::new(Forward { address: address(settings), rules: Arc::new(rules) }))
}

fn address(settings: ForwardSettings) -> ListenAddress {
    match settings.unix_path {
        Some(path) => ListenAddress::Unix { path, mode: settings.unix_perm.map(|Octal(m)| m) },
        None => ListenAddress::Tcp {
            host: settings.listen,
            port: settings.port,
            shared: match settings.share_port {
                true => Sharing::Shared,
                false => Sharing::Exclusive,
            },
        },
    }
}

impl InputDefinition for Forward {
    fn listeners(&self) -> Vec<ListenAddress> {
        vec![self.address.clone()]
    }

    fn start(&self, place: &InputPlace, tag: &InputTag) -> Result<Source, String> {
        let input = ForwardInput {
            shared: Rc::new(Shared {
                rules: Arc::clone(&self.rules),
                fixed_tag: tag.configured.then(|| tag.text.as_bytes().to_vec()),
                inflated: RefCell::new(Vec::new()),
            }),
            log: place.log.clone(),
        };
        Ok(Source::Connections(Box::new(input)))
    }
}

struct ForwardInput {
    shared: Rc<Shared>,
    log: Log,
}

impl StreamInput for ForwardInput {
    fn connect(&self, peer: &Peer) -> Box<dyn Framer> {
        self.log.debug(format_args!("connection from {}", peer.address));
        Box::new(Session::new(Rc::clone(&self.shared)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::testing::problems_of;

    fn problems(properties: &[(&str, &str)]) -> Vec<String> {
        problems_of(&PLUGIN, properties)
    }

    #[test]
    fn what_cannot_work_is_refused_at_start() {
        assert_eq!(
            problems(&[("security.users", "ann secret")]),
            ["`security.users` needs `shared_key` or `empty_shared_key` beside it"]
        );
        assert_eq!(
            problems(&[("shared_key", "k"), ("security.users", "ann")]),
            ["`security.users` needs a user and a password"]
        );
        assert_eq!(problems(&[("buffer_max_size", "0")]).len(), 1);
        assert_eq!(problems(&[("buffer_max_size", "1G")]).len(), 1);
        assert_eq!(problems(&[("tls", "on")]).len(), 1);
        assert!(
            problems(&[("empty_shared_key", "on"), ("security.users", "ann secret")]).is_empty()
        );
    }

    #[test]
    fn it_listens_where_it_is_told() {
        let listeners = |properties: &[(&str, &str)]| {
            let section = crate::plugin::testing::section(properties);
            let settings = ForwardSettings::read(&section, &[], &mut Problems::default());
            address(settings.unwrap())
        };
        let (host, shared) = ("0.0.0.0".to_owned(), Sharing::Exclusive);
        assert_eq!(listeners(&[]), ListenAddress::Tcp { host, port: 24224, shared });
        let path = PathBuf::from("/run/f.sock");
        let unix = ListenAddress::Unix { path, mode: Some(0o660) };
        assert_eq!(listeners(&[("unix_path", "/run/f.sock"), ("unix_perm", "0660")]), unix);
    }
}
