//! What this machine was asked to keep: nodes, pods, and who holds which device.

use rusqlite::{Transaction, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use jiff::Timestamp;
use pool::{ClusterKey, Key, NodeName, NodeSpec, PodName};

use super::{Database, DatabaseError, Durability, Failure};
use crate::kubelet::ledger::{Assignment, Holder};
use crate::pod::container::ContainerStatus;
use crate::pod::manifest::Manifest;

/// A node as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRow {
    /// What was asked for.
    pub spec: NodeSpec,
    /// When.
    pub created: Timestamp,
    /// It is being taken away.
    pub deleting: bool,
}

/// A pod as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PodRow {
    /// Its unique id.
    pub uid: String,
    /// The cluster whose nodes it may run on.
    pub cluster: ClusterKey,
    /// Its name.
    pub name: PodName,
    /// What it runs.
    pub manifest: Manifest,
    /// When it was asked for.
    pub created: Timestamp,
    /// Its place in the order of arrival.
    pub sequence: u64,
    /// The node it was given.
    pub node: Option<NodeName>,
    /// The generation of each container's shim, in the manifest's order.
    pub generations: Vec<u64>,
    /// How each container was when its end was written down, in the manifest's order.
    pub finals: Vec<Option<ContainerStatus>>,
    /// It failed before or outside its containers: why.
    pub failure: Option<String>,
    /// It is being ended.
    pub deleting: bool,
}

