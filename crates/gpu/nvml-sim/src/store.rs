//! The file `sim/state`, through which all processes of a driver root see one [`State`]. It is made once and then only
//! written in place, so that its second name, and a container's mount of it, stay the same file.
//!
//! The file is a header and two slots. A writer holds a lock, fills the slot that is not in use and then publishes it with
//! one store of a 32-bit generation, whose lowest bit says which slot counts. So whatever is killed at whatever
//! instruction, the file holds the old state or the new one. Readers take no lock: the header is mapped, and as long
//! as the generation is the one that they know, reading is one load and a reference count.
//!
//! The lock is on the folder that the file lies in. Containers are given the file, and whoever can open a file for reading
//! can lock it: none of them is to keep the writers out.
//!
//! Everything that changes the file goes through `pwrite`, so a full disk is an error and not a signal, and readers need
//! no more than read access. A slot carries its generation and a checksum; a reader that was overtaken notices and tries again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memmap2::{Mmap, MmapOptions};
use rustix::fs::FlockOperation;
use rustix::io::Errno;
use rustix::thread::futex;

use crate::code::Return;
use crate::firmware;
use crate::state::{STATE_VERSION, State};

/// Where the state lies below a driver root.
pub const STATE_FILE: &str = "sim/state";

const MAGIC: [u8; 8] = *b"migpool\0";
const HEADER: usize = 4096;
const GENERATION_AT: usize = 16;
const SLOT_HEADER: usize = 24;
/// Room for one encoded state. The file is sparse: 32 GPUs full of instances need about 16 KiB.
const SLOT_BYTES: usize = 1 << 20;
/// How long a waiter sleeps before it looks again by itself, which matters only when a writer was killed between publishing
/// and waking.
const WAIT_SLICE: Duration = Duration::from_millis(200);
const READ_ATTEMPTS: u32 = 10_000;

/// Why the shared state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is not there or cannot be opened, mapped, read or written.
    #[error("cannot {what} the simulated driver's state {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not the state of a simulated driver; create one with 'migpool sim create'", path.display())]
    NotAState {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by another version of migpool.
    #[error(
        "the simulated driver's state {} has version {found}, this program knows {STATE_VERSION}; create the root again",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u32,
    },
    /// The file holds neither an old nor a new state, which a killed process cannot cause.
    #[error("the simulated driver's state {} is damaged; create the root again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The state does not fit its slot.
    #[error("the simulated driver's state {} would need {needed} bytes of {SLOT_BYTES}; nothing was changed", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that it would need.
        needed: usize,
    },
    /// The process may read the file but not write it.
    #[error("no write access to the simulated driver's state {}", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
    },
}

