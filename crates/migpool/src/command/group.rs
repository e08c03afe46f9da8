//! `migpool group`: resource groups, as `az group`.

use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::{Map, Value, json};

use crate::arguments::Connection;
use crate::command::scope::{self, text};
use crate::failure::Failure;
use crate::output::{columns, print};

/// Resource groups.
#[derive(Debug, Subcommand)]
pub(crate) enum Group {
    /// Create a resource group
    Create(Create),
    /// Show a resource group
    Show(Named),
    /// List the resource groups
    List(List),
    /// Delete a resource group and all that is in it
    Delete(Delete),
}

/// A group by its name.
#[derive(Debug, Args)]
pub(crate) struct Named {
    #[command(flatten)]
    connection: Connection,
    /// The group's name
    #[arg(short, long, visible_aliases = ["resource-group"], short_alias = 'g')]
    name: String,
}

/// `group create`.
#[derive(Debug, Args)]
pub(crate) struct Create {
    #[command(flatten)]
    group: Named,
    /// The group's location: an Azure region's name, kept as it is given
    #[arg(short, long)]
    location: String,
    /// Tags, `key=value`
    #[arg(long, num_args = 0.., value_parser = key_value)]
    tags: Vec<(String, String)>,
}

/// `group list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    connection: Connection,
}

/// `group delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    #[command(flatten)]
    group: Named,
    /// Do not wait until it is done
    #[arg(long)]
    no_wait: bool,
    /// Do not ask; migpool never asks, az's flag is accepted
    #[arg(short, long)]
    yes: bool,
}

impl Group {
    /// Runs it.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        match self {
            Self::Create(create) => {
                let body = json!({"location": create.location, "tags": object(&create.tags)});
                let path = scope::group(&create.group.name);
                let client = create.group.connection.client()?;
                let answer = client.call(Method::PUT, &path, Some(&body)).await?;
                print(create.group.connection.output, &answer.body, table_of_one)
            }
            Self::Show(named) => {
                let group = named
                    .connection
                    .client()?
                    .get(&scope::group(&named.name))
                    .await?;
                print(named.connection.output, &group, table_of_one)
            }
            Self::List(list) => {
                let groups = list.connection.client()?.list(&scope::groups()).await?;
                print(list.connection.output, &groups, |groups| table(groups))
            }
            Self::Delete(delete) => {
                let what = format!("deleting group {}", delete.group.name);
                let client = delete.group.connection.client()?;
                client
                    .delete(&scope::group(&delete.group.name), &what, delete.no_wait)
                    .await
            }
        }
    }
}

fn table_of_one(group: &Value) -> String {
    table(std::slice::from_ref(group))
}

fn table(groups: &[Value]) -> String {
    columns(
        &["NAME", "LOCATION", "STATE"],
        groups.iter().map(|group| {
            vec![
                text(group, "/name").into(),
                text(group, "/location").into(),
                text(group, "/properties/provisioningState").into(),
            ]
        }),
    )
}

/// Reads `key=value`.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is not of the form key=value")),
    }
}

/// A JSON object of pairs.
pub(crate) fn object(pairs: &[(String, String)]) -> Value {
    Value::Object(
        pairs
            .iter()
            .map(|(k, v)| (k.clone(), json!(v)))
            .collect::<Map<_, _>>(),
    )
}
