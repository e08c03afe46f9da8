//! What the node's `GpuNode` wants of the agent, and the file that keeps it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use cluster::GpuNodeNow;
use gpu_node::Strategy;
use mig::MigStrategy;
use serde::{Deserialize, Serialize};

use crate::{AgentConfig, Asked, Drain};

/// What the node's `GpuNode` wants. Where it says nothing, the agent's own configuration holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Wish {
    /// The object that said so; empty where there was none.
    pub(crate) uid: String,
    /// Its generation; none where the object has not said this, but one before it.
    pub(crate) generation: Option<i64>,
    /// The pool that has the node. All else is said by a pool alone.
    pub(crate) pool: Option<String>,
    /// The layout as it was written.
    pub(crate) layout: Option<String>,
    /// How slices are advertised.
    pub(crate) strategy: Option<Strategy>,
    /// What is done about pods in the way.
    pub(crate) drain: Option<gpu_node::Drain>,
}

impl Wish {
    /// What an object wants.
    pub(crate) fn of(object: &GpuNodeNow) -> Self {
        let free = Self {
            uid: object.uid.clone(),
            generation: Some(object.generation),
            ..Self::default()
        };
        let spec = &object.spec;
        match &spec.pool {
            None => free,
            Some(pool) => Self {
                pool: Some(pool.name.clone()),
                layout: spec.layout.clone(),
                strategy: spec.mig_strategy,
                drain: spec.drain,
                ..free
            },
        }
    }

    /// When it was said.
    pub(crate) fn asked(&self) -> Option<Asked> {
        self.generation.map(|generation| Asked {
            uid: self.uid.clone(),
            generation,
        })
    }

    /// The configuration with what is wanted otherwise.
    pub(crate) fn put_into(&self, mut config: AgentConfig) -> AgentConfig {
        if let Some(strategy) = self.strategy.map(MigStrategy::from) {
            if let Some(plugin) = &mut config.plugin {
                plugin.mig_strategy = strategy;
            }
            if let Some(discovery) = &mut config.discovery {
                discovery.mig_strategy = strategy;
            }
        }
        if let (Some(drain), Some(partition)) = (self.drain, &mut config.partition) {
            partition.drain = match drain {
                gpu_node::Drain::Never => Drain::Never,
                gpu_node::Drain::Wait => Drain::Wait,
                gpu_node::Drain::Evict => Drain::Evict,
            };
        }
        config
    }
}

/// What of a configuration a wish can change, but for the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Followed {
    plugin: Option<MigStrategy>,
    discovery: Option<MigStrategy>,
    drain: Option<Drain>,
}

impl Followed {
    pub(crate) fn by(config: &AgentConfig) -> Self {
        Self {
            plugin: config.plugin.as_ref().map(|it| it.mig_strategy),
            discovery: config.discovery.as_ref().map(|it| it.mig_strategy),
            drain: config.partition.as_ref().map(|it| it.drain),
        }
    }
}

/// The file that keeps the wish seen last.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    path: PathBuf,
}

impl Kept {
    /// In the folder of the partitioner's state.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self {
            path: folder.join("gpu-node.json"),
        }
    }

    /// What was kept. A file that is no wish is as good as none: the server will say.
    pub(crate) fn read(&self) -> Option<Wish> {
        let read = std::fs::read(&self.path)
            .and_then(|text| serde_json::from_slice(&text).map_err(io::Error::from));
        match read {
            Ok(wish) => Some(wish),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let file = self.path.display();
                tracing::warn!(%file, %error, "what the GpuNode wanted last is not known");
                None
            }
        }
    }

    /// Replaces what was kept, in one step.
    pub(crate) fn write(&self, wish: &Wish) {
        let write = || {
            if let Some(folder) = self.path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let mut file = atomic_write_file::AtomicWriteFile::open(&self.path)?;
            file.write_all(&serde_json::to_vec(wish)?)?;
            file.commit()
        };
        if let Err(error) = write() {
            let file = self.path.display();
            tracing::warn!(%file, %error, "what the GpuNode wants is not kept");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LayoutSource, PartitionConfig};
    use gpu_node::{GpuNodeSpec, PoolReference};

    fn object(pool: Option<&str>) -> GpuNodeNow {
        GpuNodeNow {
            uid: "uid".to_owned(),
            generation: 7,
            spec: GpuNodeSpec {
                pool: pool.map(|name| PoolReference {
                    name: name.to_owned(),
                    uid: "pool".to_owned(),
                }),
                layout: Some("MIG1g".to_owned()),
                mig_strategy: Some(Strategy::Mixed),
                drain: Some(gpu_node::Drain::Evict),
                ..GpuNodeSpec::default()
            },
            ..GpuNodeNow::default()
        }
    }

    #[test]
    fn only_a_pool_wants_anything() {
        let free = Wish::of(&object(None));
        assert_eq!((free.generation, free.layout), (Some(7), None));
        assert_eq!((free.strategy, free.drain), (None, None));
        let pooled = Wish::of(&object(Some("training")));
        assert_eq!(pooled.layout.as_deref(), Some("MIG1g"));
    }

    #[test]
    fn what_is_wanted_goes_before_what_is_configured() {
        let config = AgentConfig {
            partition: Some(PartitionConfig {
                layout: LayoutSource::Unset,
                drain: Drain::Wait,
                state_dir: PathBuf::new(),
                replace_all: false,
                pod_resources: None,
            }),
            plugin: Some(device_plugin::Config::default()),
            ..AgentConfig::default()
        };
        let wish = Wish::of(&object(Some("training")));
        let followed = Followed::by(&wish.put_into(config.clone()));
        assert_eq!(followed.plugin, Some(MigStrategy::Mixed));
        assert_eq!(followed.discovery, None);
        assert_eq!(followed.drain, Some(Drain::Evict));
        let free = Wish::of(&object(None)).put_into(config.clone());
        assert_eq!(Followed::by(&free), Followed::by(&config));
    }

    #[test]
    fn what_was_kept_is_read_again_and_what_is_broken_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let kept = Kept::in_folder(&folder.path().join("state"));
        assert_eq!(kept.read(), None);
        let wish = Wish::of(&object(Some("training")));
        kept.write(&wish);
        assert_eq!(kept.read(), Some(wish));
        std::fs::write(&kept.path, "{\"generation\": ").unwrap();
        assert_eq!(kept.read(), None);
    }
}
