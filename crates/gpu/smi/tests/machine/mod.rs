//! A simulated machine, and nvidia-smi on it.
#![allow(dead_code)] // each test file uses its part

use std::ffi::OsString;
use std::path::Path;

use nvml_sim::{DriverRoot, Options};

pub(crate) struct Machine {
    pub(crate) root: DriverRoot,
    _folder: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn new(board: &str, count: u32) -> Self {
        Self::with(board, count, &Options::default())
    }

    pub(crate) fn with(board: &str, count: u32, options: &Options) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let boards = [(mig::board(board).unwrap(), count)];
        let root = DriverRoot::create_with(folder.path().join("root"), &boards, options).unwrap();
        Self {
            root,
            _folder: folder,
        }
    }

    /// What `nvidia-smi ARGUMENTS` prints and how it exits.
    pub(crate) fn run(&self, arguments: &str) -> (String, u8) {
        run(self.root.path(), arguments)
    }

    /// A command that must succeed, and what it prints.
    pub(crate) fn transcript(&self, arguments: &str) -> String {
        format!("$ nvidia-smi {arguments}\n{}", self.done(arguments))
    }

    /// As [`Self::run`], of a command that must succeed.
    pub(crate) fn done(&self, arguments: &str) -> String {
        let (text, code) = self.run(arguments);
        assert_eq!(code, 0, "nvidia-smi {arguments}: {text}");
        text
    }
}

pub(crate) fn run(root: &Path, arguments: &str) -> (String, u8) {
    let arguments: Vec<OsString> = arguments.split_whitespace().map(OsString::from).collect();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = migpool_smi::run(&arguments, root, &mut out, &mut err);
    (String::from_utf8(out).unwrap(), code)
}
