//! The operator: watches the cluster, and while it leads brings every pool to what is wanted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::watcher;
use kube::{Api, Client, Resource, ResourceExt};
use pool::controller::Round;
use pool::{ControllerError, Invalid, ProviderError, ProvisioningState, StoreError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backend::{Arm, Caches, KubernetesBackend};
use crate::certificate::{Serving, WebhookIdentity};
use crate::client::{ClientError, Program};
use crate::events::Story;
use crate::http::{Heartbeat, Sources};
use crate::leader::{Leadership, Mandate};
use crate::metrics::{Metrics, PoolFigures};
use crate::node_pool::NodePool;
use crate::parents::{Look, Parents};
use crate::records::Records;
use crate::watched::Watched;
use crate::{client, convert, http, status, webhook};

/// Nothing may have been missed; but a look now and then costs little.
const LOOK: Duration = Duration::from_mins(5);

/// How soon something is tried again that did not work.
const AGAIN: Duration = Duration::from_secs(2);

/// How soon the rest of a round follows its first part, which the watch has to tell of first.
const NEXT: Duration = Duration::from_millis(100);

/// How long changes are gathered before they are looked at, at least.
const GATHER: Duration = Duration::from_millis(200);

/// A round is followed by so many times its own duration without one: the operator never takes more than a share of a
/// core, however many nodes change.
const REST: u32 = 4;

/// But never longer than this: most of a round that writes to many nodes is waiting for the API server.
const LONGEST_REST: Duration = Duration::from_secs(2);

/// How long the end of a round is waited for at the operator's own end.
const LAST_ROUND: Duration = Duration::from_secs(3);

/// How often nodes are looked for whose pool is gone.
const ORPHANS: Duration = Duration::from_secs(30);

/// What an operator is told.
#[derive(Debug, Clone)]
pub struct OperatorConfig {
    /// Its namespace: that of the Lease and of the webhook's Secret.
    pub namespace: String,
    /// What it is called among operators: its pod's name.
    pub identity: String,
    /// A kubeconfig; that of the pod's service account where there is none.
    pub kubeconfig: Option<PathBuf>,
    /// The name of the Lease.
    pub lease: String,
    /// Answer `/healthz`, `/readyz` and `/metrics` here.
    pub listen: Option<SocketAddr>,
    /// The validating webhook.
    pub webhook: Option<WebhookConfig>,
    /// Cluster API's objects may be looked at.
    pub cluster_api: bool,
    /// Look after the records of ARM clients: groups, clusters and operations.
    pub arm: bool,
}

/// Where the webhook answers, and how the API server knows it.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// Its address.
    pub listen: SocketAddr,
    /// The Service that the API server calls.
    pub service: String,
    /// The Secret with its certificate.
    pub secret: String,
    /// The `ValidatingWebhookConfiguration` that names the Service.
    pub configuration: String,
}

/// Why the operator gave up.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The API server can't be spoken to at all.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// An address can't be used.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Runs an operator until `stop`: a standby, and while it has the Lease the leader.
///
/// At the end the rounds are finished first, then the Lease is given back, so that another one takes over at once.
///
/// # Errors
/// When there is no way to the API server, or an address can't be used.
pub async fn run(config: OperatorConfig, stop: CancellationToken) -> Result<(), OperatorError> {
    let metrics = Metrics::new();
    let kubeconfig = client::config(config.kubeconfig.as_deref()).await?;
    let client = client::client(kubeconfig, Program::Operator, metrics.clone())?;
    // What serves goes on until the Lease is given back.
    let serving = CancellationToken::new();
    let _guard = serving.clone().drop_guard();
    let leadership = Leadership {
        identity: config.identity.clone(),
        namespace: config.namespace.clone(),
        lease: config.lease.clone(),
    };
    let watched = Watched::start(&client, config.arm, &serving);
    let heartbeat = Heartbeat::new();
    let (synced, is_synced) = watch::channel(false);
    let address = config.listen;
    let listener = match address {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    if let Some(webhook) = &config.webhook {
        serve_webhook(&client, &config.namespace, webhook, &serving).await?;
    }
    let candidacy = leadership.seek(client.clone(), serving.clone());
    if let Some(listener) = listener {
        let sources = Sources {
            heartbeat: heartbeat.clone(),
            synced: is_synced,
            mandate: candidacy.mandate(),
            metrics: metrics.clone(),
        };
        tokio::spawn(http::serve(listener, sources, serving.clone()));
    }
    let mut mandate = candidacy.mandate();
    loop {
        let turn = async {
            watched.synced().await;
            synced.send_replace(true);
            mandate.gained().await;
        };
        let beats = async {
            let mut ticks = tokio::time::interval(ORPHANS / 2);
            loop {
                ticks.tick().await;
                heartbeat.beat();
            }
        };
        tokio::select! {
            () = stop.cancelled() => break,
            () = turn => {}
            () = beats => {}
        }
        tracing::info!(identity = config.identity, "leading");
        metrics.set_leader(true);
        let ended = stop.child_token();
        let rounds = lead(
            &client, &watched, &mandate, &metrics, &heartbeat, &config, &ended,
        );
        let mut held = candidacy.mandate();
        tokio::select! {
            () = rounds => {}
            () = held.lost() => {}
        }
        metrics.set_leader(false);
        tracing::info!(identity = config.identity, "leading no more");
    }
    serving.cancel();
    candidacy.ended().await;
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, OperatorError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| OperatorError::Listen { address, source })
}

