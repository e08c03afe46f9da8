//! Clients of our own inside the cluster: threads in the control plane's network, as the administrator.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::world::World;

/// Says when a task is to end.
pub(crate) type Stop = oneshot::Receiver<()>;

/// Something that goes on in the cluster until it is ended.
pub(crate) struct Task<T> {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<anyhow::Result<T>>>,
}

impl<T: Send + 'static> Task<T> {
    /// Starts a thread in the control plane's network, that goes on until [`Task::end`], or until what it does ends by
    /// itself.
    ///
    /// # Errors
    /// The thread can't be started.
    pub(crate) fn start<F, W>(world: &World, name: &str, work: F) -> anyhow::Result<Self>
    where
        F: FnOnce(Client, Stop) -> W + Send + 'static,
        W: Future<Output = anyhow::Result<T>>,
    {
        let path = world.cluster().network();
        let network =
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let kubeconfig = world.cluster().kubeconfig();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&network, &kubeconfig, |client| work(client, stopped)))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Ends it, and answers with what came of it.
    ///
    /// # Errors
    /// It has failed, or panicked.
    pub(crate) fn end(mut self) -> anyhow::Result<T> {
        drop(self.stop.take());
        let thread = self.thread.take().context("it was ended before")?;
        thread
            .join()
            .map_err(|_| anyhow!("its thread has panicked"))?
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does something in the cluster, and waits for what comes of it.
///
/// # Errors
/// What went wrong with it.
pub(crate) fn inside<T, F, W>(world: &World, work: F) -> anyhow::Result<T>
where
    T: Send + 'static,
    F: FnOnce(Client) -> W + Send + 'static,
    W: Future<Output = anyhow::Result<T>>,
{
    let mut task = Task::start(world, "inside", |client, _| work(client))?;
    let thread = task.thread.take().context("no thread")?;
    thread
        .join()
        .map_err(|_| anyhow!("its thread has panicked"))?
}

/// The thread stays in that network.
fn run<T, W: Future<Output = anyhow::Result<T>>>(
    network: &File,
    kubeconfig: &Path,
    work: impl FnOnce(Client) -> W,
) -> anyhow::Result<T> {
    move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        work(Client::try_from(config)?).await
    })
}
