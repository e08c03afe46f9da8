//! nvidia-smi's everyday commands over NVML, for where there is no nvidia-smi: its text, its exit codes, its layout.
//!
//! [`run`] is the whole program: `arguments` reads the command line, one module per command answers with a `Reply`
//! (what to print and the exit code) from one [`nvml::Inventory`], and `run` prints it. Commands that change something
//! are in `mode` and `mig`; everything else only reads. The layout is that of driver 580, checked against what a real
//! H200 printed; texts that were only seen in public documents of other boards are the same on every board.

#![forbid(unsafe_code)]

mod arguments;
mod exit;
mod help;
mod list;
mod mig;
mod mode;
mod query;
mod reply;
mod selection;
mod summary;
mod version;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use nvml::Nvml;

use arguments::{Command, MigCommand};
use reply::Reply;
use selection::Selection;

/// Runs `nvidia-smi ARGS` (without the program's name) on the driver under `driver_root`, and answers the exit code.
/// As nvidia-smi does, it says everything on standard output; standard error gets what migpool knows beyond that.
pub fn run(
    args: &[OsString],
    driver_root: &Path,
    stdout: &mut impl Write,
    stderr: &mut impl Write,
) -> u8 {
    let reply = match arguments::parse(args) {
        Ok(command) => answer(&command, driver_root),
        Err(reply) => reply,
    };
    // A reader that went away wants no more text, and the exit code stays true.
    let _ = stdout
        .write_all(reply.text.as_bytes())
        .and_then(|()| stdout.flush());
    if let Some(detail) = &reply.detail {
        let _ = writeln!(stderr, "{detail}");
    }
    reply.code
}

fn answer(command: &Command, driver_root: &Path) -> Reply {
    match command {
        Command::Help => return help::main(),
        Command::Mig {
            command: MigCommand::Help,
            ..
        } => return help::mig(),
        _ => {}
    }
    act(command, driver_root).unwrap_or_else(|error| exit::of_driver(&error))
}

fn act(command: &Command, driver_root: &Path) -> Result<Reply, nvml::Error> {
    let nvml = Nvml::load(driver_root)?;
    let inventory = nvml.inventory()?;
    if let Command::Version = command {
        return Ok(version::version(&inventory));
    }
    let selection = match Selection::of(&inventory, command.ids()) {
        Ok(selection) => selection,
        Err(reply) => return Ok(reply),
    };
    let mut reply = match command {
        Command::List => list::list(&selection),
        Command::Query { fields, format, .. } => {
            query::query(&nvml, &inventory, &selection, fields, *format)
        }
        Command::Mode { enable, .. } => mode::set(&nvml, &selection, *enable),
        Command::Mig { command, scope } => mig::answer(&nvml, &selection, command, scope),
        Command::Summary { .. } | Command::Help | Command::Version => {
            summary::summary(&nvml, &inventory, &selection)
        }
    };
    reply.add_failed(&selection);
    Ok(reply)
}
