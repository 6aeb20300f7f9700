//! Drives the sources of a shard: timers, connections, descriptors, turns.
//!
//! Each reads, hands what it has to the input, pumps the lanes and yields. A paused input keeps its
//! connections open and reads nothing, so the sender is held back by TCP and no data is lost.

use std::cell::RefMut;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::future::or;

use crate::chunk::InputId;
use crate::lane::Message;
use crate::limits::CONNECTIONS_MAX;
use crate::log::Log;
use crate::plugin::input::{
    CloseReason, DropCause, EventSink, Flow, Framer, Next, Peer, Source, StreamInput, TimedInput,
    Turn, TurnInput,
};
use crate::reactor::net::{Listener, Stream};
use crate::reactor::readiness::Readiness;
use crate::reactor::{clock, now, sleep, spawn, yield_now};
use crate::shard::Shard;
use crate::shard::drive::Engine;

/// Shortest time between two turns of a paused input.
const PAUSED_TURN_MIN: Duration = Duration::from_millis(10);

/// What a shard has to drive.
pub struct Sources {
    /// The started inputs.
    pub inputs: Vec<StartedInput>,
    /// Listeners whose connections this shard accepts, for all shards.
    pub listeners: Vec<(InputId, Listener)>,
    /// Open connections of every shard, to find the least loaded.
    pub loads: Arc<Vec<AtomicUsize>>,
    /// Watches descriptors.
    pub readiness: Readiness,
}

/// An input started on this shard.
pub struct StartedInput {
    /// Which.
    pub id: InputId,
    /// What it wants driven.
    pub source: Source,
    /// Its log.
    pub log: Log,
}

/// Starts a task for each source.
pub(super) fn start(engine: &Rc<Engine>, sources: Sources) {
    let Sources { inputs, listeners, loads, readiness } = sources;
    let mut streams: Vec<(InputId, Rc<dyn StreamInput>, Log)> = Vec::new();
    for StartedInput { id, source, log } in inputs {
        match source {
            Source::Idle => {}
            Source::Timer(interval, input) => engine.run_source(timer(engine, id, interval, input)),
            Source::Connections(input) => streams.push((id, Rc::from(input), log)),
            Source::Descriptor(descriptor, framer) => {
                let watching = readiness.clone();
                engine.run_source(descriptor_source(engine, id, descriptor, framer, watching, log));
            }
            Source::Turns(input) => {
                engine.run_source(turns(engine, id, input, readiness.clone(), log));
            }
        }
    }
    for (id, listener) in listeners {
        let log = streams.iter().find(|(input, ..)| *input == id).map(|(.., log)| log.clone());
        let log = log.unwrap_or_else(|| engine.log.clone());
        let accepting =
            accept(Rc::clone(engine), id, listener, Arc::clone(&loads), readiness.clone(), log);
        engine.run_source(accepting);
    }
    spawn(take_connections(Rc::clone(engine), streams, loads));
}

impl Engine {
    /// Runs a source as a task that the stop waits for.
    fn run_source(self: &Rc<Self>, source: impl Future<Output = ()> + 'static) {
        self.running_sources.set(self.running_sources.get() + 1);
        let engine = Rc::clone(self);
        spawn(async move {
            source.await;
            engine.running_sources.set(engine.running_sources.get() - 1);
            engine.progress.ring();
        });
    }

    /// The shard, told what time it is.
    fn shard_now(&self) -> RefMut<'_, Shard> {
        let mut shard = self.shard.borrow_mut();
        shard.tell_time(clock());
        shard
    }

    fn flow(&self, input: InputId) -> Flow {
        self.shard.borrow_mut().sink(input).flow()
    }

    /// Waits while the input is paused, until the stop.
    async fn wait_open(&self, input: InputId) {
        if self.flow(input) == Flow::Paused {
            let is_open = || self.stop.is_set() || self.flow(input) == Flow::Open;
            self.resume.wait_until(is_open).await;
        }
    }

    /// Ends what asked to end.
    fn ends(&self, next: Next) -> bool {
        if next == Next::StopProcess {
            (self.stop_process)();
        }
        next != Next::Continue
    }
}

fn timer(
    engine: &Rc<Engine>,
    id: InputId,
    interval: Duration,
    mut input: Box<dyn TimedInput>,
) -> impl Future<Output = ()> + 'static {
    let engine = Rc::clone(engine);
    async move {
        let mut due_ns = crate::reactor::monotonic_ns();
        loop {
            engine.wait_open(id).await;
            if engine.stop.is_set() {
                return;
            }
            let next = input.tick(now(), &mut engine.shard_now().sink(id));
            engine.pump();
            if engine.ends(next) {
                return;
            }
            due_ns += interval.as_nanos() as u64;
            let now_ns = crate::reactor::monotonic_ns();
            if due_ns < now_ns {
                // Ticks that were missed while the shard was busy or paused are not made up for.
                due_ns = now_ns;
            }
            or(sleep(Duration::from_nanos(due_ns - now_ns)), engine.stop.wait()).await;
        }
    }
}

