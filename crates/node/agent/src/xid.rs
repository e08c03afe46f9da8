//! What the driver's XIDs mean, in a few words.

/// The meaning of an XID that concerns the GPU, where it is known; after NVIDIA's Xid catalogue.
pub(crate) const fn meaning(xid: u64) -> Option<&'static str> {
    Some(match xid {
        13 => "graphics engine exception",
        31 => "memory page fault of an application",
        32 => "corrupt push buffer",
        43 => "an application's channel was reset",
        45 => "channels torn down ahead of time",
        46 => "GPU stopped processing",
        48 => "memory error that ECC could not correct",
        61 | 62 => "internal micro-controller halted",
        63 => "a bad memory row is to be remapped",
        64 => "a bad memory row could not be remapped",
        68 => "video processor exception",
        69 => "graphics engine class error",
        74 | 144..=150 => "NVLink error",
        79 => "GPU fell off the bus",
        92 => "many memory errors corrected by ECC",
        94 => "uncorrectable memory error, contained to one application",
        95 => "uncorrectable memory error, not contained",
        109 => "context switch timed out",
        110 => "security fault",
        119 => "GPU System Processor timed out",
        120 => "GPU System Processor failed",
        121 => "corrected error of the chip-to-chip link",
        122..=125 => "SPI or InfoROM failure",
        137 => "NVLink privilege error",
        140 => "unrecovered ECC error",
        143 => "GPU failed to initialise",
        154 => "the GPU asks for a recovery action",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_xid_has_a_meaning_where_nvidia_gives_it_one() {
        assert_eq!(meaning(79), Some("GPU fell off the bus"));
        assert_eq!(meaning(100_000), None);
    }
}
