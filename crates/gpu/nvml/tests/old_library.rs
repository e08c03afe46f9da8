//! Libraries that lack functions: built here from a few lines of C, where there is a C compiler.
#![allow(clippy::unwrap_used, clippy::panic)] // clippy knows the tests, not their helpers

use std::path::Path;
use std::process::Command;

use migpool_nvml::{Error, Nvml};

/// A driver root with a library made of this C, or nothing where no compiler is.
fn root_with(source: &str) -> Option<tempfile::TempDir> {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("usr/lib64");
    std::fs::create_dir_all(&folder).unwrap();
    let file = root.path().join("nvml.c");
    std::fs::write(&file, source).unwrap();
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(folder.join("libnvidia-ml.so.1"))
        .arg(&file)
        .status();
    match built {
        Ok(status) => {
            assert!(status.success(), "the C compiler failed");
            Some(root)
        }
        Err(error) => {
            eprintln!("skipped: no C compiler ({error})");
            None
        }
    }
}

/// What a driver from before MIG has, one GPU of it.
const BEFORE_MIG: &str = r#"
#include <string.h>
typedef void *dev;
typedef struct { char legacy[16]; unsigned domain, bus, device, id, sub; char busId[32]; } pci;
typedef struct { unsigned long long total, free, used; } memory;
int nvmlInit(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strncpy(s, "390.157", n); return 0; }
int nvmlSystemGetNVMLVersion(char *s, unsigned n) { strncpy(s, "9.390.157", n); return 0; }
int nvmlSystemGetCudaDriverVersion(int *v) { *v = 9010; return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, dev *d) { *d = (dev)1; return i ? 2 : 0; }
int nvmlDeviceGetUUID(dev d, char *s, unsigned n) { strncpy(s, "GPU-old", n); return 0; }
int nvmlDeviceGetName(dev d, char *s, unsigned n) { strncpy(s, "Tesla V100", n); return 0; }
int nvmlDeviceGetPciInfo_v2(dev d, pci *p) { memset(p, 0, sizeof *p - 32); strcpy(p->legacy, "0000:07:00.0"); p->id = 0x1DB110DE; return 0; }
int nvmlDeviceGetMemoryInfo(dev d, memory *m) { m->total = 16384ull << 20; m->free = m->used = 0; return 0; }
int nvmlDeviceGetCudaComputeCapability(dev d, int *a, int *b) { *a = 7; *b = 0; return 0; }
int nvmlDeviceGetMinorNumber(dev d, unsigned *n) { *n = 0; return 0; }
"#;

#[test]
fn a_driver_from_before_mig_is_read_through_the_older_functions() {
    let Some(root) = root_with(BEFORE_MIG) else {
        return;
    };
    let inventory = Nvml::load(root.path()).unwrap().inventory().unwrap();
    assert_eq!(inventory.failed, []);
    assert_eq!(inventory.cuda_version.to_string(), "9.1");
    let gpu = inventory.gpu_at(0).unwrap();
    assert_eq!(gpu.pci_bus_id, "0000:07:00.0");
    assert_eq!(gpu.memory_mib, 16384);
    assert_eq!(
        (gpu.mig, gpu.serial.as_deref(), gpu.pci_class),
        (None, None, None)
    );
    assert!(gpu.board.profiles.is_empty());
}

#[test]
fn what_an_old_driver_cannot_do_is_named_with_its_library() {
    let Some(root) = root_with(BEFORE_MIG) else {
        return;
    };
    let nvml = Nvml::load(root.path()).unwrap();
    let gpu = nvml.inventory().unwrap().gpu_at(0).unwrap().uuid.clone();
    let error = nvml.set_mig_mode(&gpu, true).unwrap_err();
    assert!(
        matches!(
            error,
            Error::SymbolMissing {
                call: "nvmlDeviceSetMigMode",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("450 or newer"), "{error}");
    let error = nvml.event_set().unwrap_err();
    assert!(
        matches!(
            error,
            Error::SymbolMissing {
                call: "nvmlEventSetCreate",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_library_that_is_not_nvml_is_refused_when_it_is_loaded() {
    let Some(root) = root_with("int something_else(void) { return 0; }") else {
        return;
    };
    let error = Nvml::load(root.path()).unwrap_err();
    let Error::SymbolMissing { call, library } = &error else {
        panic!("{error}")
    };
    assert_eq!(*call, "nvmlInit_v2");
    assert!(library.starts_with(root.path()) && library.ends_with(Path::new("libnvidia-ml.so.1")));
}
