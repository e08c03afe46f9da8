//! Who may do what at the ARM front: certificates, principals, tokens, roles and the audit log.
//!
//! Everything is kept in one document, which a [`Storage`] holds: a [`Folder`] on one machine, a Secret in a cluster. Each change
//! is a pure function from one document to the next, written over the version that was read, so that several processes may change
//! it at the same time and none undoes another's change. How the parts fit:
//!
//! - [`Identity`] is the shell: it opens the document, makes what is missing at first start, renews what runs out, follows what
//!   other processes change, and answers the questions of a front.
//! - `authority` makes the authority (CA) and the server's certificate, `serving` shows it to clients.
//! - `signing` has the keys of tokens and `token` the tokens themselves: made for the managed identity and for service principals
//!   that show their secret, and verified. `issuer` verifies those of an OpenID Connect issuer that is trusted besides.
//! - [`role`], [`scope`] and `access` are authorization: a role on a scope, and the table of what it allows.
//! - [`audit`] writes down who did what.
//!
//! What is secret: the document has the private keys and the managed identity's header, which processes of its owner must be able
//! to read back; so the folder is the owner's alone. Secrets of service principals are only there as salted hashes.
#![forbid(unsafe_code)]

pub mod access;
pub mod audit;
mod authority;
mod document;
mod error;
mod id;
mod identity;
mod issuer;
mod principal;
pub mod role;
pub mod scope;
mod secret;
mod seen;
mod serving;
mod signing;
mod state;
pub mod storage;
mod token;

pub use access::{Assignment, Denied, Grant, Reach};
pub use audit::{Administrator, AuditEntry, AuditLog, ChangeEntry, ChangeLog, Changed, Outcome};
pub use error::{IdentityError, SignInError};
pub use id::{PrincipalId, TenantId};
pub use identity::{AUDIENCE, Identity, NewSecret, Settings};
pub use issuer::TrustedIssuer;
pub use principal::{Principal, PrincipalKind};
pub use role::{Action, Role};
pub use scope::RoleScope;
pub use secrecy::{ExposeSecret, SecretString};
pub use storage::{Folder, Kept, Storage, StorageError, Version};
pub use token::{IssuedToken, TokenError};
