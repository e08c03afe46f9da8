//! `migpool azure trust` and `untrust`: tokens of an OpenID Connect issuer.

use std::path::PathBuf;

use clap::Args;
use identity::TrustedIssuer;

use crate::command::azure::keeper::{self, FrontOptions};
use crate::failure::Failure;

/// Trust the tokens of an OpenID Connect issuer too
///
/// Its principals have the roles that a claim of their tokens names, and those that `migpool azure role assign` gives them.
#[derive(Debug, Args)]
pub(crate) struct Trust {
    #[command(flatten)]
    front: FrontOptions,
    /// The issuer's https URL, exactly as its tokens have it
    issuer: String,
    /// The audience that its tokens must be for
    #[arg(long)]
    audience: String,
    /// The claim that has a principal's roles: reader, contributor or owner, each on its own or as ROLE:SCOPE
    #[arg(long, value_name = "CLAIM")]
    roles_claim: Option<String>,
    /// The authorities (PEM) that its certificate must be signed by [default: the system's]
    #[arg(long, value_name = "FILE")]
    authority: Option<PathBuf>,
}

/// Trust the tokens of no other issuer any more
#[derive(Debug, Args)]
pub(crate) struct Untrust {
    #[command(flatten)]
    front: FrontOptions,
}

impl Trust {
    /// Trusts it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let authority = self.authority.as_ref().map(|file| {
            // The front has a working directory of its own.
            std::path::absolute(file).map_err(|error| {
                Failure::usage(format!("{} is not a usable path: {error}", file.display()))
            })
        });
        let issuer = TrustedIssuer {
            issuer: self.issuer.clone(),
            audience: self.audience.clone(),
            roles_claim: self.roles_claim.clone(),
            authority: authority.transpose()?,
        };
        trust(&self.front, Some(issuer)).await
    }
}

impl Untrust {
    /// Trusts nobody else.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        trust(&self.front, None).await
    }
}

async fn trust(front: &FrontOptions, issuer: Option<TrustedIssuer>) -> Result<(), Failure> {
    let identity = front.identity().await?;
    identity.trust_issuer(issuer).await.map_err(keeper::failure)
}
