//! The forward protocol's small messages, both ends: HELO, PING and PONG of the handshake, acks, chunk ids.
//!
//! The input serves them and the output asks with them, so that they are one text here and are tested
//! against each other. Digests are SHA-512 as lower-case hex. Source of the rules: Fluentd's forward
//! protocol specification 1.5 and what Fluent Bit sends.

use std::io;

use base64::Engine as _;
use sha2::{Digest, Sha512};

use crate::event::encoder::{put_array_len, put_bool, put_map_len, put_str};
use crate::event::msgpack::{Head, map_get, read_head};
use crate::kernel::msgpack_skip::{SkipError, skip_value};

/// Bytes of a nonce or salt.
pub const SALT_BYTES: usize = 16;
/// Longest handshake message or ack that is waited for; true ones stay under 1 KiB.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// What a PONG says to a wrong user or password.
pub const WRONG_USER: &str = "username/password mismatch";

/// A nonce or salt, fresh for each connection.
pub type Salt = [u8; SALT_BYTES];

/// Why bytes are not the message that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageError {
    /// The message is not whole; read on.
    Incomplete,
    /// Something else was sent; the text says what was expected.
    Unexpected(&'static str),
}

/// Sixteen bytes nobody can guess.
///
/// # Errors
/// When the kernel has no randomness to give, or forbids the call.
pub fn random_salt() -> io::Result<Salt> {
    let mut salt = [0; SALT_BYTES];
    let count = rustix::rand::getrandom(&mut salt, rustix::rand::GetRandomFlags::empty())?;
    match count == SALT_BYTES {
        true => Ok(salt),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

/// What a server greets with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Helo {
    /// Goes into the digests of the shared key.
    pub nonce: Vec<u8>,
    /// Goes into the digest of the password; empty when the server asks for no user.
    pub auth: Vec<u8>,
    /// Whether the connection may be used for more than one frame; true when not said.
    pub keepalive: bool,
}

/// Appends a HELO, in Fluent Bit's form: strings of 16 bytes, no `keepalive`.
pub fn helo(nonce: &Salt, auth: &Salt, out: &mut Vec<u8>) {
    put_array_len(out, 2);
    put_str(out, b"HELO");
    put_map_len(out, 2);
    put_str(out, b"nonce");
    put_str(out, nonce);
    put_str(out, b"auth");
    put_str(out, auth);
}

/// Reads a HELO off the front of `bytes`; returns it and its length.
///
/// # Errors
/// When it is not whole, or something else.
pub fn parse_helo(bytes: &[u8]) -> Result<(Helo, usize), MessageError> {
    const EXPECTED: MessageError = MessageError::Unexpected("expected a HELO");
    let (mut rest, length) = message(bytes, "HELO", 2, EXPECTED)?;
    let options = rest;
    let Some(Head::Map(_)) = read_head(&mut rest) else { return Err(EXPECTED) };
    let get = |key: &[u8]| map_get(options, key).and_then(|mut value| read_head(&mut value));
    let text = |key: &[u8]| get(key).and_then(text_of).map(<[u8]>::to_vec);
    let nonce = text(b"nonce").ok_or(EXPECTED)?;
    let auth = text(b"auth").unwrap_or_default();
    let keepalive = get(b"keepalive") != Some(Head::Bool(false));
    Ok((Helo { nonce, auth, keepalive }, length))
}

/// What a client proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// `self_hostname`.
    pub hostname: String,
    /// `shared_key`; empty under `empty_shared_key`.
    pub shared_key: String,
    /// `username`; empty for none.
    pub username: String,
    /// `password`.
    pub password: String,
}

/// Appends the PING that answers a HELO. `salt` is the client's own; its PONG is checked with it.
pub fn ping(helo: &Helo, credentials: &Credentials, salt: &Salt, out: &mut Vec<u8>) {
    let Credentials { hostname, shared_key, username, password } = credentials;
    let key = key_digest(salt, hostname.as_bytes(), &helo.nonce, shared_key);
    put_array_len(out, 6);
    put_str(out, b"PING");
    put_str(out, hostname.as_bytes());
    put_str(out, salt);
    put_str(out, key.as_bytes());
    put_str(out, username.as_bytes());
    match username.is_empty() {
        true => put_str(out, b""),
        false => {
            let digest = user_digest(&helo.auth, username.as_bytes(), password);
            put_str(out, digest.as_bytes());
        }
    }
}

