//! Finding and loading `libnvidia-ml.so.1`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nvml_wrapper_sys::bindings::NvmlLib;

use crate::Error;
use crate::calls::Calls;

const SONAME: &str = "libnvidia-ml.so.1";

/// Where drivers put their libraries, under a root: distributions, NVIDIA's installer, container images.
const FOLDERS: &[&str] = &[
    "usr/lib64",
    "usr/lib/x86_64-linux-gnu",
    "usr/lib/aarch64-linux-gnu",
    "lib64",
    "lib/x86_64-linux-gnu",
    "lib/aarch64-linux-gnu",
    "usr/lib/wsl/lib",
    "usr/local/nvidia/lib64",
    "opt/nvidia/lib64",
    "usr/lib",
    "lib",
];

/// Where the GPU operator's driver container shows its root on the host.
const OPERATOR_ROOT: &str = "run/nvidia/driver";

/// Loads the library of the driver under `root`. For the system's own root the loader's search path comes first, as for
/// any other program.
pub(crate) fn load(root: &Path) -> Result<Calls, Error> {
    let mut searched = Vec::new();
    let mut unusable = None;
    if root == Path::new("/") {
        match open(OsStr::new(SONAME)) {
            Ok(library) => return Ok(Calls::new(library, Path::new(SONAME))),
            Err(reason) if is_absence(&reason) => {}
            Err(reason) => unusable = Some((PathBuf::from(SONAME), reason)),
        }
        searched.push(PathBuf::from(SONAME));
    }
    for path in candidates(root) {
        if path.exists() {
            match open(path.as_os_str()) {
                Ok(library) => return Ok(Calls::new(library, &path)),
                Err(reason) => {
                    tracing::debug!(path = %path.display(), reason, "not usable as the NVML library");
                    unusable = unusable.or(Some((path.clone(), reason)));
                }
            }
        }
        searched.push(path);
    }
    Err(match unusable {
        Some((path, reason)) => Error::LibraryUnusable { path, reason },
        None => Error::LibraryNotFound {
            root: root.to_owned(),
            searched,
        },
    })
}

/// The driver root that a library of [`load`] belongs to.
pub(crate) fn root_of(root: &Path, library: &Path) -> PathBuf {
    let operator = root.join(OPERATOR_ROOT);
    if library.starts_with(&operator) {
        operator
    } else {
        root.to_owned()
    }
}

fn candidates(root: &Path) -> impl Iterator<Item = PathBuf> {
    let roots = [
        Some(root.to_owned()),
        (root == Path::new("/")).then(|| root.join(OPERATOR_ROOT)),
    ];
    roots.into_iter().flatten().flat_map(|root| {
        FOLDERS
            .iter()
            .map(move |folder| root.join(folder).join(SONAME))
    })
}

fn open(name: &OsStr) -> Result<NvmlLib, String> {
    // SAFETY: loading runs the library's initialisers. It is NVIDIA's driver library or the simulated one, from a place
    // that whoever runs this program chose; running it is what they asked for.
    unsafe { NvmlLib::new(name) }.map_err(|error| message(&error))
}

/// The loader's own words, which libloading keeps in the cause.
fn message(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

fn is_absence(reason: &str) -> bool {
    reason.contains("No such file or directory")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_a_library_is_told_with_everything_searched() {
        let root = tempfile::tempdir().unwrap();
        let error = load(root.path()).err().unwrap();
        assert!(error.is_no_driver());
        let text = error.to_string();
        for folder in FOLDERS {
            assert!(
                text.contains(&root.path().join(folder).display().to_string()),
                "{folder} is not in: {text}"
            );
        }
        assert!(
            text.contains("NVIDIA_DRIVER_ROOT"),
            "no next step in: {text}"
        );
    }

    #[test]
    fn the_systems_root_stands_for_a_driver_containers_where_the_library_is_that_ones() {
        let root = Path::new("/");
        assert_eq!(root_of(root, Path::new(SONAME)), root);
        let operator = Path::new("/run/nvidia/driver");
        let library = operator.join("usr/lib64").join(SONAME);
        assert_eq!(root_of(root, &library), operator);
        assert_eq!(root_of(operator, &library), operator);
    }

    #[test]
    fn a_file_that_is_no_library_is_told_apart_from_no_file() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("usr/lib64");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(SONAME), "not a library").unwrap();
        let error = load(root.path()).err().unwrap();
        assert!(matches!(error, Error::LibraryUnusable { .. }), "{error}");
        assert!(
            !error.is_no_driver(),
            "a broken driver is not a node without GPUs"
        );
    }
}
