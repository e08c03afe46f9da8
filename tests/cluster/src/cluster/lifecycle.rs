//! Starting a cluster, and ending it.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{CONTROL_NAMESPACE, Cluster, Error};
use crate::certificates::Authority;
use crate::config::{API_SERVICE, CONTROL_PLANE, Config, Lifetime, Place};
use crate::namespace::{Namespace, Setup};
use crate::node::{self, Node, Surroundings};
use crate::parts::Parts;
use crate::state::{self, State};
use crate::{cgroups, control_plane, packages, process, wait};

impl Cluster {
    /// Starts a cluster, and gives it back with every node Ready and pods allowed to be made. What an earlier one left
    /// in this state folder after being killed is swept up first.
    ///
    /// # Errors
    /// When the machine cannot carry it, or one of its parts does not come up: then with the end of that one's log, and
    /// the state folder stays for a look at the other logs.
    pub fn start(parts: &Parts, config: &Config) -> Result<Self, Error> {
        packages::ensure()?;
        check(config)?;
        let _lock = state::lock(&config.state_dir)?;
        // Even where the folder is gone, its processes may not be: they are found by its path.
        let state = State::create(&config.state_dir)?;
        if Namespace::find(&state, CONTROL_NAMESPACE).is_some() && state.path("up").exists() {
            return Err(Error::Running(config.state_dir.clone()));
        }
        end(&state)?;
        state.delete()?;
        check_file_system(&config.state_dir)?;
        let start = Instant::now();
        let state = State::create(&config.state_dir)?;
        let cluster = Self::bring_up(&state, parts, config).inspect_err(|_| {
            // Its logs stay; the next start deletes them.
            if let Err(error) = end(&state) {
                eprintln!("{error}");
            }
        })?;
        eprintln!(
            "{} nodes Ready after {:.1?}; logs in {}",
            cluster.nodes.len(),
            start.elapsed(),
            state.path("logs").display()
        );
        Ok(cluster)
    }

    fn bring_up(state: &State, parts: &Parts, config: &Config) -> Result<Self, Error> {
        state.write_json(&state.path("cluster.json"), config)?;
        let path = parts.search_path().to_string_lossy().into_owned();
        state.write(&state.path("path"), &path)?;
        let setup = control_namespace(config.lifetime);
        let (namespace, owner) = Namespace::create(state, None, setup)?;
        let mut cluster = Self {
            state: state.clone(),
            namespace,
            nodes: Vec::new(),
            path,
            owner: None,
        };
        cluster.certify(config)?;
        cluster.start_all(parts, config)?;
        cluster.wait_until_ready()?;
        state.write(&state.path("up"), "")?;
        cluster.owner = owner;
        Ok(cluster)
    }

    /// Stops the cluster of this state folder, if there is one, and deletes all that is left of it.
    ///
    /// # Errors
    /// When something of it cannot be ended or deleted.
    pub fn stop_at(state_dir: &Path) -> Result<(), Error> {
        let _lock = state::lock(state_dir)?;
        let state = State::create(state_dir)?;
        end(&state)?;
        Ok(state.delete()?)
    }

    fn certify(&self, config: &Config) -> Result<(), Error> {
        let authority = Authority::create(&self.state)?;
        authority.api_server()?;
        for (file, user, group) in control_plane::CLIENTS {
            authority.client(file, user, group)?;
        }
        for (node, place) in config.nodes.iter().zip(Place::all()) {
            authority.kubelet(node, place.address())?;
        }
        Ok(())
    }