async fn serve_webhook(
    client: &Client,
    namespace: &str,
    config: &WebhookConfig,
    stop: &CancellationToken,
) -> Result<(), OperatorError> {
    let listener = bind(config.listen).await?;
    let certificate = Serving::default();
    let identity = WebhookIdentity {
        namespace: namespace.to_owned(),
        service: config.service.clone(),
        secret: config.secret.clone(),
        configuration: config.configuration.clone(),
    };
    tokio::spawn(identity.keep(client.clone(), certificate.clone(), stop.clone()));
    let stop = stop.clone();
    tokio::spawn(async move {
        if let Err(error) = webhook::serve(listener, certificate, stop).await {
            tracing::warn!(%error, "the webhook does not answer, and the operator goes on without");
        }
    });
    Ok(())
}

/// Why a round about a pool stopped early. It is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoundError {
    /// The custom resource could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A node could not be changed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The model's round stopped.
    #[error(transparent)]
    Controller(#[from] ControllerError),
}

/// What rounds share.
struct Context {
    backend: Arc<KubernetesBackend>,
    controller: pool::Controller<Arc<KubernetesBackend>, Arc<KubernetesBackend>>,
    metrics: Metrics,
    leads: Mandate,
    /// What was last told of each pool.
    stories: Mutex<BTreeMap<String, Story>>,
    recorder: kube::runtime::events::Recorder,
    /// How long the last round took.
    pace: watch::Sender<Duration>,
    /// A round is going on.
    busy: watch::Sender<bool>,
    /// No more rounds are to begin.
    stop: CancellationToken,
    heartbeat: Heartbeat,
}

