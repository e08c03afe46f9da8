//! A gateway on a real port, before the ARM front over a backend in memory; and clients of it.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arm::{Account, Front, FrontSettings, Scheme};
use gateway::{GatewayConfig, Inner, Limits};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use identity::{AuditLog, Folder, Identity, NewSecret, Role, RoleScope, Settings};
use migpool_gateway as gateway;
use pool::memory::MemoryBackend;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The subscription.
pub(crate) const SUBSCRIPTION: &str = "/subscriptions/00000000-0000-0000-0000-000000000000";
/// The api-version of resource groups that a current `az` sends.
pub(crate) const GROUPS: &str = "2024-11-01";

/// The name of the audit log's file.
const AUDIT: &str = "audit.log";

/// A resource group's URL, without its host.
pub(crate) fn group(name: &str) -> String {
    format!("{SUBSCRIPTION}/resourcegroups/{name}?api-version={GROUPS}")
}

/// A cluster's path.
pub(crate) fn cluster(group: &str, name: &str) -> String {
    format!(
        "{SUBSCRIPTION}/resourceGroups/{group}/providers/Microsoft.ContainerService/managedClusters/{name}"
    )
}

/// A gateway.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) identity: Identity,
    pub(crate) cancel: CancellationToken,
    pub(crate) serving: JoinHandle<std::io::Result<()>>,
    pub(crate) folder: TempDir,
    connector: TlsConnector,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) json: Value,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// The code of an error in ARM's shape; every refusal has that, and ids.
    pub(crate) fn code(&self) -> &str {
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        for name in ["x-ms-request-id", "x-ms-correlation-request-id"] {
            let id = self.header(name);
            assert!(Uuid::try_parse(id).is_ok(), "{self:?}");
        }
        let error = self.json.get("error").unwrap_or(&self.json);
        assert!(error["message"].is_string(), "{self:?}");
        error["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no code in {self:?}"))
    }
}

/// Limits under which tests do not wait, and are not counted.
pub(crate) fn lenient() -> Limits {
    let many = NonZeroU32::new(1_000_000).unwrap();
    Limits {
        requests_per_second: many,
        sign_ins_per_second: many,
        ..Limits::default()
    }
}

/// The ARM front over an empty backend in memory.
pub(crate) fn front(identity: &Identity) -> Front {
    front_over(identity, Arc::new(MemoryBackend::new()))
}

