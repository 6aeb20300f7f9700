//! One flush: a connection, its handshake when it is fresh, the frame, the ack.
//!
//! What fails is tried again later, under the rules of the engine. Only where a kept connection turns out
//! to be closed by the peer, a fresh one is tried at once: that costs the flush nothing, and whatever the
//! peer took before has not been acked.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::chunk::Chunk;
use crate::limits::ACK_WAIT;
use crate::log::Log;
use crate::outputs::forward::frame::{Frame, FrameRules};
use crate::plugin::output::{Flush, FlushFuture, FlushStatus};
use crate::wire::fluent::{
    self, Credentials, MESSAGE_BYTES_MAX, MessageError, PongVerdict, check_pong, parse_ack,
    parse_helo, random_salt,
};
use crate::wire::upstream::{Connection, Upstream};

/// Frames up to this size are written in one piece; larger ones go from where they lie.
const JOINED_BYTES: usize = 64 * 1024;

/// What must be known of the other end.
#[derive(Debug)]
pub(super) struct Peer {
    /// Asks for the handshake.
    pub(super) credentials: Option<Credentials>,
    /// Whether a connection that took too long is an error in the log.
    pub(super) logs_slow_connects: bool,
}

/// The part of one shard.
pub(super) struct Delivery {
    upstream: Rc<Upstream>,
    rules: Arc<FrameRules>,
    peer: Arc<Peer>,
    log: Log,
}

/// Why a frame was not delivered.
enum Failure {
    /// The connection did not carry it.
    Io(io::Error),
    /// The peer said something else than the protocol has, or no.
    Refused(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}

impl Failure {
    /// Whether the peer has closed the connection, as it may while nobody uses it.
    fn is_closed(&self) -> bool {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let Failure::Io(error) = self else { return false };
        matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Io(error) => error.fmt(f),
            Failure::Refused(why) => f.write_str(why),
        }
    }
}

impl Delivery {
    pub(super) fn new(
        upstream: Rc<Upstream>,
        rules: Arc<FrameRules>,
        peer: Arc<Peer>,
        log: Log,
    ) -> Delivery {
        Delivery { upstream, rules, peer, log }
    }

