//! `migpool azure rotate`: new keys for old.

use clap::{Args, ValueEnum};
use identity::Changed;

use crate::azure::bundle;
use crate::command::azure::changes::Changes;
use crate::command::azure::keeper::FrontOptions;
use crate::failure::Failure;

/// Replace the authority, the server's certificate, the key that signs tokens, or the managed identity's secret
///
/// A front that runs takes it within a second or so, and ends no connection.
#[derive(Debug, Args)]
pub(crate) struct Rotate {
    #[command(flatten)]
    front: FrontOptions,
    /// What is replaced
    #[arg(value_enum)]
    what: What,
}

/// What can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// The authority and with it the server's certificate; clients that trust the old one have to be told
    Ca,
    /// The server's certificate, by the same authority. It is renewed by itself, too
    Certificate,
    /// The key that signs tokens; those of the old one are good until they run out
    SigningKey,
    /// The secret in IDENTITY_HEADER; shells need `migpool azure env` again
    IdentityHeader,
}

impl Rotate {
    /// Replaces it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let identity = self.front.identity().await?;
        let mut changes = Changes::of(&self.front)?;
        let (change, rotated) = match self.what {
            What::Ca => (Changed::RotateCa, identity.rotate_authority().await),
            What::Certificate => (
                Changed::RotateCertificate,
                identity.rotate_certificate().await,
            ),
            What::SigningKey => (
                Changed::RotateSigningKey,
                identity.rotate_signing_key().await,
            ),
            What::IdentityHeader => (
                Changed::RotateIdentityHeader,
                identity.rotate_managed_identity_header().await,
            ),
        };
        changes.record(change, rotated, |_, _| {})?;
        let bundle = self.front.folder()?.bundle();
        if self.what == What::Ca && bundle.is_file() {
            bundle::write(&bundle, Some(&bundle), &identity.authority_pem())?;
        }
        let told = match self.what {
            What::Ca => {
                "Clients elsewhere have to trust the new authority: `migpool azure ca` prints it. Shells here do already."
            }
            What::IdentityHeader => "Shells need the new secret: eval \"$(migpool azure env)\"",
            What::Certificate | What::SigningKey => return Ok(()),
        };
        anstream::eprintln!("{told}");
        Ok(())
    }
}
