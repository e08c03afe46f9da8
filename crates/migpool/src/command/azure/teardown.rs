//! `migpool azure teardown`: what undoes `migpool azure env` and `setup`.

use std::path::PathBuf;

use clap::Args;

use crate::azure::environment;
use crate::azure::set_up::ConfigDir;
use crate::azure::shell::Shell;
use crate::command::azure::keeper::FrontOptions;
use crate::failure::Failure;
use crate::output::write_line;

/// Remove az's settings for migpool, and print what makes a shell forget it: eval "$(migpool azure teardown)"
///
/// Principals, roles and certificates stay: they are the front's, and not this shell's.
#[derive(Debug, Args)]
pub(crate) struct Teardown {
    #[command(flatten)]
    front: FrontOptions,
    /// The folder of az's settings, if it is not the default
    #[arg(long, value_name = "DIR")]
    azure_config_dir: Option<PathBuf>,
    /// The shell that reads what is printed
    #[arg(long, value_enum, default_value = "sh")]
    shell: Shell,
}

impl Teardown {
    /// Removes and prints.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let folder = self.front.folder()?;
        let config_dir = match &self.azure_config_dir {
            Some(dir) => std::path::absolute(dir).map_err(Failure::of)?,
            None => folder.config_dir(),
        };
        if ConfigDir::remove(&config_dir, &folder)? {
            anstream::eprintln!("Removed {}.", config_dir.display());
        }
        let bundle = folder.bundle();
        match std::fs::remove_file(&bundle) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::failed(format!(
                    "cannot remove {}: {error}",
                    bundle.display()
                )));
            }
            _ => {}
        }
        let lines: Vec<_> = environment::NAMES
            .into_iter()
            .map(|name| self.shell.unset(name))
            .collect();
        write_line(&lines.join("\n"))
    }
}