impl Database {
    /// All nodes.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn nodes(&self) -> Result<Vec<NodeRow>, DatabaseError> {
        self.rows("node", "SELECT name, body FROM node ORDER BY name")
            .await
    }

    /// All pods, in their order of arrival.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn pods(&self) -> Result<Vec<PodRow>, DatabaseError> {
        let mut rows: Vec<PodRow> = self.rows("pod", "SELECT uid, body FROM pod").await?;
        rows.sort_by_key(|row| row.sequence);
        Ok(rows)
    }

    /// Who holds what, by node.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn assignments(&self) -> Result<Vec<(String, Assignment)>, DatabaseError> {
        let pods = self.pods().await?;
        let held = self
            .transaction(Durability::Process, |tx| {
                let mut statement = tx.prepare(
                    "SELECT node, pod, container, resource, device FROM assignment
                     ORDER BY node, pod, container, resource, device",
                )?;
                let rows = statement.query_map([], |row| {
                    let text = |index| row.get::<_, String>(index);
                    Ok([text(0)?, text(1)?, text(2)?, text(3)?, text(4)?])
                })?;
                rows.collect::<Result<Vec<_>, _>>()
                    .map_err(Failure::<DatabaseError>::from)
            })
            .await?;
        let mut assignments: Vec<(String, Assignment)> = Vec::new();
        for [node, uid, container, resource, device] in held {
            let pod = pods.iter().find(|pod| pod.uid == uid);
            let holder = Holder {
                pod: pod.map(|pod| pod.name.to_string()).unwrap_or_default(),
                namespace: pod
                    .map(|pod| pod.manifest.metadata.namespace.clone())
                    .unwrap_or_default(),
                pod_uid: uid,
                container,
            };
            match assignments.last_mut() {
                Some((last_node, last))
                    if *last_node == node && last.holder == holder && last.resource == resource =>
                {
                    last.devices.push(device);
                }
                _ => assignments.push((
                    node,
                    Assignment {
                        holder,
                        resource,
                        devices: vec![device],
                    },
                )),
            }
        }
        Ok(assignments)
    }

    /// Writes a node.
    ///
    /// # Errors
    /// When the database cannot be written; nothing was changed.
    pub async fn put_node(&self, row: &NodeRow) -> Result<(), DatabaseError> {
        let name = row.spec.name.to_string();
        let body = self.json(&name, row)?;
        self.transaction(Durability::Process, move |tx| {
            tx.execute(
                "INSERT INTO node VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET body = ?2",
                params![name, body],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a node that no pod holds anything of.
    ///
    /// # Errors
    /// When something is still held, or the database cannot be written; nothing was changed.
    pub async fn delete_node(&self, name: &NodeName) -> Result<(), DatabaseError> {
        let name = name.to_string();
        self.transaction(Durability::Process, move |tx| {
            tx.execute("DELETE FROM node WHERE name = ?1", [name])?;
            Ok(())
        })
        .await
    }

    /// Writes a pod and, where it gets some, its devices: in one transaction, so that the pod's
    /// state and what it holds can never disagree.
    ///
    /// # Errors
    /// When a device has a holder, or the database cannot be written; nothing was changed.
    pub async fn put_pod(&self, row: &PodRow, gets: Vec<Assignment>) -> Result<(), DatabaseError> {
        let (row, body) = (row.clone(), self.json(&row.uid, row)?);
        self.transaction(Durability::Process, move |tx| {
            tx.prepare_cached(
                "INSERT INTO pod VALUES (?1, ?2, ?3, ?4) ON CONFLICT (uid) DO UPDATE SET body = ?4",
            )?
            .execute(params![
                row.uid,
                row.cluster.path(),
                row.name.folded(),
                body
            ])?;
            for assignment in &gets {
                let node = row.node.as_ref().map(NodeName::as_str);
                insert(tx, node, assignment)?;
            }
            Ok(())
        })
        .await
    }

    /// Writes a pod that holds nothing any more.
    ///
    /// # Errors
    /// When the database cannot be written; nothing was changed.
    pub async fn put_ended_pod(&self, row: &PodRow) -> Result<(), DatabaseError> {
        let (uid, body) = (row.uid.clone(), self.json(&row.uid, row)?);
        self.transaction(Durability::Process, move |tx| {
            tx.execute("DELETE FROM assignment WHERE pod = ?1", [&uid])?;
            tx.execute(
                "UPDATE pod SET body = ?2 WHERE uid = ?1",
                params![uid, body],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets a pod and takes back what it held.
    ///
    /// # Errors
    /// When the database cannot be written; nothing was changed.
    pub async fn delete_pod(&self, uid: &str) -> Result<(), DatabaseError> {
        let uid = uid.to_owned();
        self.transaction(Durability::Process, move |tx| {
            tx.execute("DELETE FROM assignment WHERE pod = ?1", [&uid])?;
            tx.execute("DELETE FROM pod WHERE uid = ?1", [&uid])?;
            Ok(())
        })
        .await
    }

    fn json<T: Serialize>(&self, row: &str, value: &T) -> Result<String, DatabaseError> {
        serde_json::to_string(value).map_err(|error| self.unreadable(row, &error))
    }

    fn unreadable(&self, row: &str, error: &serde_json::Error) -> DatabaseError {
        DatabaseError::Row {
            path: self.path.clone(),
            row: row.to_owned(),
            reason: error.to_string(),
        }
    }

    async fn rows<T: DeserializeOwned + Send + 'static>(
        &self,
        what: &'static str,
        query: &'static str,
    ) -> Result<Vec<T>, DatabaseError> {
        let bodies = self
            .transaction(Durability::Process, move |tx| {
                let mut statement = tx.prepare(query)?;
                let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                let rows: Result<Vec<(String, String)>, _> = rows.collect();
                rows.map_err(Failure::<DatabaseError>::from)
            })
            .await?;
        let read = |(key, body): (String, String)| {
            serde_json::from_str(&body)
                .map_err(|error| self.unreadable(&format!("{what} {key}"), &error))
        };
        bodies.into_iter().map(read).collect()
    }
}

fn insert(
    tx: &Transaction<'_>,
    node: Option<&str>,
    assignment: &Assignment,
) -> Result<(), Failure<DatabaseError>> {
    let mut statement = tx.prepare_cached("INSERT INTO assignment VALUES (?1, ?2, ?3, ?4, ?5)")?;
    for device in &assignment.devices {
        statement.execute(params![
            node,
            device,
            assignment.resource,
            assignment.holder.pod_uid,
            assignment.holder.container,
        ])?;
    }
    Ok(())
}