    /// Starts the control plane and, beside it, everything of the nodes that does not need it.
    fn start_all(&mut self, parts: &Parts, config: &Config) -> Result<(), Error> {
        if config.audit {
            let policy = control_plane::audit_policy_text();
            self.state
                .write_json(&control_plane::audit_policy(&self.state), &policy)?;
        }
        let stages = control_plane::stages(&self.state);
        self.state.write(&stages, control_plane::STAGES)?;
        for (name, program) in control_plane::programs(&self.state, &self.path, config.audit) {
            let service = self.service(name);
            service.define(&program)?;
            // The others give up, or wait for seconds, when the API server does not answer.
            if name == control_plane::ETCD || name == control_plane::API_SERVER {
                service.start()?;
            }
        }
        let around = Surroundings {
            state: &self.state,
            outer: &self.namespace,
            parts: parts.cache(),
            path: &self.path,
        };
        self.nodes = std::thread::scope(|scope| {
            let threads: Vec<_> = config
                .nodes
                .iter()
                .zip(Place::all())
                .map(|(name, place)| {
                    let around = &around;
                    scope.spawn(move || {
                        let node = Node::create(around, name, place)?;
                        node.containerd().start()?;
                        node.wait_for_containerd()?;
                        for image in &config.images {
                            node.import_image(image)?;
                        }
                        Ok(node)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| {
                    thread
                        .join()
                        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                })
                .collect::<Result<_, node::Error>>()
        })?;
        self.wait_for_api_server()?;
        self.controller_manager().start()?;
        self.scheduler().start()?;
        for node in &self.nodes {
            node.kubelet().start()?;
        }
        Ok(())
    }
}

fn control_namespace(lifetime: Lifetime) -> Setup<'static> {
    let with_owner = lifetime == Lifetime::WithOwner;
    Setup {
        name: CONTROL_NAMESPACE,
        script: include_str!("../control_plane.sh"),
        environment: vec![
            ("ADDRESS", CONTROL_PLANE.to_string()),
            ("API_SERVICE", API_SERVICE.to_string()),
            ("WITH_OWNER", with_owner.to_string()),
        ],
        with_owner,
    }
}

/// Ends every process of the cluster; its mounts and networks go with its namespaces. Only the state folder is left.
fn end(state: &State) -> Result<(), Error> {
    if let Some(namespace) = Namespace::find(state, CONTROL_NAMESPACE) {
        process::signal(namespace.first(), Signal::KILL);
    }
    wait::until(
        "the cluster's processes to end",
        Duration::from_secs(30),
        || {
            let left = process::of_cluster(state.dir());
            // What a killed start left may not be in namespaces yet.
            for &pid in &left {
                process::signal(pid, Signal::KILL);
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        },
    )?;
    Ok(cgroups::delete(&cgroups::name(state.dir()))?)
}

/// Refuses what containerd would refuse much later, for each pod and in fewer words.
fn check_file_system(state_dir: &Path) -> Result<(), Error> {
    const OVERLAY: u64 = 0x794c_7630;
    let parent = state_dir
        .parent()
        .and_then(|dir| rustix::fs::statfs(dir).ok());
    match parent {
        Some(found) if u64::try_from(found.f_type) == Ok(OVERLAY) => {
            Err(Error::Overlay(state_dir.to_owned()))
        }
        _ => Ok(()),
    }
}

fn check(config: &Config) -> Result<(), Error> {
    if config.nodes.len() > Place::all().count() {
        return Err(Error::TooManyNodes(config.nodes.len()));
    }
    let allowed =
        |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-';
    for (index, name) in config.nodes.iter().enumerate() {
        let twice = config.nodes.iter().take(index).any(|other| other == name);
        if name.is_empty() || !name.bytes().all(allowed) || twice || name == CONTROL_NAMESPACE {
            return Err(Error::NodeName(name.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(nodes: &[&str]) -> Config {
        Config {
            state_dir: "/nowhere".into(),
            nodes: nodes.iter().map(|&name| name.to_owned()).collect(),
            lifetime: Lifetime::WithOwner,
            images: Vec::new(),
            audit: false,
        }
    }

    #[test]
    fn names_that_are_no_nodes_are_refused() {
        assert!(check(&config(&["mignode", "h100-1"])).is_ok());
        for nodes in [
            vec![""],
            vec!["../x"],
            vec!["Node"],
            vec!["a", "a"],
            vec!["control-plane"],
        ] {
            let error = check(&config(&nodes)).unwrap_err();
            assert!(matches!(error, Error::NodeName(_)), "{nodes:?}: {error}");
        }
    }
}