/// Why an update did not happen.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The change itself was refused with an NVML code.
    #[error("refused: {0}")]
    Refused(#[from] Return),
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<UpdateError> for Return {
    fn from(error: UpdateError) -> Return {
        match error {
            UpdateError::Refused(code) => code,
            UpdateError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for Return {
    fn from(error: StoreError) -> Return {
        match error {
            StoreError::ReadOnly { .. } => Return::NO_PERMISSION,
            StoreError::TooLarge { .. } => Return::MEMORY,
            StoreError::Version { .. } => Return::LIB_RM_VERSION_MISMATCH,
            StoreError::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => Return::DRIVER_NOT_LOADED,
                io::ErrorKind::PermissionDenied => Return::NO_PERMISSION,
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Return::MEMORY,
                _ => Return::UNKNOWN,
            },
            StoreError::NotAState { .. } | StoreError::Damaged { .. } => Return::UNKNOWN,
        }
    }
}

/// An open state file. Any number of threads and processes may hold one on the same file.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    file: File,
    /// The folder that writers lock; nothing where this process may only read.
    folder: Option<File>,
    header: Mmap,
    cache: Mutex<Option<(u32, Arc<State>)>>,
    // `flock` excludes other open files only; this excludes this process's other threads.
    writer: Mutex<()>,
}

impl Store {
    /// Writes a new state file below `root` and opens it. The file appears whole or not at all.
    ///
    /// # Errors
    /// [`StoreError::Io`] when it is there already or cannot be written, [`StoreError::TooLarge`].
    pub fn create(root: &Path, state: &State) -> Result<Store, StoreError> {
        let path = root.join(STATE_FILE);
        let temporary = path.with_extension(format!("new-{}", std::process::id()));
        let io = |what| io_error(what, &path);
        let body = encode(state, &path)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&temporary)
            .map_err(io("create"))?;
        let mut header = vec![0_u8; HEADER];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&STATE_VERSION.to_le_bytes());
        file.write_all_at(&header, 0).map_err(io("write"))?;
        file.set_len((HEADER + 2 * (SLOT_HEADER + SLOT_BYTES)) as u64)
            .map_err(io("write"))?;
        file.write_all_at(&slot_bytes(0, &body), slot_offset(0))
            .map_err(io("write"))?;
        // `link` refuses to replace a file, `rename` would.
        let linked = std::fs::hard_link(&temporary, &path).map_err(io("create"));
        let _ = std::fs::remove_file(&temporary);
        linked?;
        Store::open(root)
    }

    /// Opens the state below `root`: `sim/state`, with write access where the file allows it; in a container, where there
    /// is none, what [`firmware`] has of it, for reading.
    ///
    /// # Errors
    /// Any [`StoreError`] except [`StoreError::ReadOnly`] and [`StoreError::TooLarge`].
    pub fn open(root: &Path) -> Result<Store, StoreError> {
        let own = Store::open_file(root.join(STATE_FILE), true);
        // An image may have a file of this name that is something else.
        let absent = matches!(
            &own,
            Err(StoreError::NotAState { .. } | StoreError::Io { .. })
        );
        if absent {
            let found = firmware::find(root).into_iter();
            let mut opened = found.map(|path| Store::open_file(path, false));
            if let Some(store) = opened.find_map(Result::ok) {
                return Ok(store);
            }
        }
        own
    }

    fn open_file(path: PathBuf, for_writing: bool) -> Result<Store, StoreError> {
        let open = OpenOptions::new().read(true).write(for_writing).open(&path);
        let (file, writable) = match open {
            Ok(file) => (file, for_writing),
            Err(error)
                if for_writing
                    && matches!(
                        error.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                    ) =>
            {
                (File::open(&path).map_err(io_error("open", &path))?, false)
            }
            Err(error) => return Err(io_error("open", &path)(error)),
        };
        let length = file.metadata().map_err(io_error("read", &path))?.len();
        if length < HEADER as u64 {
            return Err(StoreError::NotAState { path });
        }
        // SAFETY: the map is read only and only its generation word is read, as an atomic. The file is at least a page long,
        // and nothing ever shortens it: it is made whole before it gets its name.
        let header =
            unsafe { MmapOptions::new().len(HEADER).map(&file) }.map_err(io_error("map", &path))?;
        let mut start = [0_u8; 12];
        file.read_exact_at(&mut start, 0)
            .map_err(io_error("read", &path))?;
        let (magic, version) = start.split_at(8);
        if magic != MAGIC {
            return Err(StoreError::NotAState { path });
        }
        let found = version
            .try_into()
            .map(u32::from_le_bytes)
            .unwrap_or_default();
        if found != STATE_VERSION {
            return Err(StoreError::Version { path, found });
        }
        let folder = writable
            .then(|| open_folder(&path).map_err(io_error("open the folder of", &path)))
            .transpose()?;
        Ok(Store {
            path,
            file,
            folder,
            header,
            cache: Mutex::new(None),
            writer: Mutex::new(()),
        })
    }

    /// The state file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process may change the state.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.folder.is_some()
    }

    /// A number that changes with every change of the state.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.word().load(Ordering::Acquire)
    }

    /// The state as it is now.
    ///
    /// # Errors
    /// [`StoreError::Io`] or [`StoreError::Damaged`].
    pub fn read(&self) -> Result<Arc<State>, StoreError> {
        Ok(self.read_with_generation()?.1)
    }

    /// The state as it is now, and its generation for [`Store::wait_change`].
    ///
    /// # Errors
    /// As [`Store::read`].
    pub fn read_with_generation(&self) -> Result<(u32, Arc<State>), StoreError> {
        let mut cache = lock(&self.cache);
        let generation = self.generation();
        if let Some((known, state)) = cache.as_ref()
            && *known == generation
        {
            return Ok((generation, Arc::clone(state)));
        }
        let (generation, state) = self.load()?;
        let state = Arc::new(state);
        *cache = Some((generation, Arc::clone(&state)));
        Ok((generation, state))
    }

    /// Changes the state. `change` sees the newest state while no one else can change it; when it fails, or changes
    /// nothing, nothing is written.
    ///
    /// # Errors
    /// [`UpdateError::Refused`] with what `change` answered; [`StoreError::ReadOnly`] without write access;
    /// [`StoreError::Io`] and [`StoreError::TooLarge`], after which the state is as before.
    pub fn update<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, Return>,
    ) -> Result<T, UpdateError> {
        self.update_around(change, |_, _| Ok(()), |_| {})
    }

    /// As [`Store::update`]. `prepare` sees the state before and after, just before the new one is published, and can still
    /// refuse it; `finish` sees the state that holds afterwards. Both run while no one else can change it, and also when
    /// nothing was changed.
    ///
    /// # Errors
    /// As [`Store::update`]; [`UpdateError::Refused`] with what `prepare` answered.
    pub fn update_around<T>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, Return>,
        prepare: impl FnOnce(&State, &State) -> Result<(), Return>,
        finish: impl FnOnce(&State),
    ) -> Result<T, UpdateError> {
        let folder = self.folder.as_ref().ok_or_else(|| StoreError::ReadOnly {
            path: self.path.clone(),
        })?;
        let _thread = lock(&self.writer);
        let _process = FileLock::take(folder).map_err(|errno| self.failed("lock")(errno.into()))?;
        let (generation, old) = self.read_with_generation()?;
        let mut new = State::clone(&old);
        let answer = change(&mut new)?;
        prepare(&old, &new)?;
        if new == *old {
            finish(&old);
            return Ok(answer);
        }
        let next = generation.wrapping_add(1);
        let body = encode(&new, &self.path)?;
        self.file
            .write_all_at(&slot_bytes(next, &body), slot_offset(next))
            .and_then(|()| {
                self.file
                    .write_all_at(&next.to_le_bytes(), GENERATION_AT as u64)
            })
            .map_err(self.failed("write"))?;
        let new = Arc::new(new);
        *lock(&self.cache) = Some((next, Arc::clone(&new)));
        let _ = futex::wake(self.word(), futex::Flags::empty(), i32::MAX.cast_unsigned());
        finish(&new);
        Ok(answer)
    }

    /// Waits until the generation is another than `known`, or `timeout` is over. Says whether it changed.
    #[must_use]
    pub fn wait_change(&self, known: u32, timeout: Duration) -> bool {
        let start = Instant::now();
        loop {
            if self.generation() != known {
                return true;
            }
            let Some(left) = timeout
                .checked_sub(start.elapsed())
                .filter(|left| !left.is_zero())
            else {
                return false;
            };
            let slice = left.min(WAIT_SLICE);
            let limit = futex::Timespec {
                tv_sec: slice.as_secs().cast_signed(),
                tv_nsec: i64::from(slice.subsec_nanos()),
            };
            // Whatever it answers (woken, changed meanwhile, time over, a signal), the loop looks for itself.
            let _ = futex::wait(self.word(), futex::Flags::empty(), known, Some(&limit));
        }
    }

    #[allow(
        clippy::cast_ptr_alignment,
        reason = "the map starts at a page, the word 16 bytes later"
    )]
    fn word(&self) -> &AtomicU32 {
        // SAFETY: the map is page aligned and HEADER bytes long, so offset 16 is inside it and aligned for u32. It lives as
        // long as `self`. Rust code reads these bytes as this atomic only; the kernel writes them.
        unsafe { &*self.header.as_ptr().add(GENERATION_AT).cast::<AtomicU32>() }
    }

    fn load(&self) -> Result<(u32, State), StoreError> {
        for attempt in 0..READ_ATTEMPTS {
            let generation = self.generation();
            if let Some(body) = self.read_slot(generation)? {
                return match postcard::from_bytes(&body) {
                    Ok(state) => Ok((generation, state)),
                    Err(_) => Err(StoreError::Damaged {
                        path: self.path.clone(),
                    }),
                };
            }
            // Overtaken by two writers, or the generation was read while it was being written.
            if attempt > 100 {
                std::thread::yield_now();
            }
        }
        Err(StoreError::Damaged {
            path: self.path.clone(),
        })
    }

    fn read_slot(&self, generation: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let offset = slot_offset(generation);
        let mut head = [0_u8; SLOT_HEADER];
        self.file
            .read_exact_at(&mut head, offset)
            .map_err(self.failed("read"))?;
        let (found, length, sum) = split_slot_header(&head);
        if found != u64::from(generation) || length > SLOT_BYTES {
            return Ok(None);
        }
        let mut body = vec![0_u8; length];
        self.file
            .read_exact_at(&mut body, offset + SLOT_HEADER as u64)
            .map_err(self.failed("read"))?;
        Ok((checksum(generation, &body) == sum).then_some(body))
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> StoreError + '_ {
        io_error(what, &self.path)
    }
}

