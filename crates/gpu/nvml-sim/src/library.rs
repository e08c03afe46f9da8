//! The library itself, built along with this crate.

/// The simulated `libnvidia-ml.so.1`, as a shared object for this machine.
pub static LIBRARY: &[u8] = include_bytes!(env!("MIGPOOL_NVML_SIM_LIBRARY"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_a_shared_object() {
        assert_eq!(&LIBRARY[..4], b"\x7fELF");
    }
}
