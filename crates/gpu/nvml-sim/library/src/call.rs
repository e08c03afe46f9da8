//! The shell around every call, and the process's one open driver.
//!
//! A call answers `UNINITIALIZED` unless the library is initialised; then the driver records it,
//! lets faults strike and runs it. Nothing here panics, and nothing may unwind into C: the library
//! is built to abort on a panic.

use std::sync::{Arc, PoisonError, RwLock};

use nvml_sim::capability::View;
use nvml_sim::{Driver, Return, State};
use nvml_wrapper_sys::bindings::nvmlReturn_t;

/// Declares exported functions: arguments as in `nvml.h`, then which shell of this module runs the
/// body.
///
/// The function is `unsafe` because C must keep NVML's contract for the pointers, which
/// [`crate::abi`] explains.
macro_rules! nvml {
    ($(
        $(#[$meta:meta])*
        fn $name:ident($($arg:ident: $type:ty),* $(,)?) $shell:ident |$($with:pat_param),+| $body:block
    )*) => {$(
        $(#[$meta])*
        // SAFETY: NVML's own symbols are what this library exists to define; no other code of the
        // process defines them.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($arg: $type),*) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            $crate::call::$shell(stringify!($name), |$($with),+| $body)
        }
    )*};
}

static SESSION: RwLock<Option<Session>> = RwLock::new(None);

/// What lives from the first `nvmlInit` to the last `nvmlShutdown`.
struct Session {
    users: u32,
    driver: Arc<Driver>,
}

/// Opens the driver by `open`, or counts one more user of the open one.
pub(crate) fn init(
    name: &str,
    open: impl FnOnce() -> Result<Driver, Return>,
) -> Result<(), Return> {
    let mut session = SESSION.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(session) = session.as_mut() {
        session.driver.read(name, |_, _| Ok(()))?;
        session.users = session.users.saturating_add(1);
    } else {
        let driver = Arc::new(open()?);
        driver.read(name, |_, _| Ok(()))?;
        *session = Some(Session { users: 1, driver });
    }
    Ok(())
}

/// Takes one user away, and closes the driver with the last.
pub(crate) fn shutdown(name: &str) -> Result<(), Return> {
    let mut session = SESSION.write().unwrap_or_else(PoisonError::into_inner);
    let open = session.as_mut().ok_or(Return::UNINITIALIZED)?;
    open.driver.read(name, |_, _| Ok(()))?;
    open.users = open.users.saturating_sub(1);
    if open.users == 0 {
        *session = None;
    }
    Ok(())
}

fn open_driver() -> Result<Arc<Driver>, Return> {
    let session = SESSION.read().unwrap_or_else(PoisonError::into_inner);
    session
        .as_ref()
        .map(|session| Arc::clone(&session.driver))
        .ok_or(Return::UNINITIALIZED)
}

/// A result as C gets it.
pub(crate) fn code(result: Result<(), Return>) -> nvmlReturn_t {
    match result {
        Ok(()) => Return::SUCCESS.0,
        Err(code) => code.0,
    }
}

/// Runs a call that reads.
pub(crate) fn read(
    name: &str,
    body: impl FnOnce(&State, &View) -> Result<(), Return>,
) -> nvmlReturn_t {
    code(open_driver().and_then(|driver| driver.read(name, body)))
}

/// Runs a call that changes the state. When its body fails, nothing is changed.
pub(crate) fn write(
    name: &str,
    body: impl FnOnce(&mut State, &View) -> Result<(), Return>,
) -> nvmlReturn_t {
    code(open_driver().and_then(|driver| driver.write(name, body)))
}

/// Runs a call that asks the driver itself, which then does what the other shells do.
pub(crate) fn driver(
    name: &str,
    body: impl FnOnce(&Driver, &str) -> Result<(), Return>,
) -> nvmlReturn_t {
    code(open_driver().and_then(|driver| body(&driver, name)))
}
