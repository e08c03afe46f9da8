//! The cluster's certificates and keys, and the client configurations made of them.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

use crate::config::{API_SERVICE, CONTROL_PLANE};
use crate::state::{self, State};

/// Why certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key.
    #[error("cannot make the certificate of {name}: {source}")]
    Make {
        /// Whose.
        name: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A file of the state folder.
    #[error(transparent)]
    State(#[from] state::Error),
}

/// The authority that every part of the cluster trusts. It is thrown away once the cluster is set up.
pub(crate) struct Authority<'state> {
    state: &'state State,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl<'state> Authority<'state> {
    /// A new one; its certificate is `pki/ca.crt`.
    pub(crate) fn create(state: &'state State) -> Result<Self, Error> {
        let name = "migpool-test-cluster";
        let make = failed(name);
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = KeyPair::generate()
            .and_then(|key| CertifiedIssuer::self_signed(params, key))
            .map_err(make)?;
        state.write(&state.pki("ca.crt"), &issuer.pem())?;
        Ok(Self { state, issuer })
    }

    /// The API server's certificate, and the pair of keys for service accounts' tokens.
    pub(crate) fn api_server(&self) -> Result<(), Error> {
        let mut names = vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST))];
        names.extend([CONTROL_PLANE, API_SERVICE].map(|ip| SanType::IpAddress(IpAddr::V4(ip))));
        for name in [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ] {
            let name = name.try_into().map_err(failed("kube-apiserver"))?;
            names.push(SanType::DnsName(name));
        }
        self.issue("apiserver", distinguished("kube-apiserver", None), names)?;
        let key = KeyPair::generate().map_err(failed("service accounts"))?;
        self.write("sa.key", &key.serialize_pem())?;
        self.write("sa.pub", &key.public_key_pem())
    }

    /// A kubelet's certificate, as a server and as a client.
    pub(crate) fn kubelet(&self, node: &str, address: Ipv4Addr) -> Result<(), Error> {
        let names = vec![
            SanType::IpAddress(IpAddr::V4(address)),
            SanType::DnsName(node.try_into().map_err(failed(node))?),
        ];
        let subject = distinguished(&format!("system:node:{node}"), Some("system:nodes"));
        self.issue(node, subject, names)
    }

    /// A client's certificate, and its `kubeconfig`.
    pub(crate) fn client(&self, file: &str, user: &str, group: Option<&str>) -> Result<(), Error> {
        self.issue(file, distinguished(user, group), Vec::new())?;
        let kubeconfig = kubeconfig(
            &self.state.pki("ca.crt"),
            &self.state.pki(&format!("{file}.crt")),
            &self.state.pki(&format!("{file}.key")),
        );
        Ok(self
            .state
            .write(&self.state.kubeconfig(file), &kubeconfig)?)
    }

    fn issue(
        &self,
        file: &str,
        subject: DistinguishedName,
        names: Vec<SanType>,
    ) -> Result<(), Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = subject;
        params.subject_alt_names = names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().map_err(failed(file))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed(file))?;
        self.write(&format!("{file}.crt"), &certificate.pem())?;
        self.write(&format!("{file}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, pem: &str) -> Result<(), Error> {
        Ok(self.state.write(&self.state.pki(name), pem)?)
    }
}

/// A client configuration that names its files. JSON is YAML too.
pub(crate) fn kubeconfig(authority: &Path, certificate: &Path, key: &Path) -> String {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://{CONTROL_PLANE}:443"),
            "certificate-authority": authority,
        }}],
        "users": [{"name": "user", "user": {"client-certificate": certificate, "client-key": key}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
        "current-context": "test",
    })
    .to_string()
}

fn distinguished(user: &str, group: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, user);
    if let Some(group) = group {
        name.push(DnType::OrganizationName, group);
    }
    name
}

fn failed(name: &str) -> impl FnOnce(rcgen::Error) -> Error {
    let name = name.to_owned();
    move |source| Error::Make { name, source }
}
