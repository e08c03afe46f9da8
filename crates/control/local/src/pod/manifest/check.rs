//! What a manifest may say.

use std::collections::BTreeSet;

use super::{Container, Manifest, ManifestError, Resources};

/// Whether every field can be honoured.
pub(super) fn check(manifest: &Manifest) -> Result<(), ManifestError> {
    if manifest.api_version != "v1" || manifest.kind != "Pod" {
        let found = format!("{} {}", manifest.api_version, manifest.kind);
        return Err(field(
            "kind",
            format!("is {found}: local nodes run v1 Pod alone"),
        ));
    }
    let name = &manifest.metadata.name;
    if name.is_empty() {
        return Err(field("metadata.name", "is missing"));
    }
    if name.len() > 253 || !name.split('.').all(is_dns_label) {
        let rule = "use at most 253 lower-case letters, digits, '-' and '.'";
        return Err(field(
            "metadata.name",
            format!("{name:?} is not a DNS subdomain: {rule}"),
        ));
    }
    if !is_dns_label(&manifest.metadata.namespace) {
        let namespace = &manifest.metadata.namespace;
        return Err(field(
            "metadata.namespace",
            format!("{namespace:?} is not a DNS label"),
        ));
    }
    if manifest.spec.containers.is_empty() {
        return Err(field(
            "spec.containers",
            "is empty: name at least one container",
        ));
    }
    let mut names = BTreeSet::new();
    for (index, container) in manifest.spec.containers.iter().enumerate() {
        let path = format!("spec.containers[{index}]");
        check_container(&path, container)?;
        if !names.insert(&container.name) {
            let reason = format!("{:?} is the name of two containers", container.name);
            return Err(field(format!("{path}.name"), reason));
        }
    }
    Ok(())
}

fn check_container(path: &str, container: &Container) -> Result<(), ManifestError> {
    if !is_dns_label(&container.name) {
        let reason = format!(
            "{:?} is not a DNS label of at most 63 characters",
            container.name
        );
        return Err(field(format!("{path}.name"), reason));
    }
    if container.command.first().is_none_or(String::is_empty) {
        let reason = "is missing: local nodes do not pull images, so the image's own entrypoint is \
                      unknown; say which program to run, for example [\"sleep\", \"infinity\"]";
        return Err(field(format!("{path}.command"), reason));
    }
    let words = container.command.iter().chain(&container.args);
    if words.into_iter().any(|word| word.contains('\0')) {
        return Err(field(format!("{path}.command"), "holds a NUL character"));
    }
    if let Some(dir) = &container.working_dir
        && !dir.starts_with('/')
    {
        let reason = format!("{dir:?} is relative: use an absolute path of this machine");
        return Err(field(format!("{path}.workingDir"), reason));
    }
    for (index, variable) in container.env.iter().enumerate() {
        let bad = variable.name.is_empty() || variable.name.contains(['=', '\0']);
        if bad || variable.value.contains('\0') {
            let reason = format!("{:?} cannot be a variable", variable.name);
            return Err(field(format!("{path}.env[{index}]"), reason));
        }
    }
    check_resources(&format!("{path}.resources"), &container.resources)
}

fn check_resources(path: &str, resources: &Resources) -> Result<(), ManifestError> {
    for (name, limit) in &resources.limits {
        let path = format!("{path}.limits[{name}]");
        if !is_extended(name) {
            let reason = "a plain process cannot be held to it: remove it, or ask with requests";
            return Err(field(path, reason));
        }
        if limit.whole().is_none() {
            return Err(field(
                path,
                format!("{limit} is not a whole number of devices"),
            ));
        }
        if resources
            .requests
            .get(name)
            .is_some_and(|request| request.whole() != limit.whole())
        {
            return Err(field(
                path,
                "must be equal to requests for an extended resource",
            ));
        }
    }
    for name in resources.requests.keys() {
        let path = format!("{path}.requests[{name}]");
        if is_extended(name) {
            if !resources.limits.contains_key(name) {
                return Err(field(
                    path,
                    "an extended resource must be set in limits too",
                ));
            }
        } else if !matches!(name.as_str(), "cpu" | "memory") {
            let reason = "local nodes know cpu, memory and the resources of device plugins";
            return Err(field(path, reason));
        }
    }
    Ok(())
}

/// A resource of a device plugin: its name has a domain.
fn is_extended(name: &str) -> bool {
    name.contains('/')
}

fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !text.is_empty()
        && text.len() <= 63
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn field(path: impl Into<String>, reason: impl Into<String>) -> ManifestError {
    ManifestError::Field {
        path: path.into(),
        reason: reason.into(),
    }
}
