//! What a shell has to know for Azure's clients in it to use the front.

use std::path::Path;

use crate::azure::Endpoint;
use crate::failure::Failure;

/// The folder of az's settings.
pub(crate) const CONFIG_DIR: &str = "AZURE_CONFIG_DIR";

/// Every variable that [`variables`] may set.
pub(crate) const NAMES: [&str; 8] = [
    CONFIG_DIR,
    "AZURE_CORE_COLLECT_TELEMETRY",
    "AZURE_SUBSCRIPTION_ID",
    "CURL_CA_BUNDLE",
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "MIGPOOL_AZURE_ENDPOINT",
    "REQUESTS_CA_BUNDLE",
];

/// The variables of a shell whose az keeps its settings in `config_dir`, with the managed identity's secret where it is to sign in
/// as that.
pub(crate) fn variables(
    endpoint: &Endpoint,
    config_dir: &Path,
    bundle: &Path,
    identity_header: Option<&str>,
) -> Result<Vec<(&'static str, String)>, Failure> {
    let bundle = text(bundle)?;
    let mut variables = vec![
        (CONFIG_DIR, text(config_dir)?),
        ("AZURE_CORE_COLLECT_TELEMETRY", "0".to_owned()),
        ("AZURE_SUBSCRIPTION_ID", endpoint.subscription.clone()),
        ("CURL_CA_BUNDLE", bundle.clone()),
        ("MIGPOOL_AZURE_ENDPOINT", endpoint.url.clone()),
        // az, its SDKs for Python, and what else is built on requests.
        ("REQUESTS_CA_BUNDLE", bundle),
    ];
    if let Some(header) = identity_header {
        variables.push(("IDENTITY_ENDPOINT", endpoint.managed_identity()));
        variables.push(("IDENTITY_HEADER", header.to_owned()));
    }
    variables.sort_unstable();
    Ok(variables)
}

/// A path as text: what a shell's variable and az's command line can hold.
pub(crate) fn text(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Failure::failed(format!(
            "{} is not UTF-8, which az cannot read",
            path.display()
        ))
        .with_help("choose another state folder with --state-dir or MIGPOOL_STATE_DIR")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_that_is_set_is_known_to_be_unset() {
        let endpoint = Endpoint {
            url: "https://127.0.0.1:8443".to_owned(),
            tenant: "t".to_owned(),
            subscription: "s".to_owned(),
        };
        let of = |header| {
            let all = variables(&endpoint, Path::new("/c"), Path::new("/b"), header).unwrap();
            all.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(of(Some("secret")), NAMES);
        // Who signs in as somebody else is not handed the managed identity's secret.
        assert!(!of(None).contains(&"IDENTITY_HEADER"));
    }
}
