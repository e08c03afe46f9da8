//! `migpool azure`: everything around the front for Azure's clients: how they are set up, who may do what, and who did.

pub(crate) mod audit;
pub(crate) mod ca;
mod changes;
pub(crate) mod env;
pub(crate) mod keeper;
pub(crate) mod openapi;
pub(crate) mod principal;
pub(crate) mod role;
pub(crate) mod rotate;
pub(crate) mod setup;
pub(crate) mod teardown;
pub(crate) mod trust;

use clap::Subcommand;

use crate::failure::Failure;

/// The front for Azure's clients, which `migpool up --azure` opens.
#[derive(Debug, Subcommand)]
pub(crate) enum Azure {
    /// Print what a shell needs for az, curl and the SDKs to use migpool: eval "$(migpool azure env)"
    Env(env::Env),
    /// Print the steps that make az use migpool, or do them
    Setup(setup::Setup),
    /// Remove az's settings for migpool, and print what makes a shell forget it: eval "$(migpool azure teardown)"
    Teardown(teardown::Teardown),
    /// Print the certificate of the authority that clients have to trust
    Ca(ca::Ca),
    /// Service principals: who may sign in
    #[command(subcommand)]
    Principal(principal::Principal),
    /// Roles: who may do what where
    #[command(subcommand)]
    Role(role::Role),
    /// Replace the authority, the server's certificate or the key that signs tokens
    Rotate(rotate::Rotate),
    /// Trust the tokens of an OpenID Connect issuer too
    Trust(trust::Trust),
    /// Trust the tokens of no other issuer any more
    Untrust(trust::Untrust),
    /// Show who did what, and who changed what others may do
    Audit(audit::Audit),
    /// Print the OpenAPI document of what is served
    Openapi,
}

impl Azure {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Env(env) => env.run().await,
            Self::Setup(setup) => setup.run().await,
            Self::Teardown(teardown) => teardown.run(),
            Self::Ca(ca) => ca.run().await,
            Self::Principal(principal) => principal.run().await,
            Self::Role(role) => role.run().await,
            Self::Rotate(rotate) => rotate.run().await,
            Self::Trust(trust) => trust.run().await,
            Self::Untrust(untrust) => untrust.run().await,
            Self::Audit(audit) => audit.run().await,
            Self::Openapi => openapi::print(),
        }
    }
}
