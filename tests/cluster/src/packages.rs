//! What a cluster takes from the machine's distribution.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::run;

/// Why the machine cannot carry a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another system than Linux, which alone has the namespaces.
    #[error("a test cluster needs Linux's namespaces: this is {0}")]
    NotLinux(&'static str),
    /// The user may not make namespaces and mounts.
    #[error("a test cluster needs root: this is user {0}; run it with sudo")]
    NotRoot(u32),
    /// Programs are missing and this is not a system on which they are installed by themselves.
    #[error("missing: {}; on Debian and Ubuntu they are the packages {}", programs.join(", "), packages.join(", "))]
    Missing {
        /// The programs.
        programs: Vec<&'static str>,
        /// The Debian packages that have them.
        packages: Vec<&'static str>,
    },
    /// Debian's packages could not be installed.
    #[error("cannot install {}: {source}", packages.join(", "))]
    Install {
        /// The packages.
        packages: Vec<&'static str>,
        /// apt-get's words.
        source: run::Error,
    },
}

/// Each program, or path of one, and the Debian package that has it.
const NEEDED: [(&str, &str); 12] = [
    ("runc", "runc"),
    ("/usr/lib/cni/bridge", "containernetworking-plugins"),
    ("/usr/lib/cni/host-local", "containernetworking-plugins"),
    ("/usr/lib/cni/loopback", "containernetworking-plugins"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("ps", "procps"),
    ("nsenter", "util-linux"),
    ("unshare", "util-linux"),
    ("pivot_root", "util-linux"),
    ("setpriv", "util-linux"),
    ("setsid", "util-linux"),
];

/// Whether this user on this system can have a cluster at all, whatever is installed.
///
/// # Errors
/// On another system than Linux, and as another user than root.
pub fn possible() -> Result<(), Error> {
    if !cfg!(target_os = "linux") {
        return Err(Error::NotLinux(std::env::consts::OS));
    }
    let user = rustix::process::geteuid();
    if user.is_root() {
        Ok(())
    } else {
        Err(Error::NotRoot(user.as_raw()))
    }
}

/// Installs what is missing where the system is Debian or Ubuntu, and says so.
pub(crate) fn ensure() -> Result<(), Error> {
    possible()?;
    let programs = missing();
    if programs.is_empty() {
        return Ok(());
    }
    let packages = packages_of(&programs);
    if !Path::new("/etc/debian_version").exists() || find("apt-get").is_none() {
        return Err(Error::Missing { programs, packages });
    }
    eprintln!("installing {} with apt-get", packages.join(", "));
    let install = || {
        run::output(
            Command::new("apt-get")
                .args(["install", "--yes", "--no-install-recommends"])
                .args(&packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    // The lists of packages may be missing or old: only then they are fetched.
    install()
        .or_else(|_| run::output(Command::new("apt-get").arg("update")).and_then(|_| install()))
        .map_err(|source| Error::Install {
            packages: packages.clone(),
            source,
        })?;
    let programs = missing();
    if programs.is_empty() {
        Ok(())
    } else {
        Err(Error::Missing { programs, packages })
    }
}

fn missing() -> Vec<&'static str> {
    NEEDED
        .iter()
        .map(|&(program, _)| program)
        .filter(|program| find(program).is_none())
        .collect()
}

fn packages_of(programs: &[&str]) -> Vec<&'static str> {
    let mut packages: Vec<_> = NEEDED
        .iter()
        .filter(|(program, _)| programs.contains(program))
        .map(|&(_, package)| package)
        .collect();
    packages.dedup();
    packages
}

/// Where a program is; administrators' folders are looked through even when the `PATH` lacks them.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_once_for_all_its_programs() {
        assert_eq!(
            packages_of(&["/usr/lib/cni/bridge", "/usr/lib/cni/host-local", "ip"]),
            ["containernetworking-plugins", "iproute2"]
        );
    }

    #[test]
    fn a_program_is_found_by_its_name_or_by_its_path() {
        assert!(find("sh").is_some());
        assert!(find("/bin/sh").is_some());
        assert!(find("/bin/no-such-program").is_none());
    }
}