fn turns(
    engine: &Rc<Engine>,
    id: InputId,
    mut input: Box<dyn TurnInput>,
    readiness: Readiness,
    log: Log,
) -> impl Future<Output = ()> + 'static {
    let engine = Rc::clone(engine);
    async move {
        let watch = match input.wake_descriptor().map(|fd| readiness.watch(fd)).transpose() {
            Ok(watch) => watch,
            Err(error) => {
                log.warn(format_args!("cannot watch for changes, polling instead: {error}"));
                None
            }
        };
        loop {
            if engine.stop.is_set() {
                break;
            }
            let turn = input.turn(now(), &mut engine.shard_now().sink(id));
            engine.pump();
            match turn {
                Turn::Again => yield_now().await,
                Turn::Sleep(time) => {
                    let woken = async {
                        match &watch {
                            Some(watch) if watch.readable().await.is_ok() => {}
                            _ => std::future::pending().await,
                        }
                    };
                    if engine.flow(id) == Flow::Paused {
                        // It reads nothing now, and looks after its files at a calm pace.
                        let calm = sleep(PAUSED_TURN_MIN);
                        or(engine.wait_open(id), async {
                            calm.await;
                            or(woken, sleep(time)).await
                        })
                        .await;
                        continue;
                    }
                    or(woken, or(sleep(time), engine.stop.wait())).await;
                }
                Turn::Ended => return,
                Turn::StopProcess => {
                    (engine.stop_process)();
                    return;
                }
            }
        }
        input.finish(now(), &mut engine.shard_now().sink(id));
    }
}

fn descriptor_source(
    engine: &Rc<Engine>,
    id: InputId,
    descriptor: RawFd,
    framer: Box<dyn Framer>,
    readiness: Readiness,
    log: Log,
) -> impl Future<Output = ()> + 'static {
    let engine = Rc::clone(engine);
    async move {
        let watch = match readiness.watch(descriptor) {
            Ok(watch) => watch,
            Err(error) => {
                log.error(format_args!("cannot read descriptor {descriptor}: {error}"));
                return;
            }
        };
        let mut feed = Feed::new(framer);
        loop {
            engine.wait_open(id).await;
            let stopped = async {
                engine.stop.wait().await;
                Ok(())
            };
            let ready = or(stopped, watch.readable()).await;
            if engine.stop.is_set() {
                return;
            }
            let read = ready.and_then(|()| watch.read(feed.space()));
            match read {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => break,
                Ok(count) => {
                    if let Err(reason) = feed.take(&engine, id, count) {
                        log.error(format_args!("{}", reason.0));
                        break;
                    }
                }
                Err(error) => {
                    log.error(format_args!("cannot read descriptor {descriptor}: {error}"));
                    break;
                }
            }
            engine.pump();
            yield_now().await;
        }
        let next = feed.finish(&engine, id);
        engine.pump();
        engine.ends(next);
    }
}

/// Accepts for all shards; a connection goes to the shard that has fewest.
async fn accept(
    engine: Rc<Engine>,
    id: InputId,
    listener: Listener,
    loads: Arc<Vec<AtomicUsize>>,
    readiness: Readiness,
    log: Log,
) {
    let watch = match readiness.watch(listener.descriptor()) {
        Ok(watch) => watch,
        Err(error) => {
            log.error(format_args!("cannot wait for connections: {error}"));
            return;
        }
    };
    log.info(format_args!("listening on {}", listener.name));
    while !engine.stop.is_set() {
        match listener.accept() {
            Ok(Some((descriptor, peer))) => {
                let total: usize = loads.iter().map(|load| load.load(Ordering::Relaxed)).sum();
                if total >= CONNECTIONS_MAX {
                    engine.shard_now().refuse_connection(id);
                    log.warn(format_args!(
                        "connection from {peer} closed: {CONNECTIONS_MAX} are open already"
                    ));
                    yield_now().await;
                    continue;
                }
                let shards = loads.iter().enumerate();
                let least = shards.min_by_key(|(_, load)| load.load(Ordering::Relaxed));
                let shard = least.map_or(0, |(index, _)| index);
                loads[shard].fetch_add(1, Ordering::Relaxed);
                engine.shards[shard].send(Message::Connection { input: id, descriptor, peer });
                yield_now().await;
            }
            Ok(None) => {
                let ready = async {
                    let _ = watch.readable().await;
                };
                or(ready, engine.stop.wait()).await;
            }
            Err(error) => {
                log.error(format_args!("cannot accept: {error}; trying again in a second"));
                or(sleep(Duration::from_secs(1)), engine.stop.wait()).await;
            }
        }
    }
}

