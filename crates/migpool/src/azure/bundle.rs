//! The certificates that clients trust: those that they would trust anyway, and the front's own authority.
//!
//! `REQUESTS_CA_BUNDLE` replaces what a program trusts. With the front's authority alone, pip and every other program of that shell
//! would trust nobody else any more.

use std::path::{Path, PathBuf};

use crate::azure::write_atomically;
use crate::failure::Failure;

/// The line before the front's authority. Text between certificates is not read.
const MARK: &str = "# migpool's own authority\n";

/// Writes the bundle to `path`: the certificates of `others`, which may be the bundle of before, and then the authority's.
pub(crate) fn write(path: &Path, others: Option<&Path>, authority: &str) -> Result<(), Failure> {
    let mut text = String::new();
    if let Some(others) = others {
        let there = std::fs::read_to_string(others).map_err(|error| {
            Failure::failed(format!(
                "cannot read the certificates that this machine trusts, {}: {error}",
                others.display()
            ))
            .with_help("REQUESTS_CA_BUNDLE or SSL_CERT_FILE names another file of them")
        })?;
        text.push_str(there.split(MARK).next().unwrap_or_default());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(MARK);
    text.push_str(authority);
    // A shell that was set up long ago reads this file; it is left alone where nothing changed.
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    write_atomically(path, text.as_bytes())
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))
}

/// The file of the certificates that this shell's programs trust: that of `REQUESTS_CA_BUNDLE`, or the system's.
pub(crate) fn trusted_anyway() -> Option<PathBuf> {
    let named = std::env::var_os("REQUESTS_CA_BUNDLE").map(PathBuf::from);
    named.filter(|named| named.is_file()).or_else(system)
}

/// The file of the certificates that the system trusts.
pub(crate) fn system() -> Option<PathBuf> {
    openssl_probe::probe().cert_file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_has_what_was_trusted_before_and_the_authority() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.pem");
        let others = dir.path().join("others.pem");
        let there = || std::fs::read_to_string(&path).unwrap();
        std::fs::write(&others, "OTHERS").unwrap();
        write(&path, Some(&others), "OURS\n").unwrap();
        assert_eq!(there(), format!("OTHERS\n{MARK}OURS\n"));
        // Once more in a shell that is set up already, after a rotation: the old authority is gone, the others are not.
        write(&path, Some(&path), "NEW\n").unwrap();
        assert_eq!(there(), format!("OTHERS\n{MARK}NEW\n"));
        write(&path, None, "NEW\n").unwrap();
        assert_eq!(there(), format!("{MARK}NEW\n"));
        let said = write(&path, Some(&dir.path().join("gone.pem")), "NEW\n").unwrap_err();
        assert!(said.to_string().contains("gone.pem"), "{said}");
    }
}
