//! The exported symbols, against the list of a real libnvidia-ml.so.580.159.04.

use std::ffi::c_void;

use libloading::os::unix::{Library, Symbol};

use crate::library::{Machine, NOT_SUPPORTED, SUCCESS, UNINITIALIZED};

const SYMBOLS: &str = include_str!("../../data/symbols-580.txt");

fn open(machine: &Machine) -> Library {
    // SAFETY: the library is ours; what runs when it is loaded is the Rust runtime's set-up.
    unsafe { Library::new(machine.root.library_path()) }.unwrap()
}

#[test]
fn every_symbol_of_the_real_library_is_exported() {
    let machine = Machine::new(&[("A30", 1)]);
    let library = open(&machine);
    let missing: Vec<&str> = SYMBOLS
        .lines()
        .filter(|name| {
            // SAFETY: the symbol is looked up and not used.
            let found: Result<Symbol<*mut c_void>, _> = unsafe { library.get(name.as_bytes()) };
            found.is_err()
        })
        .collect();
    assert_eq!(SYMBOLS.lines().count(), 404);
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn what_is_not_simulated_answers_so_between_init_and_shutdown_only() {
    let machine = Machine::new(&[("A30", 1)]);
    let library = open(&machine);
    let call = |name: &str| -> u32 {
        // SAFETY: the functions that are called take no argument, or look at none.
        unsafe {
            let function: Symbol<unsafe extern "C" fn() -> u32> =
                library.get(name.as_bytes()).unwrap();
            function()
        }
    };
    let names = [
        "nvmlInternalGetExportTable",
        "nvmlVgpuTypeGetName",
        "nvmlDeviceSetEccMode",
    ];
    assert_eq!(names.map(call), [UNINITIALIZED; 3]);
    assert_eq!(call("nvmlInit_v2"), SUCCESS);
    assert_eq!(names.map(call), [NOT_SUPPORTED; 3]);
    assert_eq!(call("nvmlShutdown"), SUCCESS);
    assert_eq!(names.map(call), [UNINITIALIZED; 3]);
}
