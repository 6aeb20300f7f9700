//! The host thread: every call into a foreign library that is no flush happens on it.
//!
//! Go's threads inherit the affinity of the thread that opens the library, so this one is not pinned. It is a
//! plain thread and never the main one, where Go's callbacks are slow (golang/go#68587).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use ffi::{EventFormat, FlushHandle, Instance, InstanceConfig, Library, Registration, Sdk};

use crate::limits::FOREIGN_STACK_BYTES;

/// Index of a loaded library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LibraryId(pub usize);

/// The way to the host thread.
#[derive(Clone)]
pub struct PluginHost {
    jobs: Sender<Job>,
}

type Job = Box<dyn FnOnce(&mut Libraries) + Send>;

/// What the host thread owns.
#[derive(Default)]
struct Libraries {
    loaded: Vec<(Library, Registration)>,
    instances: Vec<(LibraryId, Instance)>,
}

/// What a loaded library says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// Which.
    pub id: LibraryId,
    /// Name for the configuration.
    pub name: String,
    /// One line.
    pub description: String,
    /// The SDK it was built with.
    pub sdk: Sdk,
    /// Whether it wants logs.
    pub takes_logs: bool,
    /// The file.
    pub path: PathBuf,
}

impl Loaded {
    /// The form of events it understands.
    pub fn event_format(&self) -> EventFormat {
        self.sdk.event_format()
    }
}

impl PluginHost {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the system refuses it.
    pub fn start() -> io::Result<PluginHost> {
        let (jobs, queue) = channel();
        let builder = std::thread::Builder::new().name("plugin-host".into());
        builder.stack_size(FOREIGN_STACK_BYTES).spawn(move || run(&queue))?;
        Ok(PluginHost { jobs })
    }

    /// Opens and registers a library.
    ///
    /// # Errors
    /// As [`Library::open`] and [`Library::register`].
    pub fn load(&self, path: &Path) -> Result<Loaded, String> {
        let path = path.to_owned();
        self.call(move |libraries| {
            let library = Library::open(&path)?;
            let registration = library.register()?;
            let loaded = Loaded {
                id: LibraryId(libraries.loaded.len()),
                name: registration.name.clone(),
                description: registration.description.clone(),
                sdk: library.sdk().clone(),
                takes_logs: registration.takes_logs,
                path,
            };
            libraries.loaded.push((library, registration));
            Ok(loaded)
        })
    }

    /// Initialises an instance.
    ///
    /// # Errors
    /// As [`Instance::init`].
    pub fn init(&self, id: LibraryId, config: InstanceConfig) -> Result<FlushHandle, String> {
        self.call(move |libraries| {
            let (library, registration) = &libraries.loaded[id.0];
            let instance = Instance::init(library, registration, config)?;
            let handle = instance.handle();
            libraries.instances.push((id, instance));
            Ok(handle)
        })
    }

    /// Says to every instance that flushes may come.
    pub fn pre_run(&self) {
        self.call(|libraries| {
            for (id, instance) in &libraries.instances {
                instance.pre_run(&libraries.loaded[id.0].0);
            }
        });
    }

    /// Ends every instance and every library. Returns whether that was done in time; if not, a plugin hangs
    /// in its exit and the process must end without it.
    pub fn exit(&self, wait: Duration) -> bool {
        let (done, is_done) = channel();
        let job = Box::new(move |libraries: &mut Libraries| {
            for (id, instance) in libraries.instances.drain(..) {
                instance.exit(&libraries.loaded[id.0].0);
            }
            for (library, registration) in &libraries.loaded {
                library.unregister(registration);
            }
            // The caller may have given up.
            let _ = done.send(());
        });
        if self.jobs.send(job).is_err() {
            return false;
        }
        !matches!(is_done.recv_timeout(wait), Err(RecvTimeoutError::Timeout))
    }

    fn call<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Libraries) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = channel();
        let job = Box::new(move |libraries: &mut Libraries| {
            // The caller waits below.
            let _ = answer.send(work(libraries));
        });
        self.jobs.send(job).expect("the host thread lives as long as the process");
        answered.recv().expect("the host thread answers every call")
    }
}

fn run(queue: &Receiver<Job>) {
    let mut libraries = Libraries::default();
    while let Ok(job) = queue.recv() {
        job(&mut libraries);
    }
    // Instances and libraries are never dropped with code running in them: nothing frees them.
    std::mem::forget(libraries);
}
