//! What a loader goes by in a library: the name it is found by, and the machine it is for.

use std::fs::File;
use std::io;
use std::path::Path;

use object::elf::{DT_SONAME, EM_AARCH64, EM_X86_64, FileHeader64};
use object::read::elf::FileHeader;
use object::{Endianness, FileKind, ReadCache};

/// A machine whose libraries containers get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Machine {
    /// The folders that loaders look into by themselves: that of Debian and Ubuntu, and that of Red Hat and others.
    pub(crate) fn loader_folders(self) -> [&'static str; 2] {
        match self {
            Self::X86_64 => ["/usr/lib/x86_64-linux-gnu", "/usr/lib64"],
            Self::Aarch64 => ["/usr/lib/aarch64-linux-gnu", "/usr/lib64"],
        }
    }
}

/// A library's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Elf {
    pub(crate) machine: Machine,
    /// Its SONAME, where it has one.
    pub(crate) soname: Option<String>,
}

/// Why a library is left out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ElfError {
    /// It can't be opened.
    #[error(transparent)]
    Open(#[from] io::Error),
    /// It is no ELF file, or a broken one.
    #[error("it is no intact ELF file: {0}")]
    Broken(#[from] object::read::Error),
}

/// Reads a library's head, and no more of it than that: some are hundreds of megabytes. `None` for a library that is for
/// another kind of machine, such as the 32-bit ones that lie beside the others.
pub(crate) fn read(path: &Path) -> Result<Option<Elf>, ElfError> {
    let data = &ReadCache::new(File::open(path)?);
    if FileKind::parse(data)? != FileKind::Elf64 {
        return Ok(None);
    }
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let machine = match header.e_machine(endian) {
        EM_X86_64 => Machine::X86_64,
        EM_AARCH64 => Machine::Aarch64,
        _ => return Ok(None),
    };
    let dynamic = header.sections(endian, data)?.dynamic_table(endian, data)?;
    let soname = dynamic.iter().find(|entry| entry.tag == DT_SONAME);
    let soname = match soname {
        None => None,
        Some(entry) => Some(String::from_utf8_lossy(dynamic.string(entry)?).into_owned()),
    };
    // A name with a folder in it would be mounted who knows where.
    Ok(Some(Elf {
        machine,
        soname: soname.filter(|name| !name.is_empty() && !name.contains('/')),
    }))
}
