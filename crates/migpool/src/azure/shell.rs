//! The shells that take variables: how each sets and unsets one.

use clap::ValueEnum;

use crate::failure::Failure;

/// A shell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    /// sh, bash, zsh and all others of POSIX's kind.
    #[default]
    Sh,
    /// fish.
    Fish,
    /// `PowerShell`.
    Powershell,
}

impl Shell {
    /// The line that sets a variable for the programs that the shell starts.
    pub(crate) fn set(self, name: &str, value: &str) -> Result<String, Failure> {
        Ok(match self {
            Self::Sh => format!("export {name}={}", quoted(value)?),
            Self::Fish => format!("set -gx {name} {}", quoted(value)?),
            Self::Powershell => format!("$env:{name} = '{}'", value.replace('\'', "''")),
        })
    }

    /// The line that takes a variable away.
    pub(crate) fn unset(self, name: &str) -> String {
        match self {
            Self::Sh => format!("unset {name}"),
            Self::Fish => format!("set -e {name}"),
            Self::Powershell => {
                format!("Remove-Item Env:{name} -ErrorAction SilentlyContinue")
            }
        }
    }
}

/// A word that POSIX's shells and fish read as it is.
pub(crate) fn quoted(word: &str) -> Result<String, Failure> {
    shlex::try_quote(word)
        .map(std::borrow::Cow::into_owned)
        .map_err(|error| Failure::failed(format!("no shell can be told `{word}`: {error}")))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const ODD: &str = "a folder's \"odd\" $HOME `name`\\ with all; that & can | be";

    #[test]
    fn a_value_reaches_the_programs_of_a_shell_as_it_is() {
        let set = Shell::Sh.set("ODD", ODD).unwrap();
        let script = format!("{set}\nsh -c 'printf %s \"$ODD\"'");
        let output = Command::new("sh").arg("-c").arg(&script).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), ODD, "{script}");
        let script = format!(
            "{set}\n{}\nsh -c 'printf %s \"$ODD\"'",
            Shell::Sh.unset("ODD")
        );
        let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
        assert!(output.stdout.is_empty());
    }

    #[test]
    fn every_shell_has_its_own_words() {
        let set = |shell: Shell| shell.set("NAME", "it's").unwrap();
        assert_eq!(set(Shell::Sh), "export NAME=\"it's\"");
        assert_eq!(set(Shell::Fish), "set -gx NAME \"it's\"");
        assert_eq!(set(Shell::Powershell), "$env:NAME = 'it''s'");
        assert_eq!(Shell::Fish.unset("NAME"), "set -e NAME");
        assert!(Shell::Sh.set("NAME", "a\0b").is_err());
    }
}
