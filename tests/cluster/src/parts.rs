//! The programs that a cluster is made of, built from Go modules that `parts/` pins.
//!
//! They lie in a cache outside the checkout, each part in a folder named after all that decides what is built, so that
//! a fresh clone starts at once and a changed pin builds that part alone.

mod list;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use sha2::{Digest, Sha256};

use self::list::{PARTS, Part};
use crate::run;

/// Why the parts are not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of the cache or of the pinned modules cannot be used.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Neither of the variables that say where caches live is set.
    #[error("no folder for the cluster's parts: set XDG_CACHE_HOME or HOME")]
    NoCache,
    /// Go is missing, or does not say its version.
    #[error("the cluster's parts are built with Go (1.26.6 or newer, in the PATH): {0}")]
    NoGo(run::Error),
    /// A part's `go.mod` does not name the version that its programs have to report.
    #[error("{path} does not require a version of {module}")]
    NoVersion {
        /// The file.
        path: PathBuf,
        /// The module.
        module: &'static str,
    },
    /// A part does not build.
    #[error("the part {part} does not build: {source}")]
    Build {
        /// The part.
        part: &'static str,
        /// Go's words.
        source: run::Error,
    },
}

/// The programs that a cluster is made of, ready to run.
#[derive(Debug, Clone)]
pub struct Parts {
    cache: PathBuf,
    folders: Vec<PathBuf>,
}

impl Parts {
    /// The parts from the cache, after building what it lacks. That takes minutes, once; its progress goes to stderr.
    ///
    /// # Errors
    /// When Go is missing, a part does not build, or the cache cannot be written.
    pub fn ensure() -> Result<Self, Error> {
        let cache = cache_dir()?;
        make_dir(&cache)?;
        let go = go_version()?;
        let folders = PARTS
            .iter()
            .map(|part| part.ensure(&cache, &go))
            .collect::<Result<_, _>>()?;
        Ok(Self { cache, folders })
    }

    /// Whether all of them are in the cache, so that [`Parts::ensure`] has nothing to build.
    ///
    /// # Errors
    /// When Go is missing, or the cache cannot be read.
    pub fn cached() -> Result<bool, Error> {
        let cache = cache_dir()?;
        let go = go_version()?;
        for part in &PARTS {
            if !part.folder(&cache, &go)?.exists() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The path of a program, by the name that one calls it by.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        let mut paths = self.folders.iter().map(|folder| folder.join(name));
        paths.find(|path| path.exists())
    }

    /// The folder that all of them lie in.
    pub(crate) fn cache(&self) -> &Path {
        &self.cache
    }

    /// A `PATH` that finds them before the machine's programs.
    pub(crate) fn search_path(&self) -> OsString {
        let system = [
            "/usr/local/sbin",
            "/usr/local/bin",
            "/usr/sbin",
            "/usr/bin",
            "/sbin",
            "/bin",
        ];
        let mut path = OsString::new();
        for folder in &self.folders {
            path.push(folder);
            path.push(":");
        }
        path.push(system.join(":"));
        path
    }
}

impl Part {
    fn source(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("parts")
            .join(self.name)
    }

    /// Where it lies in the cache once it is built.
    fn folder(&self, cache: &Path, go: &str) -> Result<PathBuf, Error> {
        Ok(cache.join(format!("{}-{}", self.name, key(&self.source(), go)?)))
    }

    fn ensure(&self, cache: &Path, go: &str) -> Result<PathBuf, Error> {
        let built = self.folder(cache, go)?;
        if built.exists() {
            return Ok(built);
        }
        // One build at a time: a second test run waits for the first one's result.
        let lock_path = cache.join(format!(".{}.lock", self.name));
        let lock = File::create(&lock_path).map_err(file("write", &lock_path))?;
        lock.lock().map_err(file("lock", &lock_path))?;
        if built.exists() {
            return Ok(built);
        }
        let unfinished = cache.join(format!(".{}.building", self.name));
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(file("delete", &unfinished)(error));
            }
            _ => make_dir(&unfinished)?,
        }
        eprintln!("building the cluster's part {} (once)", self.name);
        let start = Instant::now();
        self.build(&self.source(), &unfinished)?;
        for name in self.names {
            let path = unfinished.join(name);
            let target = self.file.unwrap_or(self.name);
            std::os::unix::fs::symlink(target, &path).map_err(file("write", &path))?;
        }
        fs::rename(&unfinished, &built).map_err(file("write", &built))?;
        eprintln!("built {} in {:.0?}", self.name, start.elapsed());
        Ok(built)
    }

    fn build(&self, source: &Path, into: &Path) -> Result<(), Error> {
        let mut flags = "-s -w".to_owned();
        if let Some(module) = self.version_of {
            flags.push_str(&version_flags(&source.join("go.mod"), module)?);
        }
        let output = match self.file {
            Some(file) => into.join(file),
            None => into.join(""),
        };
        run::output(
            Command::new("go")
                .args([
                    "build",
                    "-trimpath",
                    "-buildvcs=false",
                    "-ldflags",
                    &flags,
                    "-o",
                ])
                .arg(output)
                .args(self.packages)
                .current_dir(source)
                .env("CGO_ENABLED", if self.cgo { "1" } else { "0" }),
        )
        .map(drop)
        .map_err(|source| Error::Build {
            part: self.name,
            source,
        })
    }
}

