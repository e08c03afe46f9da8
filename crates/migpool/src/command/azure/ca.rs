//! `migpool azure ca`: whom clients have to trust.

use clap::Args;

use crate::command::azure::keeper::FrontOptions;
use crate::failure::Failure;
use crate::output::write_line;

/// Print the certificate of the authority that clients have to trust, as PEM
#[derive(Debug, Args)]
pub(crate) struct Ca {
    #[command(flatten)]
    front: FrontOptions,
}

impl Ca {
    /// Prints it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let identity = self.front.identity().await?;
        write_line(&identity.authority_pem())
    }
}
