//! Init, shutdown and error texts, and where the driver root is.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nvml_sim::{Driver, Return};
use nvml_wrapper_sys::bindings::nvmlReturn_t;

use crate::call;

/// The driver root of a library in one of the folders that loaders search: `ROOT/usr/lib/x86_64-linux-gnu`,
/// `ROOT/usr/lib64`, `ROOT/lib` and their like. A container's loader may well take `/lib/x86_64-linux-gnu` for a file that
/// was put into `/usr/lib/x86_64-linux-gnu`.
fn root_of(library: &Path) -> Option<&Path> {
    let mut folder = library.parent()?;
    if ends_with(folder, |name| name.contains("-linux-")) {
        folder = folder.parent()?;
    }
    if !ends_with(folder, |name| name.starts_with("lib")) {
        return None;
    }
    folder = folder.parent()?;
    if ends_with(folder, |name| name == "usr") {
        folder = folder.parent()?;
    }
    Some(folder)
}

fn ends_with(folder: &Path, is: impl FnOnce(&str) -> bool) -> bool {
    folder.file_name().and_then(OsStr::to_str).is_some_and(is)
}

/// Opens the driver that the library belongs to. One that was put elsewhere into a container belongs to the container.
fn open(library: &Path) -> Result<Driver, Return> {
    let system = Path::new("/");
    let root = root_of(library).unwrap_or(system);
    match Driver::open(root) {
        Err(Return::DRIVER_NOT_LOADED) if root != system => Driver::open(system),
        other => other,
    }
}

/// What glibc's `dladdr` tells of an address.
#[repr(C)]
struct DlInfo {
    file_name: *const c_char,
    file_base: *mut c_void,
    symbol_name: *const c_char,
    symbol_address: *mut c_void,
}

unsafe extern "C" {
    fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
}

/// The path under which this library was loaded. Links are not followed: a pod's library may be a
/// link to its node's.
fn library_path() -> Option<PathBuf> {
    let mut info = DlInfo {
        file_name: std::ptr::null(),
        file_base: std::ptr::null_mut(),
        symbol_name: std::ptr::null(),
        symbol_address: std::ptr::null_mut(),
    };
    // A function that is not exported: an exported one may resolve to another NVML of the process.
    let own: fn() -> Option<PathBuf> = library_path;
    // SAFETY: `info` is a Dl_info as dlfcn.h lays it out, and the address is only looked up.
    let found = unsafe { dladdr(own as *const c_void, &raw mut info) };
    if found == 0 || info.file_name.is_null() {
        return None;
    }
    // SAFETY: dladdr succeeded, so the name is a C string that lives as long as this library stays
    // loaded.
    let name = unsafe { CStr::from_ptr(info.file_name) };
    // A name without a folder came from a search path; the loader gives the full path in every such
    // case, but a program may have loaded a relative one.
    std::path::absolute(Path::new(OsStr::from_bytes(name.to_bytes()))).ok()
}

/// Opens the driver on first use. The call itself is recorded and may be told to fail, as every other.
fn init(name: &str) -> nvmlReturn_t {
    call::code(call::init(name, || {
        let library = library_path().ok_or(Return::LIBRARY_NOT_FOUND)?;
        open(&library)
    }))
}

// SAFETY: as for all exported functions, see `call::nvml`.
#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    init("nvmlInit_v2")
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn nvmlInit() -> nvmlReturn_t {
    init("nvmlInit")
}

/// Takes any flags, as the real driver; there is nothing that is not attached here.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    init("nvmlInitWithFlags")
}

// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    call::code(call::shutdown("nvmlShutdown"))
}

/// NVML's texts as C strings that live for ever.
static TEXTS: LazyLock<BTreeMap<Return, CString>> = LazyLock::new(|| {
    let text = |code: &Return| Some((*code, CString::new(code.text()).ok()?));
    Return::ALL.iter().filter_map(text).collect()
});

/// Works without init, as the real library's.
// SAFETY: as above.
#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(result: nvmlReturn_t) -> *const c_char {
    error_text(Return(result)).as_ptr()
}

fn error_text(code: Return) -> &'static CStr {
    TEXTS.get(&code).map_or(c"Unknown Error", CString::as_c_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_above_whatever_folder_loaders_search() {
        for folder in [
            "usr/lib/x86_64-linux-gnu",
            "lib/aarch64-linux-gnu",
            "usr/lib64",
            "lib64",
            "usr/lib",
            "lib",
        ] {
            for root in ["/", "/run/nvidia/driver", "/usr"] {
                let library = Path::new(root).join(folder).join("libnvidia-ml.so.1");
                let usr_is_taken_off = root == "/usr" && !folder.starts_with("usr");
                let expected = if usr_is_taken_off { "/" } else { root };
                assert_eq!(root_of(&library), Some(Path::new(expected)), "{library:?}");
            }
        }
        assert_eq!(root_of(Path::new("/opt/nvidia/libnvidia-ml.so.1")), None);
    }

    #[test]
    fn every_code_has_its_text() {
        for code in Return::ALL {
            assert_eq!(error_text(*code).to_str(), Ok(code.text()));
        }
        assert_eq!(error_text(Return(12_345)), c"Unknown Error");
    }
}
