//! A watch of the node's `GpuNode`, event by event.

use std::pin::Pin;
use std::time::Duration;

use futures::{AsyncBufRead, AsyncBufReadExt};
use kube::core::Status;
use serde::Deserialize;
use serde_json::Value;

use crate::client::NodeClient;
use crate::error::{Access, Error, Failure};
use crate::gpu_node::{GpuNodeNow, Object, WATCH};

/// The longest silence: the server ends a watch before.
const SILENCE: Duration = Duration::from_secs(WATCH as u64 + 30);

/// The longest event in bytes; a `GpuNode` is far smaller.
const LONGEST: usize = 4 << 20;

/// What became of a `GpuNode`.
#[derive(Debug, Clone, PartialEq)]
pub enum GpuNodeChange {
    /// It was made or changed.
    Is(Box<GpuNodeNow>),
    /// It was deleted.
    Gone,
    /// The watch is over, or missed something: it is asked for again, and watched anew.
    Over,
}

/// A watch of the node's `GpuNode`. Its connection is closed when it is dropped.
pub struct GpuNodeWatch {
    client: NodeClient,
    access: Access,
    stream: Option<Pin<Box<dyn AsyncBufRead + Send>>>,
    line: Vec<u8>,
}

impl std::fmt::Debug for GpuNodeWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GpuNodeWatch")
            .field("client", &self.client)
            .field("is_over", &self.stream.is_none())
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Event {
    r#type: String,
    object: Value,
}

impl GpuNodeWatch {
    pub(crate) fn new(
        client: NodeClient,
        access: Access,
        stream: Pin<Box<dyn AsyncBufRead + Send>>,
    ) -> Self {
        Self {
            client,
            access,
            stream: Some(stream),
            line: Vec::new(),
        }
    }

    /// One that is over before it began.
    pub(crate) fn expired(client: NodeClient, access: Access) -> Self {
        Self {
            client,
            access,
            stream: None,
            line: Vec::new(),
        }
    }

    /// Waits for the next change. Nothing is lost when this is dropped before it is done.
    ///
    /// # Errors
    /// When the server says no, or what it says can't be understood, or nothing comes for too long.
    pub async fn next(&mut self) -> Result<GpuNodeChange, Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                return Ok(GpuNodeChange::Over);
            };
            let read = stream.read_until(b'\n', &mut self.line);
            match tokio::time::timeout(SILENCE, read).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(self.unreachable(error.to_string())),
                Err(_) => return Err(self.unreachable(format!("no word for {SILENCE:?}"))),
            }
            if self.line.last() != Some(&b'\n') {
                self.stream = None;
                return Ok(GpuNodeChange::Over);
            }
            let line = std::mem::take(&mut self.line);
            if line.len() > LONGEST {
                return Err(self.unintelligible(format!("an event of {} bytes", line.len())));
            }
            if let Some(change) = self.change(&line)? {
                return Ok(change);
            }
        }
    }

    fn change(&mut self, line: &[u8]) -> Result<Option<GpuNodeChange>, Error> {
        let event: Event =
            serde_json::from_slice(line).map_err(|error| self.unintelligible(error.to_string()))?;
        Ok(match event.r#type.as_str() {
            "ADDED" | "MODIFIED" => {
                let object = Object::deserialize(event.object)
                    .map_err(|error| self.unintelligible(error.to_string()))?;
                let object = object.read(self.client.node());
                Some(GpuNodeChange::Is(Box::new(object)))
            }
            "DELETED" => Some(GpuNodeChange::Gone),
            "ERROR" => {
                self.stream = None;
                let status = Status::deserialize(event.object)
                    .map_err(|error| self.unintelligible(error.to_string()))?;
                if status.code != 410 {
                    let failure = Failure::Status(Box::new(status));
                    return Err(self.client.of_gpu_node(failure, self.access));
                }
                Some(GpuNodeChange::Over)
            }
            // Bookmarks, which only matter to who goes on from them.
            _ => None,
        })
    }

    fn unreachable(&mut self, reason: String) -> Error {
        self.stream = None;
        Error::Unreachable {
            server: self.client.server().to_owned(),
            access: self.access,
            reason,
        }
    }

    fn unintelligible(&mut self, reason: String) -> Error {
        self.stream = None;
        Error::Unintelligible {
            server: self.client.server().to_owned(),
            access: self.access,
            reason,
        }
    }
}
