//! `migpool azure setup`: the steps that make az use migpool, to be read or to be done.

use std::path::Path;

use clap::Args;

use crate::azure::az::{CLOUD, cloud};
use crate::azure::set_up::Client;
use crate::azure::shell::{Shell, quoted};
use crate::azure::{AzureFolder, Endpoint, bundle, environment};
use crate::command::azure::env::{Absent, ClientOptions, prepare};
use crate::command::azure::keeper;
use crate::failure::Failure;
use crate::output::write_line;

/// The variable that a service principal's secret comes in.
const SECRET: &str = "AZURE_CLIENT_SECRET";

/// Print the steps that make az use migpool, or do them
///
/// What is printed is a script for sh, with what each step is for. az's settings are made in a folder of their own; your own in
/// ~/.azure stay as they are.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    #[command(flatten)]
    client: ClientOptions,
    /// Do the steps, with the az on the PATH
    #[arg(long)]
    apply: bool,
    /// Sign in as this service principal (its name or id), with the secret in AZURE_CLIENT_SECRET, instead of as the managed identity
    #[arg(long, value_name = "NAME")]
    service_principal: Option<String>,
}

impl Setup {
    /// Prints the steps or does them.
    pub(crate) async fn run(&self) -> Result<(), Failure> {
        let client = self.client_wanted().await?;
        if self.apply {
            let secret = std::env::var(SECRET)
                .ok()
                .filter(|secret| !secret.is_empty());
            if self.service_principal.is_some() && secret.is_none() {
                return Err(
                    Failure::usage("the secret of the service principal is not known").with_help(
                        format!("put it into the environment as {SECRET}; `migpool azure principal reset-secret` makes a new one"),
                    ),
                );
            }
            prepare(
                &self.client,
                Some(&client),
                secret.as_deref(),
                Absent::Fails,
            )
            .await?;
            anstream::eprintln!("In each shell: eval \"$(migpool azure env)\"");
            return Ok(());
        }
        let folder = self.client.front.folder()?;
        let config_dir = self.client.config_dir(&folder)?;
        let (endpoint, identity) = self.client.front().await?;
        let header = identity.managed_identity_header();
        // `cat` cannot read the file that it writes.
        let trusted = bundle::trusted_anyway()
            .filter(|file| *file != folder.bundle())
            .or_else(bundle::system);
        write_line(&script(
            &endpoint,
            &folder,
            &config_dir,
            trusted.as_deref(),
            &client,
            &header,
        )?)
    }

    async fn client_wanted(&self) -> Result<Client, Failure> {
        match &self.service_principal {
            None => Ok(Client::ManagedIdentity),
            Some(name) => {
                let identity = self.client.front.identity().await?;
                let principal = keeper::principal(&identity, name)?;
                Ok(Client::ServicePrincipal(principal.id.to_string()))
            }
        }
    }
}

