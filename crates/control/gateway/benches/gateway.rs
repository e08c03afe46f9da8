//! What the door costs: GET of a node pool through TLS, with its token verified, its role looked up and its entry in the audit log,
//! beside the least that a server can do: axum, rustls and "hello". In turns, in one run, each on one connection. Both are served by
//! one thread, as `migpool up` does it, the pool from its store on the disk of this machine; the client is another thread.
//!
//! Once as clients ask that wait for something, again and again while nothing changes, and once with a commit before each GET,
//! after which every answer is made anew.
//!
//! Nothing fails on a slow machine.

#[path = "../../local/tests/common/front.rs"]
mod front;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use arm::{Account, FrontSettings, Scheme};
use axum::Router;
use axum::routing::get;
use front::Backend;
use gateway::{GatewayConfig, Limits};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use identity::{AuditLog, Folder, Identity, Settings};
use migpool_gateway as gateway;
use migpool_local::store::Database;
use pool::{Change, Group, Scope, Store};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const WARM_UP: usize = 500;
const REQUESTS: usize = 3000;
const GOAL: f64 = 2.0;

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let database = Database::open(&folder.path().join("migpool.db"))?;
    let backend = Backend::over(database);
    let (told, servers) = oneshot::channel();
    let (path, served) = (folder.path().to_owned(), backend.clone());
    // It ends with the benchmark.
    thread::spawn(move || {
        let servers = runtime().and_then(|runtime| runtime.block_on(serve(&path, served, told)));
        if let Err(error) = servers {
            eprintln!("error: {error:#}");
        }
    });
    runtime()?.block_on(async { measure(&backend, servers.await?).await })
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

/// The servers.
struct Servers {
    identity: Identity,
    door: SocketAddr,
    hello: SocketAddr,
}

/// Serves both, and never returns unless it fails.
async fn serve(
    folder: &Path,
    backend: Backend,
    told: oneshot::Sender<Servers>,
) -> anyhow::Result<()> {
    let settings = Settings {
        subscription: Uuid::nil(),
        names: vec!["127.0.0.1".to_owned()],
        token_life: Duration::from_hours(1),
        issuer: None,
    };
    let identity = Identity::open(Folder::new(folder.join("identity")), settings).await?;
    let audit = AuditLog::to_file(folder.join("audit.log"))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let door = listener.local_addr()?;
    let config = GatewayConfig {
        listener,
        limits: Limits {
            requests_per_second: NonZeroU32::MAX,
            ..Limits::default()
        },
        origin: None,
        audit,
    };
    let settings = FrontSettings {
        scheme: Scheme::Https,
        account: Account::local(),
    };
    let front = arm::Front::new(Arc::new(backend), settings);
    let hello = hello(&identity).await?;
    let servers = Servers {
        identity: identity.clone(),
        door,
        hello,
    };
    ensure!(told.send(servers).is_ok(), "nobody is there to be served");
    gateway::serve(config, identity, front, CancellationToken::new()).await?;
    Ok(())
}

async fn measure(backend: &Backend, servers: Servers) -> anyhow::Result<()> {
    let Servers {
        identity,
        door,
        hello,
    } = servers;
    let token = identity
        .sign_in_managed_identity(
            &identity.managed_identity_header(),
            None,
            &identity.audience(),
        )
        .await?;
    let token = format!("Bearer {}", token.access_token);
    let mut front = Client::connect(door, &identity, &token).await?;
    let mut bare = Client::connect(hello, &identity, &token).await?;
    let pool = make_pool(&mut front).await?;

    for is_changing in [false, true] {
        let (mut of_front, mut of_bare) = (Vec::new(), Vec::new());
        for round in 0..WARM_UP + REQUESTS {
            if is_changing {
                change(backend).await?;
            }
            for (client, url, times) in [
                (&mut front, pool.as_str(), &mut of_front),
                (&mut bare, "/", &mut of_bare),
            ] {
                let began = Instant::now();
                let status = client.send(Method::GET, url, &Value::Null).await?;
                let took = began.elapsed();
                ensure!(status == StatusCode::OK, "{url} is answered {status}");
                if round >= WARM_UP {
                    times.push(took);
                }
            }
        }
        let (front, bare) = (median(&mut of_front), median(&mut of_bare));
        let (when, goal) = if is_changing {
            (", after a change", String::new())
        } else {
            ("", format!(", goal {GOAL}"))
        };
        println!(
            "GET of a pool through TLS{when}, p50 of {REQUESTS}: {front:.0} µs; axum and rustls alone: {bare:.0} µs; ratio {:.2}{goal}",
            front / bare
        );
    }
    Ok(())
}

