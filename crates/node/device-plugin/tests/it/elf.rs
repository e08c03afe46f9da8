//! Libraries that consist of nothing but a name.

/// 64-bit x86, as ELF numbers it.
pub(crate) const X86_64: u16 = 62;

/// An ELF file for a machine, with this SONAME: a head, the strings, the dynamic section, and the table of these.
pub(crate) fn library(machine: u16, soname: &str) -> Vec<u8> {
    const HEAD: u64 = 64;
    const DYNAMIC: u32 = 6;
    const STRINGS: u32 = 3;
    const SONAME: u64 = 14;
    let strings = [b"\0", soname.as_bytes(), b"\0"].concat();
    let strings_size = u64::try_from(strings.len()).unwrap();
    let dynamic_at = (HEAD + strings_size).next_multiple_of(8);
    let dynamic: [u64; 4] = [SONAME, 1, 0, 0];
    let sections_at = dynamic_at + 32;

    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend(3_u16.to_le_bytes()); // a shared object
    file.extend(machine.to_le_bytes());
    file.extend(1_u32.to_le_bytes());
    file.extend([0; 16]); // no entry point, no segments
    file.extend(sections_at.to_le_bytes());
    file.extend([0; 4]);
    for number in [64_u16, 0, 0, 64, 3, 1] {
        file.extend(number.to_le_bytes());
    }
    file.extend(&strings);
    file.resize(usize::try_from(dynamic_at).unwrap(), 0);
    file.extend(dynamic.iter().flat_map(|number| number.to_le_bytes()));
    file.extend([0; 64]); // the section that ELF wants first
    let mut section = |kind: u32, at: u64, size: u64, link: u32, entry: u64| {
        file.extend(0_u32.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend([0; 16]);
        file.extend(at.to_le_bytes());
        file.extend(size.to_le_bytes());
        file.extend(link.to_le_bytes());
        file.extend([0; 4]);
        file.extend(8_u64.to_le_bytes());
        file.extend(entry.to_le_bytes());
    };
    section(STRINGS, HEAD, strings_size, 0, 0);
    section(DYNAMIC, dynamic_at, 32, 1, 16);
    file
}