/// The most links that are followed, as the kernel has it.
const MOST_LINKS: usize = 40;

/// The folder of the state itself: in a pod's root the state is a link into its node's root. The link is followed as it
/// is: a path through another process's root (`/proc/PID/root`) has no canonical name here.
fn open_folder(state: &Path) -> io::Result<File> {
    let mut state = state.to_owned();
    for _ in 0..MOST_LINKS {
        let folder = state.parent().ok_or(io::ErrorKind::NotFound)?;
        match std::fs::read_link(&state) {
            Ok(target) => state = folder.join(target),
            Err(_) => return File::open(folder),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// The lock on the folder, for as long as this lives. The kernel lets go of it when the process dies.
struct FileLock<'a>(&'a File);

impl<'a> FileLock<'a> {
    fn take(file: &'a File) -> Result<FileLock<'a>, Errno> {
        loop {
            match rustix::fs::flock(file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(FileLock(file)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
}

impl Drop for FileLock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, FlockOperation::Unlock);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the mutexes guard is replaced whole, so a panic elsewhere leaves nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io {
        what,
        path: path.clone(),
        source,
    }
}

fn slot_offset(generation: u32) -> u64 {
    HEADER as u64 + u64::from(generation & 1) * (SLOT_HEADER + SLOT_BYTES) as u64
}

fn encode(state: &State, path: &Path) -> Result<Vec<u8>, StoreError> {
    let body = postcard::to_stdvec(state)
        .map_err(|error| io_error("encode", path)(io::Error::other(error)))?;
    if body.len() > SLOT_BYTES {
        return Err(StoreError::TooLarge {
            path: path.to_owned(),
            needed: body.len(),
        });
    }
    Ok(body)
}

fn slot_bytes(generation: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SLOT_HEADER + body.len());
    bytes.extend_from_slice(&u64::from(generation).to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&checksum(generation, body).to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn split_slot_header(head: &[u8; SLOT_HEADER]) -> (u64, usize, u64) {
    let mut words = head.chunks_exact(8).map(|chunk| {
        chunk
            .iter()
            .rev()
            .fold(0_u64, |word, byte| (word << 8) | u64::from(*byte))
    });
    let mut next = || words.next().unwrap_or_default();
    let generation = next();
    let length = usize::try_from(next()).unwrap_or(usize::MAX);
    (generation, length, next())
}

/// FNV-1a. It guards against a reader being overtaken, not against malice.
fn checksum(generation: u32, body: &[u8]) -> u64 {
    generation
        .to_le_bytes()
        .iter()
        .chain(body)
        .fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
            (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        })
}