/// What a client sent to prove itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ping<'a> {
    /// Its name.
    pub hostname: &'a [u8],
    /// Its salt.
    pub salt: &'a [u8],
    /// Digest of the shared key.
    pub key_digest: &'a [u8],
    /// User, empty for none.
    pub username: &'a [u8],
    /// Digest of the password.
    pub user_digest: &'a [u8],
}

/// Reads a PING off the front of `bytes`; returns it and its length.
///
/// # Errors
/// When it is not whole, or something else.
pub fn parse_ping(bytes: &[u8]) -> Result<(Ping<'_>, usize), MessageError> {
    const EXPECTED: MessageError = MessageError::Unexpected("expected a PING");
    let (mut rest, length) = message(bytes, "PING", 6, EXPECTED)?;
    let mut field = || read_head(&mut rest).and_then(text_of).ok_or(EXPECTED);
    let ping = Ping {
        hostname: field()?,
        salt: field()?,
        key_digest: field()?,
        username: field()?,
        user_digest: field()?,
    };
    Ok((ping, length))
}

/// One of `security.users`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name.
    pub name: String,
    /// Password.
    pub password: String,
}

/// What a server thinks of a PING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PingVerdict {
    /// Key and user are right.
    Accepted,
    /// The shared key differs.
    WrongKey,
    /// The user is unknown or the password wrong.
    WrongUser,
}

/// Checks a PING against the HELO that was sent. Without `users` any user is right.
pub fn check_ping(
    ping: &Ping<'_>,
    nonce: &Salt,
    auth: &Salt,
    shared_key: &str,
    users: &[User],
) -> PingVerdict {
    let expected = key_digest(ping.salt, ping.hostname, nonce, shared_key);
    if !is_same(expected.as_bytes(), ping.key_digest) {
        return PingVerdict::WrongKey;
    }
    let is_known = users.iter().any(|user| {
        user.name.as_bytes() == ping.username
            && is_same(
                user_digest(auth, ping.username, &user.password).as_bytes(),
                ping.user_digest,
            )
    });
    match users.is_empty() || is_known {
        true => PingVerdict::Accepted,
        false => PingVerdict::WrongUser,
    }
}

/// Appends the PONG that accepts a client.
pub fn pong(ping: &Ping<'_>, nonce: &Salt, hostname: &str, shared_key: &str, out: &mut Vec<u8>) {
    let digest = key_digest(ping.salt, hostname.as_bytes(), nonce, shared_key);
    put_array_len(out, 5);
    put_str(out, b"PONG");
    put_bool(out, true);
    put_str(out, b"");
    put_str(out, hostname.as_bytes());
    put_str(out, digest.as_bytes());
}

/// Appends the PONG that refuses a client.
pub fn pong_refused(reason: &str, out: &mut Vec<u8>) {
    put_array_len(out, 5);
    put_str(out, b"PONG");
    put_bool(out, false);
    put_str(out, reason.as_bytes());
    put_str(out, b"");
    put_str(out, b"");
}

/// What a client thinks of a PONG.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PongVerdict {
    /// The server accepts and has proved that it knows the key.
    Accepted,
    /// The server refuses; its reason.
    Refused(String),
    /// The server accepts and does not know the key.
    WrongKey,
}

/// Reads and checks the PONG at the front of `bytes`; returns the verdict and its length.
///
/// # Errors
/// When it is not whole, or something else.
pub fn check_pong(
    bytes: &[u8],
    salt: &Salt,
    nonce: &[u8],
    shared_key: &str,
) -> Result<(PongVerdict, usize), MessageError> {
    const EXPECTED: MessageError = MessageError::Unexpected("expected a PONG");
    let (mut rest, length) = message(bytes, "PONG", 5, EXPECTED)?;
    let Some(Head::Bool(is_accepted)) = read_head(&mut rest) else { return Err(EXPECTED) };
    let mut field = || read_head(&mut rest).and_then(text_of).ok_or(EXPECTED);
    let reason = field()?;
    if !is_accepted {
        let reason = String::from_utf8_lossy(reason).into_owned();
        return Ok((PongVerdict::Refused(reason), length));
    }
    let expected = key_digest(salt, field()?, nonce, shared_key);
    match is_same(expected.as_bytes(), field()?) {
        true => Ok((PongVerdict::Accepted, length)),
        false => Ok((PongVerdict::WrongKey, length)),
    }
}

