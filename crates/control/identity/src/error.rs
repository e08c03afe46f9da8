//! What goes wrong with identities.

use crate::id::PrincipalId;
use crate::storage::StorageError;

/// Why identities can't be opened or changed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The document can't be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// What is kept there is not a document of ours, or a part of it can't be used.
    #[error(
        "the identities in {place} can't be read ({reason}): bring back a copy, or take them away to start anew"
    )]
    Unreadable {
        /// The place.
        place: String,
        /// What is wrong, without any of its contents.
        reason: String,
    },
    /// A newer migpool has written the document.
    #[error(
        "the identities in {place} are of format {found}, and this migpool knows up to format {known}: use the newer migpool"
    )]
    Newer {
        /// The place.
        place: String,
        /// The document's format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// There is no document yet.
    #[error(
        "there are no identities in {place} yet: start the Azure front first, which makes them"
    )]
    Missing {
        /// The place.
        place: String,
    },
    /// A copy was brought back while newer ones are in use.
    #[error(
        "the identities in {place} are of generation {found}, older than those in use ({known}), and no change of them has any effect: restart the front to use them, or bring back the newer ones"
    )]
    Older {
        /// The place.
        place: String,
        /// How many changes the document has seen.
        found: u64,
        /// How many the one in use has seen.
        known: u64,
    },
    /// Others wrote in between again and again.
    #[error("the identities in {place} are being changed by others all the time: try again")]
    Contended {
        /// The place.
        place: String,
    },
    /// The server has no name, or one that no certificate can have.
    #[error(
        "no certificate can be made for {names:?} ({reason}): give DNS names and IP addresses that clients reach the server by"
    )]
    Names {
        /// The names.
        names: Vec<String>,
        /// What is wrong with them.
        reason: String,
    },
    /// A key or a certificate can't be made or used.
    #[error("{what} can't be made or used: {reason}")]
    Cryptography {
        /// Which.
        what: &'static str,
        /// What the library says.
        reason: String,
    },
    /// No principal has this id.
    #[error("there is no principal {0}: list them to see which there are")]
    NoPrincipal(PrincipalId),
    /// Another principal has the name.
    #[error(
        "there is already a principal named {0:?}: choose another name, or reset that one's secret"
    )]
    NameTaken(String),
    /// A name that no principal can have.
    #[error(
        "{0:?} can't be a principal's name: write 1 to 120 letters, without control characters"
    )]
    InvalidName(String),
    /// The managed identity has no secret of its own and always exists.
    #[error(
        "the managed identity can't be deleted, and has no secret to reset: take its roles away instead, or change its header"
    )]
    ManagedIdentity,
    /// A role that isn't assigned can't be taken away.
    #[error(
        "principal {0} does not have that role on that scope: list the assignments to see what it has"
    )]
    NoAssignment(PrincipalId),
    /// The settings of a trusted issuer make no sense.
    #[error("the issuer {issuer:?} can't be trusted: {reason}")]
    Issuer {
        /// Its URL.
        issuer: String,
        /// What is wrong.
        reason: String,
    },
}

/// Why somebody is given no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// The client or its secret is wrong. Which of the two is not said.
    #[error("the client id or its secret is wrong: reset the secret if it is lost")]
    WrongCredentials,
    /// The header is not the managed identity's.
    #[error(
        "the header X-IDENTITY-HEADER is not that of the managed identity: take IDENTITY_HEADER from `migpool azure env` again"
    )]
    WrongHeader,
    /// Another managed identity was asked for.
    #[error("there is no managed identity with client id {0:?} here: leave the client id out")]
    UnknownClient(String),
    /// A token for something else was asked for.
    #[error("no tokens are given for {0:?}: the resource is {AUDIENCE:?}", AUDIENCE = crate::identity::AUDIENCE)]
    UnknownResource(String),
    /// Too many sign in at once.
    #[error("too many clients sign in at once: try again in a few seconds")]
    Busy,
    /// The token can't be made.
    #[error("the token can't be made: {0}")]
    Failed(String),
}