/// The ARM front over a backend in memory.
pub(crate) fn front_over(identity: &Identity, backend: Arc<MemoryBackend>) -> Front {
    let account = Account {
        tenant: identity.tenant().0,
        subscription: identity.subscription(),
        ..Account::local()
    };
    let settings = FrontSettings {
        scheme: Scheme::Https,
        account,
    };
    Front::new(backend, settings)
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(lenient()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        Self::before(limits, None, front).await
    }

    pub(crate) async fn before<S: Inner>(
        limits: Limits,
        origin: Option<&str>,
        inner: impl FnOnce(&Identity) -> S,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let audit = AuditLog::to_file(folder.path().join(AUDIT)).unwrap();
        Self::serving(folder, audit, limits, origin, inner).await
    }

    pub(crate) async fn serving<S: Inner>(
        folder: TempDir,
        audit: AuditLog,
        limits: Limits,
        origin: Option<&str>,
        inner: impl FnOnce(&Identity) -> S,
    ) -> Self {
        let identity = open_identity(&folder).await;
        let inner = inner(&identity);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = GatewayConfig {
            listener,
            limits,
            origin: origin.map(str::to_owned),
            audit,
        };
        let cancel = CancellationToken::new();
        let serving = gateway::serve(config, identity.clone(), inner, cancel.clone());
        Self {
            address,
            cancel,
            serving: tokio::spawn(serving),
            connector: connector(&identity),
            identity,
            folder,
        }
    }

    /// A TLS connection.
    pub(crate) async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        self.connector.connect(name, stream).await
    }

    /// A connection for several requests.
    pub(crate) async fn client(&self) -> Client {
        let stream = self.connect().await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Client {
            sender,
            host: self.address.to_string(),
        }
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Answer {
        self.client().await.send(method, url, token, body).await
    }

    pub(crate) async fn get(&self, url: &str, token: &str) -> Answer {
        self.send(Method::GET, url, Some(token), "").await
    }

    pub(crate) async fn put(&self, url: &str, token: &str, body: &Value) -> Answer {
        self.send(Method::PUT, url, Some(token), body.to_string())
            .await
    }

    /// Makes a resource group.
    pub(crate) async fn put_group(&self, name: &str, token: &str) -> Answer {
        self.put(&group(name), token, &json!({"location": "southcentralus"}))
            .await
    }

    /// Sends bytes as they are, and reads until the server closes.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read_to_end(&mut stream).await
    }

    /// Sends bytes as they are, says that nothing more comes, and reads until the server closes.
    pub(crate) async fn raw_half(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        read_to_end(&mut stream).await
    }

    /// The managed identity's token: owner of everything.
    pub(crate) async fn owner(&self) -> String {
        let header = self.identity.managed_identity_header();
        let audience = self.identity.audience();
        let token = self
            .identity
            .sign_in_managed_identity(&header, None, &audience);
        token.await.unwrap().access_token
    }

    /// A new service principal.
    pub(crate) async fn principal(&self, name: &str, role: Role, scope: &str) -> NewSecret {
        let scope: RoleScope = scope.parse().unwrap();
        self.identity
            .create_service_principal(name, role, scope)
            .await
            .unwrap()
    }

    /// The token of a new service principal.
    pub(crate) async fn token_of(&self, name: &str, role: Role, scope: &str) -> String {
        let new = self.principal(name, role, scope).await;
        let (id, audience) = (new.client_id.to_string(), self.identity.audience());
        let secret = new.secret.expose_secret();
        let token = self.identity.sign_in_secret(&id, secret, &audience);
        token.await.unwrap().access_token
    }

    /// The entries of the audit log so far, of those who are known, and its text.
    pub(crate) fn audit(&self) -> (Vec<Value>, String) {
        entries(&[self.audit_file()])
    }

    /// The entries of the audit log about strangers so far, with those of files that were put aside, and its text.
    pub(crate) fn strangers(&self) -> (Vec<Value>, String) {
        let file = AuditLog::of_strangers(&self.audit_file());
        let aside = |number| file.with_added_extension(number);
        entries(&[aside("3"), aside("2"), aside("1"), file.clone()])
    }

    fn audit_file(&self) -> PathBuf {
        self.folder.path().join(AUDIT)
    }
}

fn entries(files: &[PathBuf]) -> (Vec<Value>, String) {
    let there = files.iter().filter(|file| file.exists());
    let text: String = there
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let entries = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (entries.collect(), text)
}

/// A connection for several requests, one after the other.
pub(crate) struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Client {
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &str,
        token: Option<&str>,
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.request(request, body).await
    }

    pub(crate) async fn request(
        &mut self,
        request: http::request::Builder,
        body: impl Into<Bytes>,
    ) -> Answer {
        let has_host = request
            .headers_ref()
            .is_some_and(|all| all.contains_key("host"));
        let request = if has_host {
            request
        } else {
            request.header("host", &self.host)
        };
        let request = request.body(Full::new(body.into())).unwrap();
        self.sender.ready().await.unwrap();
        let (parts, body) = self
            .sender
            .send_request(request)
            .await
            .unwrap()
            .into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(body.to_vec()).unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            json: serde_json::from_str(&text).unwrap_or(Value::Null),
            text,
        }
    }
}

/// Everything until the server closes; in a minute it must.
pub(crate) async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_mins(1), stream.read_to_end(&mut bytes));
    // How the connection ends is not what is asked here.
    let _ = read.await.expect("the connection stays open");
    String::from_utf8(bytes).unwrap()
}

pub(crate) async fn open_identity(folder: &TempDir) -> Identity {
    let settings = Settings {
        subscription: Uuid::nil(),
        names: vec!["127.0.0.1".to_owned(), "localhost".to_owned()],
        token_life: Duration::from_mins(30),
        issuer: None,
    };
    let storage = Folder::new(folder.path().join("identity"));
    Identity::open(storage, settings).await.unwrap()
}

fn connector(identity: &Identity) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(identity.authority_pem().as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
