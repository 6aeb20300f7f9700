//! Sockets: listeners made with socket2 before the shards start, connections read and written on them.
//!
//! glommio's own `bind` always shares the port and panics on a name it cannot resolve, and its `connect`
//! resolves on the shard; so sockets are made here and handed over as descriptors.

use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt};
use glommio::net::{TcpStream, UnixStream};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::plugin::input::{ListenAddress, Sharing};
use crate::reactor::{mailbox, sleep, timeout};

/// Connections the kernel may queue before they are accepted.
const BACKLOG: i32 = 1024;

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectAddress {
    /// Host name or address, and port.
    Tcp(String, u16),
    /// A unix stream socket.
    Unix(PathBuf),
}

/// `127.0.0.1:24224`, or the path.
impl fmt::Display for ConnectAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConnectAddress::Tcp(host, port) if host.contains(':') && !host.starts_with('[') => {
                write!(f, "[{host}]:{port}")
            }
            ConnectAddress::Tcp(host, port) => write!(f, "{host}:{port}"),
            ConnectAddress::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A connected stream socket of this shard.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A unix socket, and its descriptor, which glommio does not tell.
    Unix(UnixStream, RawFd),
}

impl Stream {
    /// Takes over a connected descriptor.
    pub fn from_descriptor(descriptor: OwnedFd) -> Stream {
        let socket = Socket::from(descriptor);
        let is_unix = socket.domain().is_ok_and(|domain| domain == Domain::UNIX);
        if !is_unix {
            // Refused by nothing but a socket that is closed already.
            let _ = socket.set_tcp_nodelay(true);
        }
        let raw = socket.into_raw_fd();
        // SAFETY: `raw` was just taken out of an owned socket, so it is open and has no other owner.
        unsafe {
            if is_unix {
                Stream::Unix(UnixStream::from_raw_fd(raw), raw)
            } else {
                Stream::Tcp(TcpStream::from_raw_fd(raw))
            }
        }
    }

    /// Resolves the name off the shard and connects, trying each address in turn.
    ///
    /// # Errors
    /// The last reason, or `TimedOut`.
    pub async fn connect(address: &ConnectAddress, wait: Duration) -> io::Result<Stream> {
        let attempt = async {
            match address {
                ConnectAddress::Unix(path) => connect_unix(path).await,
                ConnectAddress::Tcp(host, port) => connect_tcp(host, *port).await,
            }
        };
        match timeout(wait, attempt).await {
            Some(result) => result,
            None => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        }
    }

    /// Whether an idle connection is still good: the peer has neither closed it nor sent anything.
    pub fn is_quiet(&self) -> bool {
        let raw = match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(_, descriptor) => *descriptor,
        };
        // SAFETY: `self` owns the descriptor and outlives this call.
        let descriptor = unsafe { BorrowedFd::borrow_raw(raw) };
        let mut byte = [MaybeUninit::uninit()];
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        let peeked = SockRef::from(&descriptor).recv_with_flags(&mut byte, flags);
        peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Reads what is there, at most the length of the buffer; 0 at the end of the stream.
    ///
    /// # Errors
    /// As the socket says.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer).await,
            Stream::Unix(stream, _) => stream.read(buffer).await,
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// As the socket says; how much was written is then unknown.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.write_all(bytes).await,
            Stream::Unix(stream, _) => stream.write_all(bytes).await,
        }
    }
}

/// A unix socket connects at once, or is refused, or its listener has no room yet.
async fn connect_unix(path: &Path) -> io::Result<Stream> {
    let address = SockAddr::unix(path)?;
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        match socket.connect(&address) {
            Ok(()) => return Ok(Stream::from_descriptor(socket.into())),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<Stream> {
    let addresses = resolve(host, port).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(Stream::Tcp(stream));
            }
            Err(error) => last = error.into(),
        }
    }
    Err(last)
}

/// Addresses of a name; looked up on a thread of its own, because the resolver blocks.
///
/// # Errors
/// As the resolver says.
pub async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = host.parse() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (answer, mut answered) = mailbox::pair();
    let host = host.to_owned();
    std::thread::Builder::new().name("resolve".into()).spawn(move || {
        let addresses = (host.as_str(), port).to_socket_addrs();
        answer.send(addresses.map(|all| all.collect::<Vec<_>>()));
    })?;
    answered.receive().await
}

/// An open listener.
#[derive(Debug)]
pub struct Listener {
    /// The listening socket, non-blocking.
    pub socket: Socket,
    /// What it listens on, for logs.
    pub name: String,
    unlink: Option<PathBuf>,
}

impl Listener {
    /// Opens a listening socket.
    ///
    /// # Errors
    /// A text that names the address and says what to change.
    pub fn open(address: &ListenAddress) -> Result<Listener, String> {
        match address {
            ListenAddress::Tcp { host, port, shared } => Listener::open_tcp(host, *port, *shared),
            ListenAddress::Unix { path, mode } => Listener::open_unix(path, *mode),
        }
    }

    fn open_tcp(host: &str, port: u16, shared: Sharing) -> Result<Listener, String> {
        let trimmed = host.trim_start_matches('[').trim_end_matches(']');
        let mut addresses = (trimmed, port)
            .to_socket_addrs()
            .map_err(|error| format!("cannot resolve `listen {host}`: {error}"))?;
        let Some(address) = addresses.next() else {
            return Err(format!("`listen {host}` has no address"));
        };
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
            socket.set_reuse_address(true)?;
            if shared == Sharing::Shared {
                socket.set_reuse_port(true)?;
            }
            socket.bind(&SockAddr::from(address))?;
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => format!(
                "cannot listen on {address}: the address is in use; stop the other process or choose \
                 another `port`"
            ),
            io::ErrorKind::PermissionDenied => format!(
                "cannot listen on {address}: permission denied; ports below 1024 need CAP_NET_BIND_SERVICE"
            ),
            _ => format!("cannot listen on {address}: {error}"),
        })?;
        let local = socket.local_addr().ok().and_then(|local| local.as_socket());
        let name = local.unwrap_or(address).to_string();
        Ok(Listener { socket, name, unlink: None })
    }

    fn open_unix(path: &Path, mode: Option<u32>) -> Result<Listener, String> {
        let shown = path.display();
        // A socket left over from a run that was killed is replaced; one that answers is not.
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(format!("cannot listen on `{shown}`: another process answers there"));
        }
        let is_socket = std::fs::symlink_metadata(path)
            .is_ok_and(|meta| std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()));
        if is_socket {
            let _ = std::fs::remove_file(path);
        }
        let open = || -> io::Result<Socket> {
            let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
            socket.bind(&SockAddr::unix(path)?)?;
            if let Some(mode) = mode {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
            }
            socket.listen(BACKLOG)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|error| format!("cannot listen on `{shown}`: {error}"))?;
        Ok(Listener { socket, name: shown.to_string(), unlink: Some(path.to_owned()) })
    }

    /// Accepts one connection; `None` when none waits.
    ///
    /// # Errors
    /// As the socket says; running out of descriptors is one of them.
    pub fn accept(&self) -> io::Result<Option<(OwnedFd, String)>> {
        match self.socket.accept() {
            Ok((socket, peer)) => {
                let text = peer.as_socket().map(|peer| format!("{}:{}", peer.ip(), peer.port()));
                Ok(Some((socket.into(), text.unwrap_or_else(|| "unix".into()))))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The descriptor, to be watched.
    pub fn descriptor(&self) -> i32 {
        self.socket.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.unlink {
            let _ = std::fs::remove_file(path);
        }
    }
}