    async fn deliver(&self, chunk: &Chunk) -> FlushStatus {
        let frame = match self.rules.frame(chunk).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return FlushStatus::Ok,
            Err(error) => {
                self.log.error(format_args!("cannot compress a chunk: {error}"));
                return FlushStatus::Error;
            }
        };
        let address = self.upstream.address();
        if let Some(mut kept) = self.upstream.take_kept() {
            match self.exchange(&mut kept, &frame).await {
                Ok(()) => {
                    self.upstream.put_back(kept);
                    return FlushStatus::Ok;
                }
                Err(failure) if failure.is_closed() => {
                    self.log.debug(format_args!("{address} has closed a kept connection"));
                }
                Err(failure) => {
                    self.log.error(format_args!("{address}: {failure}"));
                    return FlushStatus::Retry;
                }
            }
        }
        let Some((mut connection, is_kept)) = self.connect().await else {
            return FlushStatus::Retry;
        };
        match self.exchange(&mut connection, &frame).await {
            Ok(()) => {
                if is_kept {
                    self.upstream.put_back(connection);
                }
                FlushStatus::Ok
            }
            Err(failure) => {
                self.log.error(format_args!("{address}: {failure}"));
                FlushStatus::Retry
            }
        }
    }

    /// A fresh connection, after its handshake, and whether the peer lets it be kept.
    async fn connect(&self) -> Option<(Connection, bool)> {
        let address = self.upstream.address();
        let mut connection = match self.upstream.connect().await {
            Ok(connection) => connection,
            Err(error) => {
                let is_slow = error.kind() == io::ErrorKind::TimedOut;
                let text = format_args!("cannot connect to {address}: {error}");
                match is_slow && !self.peer.logs_slow_connects {
                    true => self.log.debug(text),
                    false => self.log.error(text),
                }
                return None;
            }
        };
        let Some(credentials) = &self.peer.credentials else { return Some((connection, true)) };
        match self.shake_hands(&mut connection, credentials).await {
            Ok(is_kept) => Some((connection, is_kept)),
            Err(failure) => {
                self.log.error(format_args!("{address}: no handshake: {failure}"));
                None
            }
        }
    }

    /// HELO, PING, PONG. Returns whether the peer lets the connection be kept.
    async fn shake_hands(
        &self,
        connection: &mut Connection,
        credentials: &Credentials,
    ) -> Result<bool, Failure> {
        let wait = self.upstream.rules().connect_wait;
        let helo = receive(connection, wait, parse_helo).await?;
        let salt = random_salt()?;
        let mut ping = Vec::new();
        fluent::ping(&helo, credentials, &salt, &mut ping);
        connection.write_all(&ping).await?;
        let check = |bytes: &[u8]| check_pong(bytes, &salt, &helo.nonce, &credentials.shared_key);
        match receive(connection, wait, check).await? {
            PongVerdict::Accepted => Ok(helo.keepalive),
            PongVerdict::Refused(reason) => {
                Err(Failure::Refused(format!("the peer refuses: {reason}")))
            }
            PongVerdict::WrongKey => {
                Err(Failure::Refused("the peer has another `shared_key`".into()))
            }
        }
    }

    /// Writes the frame, and reads its ack where one is asked for.
    async fn exchange(
        &self,
        connection: &mut Connection,
        frame: &Frame<'_>,
    ) -> Result<(), Failure> {
        let Frame { head, entries, tail, ack } = frame;
        if head.len() + entries.len() + tail.len() <= JOINED_BYTES {
            connection.write_all(&[&head[..], entries, tail].concat()).await?;
        } else {
            connection.write_all(head).await?;
            connection.write_all(entries).await?;
            connection.write_all(tail).await?;
        }
        let Some(expected) = ack else { return Ok(()) };
        let wait = Some(self.upstream.rules().io_wait.unwrap_or(ACK_WAIT));
        let parse = |bytes: &[u8]| parse_ack(bytes).map(|(chunk, length)| (chunk.to_vec(), length));
        let got = receive(connection, wait, parse).await.map_err(|failure| match failure {
            Failure::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
                Failure::Refused("no ack came in time".into())
            }
            other => other,
        })?;
        match got == expected.as_bytes() {
            true => Ok(()),
            false => Err(Failure::Refused(format!(
                "the ack is for `{}`, not for `{expected}`",
                String::from_utf8_lossy(&got)
            ))),
        }
    }
}

/// Reads one message; there is never a second before the next frame.
async fn receive<T>(
    connection: &mut Connection,
    wait: Option<Duration>,
    parse: impl Fn(&[u8]) -> Result<(T, usize), MessageError>,
) -> Result<T, Failure> {
    let mut buffer = vec![0; 1024];
    let mut filled = 0;
    loop {
        let count = connection.read(&mut buffer[filled..], wait).await?;
        if count == 0 {
            let text = "the peer has closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text).into());
        }
        filled += count;
        match parse(&buffer[..filled]) {
            Ok((message, length)) if length == filled => return Ok(message),
            Ok(_) => return Err(Failure::Refused("the peer says more than it was asked".into())),
            Err(MessageError::Incomplete) if filled < MESSAGE_BYTES_MAX => {}
            Err(MessageError::Incomplete) => {
                return Err(Failure::Refused("the peer's message has no end".into()));
            }
            Err(MessageError::Unexpected(why)) => return Err(Failure::Refused(why.into())),
        }
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
    }
}

impl Flush for Delivery {
    fn flush<'a>(&'a self, chunk: &'a Chunk) -> FlushFuture<'a> {
        Box::pin(self.deliver(chunk))
    }
}