/// Brings every pool to what is wanted, until `stop`.
async fn lead(
    client: &Client,
    watched: &Watched,
    leads: &Mandate,
    metrics: &Metrics,
    heartbeat: &Heartbeat,
    config: &OperatorConfig,
    stop: &CancellationToken,
) {
    watched.synced().await;
    let pools: Api<NodePool> = Api::all(client.clone());
    let controller = Controller::new(pools, watcher::Config::default())
        // Pools compete for nodes, so one at a time.
        .with_config(Config::default().concurrency(1));
    let caches = Caches {
        pools: controller.store(),
        nodes: watched.nodes.clone(),
        gpu_nodes: watched.gpu_nodes.clone(),
        changes: watched.changed.subscribe(),
    };
    let arm = config.arm.then(|| Arm {
        records: Records::new(client.clone()),
        watched: watched.records.clone(),
    });
    let backend = Arc::new(KubernetesBackend::new(
        client.clone(),
        caches,
        config.cluster_api,
        arm.clone(),
    ));
    let reporter = kube::runtime::events::Reporter {
        controller: "migpool-operator".to_owned(),
        instance: Some(config.identity.clone()),
    };
    let context = Arc::new(Context {
        controller: pool::Controller::new(Arc::clone(&backend), Arc::clone(&backend)),
        backend: Arc::clone(&backend),
        metrics: metrics.clone(),
        leads: leads.clone(),
        stories: Mutex::default(),
        recorder: kube::runtime::events::Recorder::new(client.clone(), reporter),
        pace: watch::Sender::new(Duration::ZERO),
        busy: watch::Sender::new(false),
        stop: stop.clone(),
        heartbeat: heartbeat.clone(),
    });
    let rounds = controller
        .reconcile_all_on(gathered(
            watched.changed.subscribe(),
            context.pace.subscribe(),
        ))
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(round, again, Arc::clone(&context))
        .for_each(|outcome| {
            if let Err(error) = outcome {
                tracing::debug!(%error, "a round of the controller");
            }
            std::future::ready(())
        });
    let orphans = async {
        let mut ticks = tokio::time::interval(ORPHANS);
        loop {
            ticks.tick().await;
            context.heartbeat.beat();
            if !context.leads.holds() {
                continue;
            }
            if let Err(error) = backend.release_orphans().await {
                tracing::warn!(%error, "a node whose pool is gone could not be given back");
            }
        }
    };
    let parents = async {
        match arm {
            Some(arm) => look_after(arm, &context, watched.changed.subscribe()).await,
            None => std::future::pending().await,
        }
    };
    // The controller would also wait for what it is to look at again in minutes.
    let ended = async {
        stop.cancelled().await;
        let mut busy = context.busy.subscribe();
        let idle = busy.wait_for(|busy| !busy);
        let _ = tokio::time::timeout(LAST_ROUND, idle).await;
    };
    tokio::select! {
        () = rounds => {}
        () = orphans => {}
        () = parents => {}
        () = ended => {}
    }
}

/// Looks after the records of ARM clients, after every change and now and then.
async fn look_after(arm: Arm, context: &Context, mut changes: watch::Receiver<u64>) {
    let mut parents = Parents::new(arm, Arc::clone(&context.backend));
    loop {
        changes.mark_unchanged();
        let mut look = Look::AtRest;
        if context.leads.holds() {
            look = parents.round(Instant::now(), jiff::Timestamp::now()).await;
        }
        let rest = match look {
            Look::Again => AGAIN,
            Look::AtRest => ORPHANS,
        };
        tokio::time::sleep(GATHER).await;
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            more = changes.changed() => {
                if more.is_err() {
                    return;
                }
            }
        }
    }
}

/// A signal for changes that came within a while, and no more often than rounds of that length allow.
fn gathered(
    mut changes: watch::Receiver<u64>,
    pace: watch::Receiver<Duration>,
) -> impl futures::Stream<Item = ()> + Send + 'static {
    changes.mark_changed();
    futures::stream::unfold((changes, pace), |(mut changes, pace)| async move {
        changes.changed().await.ok()?;
        let rest = (*pace.borrow() * REST).min(LONGEST_REST);
        tokio::time::sleep(GATHER.max(rest)).await;
        changes.mark_unchanged();
        Some(((), (changes, pace)))
    })
}

async fn round(object: Arc<NodePool>, context: Arc<Context>) -> Result<Action, RoundError> {
    context.heartbeat.beat();
    // Whoever does not lead any more writes nothing more.
    if !context.leads.holds() || context.stop.is_cancelled() {
        return Ok(Action::await_change());
    }
    context.busy.send_replace(true);
    let begun = Instant::now();
    let result = bring(&object, &context).await;
    let took = begun.elapsed();
    context.pace.send_replace(took);
    let word = match &result {
        Ok(_) => "done",
        Err(_) => "error",
    };
    context.metrics.reconciled(took, word);
    tell(&object, &context).await;
    let pools = context.backend.caches.pools.state();
    context
        .metrics
        .set_pools(pools.iter().map(|pool| figures(pool)));
    let are_on_their_way = pools.iter().filter(|pool| {
        let state = convert::record(pool).map(|record| record.provisioning_state);
        state.is_ok_and(|state| !state.is_terminal())
    });
    context.metrics.set_queue(are_on_their_way.count());
    context.busy.send_replace(false);
    result
}

fn figures(pool: &NodePool) -> PoolFigures {
    let status = pool.status.clone().unwrap_or_default();
    PoolFigures {
        state: status.phase,
        profile: status.profile,
        slices: status.slices,
        nodes: status.nodes,
        ready: status.ready_nodes,
    }
}

