//! NVIDIA's configuration file of the device plugin and of feature discovery, `version: v1`.

use std::path::PathBuf;

use device_plugin::{DeviceListStrategy, Renaming};
use mig::MigStrategy;
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::Settings;

/// A configuration file that was read and understood.
///
/// What migpool cannot do is refused rather than passed over: sharing, and the flags of features that it does not
/// have, unless they are off.
#[derive(Debug, Clone, PartialEq)]
pub struct ConfigFile {
    settings: Settings,
}

/// Why a configuration file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigFileError {
    /// It is not YAML, or not of this shape.
    #[error("{0}")]
    Syntax(String),
    /// A value is wrong, or asks for something that there is not.
    #[error("line {line} column {column}: {reason}")]
    Value {
        /// Counted from 1.
        line: u64,
        /// Counted from 1.
        column: u64,
        /// What is wrong, and what is allowed.
        reason: String,
    },
}

impl ConfigFile {
    /// Reads a file's text.
    ///
    /// # Errors
    /// When it is not YAML, has an unknown key, or a value that is wrong or not supported; with line and column.
    pub fn parse(text: &str) -> Result<Self, ConfigFileError> {
        let document: Document = serde_saphyr::from_str(text)
            .map_err(|error| ConfigFileError::Syntax(error.without_snippet().to_string()))?;
        if document.version.value != "v1" {
            let reason = format!("version is `{}`, and must be v1", document.version.value);
            return Err(refuse(&document.version, reason));
        }
        Ok(Self {
            settings: document.settings()?,
        })
    }