/// Starts a task for each connection that is handed to this shard.
async fn take_connections(
    engine: Rc<Engine>,
    streams: Vec<(InputId, Rc<dyn StreamInput>, Log)>,
    loads: Arc<Vec<AtomicUsize>>,
) {
    loop {
        engine.connection_bell.wait_until(|| !engine.connections.borrow().is_empty()).await;
        for message in engine.connections.take() {
            let Message::Connection { input, descriptor, peer } = message else { continue };
            let Some((id, stream, log)) = streams.iter().find(|(id, ..)| *id == input) else {
                continue;
            };
            let framer = stream.connect(&Peer { address: peer.clone() });
            let (id, log) = (*id, log.clone());
            let task = Connection { engine: Rc::clone(&engine), id, peer, log };
            let loads = Arc::clone(&loads);
            engine.run_source(async move {
                let index = task.engine.index;
                task.run(descriptor, framer).await;
                loads[index].fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

struct Connection {
    engine: Rc<Engine>,
    id: InputId,
    peer: String,
    log: Log,
}

impl Connection {
    async fn run(self, descriptor: OwnedFd, framer: Box<dyn Framer>) {
        let engine = &self.engine;
        let mut stream = Stream::from_descriptor(descriptor);
        let mut feed = Feed::new(framer);
        feed.framer.greet(&mut feed.reply);
        loop {
            if !feed.reply.is_empty() {
                let reply = std::mem::take(&mut feed.reply);
                let stopped = async {
                    engine.stop.wait().await;
                    Err(io::ErrorKind::Interrupted.into())
                };
                if let Err(error) = or(stream.write_all(&reply), stopped).await {
                    self.log.debug(format_args!("{}: cannot answer: {error}", self.peer));
                    return;
                }
                feed.reply = reply;
                feed.reply.clear();
            }
            engine.wait_open(self.id).await;
            // A read that is ready at once wins over the stop below: a fast sender would go on until the deadline.
            if engine.stop.is_set() {
                return;
            }
            let stopped = async {
                engine.stop.wait().await;
                Err(io::ErrorKind::Interrupted.into())
            };
            let count = match or(stream.read(feed.space()), stopped).await {
                Ok(count) => count,
                Err(_) if engine.stop.is_set() => return,
                Err(error) => {
                    self.log.debug(format_args!("{}: connection lost: {error}", self.peer));
                    0
                }
            };
            if count == 0 {
                feed.finish(engine, self.id);
                engine.pump();
                return;
            }
            let fed = feed.take(engine, self.id, count);
            engine.pump();
            if let Err(reason) = fed {
                self.log.warn(format_args!("{}: connection closed: {}", self.peer, reason.0));
                let reply = std::mem::take(&mut feed.reply);
                let _ = or(stream.write_all(&reply), async {
                    sleep(Duration::from_secs(1)).await;
                    Ok(())
                })
                .await;
                return;
            }
            yield_now().await;
        }
    }
}

/// A framer and the buffer it reads from.
struct Feed {
    framer: Box<dyn Framer>,
    buffer: Vec<u8>,
    filled: usize,
    reply: Vec<u8>,
}

impl Feed {
    fn new(framer: Box<dyn Framer>) -> Feed {
        let buffer = vec![0; framer.buffer_bytes_initial().max(1)];
        Feed { framer, buffer, filled: 0, reply: Vec::new() }
    }

    /// Where the next bytes go; never empty.
    fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// Takes `count` bytes that were read into the space, and makes space for more.
    fn take(&mut self, engine: &Engine, id: InputId, count: usize) -> Result<(), CloseReason> {
        self.filled += count;
        let mut shard = engine.shard_now();
        let mut sink = shard.sink(id);
        let bytes = &self.buffer[..self.filled];
        let fed = self.framer.feed(bytes, now(), &mut sink, &mut self.reply)?;
        self.buffer.copy_within(fed.consumed..self.filled, 0);
        self.filled -= fed.consumed;
        if self.filled < self.buffer.len() && fed.needed <= self.buffer.len() {
            return Ok(());
        }
        let most = self.framer.buffer_bytes_max();
        let wanted = fed.needed.max(self.buffer.len() * 2).min(most);
        if fed.needed > most || wanted <= self.buffer.len() {
            sink.drop_records(DropCause::Oversized, 1);
            return Err(CloseReason(format!(
                "a record or frame is larger than the buffer may grow, {most} bytes: raise the limit"
            )));
        }
        self.buffer.resize(wanted, 0);
        Ok(())
    }

    fn finish(&mut self, engine: &Engine, id: InputId) -> Next {
        let mut shard = engine.shard_now();
        let rest = &self.buffer[..self.filled];
        self.framer.finish(rest, now(), &mut shard.sink(id))
    }
}