/// Appends the answer to a frame whose options name a chunk.
pub fn ack(chunk: &[u8], out: &mut Vec<u8>) {
    put_map_len(out, 1);
    put_str(out, b"ack");
    put_str(out, chunk);
}

/// Reads an ack off the front of `bytes`; returns the chunk it names and its length.
///
/// # Errors
/// When it is not whole, or something else.
pub fn parse_ack(bytes: &[u8]) -> Result<(&[u8], usize), MessageError> {
    const EXPECTED: MessageError = MessageError::Unexpected("expected an ack");
    let length = whole(bytes, EXPECTED)?;
    let mut chunk = map_get(&bytes[..length], b"ack").ok_or(EXPECTED)?;
    let chunk = read_head(&mut chunk).and_then(text_of).ok_or(EXPECTED)?;
    Ok((chunk, length))
}

/// The id of a chunk: base64 of the first 16 bytes of the SHA-512 of its entries, 24 characters.
/// The parts are taken as if they stood one after another.
pub fn chunk_id<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let digest = digest(parts);
    base64::engine::general_purpose::STANDARD.encode(&digest[..16])
}

fn key_digest(salt: &[u8], hostname: &[u8], nonce: &[u8], shared_key: &str) -> String {
    hex(&digest([salt, hostname, nonce, shared_key.as_bytes()]))
}

fn user_digest(auth: &[u8], username: &[u8], password: &str) -> String {
    hex(&digest([auth, username, password.as_bytes()]))
}

fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 64] {
    let mut hasher = Sha512::new();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Compares without telling by the time it takes how much was right.
fn is_same(expected: &[u8], given: &[u8]) -> bool {
    let differences = expected.iter().zip(given).fold(0, |sum, (a, b)| sum | (a ^ b));
    expected.len() == given.len() && differences == 0
}

/// The fields of `[name, ...]` with so many members, behind the name; and the length of it all.
fn message<'a>(
    bytes: &'a [u8],
    name: &str,
    members: usize,
    expected: MessageError,
) -> Result<(&'a [u8], usize), MessageError> {
    let length = whole(bytes, expected)?;
    let mut rest = &bytes[..length];
    let is_shape = read_head(&mut rest) == Some(Head::Array(members));
    match is_shape && read_head(&mut rest).and_then(text_of) == Some(name.as_bytes()) {
        true => Ok((rest, length)),
        false => Err(expected),
    }
}

fn whole(bytes: &[u8], expected: MessageError) -> Result<usize, MessageError> {
    match skip_value(bytes) {
        Ok(length) => Ok(length),
        Err(SkipError::Incomplete) if bytes.len() < MESSAGE_BYTES_MAX => {
            Err(MessageError::Incomplete)
        }
        Err(_) => Err(expected),
    }
}

