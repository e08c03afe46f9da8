//! The programs that build images: found, or installed where this machine is Debian or Ubuntu and we are root, which
//! is said; else named with the package that has them.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::image::Image;
use crate::step::{Error, is_root, run};

const BUILDER: &[(&str, &str)] = &[("buildah", "buildah"), ("gzip", "gzip")];

/// Sees to it that all that these images need is there.
pub(super) fn ensure(images: &[&Image]) -> Result<(), Error> {
    let needed = BUILDER
        .iter()
        .chain(images.iter().flat_map(|image| image.tools));
    let mut packages: Vec<&str> = needed
        .filter(|(program, _)| !is_there(program))
        .map(|(_, package)| *package)
        .collect();
    // gcc alone does not bring the C library's headers.
    if packages.contains(&"gcc") {
        packages.push("libc6-dev");
    }
    packages.sort_unstable();
    packages.dedup();

    if !packages.is_empty() {
        install(&packages)?;
    }
    if images.iter().any(|image| image.is_made_of_packages()) && !has_package_lists() {
        update()?;
    }
    Ok(())
}

/// Whether this process may install packages.
pub(super) fn may_install() -> bool {
    is_there("apt-get") && is_root()
}

/// Fetches the distribution's package lists anew.
pub(super) fn update() -> Result<(), Error> {
    if !may_install() {
        return Err(Error::Other(
            "this machine has no lists of its distribution's packages: run `apt-get update` as root".to_owned(),
        ));
    }
    run(Command::new("apt-get").args(["update", "--quiet"]))
}

/// Runs a command without a word, and gives its standard output; its messages are in the error.
pub(super) fn output(command: &mut Command) -> Result<Vec<u8>, Error> {
    let text = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ");
    let Output {
        status,
        stdout,
        stderr,
    } = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start {
            command: text.clone(),
            source,
        })?;
    if status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&stderr);
    Err(Error::Other(format!(
        "`{text}` failed ({status}): {}",
        stderr.trim()
    )))
}

fn install(packages: &[&str]) -> Result<(), Error> {
    let packages_text = packages.join(" ");
    if !is_there("apt-get") {
        return Err(Error::Other(format!(
            "building images here needs what Debian and Ubuntu have in the packages {packages_text}; \
             with Docker, `docker build -f images/NAME/Dockerfile .` needs none of them"
        )));
    }
    if !is_root() {
        return Err(Error::Other(format!(
            "programs are missing: run `apt-get install {packages_text}` as root"
        )));
    }
    println!("Installing what is missing on this machine: {packages_text}");
    if !has_package_lists() {
        update()?;
    }
    let install = || {
        run(Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--quiet", "--no-install-recommends"])
            .args(packages))
    };
    // Old lists name packages that are no longer there.
    install().or_else(|_| update().and_then(|()| install()))
}

fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn has_package_lists() -> bool {
    std::fs::read_dir(Path::new("/var/lib/apt/lists")).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().contains("_Packages"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no space left >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with("failed (exit status: 3): no space left"),
            "{error}"
        );
    }
}