/// Where the parts are kept.
pub(crate) fn cache_dir() -> Result<PathBuf, Error> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CACHE_HOME")
        .or_else(|| Some(set("HOME")?.join(".cache")))
        .map(|cache| cache.join("migpool/parts"))
        .ok_or(Error::NoCache)
}

fn go_version() -> Result<String, Error> {
    run::output(Command::new("go").args(["env", "GOVERSION", "GOOS", "GOARCH"]))
        .map_err(Error::NoGo)
}

/// What decides what is built: the pins, their checksums, our own main, and the compiler.
fn key(source: &Path, go: &str) -> Result<String, Error> {
    let mut digest = Sha256::new();
    digest.update(go);
    for name in ["go.mod", "go.sum", "main.go"] {
        let path = source.join(name);
        match fs::read(&path) {
            Ok(bytes) => digest.update(Sha256::digest(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => digest.update("none"),
            Err(error) => return Err(file("read", &path)(error)),
        }
    }
    Ok(hexadecimal(&digest.finalize(), 8))
}

/// The first `bytes` of a digest in hexadecimal digits.
pub(crate) fn hexadecimal(digest: &[u8], bytes: usize) -> String {
    use std::fmt::Write;

    digest
        .iter()
        .take(bytes)
        .fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Linker flags that make Kubernetes' programs report the version that `go.mod` requires of `module`.
fn version_flags(go_mod: &Path, module: &'static str) -> Result<String, Error> {
    let text = fs::read_to_string(go_mod).map_err(file("read", go_mod))?;
    let version = text
        .lines()
        .map(|line| line.trim().trim_start_matches("require").trim())
        .filter(|line| !line.contains("=>"))
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(' '))
        .and_then(|version| version.split_whitespace().next());
    let numbers = version.and_then(|version| {
        let mut numbers = version.strip_prefix('v')?.split('.');
        Some((version, numbers.next()?, numbers.next()?))
    });
    let Some((version, major, minor)) = numbers else {
        return Err(Error::NoVersion {
            path: go_mod.to_owned(),
            module,
        });
    };
    Ok([
        ("gitVersion", version),
        ("gitMajor", major),
        ("gitMinor", minor),
    ]
    .map(|(name, value)| format!(" -X k8s.io/component-base/version.{name}={value}"))
    .concat())
}

fn make_dir(path: &Path) -> Result<(), Error> {
    fs::create_dir_all(path).map_err(file("make", path))
}

fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(go_mod: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("go.mod"), go_mod).unwrap();
        folder
    }

    #[test]
    fn the_version_is_the_one_that_is_required_not_one_that_is_replaced() {
        let folder = module(
            "replace k8s.io/kubernetes => k8s.io/kubernetes v0.1.0\nrequire (\n\tk8s.io/kubernetes v1.37.2\n)\n",
        );
        let flags = version_flags(&folder.path().join("go.mod"), "k8s.io/kubernetes").unwrap();
        assert_eq!(
            flags,
            " -X k8s.io/component-base/version.gitVersion=v1.37.2 -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=37"
        );
    }

    #[test]
    fn a_missing_version_is_named() {
        let folder = module("module x\n");
        let error = version_flags(&folder.path().join("go.mod"), "k8s.io/kubernetes").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("does not require a version of k8s.io/kubernetes")
        );
    }

    #[test]
    fn the_key_changes_with_every_pin_and_with_the_compiler() {
        let folder = module("module x\n");
        let first = key(folder.path(), "go1.26.6").unwrap();
        assert_eq!(first, key(folder.path(), "go1.26.6").unwrap());
        assert_ne!(first, key(folder.path(), "go1.26.7").unwrap());
        fs::write(folder.path().join("go.sum"), "sum").unwrap();
        assert_ne!(first, key(folder.path(), "go1.26.6").unwrap());
    }

    #[test]
    fn every_part_is_pinned() {
        for part in PARTS {
            let source = Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("parts")
                .join(part.name);
            for name in ["go.mod", "go.sum"] {
                assert!(source.join(name).exists(), "{}/{name}", part.name);
            }
        }
    }
}
