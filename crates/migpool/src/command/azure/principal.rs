//! `migpool azure principal`: who may sign in.

use clap::{Args, Subcommand};
use identity::{Changed, ExposeSecret, Identity, NewSecret, PrincipalKind, Role, RoleScope};
use serde_json::{Value, json};

use crate::command::azure::changes::Changes;
use crate::command::azure::keeper::{self, FrontOptions};
use crate::failure::Failure;
use crate::output::{Format, columns, print};

/// Service principals: who may sign in.
#[derive(Debug, Subcommand)]
pub(crate) enum Principal {
    /// Make a service principal with a role on a scope; its secret is shown this once
    Create(Create),
    /// List the principals with their roles
    List(List),
    /// Delete a service principal; its tokens are worth nothing any more
    Delete(Named),
    /// Give a service principal a new secret, shown this once; the old one is worth nothing any more
    ResetSecret(Named),
}

/// Whose principals, and how they are printed.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    front: FrontOptions,
    /// The format of what is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// `principal create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    options: Options,
    /// The principal's name
    name: String,
    /// What it may do: reader, contributor or owner
    #[arg(long)]
    role: Role,
    /// Where it may do that: /subscriptions/S, one of its resource groups or clusters by its id
    #[arg(long)]
    scope: RoleScope,
}

/// `principal list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    options: Options,
}

/// One principal.
#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    options: Options,
    /// The principal's name or id
    name: String,
}

impl Principal {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => create.run().await,
            Self::List(list) => {
                let identity = list.options.identity().await?;
                print(list.options.output, &listed(&identity), |principals| {
                    table(principals)
                })
            }
            Self::Delete(named) => {
                let identity = named.options.identity().await?;
                let principal = keeper::principal(&identity, &named.name)?;
                let mut changes = Changes::of(&named.options.front)?;
                let deleted = identity.delete_principal(principal.id).await;
                changes.record(Changed::PrincipalDelete, deleted, |entry, _| {
                    entry.principal_id = Some(principal.id);
                    entry.principal = Some(principal.name);
                })
            }
            Self::ResetSecret(named) => {
                let identity = named.options.identity().await?;
                let principal = keeper::principal(&identity, &named.name)?;
                let mut changes = Changes::of(&named.options.front)?;
                let secret = identity.reset_secret(principal.id).await;
                let secret =
                    changes.record(Changed::PrincipalResetSecret, secret, |entry, _| {
                        entry.principal_id = Some(principal.id);
                        entry.principal = Some(principal.name.clone());
                    })?;
                named.options.print(&principal.name, &secret)
            }
        }
    }
}

impl Create {
    async fn run(&self) -> Result<(), Failure> {
        let identity = self.options.identity().await?;
        let scope = keeper::scope(&identity, &self.scope)?;
        let mut changes = Changes::of(&self.options.front)?;
        let secret = identity
            .create_service_principal(&self.name, self.role, scope.clone())
            .await;
        let secret = changes.record(Changed::PrincipalCreate, secret, |entry, made| {
            entry.principal_id = made.map(|made| made.client_id);
            entry.principal = Some(self.name.clone());
            entry.role = Some(self.role);
            entry.scope = Some(scope);
        })?;
        self.options.print(&self.name, &secret)
    }
}

impl Options {
    async fn identity(&self) -> Result<Identity, Failure> {
        self.front.identity().await
    }

    /// Prints a new secret, under the names that `az ad sp create-for-rbac` has for it.
    fn print(&self, name: &str, new: &NewSecret) -> Result<(), Failure> {
        let secret = new.secret.expose_secret();
        let value = json!({
            "appId": new.client_id.to_string(),
            "displayName": name,
            "password": secret,
            "tenant": new.tenant.to_string(),
        });
        print(self.output, &value, |_| {
            columns(
                &["NAME", "CLIENT ID", "SECRET", "TENANT"],
                [vec![
                    name.to_owned(),
                    new.client_id.to_string(),
                    secret.to_owned(),
                    new.tenant.to_string(),
                ]],
            )
        })?;
        anstream::eprintln!("The secret is not kept, and this is the only time that it is shown.");
        Ok(())
    }
}

fn listed(identity: &Identity) -> Vec<Value> {
    let assignments = identity.assignments();
    let roles = |principal: &identity::Principal| -> Vec<Value> {
        assignments
            .iter()
            .filter(|assignment| assignment.principal == principal.id)
            .map(|assignment| {
                json!({"role": assignment.role.to_string(), "scope": assignment.scope.to_string()})
            })
            .collect()
    };
    identity
        .principals()
        .iter()
        .map(|principal| {
            json!({
                "appId": principal.id.to_string(),
                "displayName": principal.name,
                "kind": kind(principal.kind),
                "roles": roles(principal),
            })
        })
        .collect()
}

fn kind(kind: PrincipalKind) -> &'static str {
    match kind {
        PrincipalKind::ManagedIdentity => "ManagedIdentity",
        PrincipalKind::ServicePrincipal => "ServicePrincipal",
        PrincipalKind::External => "External",
    }
}

fn table(principals: &[Value]) -> String {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    columns(
        &["NAME", "KIND", "CLIENT ID", "ROLES"],
        principals.iter().map(|principal| {
            let roles: Vec<_> = principal["roles"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|role| format!("{} on {}", text(role, "role"), text(role, "scope")))
                .collect();
            vec![
                text(principal, "displayName"),
                text(principal, "kind"),
                text(principal, "appId"),
                roles.join(", "),
            ]
        }),
    )
}
