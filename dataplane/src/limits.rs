//! Every bound of the engine, in one place, each with its reason.

use std::time::Duration;

/// Bytes at which an open chunk is sealed. Fluent Bit's chunks aim at 2 MB too, and plugins size buffers by it.
pub const CHUNK_BYTES_FULL: usize = 2 * 1024 * 1024;
/// Free bytes below which a chunk of the largest class counts as full: less is not worth another append.
pub const CHUNK_ROOM_MIN: usize = 32 * 1024;
/// Capacities an open chunk grows through, so that ten thousand quiet tags cost their data and not 20 GB.
pub const CHUNK_CLASSES: [usize; 5] =
    [1024, 8 * 1024, 64 * 1024, 512 * 1024, CHUNK_BYTES_FULL + CHUNK_SLACK];
/// Writable bytes kept after the full mark, so that vector kernels may store whole registers.
pub const CHUNK_SLACK: usize = 4096;
/// Levels of maps and arrays that a text writer follows: a peer may send a million, a stack has an end.
pub const NESTING_MAX: usize = 256;
/// Largest buffer one event may ask for; inputs have smaller limits of their own.
pub const EVENT_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Idle buffers of the largest class that a shard keeps: they stay in cache, the rest goes back to the system.
pub const POOL_BUFFERS_MAX: usize = 8;
/// Tags a shard remembers before it forgets the quiet ones; forgetting costs a recompute.
pub const TAGS_MAX: usize = 65_536;
/// Longest tag. A longer one is cut: plugins and file names could not take it anyway.
pub const TAG_BYTES_MAX: usize = 4096;
/// Bytes of msgpack that one return value of a Lua function may come to: `{[1e9] = 1}` is an array of a billion.
pub const LUA_RESULT_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How often one record may be re-tagged before it is delivered as it is.
pub const RETAGS_MAX: u32 = 8;
/// Steps back that one attempt of a regular expression may take beside those that the length of the text grants:
/// a runaway costs about a millisecond.
pub const REGEX_RETRIES_MIN: usize = 100_000;
/// States that a regular expression may keep to come back to: some 40 MB.
pub const REGEX_STACK_MAX: u32 = 1_000_000;
/// How long an ack is awaited where `net.io_timeout` does not say: as long as a kernel tries to reach a peer.
pub const ACK_WAIT: Duration = Duration::from_secs(190);
/// Bytes of re-tagged records that may wait to enter again; more go on as they are. Where several filters re-tag and
/// keep, each round would multiply the batch. A batch is hardly ever longer than a read, so this is a fan-out of 64.
pub const RETAGGED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Streams of a filter that holds records, on one shard; where tags are more, the oldest streams make room and what
/// they hold goes on. Their bytes count for the memory limits of their inputs.
pub const HELD_STREAMS_MAX: usize = 4096;
/// Messages of one stream that wait for further parts (`mode partial_message`): more are hardly ever under way at once.
pub const PARTIAL_MESSAGES_MAX: usize = 256;
/// Content that the parts of one message may bring together.
pub const PARTIAL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often a shard looks for held records that are due.
pub const HELD_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Bytes of a record in the making where `multiline_buffer_limit` is 0.
pub const MULTILINE_BYTES_DEFAULT: usize = 2 * 1024 * 1024;
/// Groups in which one stream keeps records apart (`key_group`): beyond that the one that was quiet for longest ends.
pub const MULTILINE_GROUPS_MAX: usize = 16;
/// Metadata that the parts of one record may bring together.
pub const MULTILINE_METADATA_MAX: usize = 64 * 1024;
/// Memory that a stream keeps for its next record: ten thousand quiet files must not hold megabytes each.
pub const MULTILINE_KEPT_BYTES: usize = 16 * 1024;
/// Lines the log holds while its reader is slow; the rest is counted and dropped.
pub const LOG_LINES_MAX: usize = 8192;
/// Time between a plugin's last flush and its exit call: some say OK before they have sent.
pub const FOREIGN_LINGER: Duration = Duration::from_secs(1);
/// Read size for sockets and files. Measured flat from 128 KiB to 1 MiB.
pub const READ_BYTES: usize = 256 * 1024;
/// The soft memlock limit below which glommio refuses to start an executor.
pub const MEMLOCK_BYTES_MIN: u64 = 512 * 1024;
/// Stack of the threads that call foreign plugins: what a C program's threads have.
pub const FOREIGN_STACK_BYTES: usize = 8 * 1024 * 1024;
/// Locked memory a shard takes where the process lacks CAP_IPC_LOCK: three rings and registered buffers, measured
/// as 200 KiB.
pub const MEMLOCK_BYTES_SHARD: u64 = 256 * 1024;
/// Lane threads one shard may have for one library or instance: as many as `workers` may say.
pub const LANE_THREADS_MAX: usize = 1024;
/// Connections one instance may hold; more are accepted, closed and told of in the log.
pub const CONNECTIONS_MAX: usize = 65_536;
/// Chunks formatted ahead for one sink by one shard.
pub const SINK_JOBS_MAX: usize = 2;
/// Chunks formatted ahead by one shard for all sinks of one owner: with 200 sinks, or a terminal that does not
/// read, two for each would be gigabytes that no memory limit counts.
pub const OWNER_JOBS_MAX: usize = 6;
/// Files that all `file` outputs keep open between chunks: with 10,000 tags more would exhaust the descriptors.
pub const OUTPUT_FILES_MAX: usize = 256;
/// Lines of empty units that `flowcounter` prints before it leaps: a record may bear any time.
pub const FLOW_LINES_MAX: usize = 1024;

const _: () = assert!(CHUNK_CLASSES[CHUNK_CLASSES.len() - 1] > CHUNK_BYTES_FULL);
const _: () = assert!(CHUNK_ROOM_MIN < CHUNK_CLASSES[2]);