    /// What the file sets, to be put behind the command line and the environment with [`Settings::or`].
    #[must_use]
    pub fn into_settings(self) -> Settings {
        self.settings
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: Spanned<String>,
    #[serde(default)]
    flags: Flags,
    #[serde(default)]
    resources: Resources,
    sharing: Option<Spanned<Anything>>,
    imex: Option<Spanned<Anything>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Flags {
    mig_strategy: Option<Spanned<String>>,
    fail_on_init_error: Option<bool>,
    nvidia_driver_root: Option<String>,
    nvidia_dev_root: Option<PathBuf>,
    mps_root: Option<Spanned<String>>,
    gdrcopy_enabled: Option<Spanned<bool>>,
    gds_enabled: Option<Spanned<bool>>,
    mofed_enabled: Option<Spanned<bool>>,
    #[serde(rename = "useNodeFeatureAPI")]
    use_node_feature_api: Option<bool>,
    device_discovery_strategy: Option<Spanned<String>>,
    #[serde(default)]
    plugin: Plugin,
    #[serde(default)]
    gfd: Gfd,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Plugin {
    pass_device_specs: Option<bool>,
    device_list_strategy: Option<Spanned<OneOrMany>>,
    #[serde(rename = "deviceIDStrategy")]
    device_id_strategy: Option<Spanned<String>>,
    cdi_annotation_prefix: Option<String>,
    #[serde(rename = "nvidiaCTKPath")]
    nvidia_ctk_path: Option<Spanned<String>>,
    #[serde(rename = "nvidiaCDIHookPath")]
    nvidia_cdi_hook_path: Option<PathBuf>,
    container_driver_root: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Gfd {
    oneshot: Option<bool>,
    no_timestamp: Option<bool>,
    sleep_interval: Option<Spanned<String>>,
    output_file: Option<PathBuf>,
    machine_type_file: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    gpus: Vec<Rule>,
    #[serde(default)]
    mig: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    pattern: String,
    name: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// A value of any shape, of which only the place matters.
struct Anything;

impl<'de> Deserialize<'de> for Anything {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl Document {
    fn settings(self) -> Result<Settings, ConfigFileError> {
        if let Some(sharing) = &self.sharing {
            let reason =
                "sharing of GPUs (timeSlicing, mps) is not supported yet; remove the section";
            return Err(refuse(sharing, reason.to_owned()));
        }
        if let Some(imex) = &self.imex {
            let reason = "IMEX channels are not supported; remove the section";
            return Err(refuse(imex, reason.to_owned()));
        }
        let flags = self.flags;
        flags.refuse_unsupported()?;
        let Flags { plugin, gfd, .. } = flags;
        Ok(Settings {
            mig_strategy: parsed::<MigStrategy, _>(flags.mig_strategy.as_ref())?,
            fail_on_init_error: flags.fail_on_init_error,
            nvidia_driver_root: flags
                .nvidia_driver_root
                // Every text is one.
                .and_then(|root| root.parse().ok()),
            container_driver_root: plugin.container_driver_root,
            cdi_hook: plugin.nvidia_cdi_hook_path,
            use_node_feature_api: flags.use_node_feature_api,
            nvidia_dev_root: flags.nvidia_dev_root,
            pass_device_specs: plugin.pass_device_specs,
            device_list_strategies: strategies(plugin.device_list_strategy.as_ref())?,
            device_id_strategy: parsed(plugin.device_id_strategy.as_ref())?,
            cdi_annotation_prefix: plugin.cdi_annotation_prefix,
            gpu_names: rules(self.resources.gpus)?,
            mig_names: rules(self.resources.mig)?,
            oneshot: gfd.oneshot,
            no_timestamp: gfd.no_timestamp,
            sleep_interval: parsed(gfd.sleep_interval.as_ref())?,
            output_file: gfd.output_file,
            machine_type_file: gfd.machine_type_file,
            ..Settings::default()
        })
    }
}

impl Flags {
    fn refuse_unsupported(&self) -> Result<(), ConfigFileError> {
        let on = [
            (&self.gdrcopy_enabled, "gdrcopyEnabled"),
            (&self.gds_enabled, "gdsEnabled"),
            (&self.mofed_enabled, "mofedEnabled"),
        ];
        for (flag, name) in on {
            if let Some(flag) = flag.as_ref().filter(|flag| flag.value) {
                return Err(refuse(
                    flag,
                    format!("{name} is not supported; it must be false"),
                ));
            }
        }
        if let Some(found) = &self.device_discovery_strategy
            && !["auto", "nvml"].contains(&found.value.as_str())
        {
            let reason = format!(
                "deviceDiscoveryStrategy `{}` is not supported; it is one of auto and nvml",
                found.value
            );
            return Err(refuse(found, reason));
        }
        // These name places that only unsupported features look at; NVIDIA's own charts set them, so they are let pass.
        let idle = [
            (&self.mps_root, "mpsRoot"),
            (&self.plugin.nvidia_ctk_path, "nvidiaCTKPath"),
        ];
        for (flag, name) in idle {
            if let Some(flag) = flag {
                tracing::info!(value = flag.value, "{name} has no effect");
            }
        }
        Ok(())
    }
}

fn refuse<T>(at: &Spanned<T>, reason: String) -> ConfigFileError {
    ConfigFileError::Value {
        line: at.referenced.line(),
        column: at.referenced.column(),
        reason,
    }
}

fn parsed<T, E>(text: Option<&Spanned<String>>) -> Result<Option<T>, ConfigFileError>
where
    T: std::str::FromStr<Err = E>,
    E: std::fmt::Display,
{
    text.map(|text| {
        text.value
            .parse()
            .map_err(|error: E| refuse(text, error.to_string()))
    })
    .transpose()
}

fn strategies(
    list: Option<&Spanned<OneOrMany>>,
) -> Result<Option<Vec<DeviceListStrategy>>, ConfigFileError> {
    let Some(list) = list else { return Ok(None) };
    let text = match &list.value {
        OneOrMany::One(text) => text.clone(),
        OneOrMany::Many(parts) => parts.join(","),
    };
    match DeviceListStrategy::parse_list(&text) {
        Ok(strategies) => Ok(Some(strategies)),
        Err(error) => Err(refuse(list, error.to_string())),
    }
}

fn rules(rules: Vec<Rule>) -> Result<Option<Vec<Renaming>>, ConfigFileError> {
    if rules.is_empty() {
        return Ok(None);
    }
    let read = |rule: Rule| {
        let name = rule.name.value.parse();
        let name = name.map_err(|error: device_plugin::ParseResourceError| {
            refuse(&rule.name, error.to_string())
        })?;
        Ok(Renaming {
            pattern: rule.pattern,
            name,
        })
    };
    rules
        .into_iter()
        .map(read)
        .collect::<Result<_, _>>()
        .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DriverRoot, SleepInterval};
    use device_plugin::DeviceIdStrategy;
    use std::time::Duration;

    fn refused(text: &str) -> String {
        ConfigFile::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn everything_that_is_supported_is_read() {
        let text = r"
version: v1
flags:
  migStrategy: mixed
  failOnInitError: false
  nvidiaDriverRoot: /run/nvidia/driver
  gdsEnabled: false
  deviceDiscoveryStrategy: auto
  useNodeFeatureAPI: true
  plugin:
    containerDriverRoot: /driver-root
    nvidiaCDIHookPath: /usr/bin/nvidia-cdi-hook
    passDeviceSpecs: true
    deviceListStrategy: [envvar, cdi-cri]
    deviceIDStrategy: index
    cdiAnnotationPrefix: example.org/
  gfd:
    oneshot: true
    noTimestamp: true
    sleepInterval: 30s
    outputFile: ./gfd
    machineTypeFile: /sys/machine
resources:
  gpus:
  - pattern: '*A100*'
    name: a100
  mig:
  - pattern: 1g.*
    name: example.org/small
";
        let settings = ConfigFile::parse(text).unwrap().into_settings();
        let rule = |pattern: &str, name: &str| Renaming {
            pattern: pattern.to_owned(),
            name: name.parse().unwrap(),
        };
        let expected = Settings {
            mig_strategy: Some(MigStrategy::Mixed),
            fail_on_init_error: Some(false),
            nvidia_driver_root: Some(DriverRoot::Folder("/run/nvidia/driver".into())),
            container_driver_root: Some("/driver-root".into()),
            cdi_hook: Some("/usr/bin/nvidia-cdi-hook".into()),
            use_node_feature_api: Some(true),
            pass_device_specs: Some(true),
            device_list_strategies: Some(vec![
                DeviceListStrategy::Envvar,
                DeviceListStrategy::CdiCri,
            ]),
            device_id_strategy: Some(DeviceIdStrategy::Index),
            cdi_annotation_prefix: Some("example.org/".to_owned()),
            gpu_names: Some(vec![rule("*A100*", "a100")]),
            mig_names: Some(vec![rule("1g.*", "example.org/small")]),
            oneshot: Some(true),
            no_timestamp: Some(true),
            sleep_interval: Some(SleepInterval::Every(Duration::from_secs(30))),
            output_file: Some("./gfd".into()),
            machine_type_file: Some("/sys/machine".into()),
            ..Settings::default()
        };
        assert_eq!(settings, expected);
    }

    #[test]
    fn a_strategy_may_be_one_word() {
        let text = "version: v1\nflags: {plugin: {deviceListStrategy: volume-mounts}}\n";
        let settings = ConfigFile::parse(text).unwrap().into_settings();
        let expected = vec![DeviceListStrategy::VolumeMounts];
        assert_eq!(settings.device_list_strategies, Some(expected));
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_place_and_what_is_allowed() {
        assert_eq!(
            refused("version: v1\nflags:\n  migStrategy: both\n"),
            "line 3 column 16: `both` is not a MIG strategy; it is none, single or mixed"
        );
        let text = refused("version: v1\nflags:\n  plugin:\n    deviceListStrategy: [cdi]\n");
        assert!(
            text.starts_with("line 4 column 25: `cdi` is not a device list"),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_place() {
        let text = refused("version: v1\nflags:\n  migStrateg: single\n");
        assert!(
            text.contains("migStrateg") && text.contains("line 3"),
            "{text}"
        );
    }

    #[test]
    fn broken_yaml_is_refused_with_its_place() {
        let text = refused("version: v1\nflags: [\n");
        assert!(text.contains("line"), "{text}");
    }

    #[test]
    fn another_version_is_refused() {
        assert!(refused("version: v2\n").contains("must be v1"));
    }

    #[test]
    fn sharing_is_refused_and_not_passed_over() {
        let text = refused(
            "version: v1\nsharing:\n  timeSlicing:\n    resources:\n    - {name: nvidia.com/gpu, replicas: 4}\n",
        );
        assert!(
            text.starts_with("line 3 column 3: sharing of GPUs"),
            "{text}"
        );
    }

    #[test]
    fn a_feature_that_is_off_may_be_mentioned_and_one_that_is_on_is_refused() {
        assert!(ConfigFile::parse("version: v1\nflags: {gdsEnabled: false}\n").is_ok());
        let text = refused("version: v1\nflags: {gdsEnabled: true}\n");
        assert!(text.contains("gdsEnabled is not supported"), "{text}");
    }

    #[test]
    fn a_bad_resource_name_is_refused() {
        let text = refused("version: v1\nresources: {gpus: [{pattern: '*', name: 'no name'}]}\n");
        assert!(text.contains("`no name` is not a resource name"), "{text}");
    }
}
