//! Connections of one output to its peer: kept open between flushes, each shard its own.
//!
//! A kept connection may be closed by the peer at any time. It is looked at before it is used again, and
//! what looked open and was not shows in the first exchange: a caller then goes to a fresh one.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::reactor::net::{ConnectAddress, Stream};
use crate::reactor::{monotonic_ns, sleep, spawn, timeout, yield_now};

/// Bytes written before the other tasks of the shard get their turn.
const WRITE_BYTES: usize = 256 * 1024;
/// The wait where the configuration sets no limit: longer than any network takes to give up.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How connections are made and kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamRules {
    /// How long a connection may take to be there; `None` for no limit of our own.
    pub connect_wait: Option<Duration>,
    /// How long one read, or the write of a quarter of a MiB, may take; `None` for no limit.
    pub io_wait: Option<Duration>,
    /// How connections are kept; `None` closes each after its exchange.
    pub keepalive: Option<Keepalive>,
}

/// How connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long an idle one is kept.
    pub idle_wait: Duration,
    /// How often a connection is used again; 0 for no limit.
    pub reuses_max: u64,
}

/// The connections of one output on one shard.
pub struct Upstream {
    address: ConnectAddress,
    rules: UpstreamRules,
    idle: RefCell<Vec<Idle>>,
    is_sweeping: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since_ns: u64,
}

/// One connection, in use.
pub struct Connection {
    stream: Stream,
    uses: u64,
    io_wait: Option<Duration>,
}

impl Upstream {
    /// Without connections yet.
    pub fn new(address: ConnectAddress, rules: UpstreamRules) -> Rc<Upstream> {
        Rc::new(Upstream {
            address,
            rules,
            idle: RefCell::default(),
            is_sweeping: Cell::new(false),
        })
    }

    /// Where to.
    pub fn address(&self) -> &ConnectAddress {
        &self.address
    }

    /// The rules it was made with.
    pub fn rules(&self) -> &UpstreamRules {
        &self.rules
    }

    /// A connection that was kept and is still good.
    pub fn take_kept(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, since_ns }) = idle.pop() {
            if !self.is_over(since_ns) && connection.stream.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// A fresh connection.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn connect(&self) -> io::Result<Connection> {
        let wait = self.rules.connect_wait.unwrap_or(FOREVER);
        let stream = Stream::connect(&self.address, wait).await?;
        Ok(Connection { stream, uses: 0, io_wait: self.rules.io_wait })
    }

    /// Takes a connection back whose exchange went well, to keep it if the rules say so.
    pub fn put_back(self: &Rc<Self>, mut connection: Connection) {
        let Some(keepalive) = self.rules.keepalive else { return };
        connection.uses += 1;
        if keepalive.reuses_max > 0 && connection.uses > keepalive.reuses_max {
            return;
        }
        self.idle.borrow_mut().push(Idle { connection, since_ns: monotonic_ns() });
        if !self.is_sweeping.replace(true) {
            spawn(Rc::clone(self).sweep());
        }
    }

    /// Closes connections whose idle time is over, as long as there are idle ones.
    async fn sweep(self: Rc<Self>) {
        loop {
            self.idle.borrow_mut().retain(|idle| !self.is_over(idle.since_ns));
            let oldest = self.idle.borrow().iter().map(|idle| idle.since_ns).min();
            let Some(oldest_ns) = oldest else { break };
            let left_ns = (oldest_ns + self.idle_ns()).saturating_sub(monotonic_ns());
            sleep(Duration::from_nanos(left_ns).max(Duration::from_millis(1))).await;
        }
        self.is_sweeping.set(false);
    }

    fn is_over(&self, since_ns: u64) -> bool {
        monotonic_ns().saturating_sub(since_ns) >= self.idle_ns()
    }

    fn idle_ns(&self) -> u64 {
        let wait = self.rules.keepalive.map_or(Duration::ZERO, |keepalive| keepalive.idle_wait);
        u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX / 2).min(u64::MAX / 2)
    }
}

impl Connection {
    /// Whether it has carried an exchange before: then the peer may have closed it meanwhile.
    pub fn was_kept(&self) -> bool {
        self.uses > 0
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// As the socket says, or `TimedOut` when the peer takes nothing in time.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(WRITE_BYTES) {
            let write = self.stream.write_all(piece);
            match self.io_wait {
                None => write.await?,
                Some(wait) => timeout(wait, write).await.unwrap_or_else(|| Err(timed_out()))?,
            }
            if bytes.len() > WRITE_BYTES {
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Reads what comes, waiting at most so long; 0 at the end of the stream.
    ///
    /// # Errors
    /// As the socket says, or `TimedOut`.
    pub async fn read(&mut self, buffer: &mut [u8], wait: Option<Duration>) -> io::Result<usize> {
        let read = self.stream.read(buffer);
        match wait {
            None => read.await,
            Some(wait) => timeout(wait, read).await.unwrap_or_else(|| Err(timed_out())),
        }
    }
}

fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::reactor::executor;

    fn upstream(listener: &TcpListener, keepalive: Option<Keepalive>) -> Rc<Upstream> {
        let port = listener.local_addr().unwrap().port();
        let rules = UpstreamRules { connect_wait: None, io_wait: None, keepalive };
        Upstream::new(ConnectAddress::Tcp("127.0.0.1".into(), port), rules)
    }

    const KEPT: Keepalive = Keepalive { idle_wait: Duration::from_secs(60), reuses_max: 2 };

    #[test]
    fn a_connection_is_used_again_so_often_and_no_oftener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        executor::run("test", None, async {
            let upstream = upstream(&listener, Some(KEPT));
            let mut connection = upstream.connect().await.unwrap();
            for _ in 0..2 {
                upstream.put_back(connection);
                connection = upstream.take_kept().unwrap();
                assert!(connection.was_kept());
            }
            upstream.put_back(connection);
            assert!(upstream.take_kept().is_none());
            let without = Upstream::new(
                upstream.address().clone(),
                UpstreamRules { keepalive: None, ..upstream.rules().clone() },
            );
            let connection = without.connect().await.unwrap();
            without.put_back(connection);
            assert!(without.take_kept().is_none());
        })
        .unwrap();
    }

    #[test]
    fn a_connection_that_the_peer_closed_or_spoke_on_is_not_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        executor::run("test", None, async {
            let upstream = upstream(&listener, Some(KEPT));
            for says in [&b""[..], b"?"] {
                let connection = upstream.connect().await.unwrap();
                let (mut peer, _) = listener.accept().unwrap();
                upstream.put_back(connection);
                peer.write_all(says).unwrap();
                drop(peer);
                while upstream.idle.borrow()[0].connection.stream.is_quiet() {
                    sleep(Duration::from_millis(1)).await;
                }
                assert!(upstream.take_kept().is_none());
            }
        })
        .unwrap();
    }

    #[test]
    fn an_idle_connection_is_closed_when_its_time_is_over() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let idle_wait = Duration::from_millis(20);
        executor::run("test", None, async {
            let upstream = upstream(&listener, Some(Keepalive { idle_wait, ..KEPT }));
            let connection = upstream.connect().await.unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            upstream.put_back(connection);
            while upstream.is_sweeping.get() {
                sleep(Duration::from_millis(1)).await;
            }
            // Closing goes through the ring: let it.
            yield_now().await;
            peer.set_nonblocking(true).unwrap();
            while peer.read(&mut [0]).is_err() {
                sleep(Duration::from_millis(1)).await;
            }
        })
        .unwrap();
    }
}
