//! `migpool azure trust` and `untrust`: tokens of an OpenID Connect issuer.

use std::path::PathBuf;

use clap::Args;
use hyper::Uri;
use identity::{Changed, TrustedIssuer};

use crate::command::azure::changes::Changes;
use crate::command::azure::keeper::FrontOptions;
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
    let mut changes = Changes::of(front)?;
    let (change, host) = match &issuer {
        None => (Changed::Untrust, None),
        Some(issuer) => (Changed::Trust, host_of(&issuer.issuer)),
    };
    let trusted = identity.trust_issuer(issuer).await;
    changes.record(change, trusted, |entry, _| entry.issuer = host)
}

/// Whose URL it is. Before a host there may be a password.
fn host_of(url: &str) -> Option<String> {
    let url: Uri = url.parse().ok()?;
    url.host().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_written_down_without_what_may_be_secret_in_its_url() {
        assert_eq!(
            host_of("https://user:secret@issuer.example:8443/tenant").as_deref(),
            Some("issuer.example")
        );
        assert_eq!(host_of("no url at all"), None);
    }
}