/// The steps as a script for sh.
fn script(
    endpoint: &Endpoint,
    folder: &AzureFolder,
    config_dir: &Path,
    trusted: Option<&Path>,
    client: &Client,
    header: &str,
) -> Result<String, Failure> {
    let header = match client {
        Client::ManagedIdentity => Some(header),
        Client::ServicePrincipal(_) => None,
    };
    let variables = environment::variables(endpoint, config_dir, &folder.bundle(), header)?;
    let export = |wanted: &[&str]| -> Result<String, Failure> {
        let lines: Result<Vec<_>, _> = variables
            .iter()
            .filter(|(name, _)| wanted.contains(name))
            .map(|(name, value)| Shell::Sh.set(name, value))
            .collect();
        Ok(lines?.join("\n"))
    };
    let path = |path: &Path| quoted(&environment::text(path)?);
    let words: Result<Vec<_>, _> = cloud(endpoint).iter().map(|word| quoted(word)).collect();
    let register = words?.join(" ").replace(
        " --endpoint-active-directory",
        " \\\n    --endpoint-active-directory",
    );
    let trusted = trusted.map(path).transpose()?.unwrap_or_default();
    let sign_in = match client {
        Client::ManagedIdentity => format!(
            "# 4. Sign in as the front's managed identity, which may do everything. az asks for a token with each command, so every\n\
             #    shell needs these two; the second is a secret.\n\
             {}\n\
             az login --identity --output none",
            export(&["IDENTITY_ENDPOINT", "IDENTITY_HEADER"])?
        ),
        Client::ServicePrincipal(id) => format!(
            "# 4. Sign in as the service principal, with its secret in {SECRET}.\n\
             az login --service-principal --username {id} --tenant {} \\\n    --password=\"${SECRET}\" --output none",
            endpoint.tenant
        ),
    };
    Ok(format!(
        "# What makes az in this shell use migpool at {url}.\n\
         # `eval \"$(migpool azure env)\"` does all of it, and `eval \"$(migpool azure teardown)\"` takes it back.\n\
         \n\
         # 1. A folder for az's settings. Your own in ~/.azure stay as they are.\n\
         mkdir -p -m 700 {config_dir}\n\
         {config}\n\
         \n\
         # 2. Whom to trust: who is trusted anyway, and the authority that signed migpool's certificate.\n\
         cat {trusted} {authority} > {bundle}\n\
         {trust}\n\
         \n\
         # 3. Where migpool is.\n\
         az cloud register {register}\n\
         az cloud set --name {CLOUD}\n\
         \n\
         {sign_in}\n\
         \n\
         # 5. For curl and the SDKs.\n\
         {rest}",
        url = endpoint.url,
        config_dir = path(config_dir)?,
        config = export(&["AZURE_CONFIG_DIR", "AZURE_CORE_COLLECT_TELEMETRY"])?,
        authority = path(&folder.authority())?,
        bundle = path(&folder.bundle())?,
        trust = export(&["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])?,
        rest = export(&["AZURE_SUBSCRIPTION_ID", "MIGPOOL_AZURE_ENDPOINT"])?,
    )
    .replace("cat  ", "cat "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(client: &Client) -> String {
        let endpoint = Endpoint {
            url: "https://127.0.0.1:8443".to_owned(),
            tenant: "5b3a6d0e-1a52-4c6f-9f3b-0d9a4b7c8e21".to_owned(),
            subscription: "00000000-0000-0000-0000-000000000000".to_owned(),
        };
        let folder = AzureFolder::of(Path::new("/home/ann/state"));
        let trusted = Path::new("/etc/ssl/certs/ca-certificates.crt");
        script(
            &endpoint,
            &folder,
            &folder.config_dir(),
            Some(trusted),
            client,
            "c2VjcmV0",
        )
        .unwrap()
    }

    #[test]
    fn the_steps_are_a_script_that_says_what_each_is_for() {
        insta::assert_snapshot!(of(&Client::ManagedIdentity), @r#"
        # What makes az in this shell use migpool at https://127.0.0.1:8443.
        # `eval "$(migpool azure env)"` does all of it, and `eval "$(migpool azure teardown)"` takes it back.

        # 1. A folder for az's settings. Your own in ~/.azure stay as they are.
        mkdir -p -m 700 /home/ann/state/azure/cli
        export AZURE_CONFIG_DIR=/home/ann/state/azure/cli
        export AZURE_CORE_COLLECT_TELEMETRY=0

        # 2. Whom to trust: who is trusted anyway, and the authority that signed migpool's certificate.
        cat /etc/ssl/certs/ca-certificates.crt /home/ann/state/azure/ca.pem > /home/ann/state/azure/ca-bundle.pem
        export CURL_CA_BUNDLE=/home/ann/state/azure/ca-bundle.pem
        export REQUESTS_CA_BUNDLE=/home/ann/state/azure/ca-bundle.pem

        # 3. Where migpool is.
        az cloud register --name migpool --endpoint-resource-manager https://127.0.0.1:8443 \
            --endpoint-active-directory https://127.0.0.1:8443/adfs \
            --endpoint-active-directory-resource-id https://management.migpool.local --skip-endpoint-discovery
        az cloud set --name migpool

        # 4. Sign in as the front's managed identity, which may do everything. az asks for a token with each command, so every
        #    shell needs these two; the second is a secret.
        export IDENTITY_ENDPOINT=https://127.0.0.1:8443/msi/token
        export IDENTITY_HEADER=c2VjcmV0
        az login --identity --output none

        # 5. For curl and the SDKs.
        export AZURE_SUBSCRIPTION_ID=00000000-0000-0000-0000-000000000000
        export MIGPOOL_AZURE_ENDPOINT=https://127.0.0.1:8443
        "#);
    }

    #[test]
    fn a_service_principals_steps_have_neither_its_secret_nor_the_managed_identitys() {
        let steps = of(&Client::ServicePrincipal("an-id".to_owned()));
        assert!(
            !steps.contains("c2VjcmV0") && !steps.contains("IDENTITY"),
            "{steps}"
        );
        let sign_in = "az login --service-principal --username an-id --tenant 5b3a6d0e-1a52-4c6f-9f3b-0d9a4b7c8e21 \\\n    \
             --password=\"$AZURE_CLIENT_SECRET\" --output none";
        assert!(steps.contains(sign_in), "{steps}");
    }
}
