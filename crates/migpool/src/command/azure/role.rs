//! `migpool azure role`: who may do what where.

use clap::{Args, Subcommand};
use identity::{
    Assignment, ChangeEntry, Changed, Identity, PrincipalId, Role as RoleName, RoleScope,
};
use serde_json::{Value, json};

use crate::command::azure::changes::Changes;
use crate::command::azure::keeper::{self, FrontOptions};
use crate::failure::Failure;
use crate::output::{Format, columns, print};

/// Roles: who may do what where.
///
/// A reader sees, a contributor changes too and gets a cluster's user credentials, an owner may do everything. A role holds on its
/// scope and on all that is in it.
#[derive(Debug, Subcommand)]
pub(crate) enum Role {
    /// Give a principal a role on a scope
    Assign(Assign),
    /// List who has which role where
    List(List),
    /// Take a role on a scope away from a principal
    Remove(Remove),
}

/// `role assign`.
#[derive(Debug, Args)]
pub(crate) struct Assign {
    #[command(flatten)]
    front: FrontOptions,
    /// The principal's name or id; somebody of a trusted issuer has an id in the audit log
    #[arg(long, value_name = "NAME")]
    assignee: String,
    /// The role: reader, contributor or owner
    #[arg(long)]
    role: RoleName,
    /// Where it holds: /subscriptions/S, one of its resource groups or clusters by its id
    #[arg(long)]
    scope: RoleScope,
}

/// `role list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    front: FrontOptions,
    /// Only this principal's, by name or id
    #[arg(long, value_name = "NAME")]
    assignee: Option<String>,
    /// The format of what is printed
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    output: Format,
}

/// `role remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    #[command(flatten)]
    front: FrontOptions,
    /// The principal's name or id
    #[arg(long, value_name = "NAME")]
    assignee: String,
    /// The role; all that the principal has on the scope when it is left out
    #[arg(long)]
    role: Option<RoleName>,
    /// The scope that it was given on
    #[arg(long)]
    scope: RoleScope,
}

impl Role {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Assign(assign) => assign.run().await,
            Self::List(list) => list.run().await,
            Self::Remove(remove) => remove.run().await,
        }
    }
}

impl Assign {
    async fn run(&self) -> Result<(), Failure> {
        let identity = self.front.identity().await?;
        let scope = keeper::scope(&identity, &self.scope)?;
        let principal = assignee(&identity, &self.assignee)?;
        let mut changes = Changes::of(&self.front)?;
        let assigned = identity.assign(principal, self.role, scope.clone()).await;
        let assignment = Assignment {
            principal,
            role: self.role,
            scope,
        };
        changes.record(Changed::RoleAssign, assigned, |entry, _| {
            describe(entry, &identity, assignment);
        })
    }
}

impl List {
    async fn run(&self) -> Result<(), Failure> {
        let identity = self.front.identity().await?;
        let only = match &self.assignee {
            None => None,
            Some(name) => Some(assignee(&identity, name)?),
        };
        let names = identity.principals();
        let listed: Vec<_> = identity
            .assignments()
            .into_iter()
            .filter(|assignment| only.is_none_or(|id| assignment.principal == id))
            .map(|assignment| {
                let known = names.iter().find(|known| known.id == assignment.principal);
                let id = assignment.principal.to_string();
                json!({
                    "principalName": known.map_or_else(|| id.clone(), |known| known.name.clone()),
                    "principalId": id,
                    "role": assignment.role.to_string(),
                    "scope": assignment.scope.to_string(),
                })
            })
            .collect();
        print(self.output, &listed, |listed| table(listed))
    }
}

impl Remove {
    async fn run(&self) -> Result<(), Failure> {
        let identity = self.front.identity().await?;
        let principal = assignee(&identity, &self.assignee)?;
        let wanted = self.scope.to_string();
        let there: Vec<Assignment> = identity
            .assignments()
            .into_iter()
            .filter(|assignment| {
                assignment.principal == principal
                    && self.role.is_none_or(|role| assignment.role == role)
                    && assignment.scope.to_string().eq_ignore_ascii_case(&wanted)
            })
            .collect();
        if there.is_empty() {
            return Err(
                Failure::failed(format!("{} has no such role on {wanted}", self.assignee))
                    .with_help("`migpool azure role list` has what there is"),
            );
        }
        let mut changes = Changes::of(&self.front)?;
        for assignment in there {
            let taken = identity
                .unassign(principal, assignment.role, &assignment.scope)
                .await;
            changes.record(Changed::RoleRemove, taken, |entry, _| {
                describe(entry, &identity, assignment);
            })?;
        }
        Ok(())
    }
}

/// Says which role of whom a change was about.
fn describe(entry: &mut ChangeEntry, identity: &Identity, assignment: Assignment) {
    let known = identity.principals().into_iter();
    let mut known = known.filter(|known| known.id == assignment.principal);
    entry.principal = known.next().map(|known| known.name);
    entry.principal_id = Some(assignment.principal);
    entry.role = Some(assignment.role);
    entry.scope = Some(assignment.scope);
}

/// A principal by its name or id. Who comes from a trusted issuer is known by the id alone.
fn assignee(identity: &Identity, name: &str) -> Result<PrincipalId, Failure> {
    match name.parse() {
        Ok(id) => Ok(id),
        Err(_) => Ok(keeper::principal(identity, name)?.id),
    }
}

fn table(assignments: &[Value]) -> String {
    let text =
        |assignment: &Value, key: &str| assignment[key].as_str().unwrap_or_default().to_owned();
    columns(
        &["PRINCIPAL", "ROLE", "SCOPE"],
        assignments.iter().map(|assignment| {
            ["principalName", "role", "scope"]
                .map(|key| text(assignment, key))
                .into()
        }),
    )
}
