//! What an image is: its folder, its name, and the inputs that decide whether it must be made anew.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::tools::output;
use crate::step::{Error, root};

/// One image: a folder of `images/` and the name that it gets.
#[derive(Debug)]
pub(super) struct Image {
    /// The folder in `images/`, and the archive's name
    pub(super) name: &'static str,
    /// The repository: `migpool`
    repository: &'static str,
    /// The tag; the workspace's version where there is none
    tag: Option<&'static str>,
    /// Whether its script takes migpool's binary
    pub(super) carries_migpool: bool,
    /// Programs that its script needs, each with the Debian package that has it
    pub(super) tools: &'static [(&'static str, &'static str)],
}

const APT: &[(&str, &str)] = &[("apt-get", "apt"), ("dpkg-deb", "dpkg"), ("tar", "tar")];

/// All images.
pub(super) const IMAGES: &[Image] = &[
    Image {
        name: "migpool",
        repository: "migpool",
        tag: None,
        carries_migpool: true,
        tools: &[("ldd", "libc-bin")],
    },
    Image {
        name: "cuda-stand-in",
        repository: "nvidia/cuda",
        tag: Some("12.1.1-base-ubuntu22.04"),
        carries_migpool: false,
        tools: APT,
    },
    Image {
        name: "busybox",
        repository: "busybox",
        tag: Some("latest"),
        carries_migpool: false,
        tools: APT,
    },
    Image {
        name: "pynvml",
        repository: "migpool-test/pynvml",
        tag: Some("1"),
        carries_migpool: false,
        tools: &[
            ("apt-get", "apt"),
            ("dpkg-deb", "dpkg"),
            ("tar", "tar"),
            ("python3", "python3"),
            ("pip3", "python3-pip"),
        ],
    },
    Image {
        name: "pause",
        repository: "migpool-test/pause",
        tag: Some("1"),
        carries_migpool: false,
        tools: &[("gcc", "gcc"), ("ld", "binutils")],
    },
];

impl Image {
    /// The name that it is loaded under: `migpool:0.1.0`.
    pub(super) fn reference(&self) -> String {
        format!(
            "{}:{}",
            self.repository,
            self.tag.unwrap_or(env!("CARGO_PKG_VERSION"))
        )
    }

    /// Its folder in the checkout.
    pub(super) fn folder(&self) -> PathBuf {
        root().join("images").join(self.name)
    }

    /// Whether it is made of the distribution's packages.
    pub(super) fn is_made_of_packages(&self) -> bool {
        self.tools.contains(&("apt-get", "apt"))
    }

    /// The script that makes its root folder, with that folder (or `--inputs`) as its first argument.
    pub(super) fn root_script(&self, first: &Path, binary: Option<&Path>) -> Command {
        let mut command = Command::new(self.folder().join("root"));
        command.arg(first).args(binary);
        command
    }

    /// A hash of all that the archive is made from: the files in `images/` that it uses, what its script says that it
    /// would take from this machine, and its name.
    pub(super) fn key(&self, binary: Option<&Path>) -> Result<String, Error> {
        let mut hash = Sha256::new();
        hash.update(self.reference());
        let mut files = vec![root().join("images/debian-root")];
        for entry in std::fs::read_dir(self.folder())? {
            files.push(entry?.path());
        }
        files.sort();
        for file in files {
            let content = std::fs::read(&file)?;
            hash.update(file.file_name().unwrap_or_default().as_encoded_bytes());
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
        hash.update(output(
            &mut self.root_script(Path::new("--inputs"), binary),
        )?);
        Ok(hex(&hash.finalize()))
    }
}

/// `sha256:...` of a file.
pub(super) fn digest(file: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    let mut reader = std::fs::File::open(file)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = std::io::Read::read(&mut reader, &mut buffer)?;
        let Some(chunk) = buffer.get(..read).filter(|chunk| !chunk.is_empty()) else {
            return Ok(format!("sha256:{}", hex(&hash.finalize())));
        };
        hash.update(chunk);
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(name: &str) -> &'static Image {
        IMAGES.iter().find(|image| image.name == name).unwrap()
    }

    #[test]
    fn migpool_s_image_has_the_workspace_s_version_as_its_tag() {
        assert_eq!(
            image("migpool").reference(),
            format!("migpool:{}", env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn each_image_has_a_dockerfile_that_can_stop_before_anything_is_pulled() {
        for image in IMAGES {
            let dockerfile = std::fs::read_to_string(image.folder().join("Dockerfile")).unwrap();
            let stages: Vec<_> = dockerfile
                .lines()
                .filter(|line| line.starts_with("FROM "))
                .collect();
            assert_eq!(
                stages.get(..2).unwrap(),
                ["FROM scratch AS base", "FROM base AS packed"],
                "{}",
                image.name
            );
            assert_eq!(stages.last().unwrap(), &"FROM base", "{}", image.name);
        }
    }

    #[test]
    fn every_folder_of_images_is_an_image() {
        let mut folders: Vec<_> = std::fs::read_dir(root().join("images"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.file_type().unwrap().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        folders.sort();
        let mut names: Vec<_> = IMAGES.iter().map(|image| image.name).collect();
        names.sort_unstable();
        assert_eq!(folders, names);
    }

    #[test]
    fn another_binary_is_another_key_and_the_same_binary_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let own = std::env::current_exe().unwrap();
        let one = folder.path().join("one");
        let other = folder.path().join("other");
        std::fs::copy(&own, &one).unwrap();
        let mut changed = std::fs::read(&own).unwrap();
        changed.push(0);
        std::fs::write(&other, changed).unwrap();
        std::fs::set_permissions(&other, std::fs::metadata(&one).unwrap().permissions()).unwrap();

        let image = image("migpool");
        let key = image.key(Some(&one)).unwrap();
        assert_eq!(image.key(Some(&own)).unwrap(), key);
        assert_ne!(image.key(Some(&other)).unwrap(), key);
    }
}