async fn bring(object: &NodePool, context: &Context) -> Result<Action, RoundError> {
    let backend = &context.backend;
    let is_leaving = object.metadata.deletion_timestamp.is_some();
    if !is_leaving {
        backend.hold(object).await?;
    } else if !object
        .finalizers()
        .iter()
        .any(|it| it == crate::node_pool::FINALIZER)
    {
        return Ok(Action::await_change());
    }
    let pairs = backend.pairs_of(object);
    backend.finish_releases(&pairs).await?;
    let checked = convert::record(object).and_then(|record| {
        backend.is_the_one(object, &record.key)?;
        Ok(record)
    });
    let record = match checked {
        Ok(record) => record,
        Err(_) if is_leaving => return backend.give_all_back(object).await,
        Err(error) => {
            let said = status::of_invalid(object, &error, jiff::Timestamp::now());
            backend.write_status(object, said).await?;
            return Ok(Action::await_change());
        }
    };
    if !is_leaving && record.provisioning_state == ProvisioningState::Deleting {
        // An ARM client's word for what `kubectl delete` says.
        backend.delete(object).await?;
        return Ok(Action::requeue(AGAIN));
    }
    let key = record.key;
    let nodes = backend.nodes_of(object);
    Ok(
        match context.controller.round_of_pool(&key, &nodes).await? {
            Round::Complete => Action::requeue(LOOK),
            Round::Again => Action::requeue(NEXT),
            Round::Retry => Action::requeue(AGAIN),
        },
    )
}

impl KubernetesBackend {
    /// Whether this object is the pool of this key: two may say so.
    fn is_the_one(&self, object: &NodePool, key: &pool::PoolKey) -> Result<(), Invalid> {
        let one = self.object(&pool::Key::path(key));
        match one.filter(|one| one.uid() != object.uid()) {
            None => Ok(()),
            Some(one) => Err(Invalid::parameter(
                "agentPoolProfile.name",
                format!(
                    "NodePool {} is node pool {} of cluster {} already. Delete this one.",
                    one.name_any(),
                    key.pool,
                    key.cluster.cluster
                ),
            )),
        }
    }

    /// Asks the API server for a pool's end. It stays until its nodes were given back.
    async fn delete(&self, object: &NodePool) -> Result<(), StoreError> {
        let parameters = kube::api::DeleteParams {
            preconditions: Some(kube::api::Preconditions {
                uid: object.uid(),
                resource_version: object.resource_version(),
            }),
            ..kube::api::DeleteParams::default()
        };
        let deleted = self.pools().delete(&object.name_any(), &parameters).await;
        deleted
            .map(drop)
            .map_err(|error| crate::store::failed(object, &error))
    }

    /// Gives the nodes of a pool back that makes no sense and is being deleted.
    async fn give_all_back(&self, object: &NodePool) -> Result<Action, RoundError> {
        let pairs = self.pairs_of(object);
        if pairs.is_empty() {
            self.let_go(object).await?;
            return Ok(Action::await_change());
        }
        for pair in pairs {
            if let Ok(name) = pair.gpu_node.name_any().parse() {
                pool::NodeProvider::apply(self, pool::Action::DeleteNode(name)).await?;
            }
        }
        Ok(Action::requeue(AGAIN))
    }
}

/// Publishes what is new about a pool as an event on it.
async fn tell(object: &NodePool, context: &Context) {
    let Some(uid) = object.uid() else {
        return;
    };
    let event = {
        let mut stories = context
            .stories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let alive: std::collections::BTreeSet<_> = context
            .backend
            .caches
            .pools
            .state()
            .iter()
            .filter_map(|pool| pool.uid())
            .collect();
        stories.retain(|uid, _| alive.contains(uid));
        stories.entry(uid).or_default().next(object.status.as_ref())
    };
    let Some(event) = event else {
        return;
    };
    let published = context
        .recorder
        .publish(&event, &object.object_ref(&()))
        .await;
    if let Err(error) = published {
        tracing::debug!(%error, "an event could not be published");
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the controller hands it over so"
)]
fn again(object: Arc<NodePool>, error: &RoundError, _: Arc<Context>) -> Action {
    tracing::warn!(pool = %object.name_any(), %error, "trying again");
    Action::requeue(AGAIN)
}