fn text_of(head: Head<'_>) -> Option<&[u8]> {
    match head {
        Head::Str(text) | Head::Bin(text) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Salt = *b"0123456789abcdef";
    const AUTH: Salt = *b"fedcba9876543210";
    const SALT: Salt = *b"saltsaltsaltsalt";

    fn credentials(shared_key: &str, password: &str) -> Credentials {
        Credentials {
            hostname: "client".into(),
            shared_key: shared_key.into(),
            username: "ann".into(),
            password: password.into(),
        }
    }

    fn verdict(shared_key: &str, password: &str) -> PingVerdict {
        let mut greeting = Vec::new();
        helo(&NONCE, &AUTH, &mut greeting);
        let (received, length) = parse_helo(&greeting).unwrap();
        assert_eq!(length, greeting.len());
        let mut answer = Vec::new();
        ping(&received, &credentials(shared_key, password), &SALT, &mut answer);
        let (asked, length) = parse_ping(&answer).unwrap();
        assert_eq!(length, answer.len());
        let users = [User { name: "ann".into(), password: "right".into() }];
        check_ping(&asked, &NONCE, &AUTH, "key", &users)
    }

    #[test]
    fn both_ends_agree_on_right_and_wrong_credentials() {
        assert_eq!(verdict("key", "right"), PingVerdict::Accepted);
        assert_eq!(verdict("other", "right"), PingVerdict::WrongKey);
        assert_eq!(verdict("key", "wrong"), PingVerdict::WrongUser);
    }

    #[test]
    fn a_client_accepts_only_a_server_that_knows_the_key() {
        let asked = Ping {
            hostname: b"client",
            salt: &SALT,
            key_digest: b"",
            username: b"",
            user_digest: b"",
        };
        let mut out = Vec::new();
        pong(&asked, &NONCE, "server", "key", &mut out);
        let check = |key| check_pong(&out, &SALT, &NONCE, key).map(|(verdict, _)| verdict);
        assert_eq!(check("key"), Ok(PongVerdict::Accepted));
        assert_eq!(check("other"), Ok(PongVerdict::WrongKey));
        for cut in 0..out.len() {
            let part = check_pong(&out[..cut], &SALT, &NONCE, "key");
            assert_eq!(part, Err(MessageError::Incomplete));
        }
        let mut out = Vec::new();
        pong_refused(WRONG_USER, &mut out);
        let refused = PongVerdict::Refused(WRONG_USER.into());
        assert_eq!(check_pong(&out, &SALT, &NONCE, "key"), Ok((refused, out.len())));
    }

    #[test]
    fn digests_are_those_of_another_implementation() {
        // From Python: sha512(b"saltsaltsaltsalt" + b"client" + b"0123456789abcdef" + b"key").hexdigest()
        let digest = key_digest(&SALT, b"client", &NONCE, "key");
        assert_eq!(
            digest,
            "997c8a284aa7525c71f52dda72d1e58ebab4d0f493a9634330cd200bb9ac5a1e\
             2aff7b447b38f3af9faa494cc85eff774474a94906d34308d3c20e33cdb169a9"
        );
        assert_eq!(chunk_id([&b"ab"[..], b"c"]), "3a81oZNherrMQXNJriBBMQ==");
    }

    #[test]
    fn acks_read_back_and_other_bytes_do_not() {
        let mut out = Vec::new();
        ack(b"id", &mut out);
        assert_eq!(out, b"\x81\xa3ack\xa2id");
        out.push(0x81);
        assert_eq!(parse_ack(&out), Ok((&b"id"[..], out.len() - 1)));
        assert_eq!(parse_ack(&out[..3]), Err(MessageError::Incomplete));
        assert!(matches!(parse_ack(b"\x81\xa1x\xa1y"), Err(MessageError::Unexpected(_))));
        assert!(matches!(parse_ack(&[0xc1]), Err(MessageError::Unexpected(_))));
    }

    #[test]
    fn other_messages_and_endless_ones_are_refused() {
        assert!(matches!(parse_ping(b"\x92\xa4HELO\x80"), Err(MessageError::Unexpected(_))));
        assert!(matches!(parse_helo(b"\x92\xa4HELO\xc0"), Err(MessageError::Unexpected(_))));
        let mut endless = b"\x96\xa4PING\xdb\x7f\xff\xff\xff".to_vec();
        assert_eq!(parse_ping(&endless), Err(MessageError::Incomplete));
        endless.resize(MESSAGE_BYTES_MAX, b'x');
        assert!(matches!(parse_ping(&endless), Err(MessageError::Unexpected(_))));
    }

    #[test]
    fn a_helo_without_keepalive_keeps_the_connection() {
        let plain = parse_helo(b"\x92\xa4HELO\x81\xa5nonce\xc4\x01n").unwrap().0;
        assert!(plain.keepalive && plain.nonce == b"n" && plain.auth.is_empty());
        let closing = b"\x92\xa4HELO\x82\xa5nonce\xa1n\xa9keepalive\xc2";
        assert!(!parse_helo(closing).unwrap().0.keepalive);
    }

    #[test]
    fn salts_differ() {
        assert_ne!(random_salt().unwrap(), random_salt().unwrap());
    }
}