/// Commits something: the group, as it is.
async fn change(backend: &Backend) -> anyhow::Result<()> {
    let groups = backend.list::<Group>(&Scope::everything()).await?;
    let group = groups.first().context("there is no group")?;
    let change = Change::update(&group.record, group.revision)?;
    backend.commit(vec![change]).await?;
    Ok(())
}

/// In microseconds.
fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let middle = times.get(times.len() / 2);
    middle.map_or(0.0, Duration::as_secs_f64) * 1e6
}

/// A server that does nothing.
async fn hello(identity: &Identity) -> anyhow::Result<SocketAddr> {
    let tls = TlsAcceptor::from(identity.server_config()?);
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let router = Router::new().route("/", get(|| async { "hello" }));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (tls, service) = (tls.clone(), TowerToHyperService::new(router.clone()));
            tokio::spawn(async move {
                stream.set_nodelay(true)?;
                let stream = TokioIo::new(tls.accept(stream).await?);
                let server = hyper::server::conn::http1::Builder::new();
                server.serve_connection(stream, service).await?;
                anyhow::Ok(())
            });
        }
    });
    Ok(address)
}

/// Makes the article's pool, and gives its URL.
async fn make_pool(client: &mut Client) -> anyhow::Result<String> {
    const GROUP: &str =
        "/subscriptions/00000000-0000-0000-0000-000000000000/resourcegroups/myResourceGroup";
    let cluster =
        format!("{GROUP}/providers/Microsoft.ContainerService/managedClusters/myAKSCluster");
    let pool = format!("{cluster}/agentPools/mignode?api-version=2026-06-01");
    let system = json!({"name": "nodepool1", "count": 1, "vmSize": "", "mode": "System"});
    for (url, body) in [
        (
            format!("{GROUP}?api-version=2024-11-01"),
            json!({"location": "southcentralus"}),
        ),
        (
            format!("{cluster}?api-version=2026-06-01"),
            json!({"location": "southcentralus", "properties": {"agentPoolProfiles": [system]}}),
        ),
        (
            pool.clone(),
            json!({"properties": {
                "count": 1, "vmSize": "Standard_ND96asr_v4", "gpuInstanceProfile": "MIG1g",
            }}),
        ),
    ] {
        let status = client.send(Method::PUT, &url, &body).await?;
        ensure!(status == StatusCode::CREATED, "{url} is answered {status}");
    }
    Ok(pool)
}

/// A client on one connection.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    token: String,
}

impl Client {
    async fn connect(
        address: SocketAddr,
        identity: &Identity,
        token: &str,
    ) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(identity.authority_pem().as_bytes()) {
            roots.add(authority?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(ServerName::from(address.ip()), stream)
            .await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            sender,
            host: address.to_string(),
            token: token.to_owned(),
        })
    }

    async fn send(
        &mut self,
        method: Method,
        url: &str,
        body: &Value,
    ) -> anyhow::Result<StatusCode> {
        let body = match body {
            Value::Null => String::new(),
            body => body.to_string(),
        };
        let request = Request::builder()
            .method(method)
            .uri(url)
            .header("host", &self.host)
            .header("authorization", &self.token)
            .body(Full::new(Bytes::from(body)))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        answer
            .into_body()
            .collect()
            .await
            .context("the answer breaks off")?;
        Ok(status)
    }
}
