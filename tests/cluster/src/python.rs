//! Programs from `PyPI`, pinned by hash, in the cache beside the cluster's parts.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sha2::{Digest, Sha256};

use crate::parts::{self, cache_dir, hexadecimal};
use crate::run;

/// Says that an environment is whole. Its programs name their own folder, so it cannot be built elsewhere and moved.
const WHOLE: &str = ".whole";

/// Why an environment is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no folder for what is cached.
    #[error(transparent)]
    Cache(#[from] parts::Error),
    /// A file or folder of the cache, or the list of what is wanted, cannot be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Python is missing, or too old, or has no `venv`.
    #[error(
        "the Python environment {name} needs Python 3.11 or newer with its venv (python3 in the PATH; on Debian and Ubuntu the \
         packages python3 and python3-venv): {source}"
    )]
    NoPython {
        /// The environment.
        name: String,
        /// Python's words.
        source: run::Error,
    },
    /// What is wanted cannot be had.
    #[error("the Python environment {name} cannot be filled: {source}")]
    Install {
        /// The environment.
        name: String,
        /// pip's words.
        source: run::Error,
    },
}

/// A virtual environment that has exactly what a list of requirements names.
#[derive(Debug, Clone)]
pub struct Python {
    folder: PathBuf,
}

impl Python {
    /// The environment `name` with what the file `requirements` pins, from the cache, after filling it if need be. That takes a
    /// minute or two, once; its progress goes to stderr.
    ///
    /// # Errors
    /// When Python is missing, a package cannot be had or has another hash, or the cache cannot be written.
    pub fn ensure(name: &str, requirements: &Path) -> Result<Self, Error> {
        let cache = cache_dir()?;
        make_dir(&cache)?;
        let python = Self {
            folder: cache.join(format!("python-{name}-{}", key(name, requirements)?)),
        };
        if python.is_whole() {
            return Ok(python);
        }
        // One at a time: a second test run waits for the first one's result.
        let lock_path = cache.join(format!(".python-{name}.lock"));
        let lock = File::create(&lock_path).map_err(file("write", &lock_path))?;
        lock.lock().map_err(file("lock", &lock_path))?;
        if python.is_whole() {
            return Ok(python);
        }
        match fs::remove_dir_all(&python.folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(file("delete", &python.folder)(error));
            }
            _ => {}
        }
        eprintln!("filling the Python environment {name} (once)");
        let start = Instant::now();
        python.fill(name, requirements)?;
        let whole = python.folder.join(WHOLE);
        File::create(&whole).map_err(file("write", &whole))?;
        eprintln!("filled {name} in {:.0?}", start.elapsed());
        Ok(python)
    }

    fn is_whole(&self) -> bool {
        self.folder.join(WHOLE).exists()
    }

    fn fill(&self, name: &str, requirements: &Path) -> Result<(), Error> {
        let mut venv = Command::new("python3");
        venv.args(["-m", "venv"]).arg(&self.folder);
        run::output(&mut venv).map_err(|source| Error::NoPython {
            name: name.to_owned(),
            source,
        })?;
        let mut pip = Command::new(self.program("pip"));
        // The list is whole, so nothing is looked for beside it. Python compiles what it comes to use by itself.
        pip.args(["install", "--quiet", "--require-hashes", "--no-deps"])
            .args(["--only-binary", ":all:", "--no-compile"])
            .arg("--disable-pip-version-check")
            .arg("--requirement")
            .arg(requirements);
        run::output(&mut pip).map_err(|source| Error::Install {
            name: name.to_owned(),
            source,
        })?;
        Ok(())
    }

    /// A program of the environment.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The folder of its programs, for a `PATH`.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.folder.join("bin")
    }
}

/// What decides what is in an environment: what is asked for, and which Python has it.
fn key(name: &str, requirements: &Path) -> Result<String, Error> {
    let mut python = Command::new("python3");
    python.args(["-c", "import sys; assert sys.version_info >= (3, 11), sys.version; print(sys.base_prefix, sys.version)"]);
    let python = run::output(&mut python).map_err(|source| Error::NoPython {
        name: name.to_owned(),
        source,
    })?;
    let wanted = fs::read(requirements).map_err(file("read", requirements))?;
    let mut digest = Sha256::new();
    digest.update(Sha256::digest(python));
    digest.update(wanted);
    Ok(hexadecimal(&digest.finalize(), 8))
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(file("make", path))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        action,
        path,
        source,
    }
}
