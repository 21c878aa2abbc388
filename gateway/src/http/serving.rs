//! The HTTP port, served: how many connections there are, and how long each may keep the gateway
//! waiting.
//!
//! ```text
//!   accept ─▶ permit ─▶ head, 10 s ─▶ host ─▶ body, 10 s, 512 KiB ─▶ answer, some of it read every 30 s ─▶ head …
//!              └ all taken: the connection that has waited for its client longest is closed
//! ```
//! Whoever may connect to loopback may hold connections open, and each costs a file descriptor that
//! the store might need. So their number is limited, and under an attack it is the attacker's that
//! are closed: a client that sends its request at once and reads its answer is never the one that
//! has been waited for longest.
//!
//! Limits: [`HttpLimits`]; a head of [`HEAD_BYTES_MAX`]. It knows no path: see `pages`.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    Bound,
    answer::Refused,
    host,
    limiter::{ConnectionLimiter, Permit, Watched},
};
use crate::telemetry;

/// Connections at a time: a scraper, a page or two, and commands. With a body each they take 16
/// MiB.
pub const CONNECTIONS_MAX: usize = 32;
/// Time for the head of a request, and so the longest that a connection may be idle.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the body of a request.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest body of a request: the longest command, with each of its bytes as an escape of JSON.
pub const BODY_BYTES_MAX: usize = 512 * 1024;
/// Time in which a client has to read some of its answer.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest head of a request, and about what is held of an answer for a client that reads slowly.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Pause after accepting failed.
const ACCEPT_BACK_OFF: Duration = Duration::from_millis(100);
/// Time that a connection has to speak before another one pushes it out. One that had it is pushed
/// out without a pause, so a flood of idle connections is through in a moment, and does not hold up
/// who comes behind it.
const SPEAK_TIME: Duration = Duration::from_millis(20);
/// How often it is looked for a connection that can be pushed out while all wait for the gateway.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What clients of the HTTP port may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpLimits {
    /// Connections at a time. Not 0.
    pub connections_max: usize,
    /// Time for the head of a request.
    pub head_timeout: Duration,
    /// Time for the body of a request.
    pub body_timeout: Duration,
    /// Time in which a client has to read some of its answer.
    pub write_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: CONNECTIONS_MAX,
            head_timeout: HEAD_TIMEOUT,
            body_timeout: BODY_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
        }
    }
}

/// Serves until `shutdown`, and then until the answers under way are read. Dropped, it closes every
/// connection.
pub(super) async fn serve(bound: Bound, router: Router, shutdown: CancellationToken) {
    let Bound { listener, address, limits } = bound;
    let (limiter, mut connections) = (ConnectionLimiter::default(), JoinSet::new());
    let (mut is_failing, mut is_told) = (false, false);
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener) => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(cause) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::error!("http {address}: connections cannot be accepted: {cause}; trying on");
                }
                sleep(ACCEPT_BACK_OFF).await;
                continue;
            }
        };
        if std::mem::replace(&mut is_failing, false) {
            tracing::info!("http {address}: accepting connections again");
        }
        if connections.len() >= limits.connections_max && !std::mem::replace(&mut is_told, true) {
            tracing::warn!(
                "http {address}: {} connections are open, which is the limit: for each new one, the one that keeps the \
                 gateway waiting longest is closed (said once)",
                limits.connections_max
            );
        }
        let room = room(&limiter, &mut connections, limits.connections_max);
        if shutdown.run_until_cancelled(room).await.is_none() {
            break;
        }
        connections.spawn(connection(
            stream,
            router.clone(),
            limiter.enter(),
            limits.clone(),
            shutdown.clone(),
        ));
    }
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let (stream, _) = listener.accept().await?;
    // There is nothing to wait for. A failure only costs time.
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Resolves once there is room for one connection more. Connections that wait for the gateway are
/// left alone.
async fn room(limiter: &ConnectionLimiter, connections: &mut JoinSet<()>, connections_max: usize) {
    while connections.len() >= connections_max {
        if let Some(rest) = limiter.longest_wait().and_then(|waited| SPEAK_TIME.checked_sub(waited)) {
            sleep(rest).await;
        }
        if limiter.push_out() {
            closed("pushed_out");
        }
        let _ = timeout(LOOK_AGAIN, connections.join_next()).await;
    }
}

async fn connection(
    stream: TcpStream,
    router: Router,
    permit: Arc<Permit>,
    limits: HttpLimits,
    shutdown: CancellationToken,
) {
    let pages = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| {
        let (permit, pages) = (permit.clone(), pages.clone());
        async move {
            let answer = match whole(request, limits.body_timeout).await {
                Ok(request) => {
                    let _working = permit.working();
                    hyper::service::Service::call(&pages, request).await
                }
                Err(refused) => Ok(refused),
            };
            answer.map_err(|never: Infallible| never)
        }
    });
    let io = TokioIo::new(Watched::new(stream, permit.clone()));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(io, service);
    tokio::pin!(serving);
    let mut is_stopping = false;
    loop {
        tokio::select! {
            served = &mut serving => {
                if served.is_err_and(|error| error.is_timeout()) {
                    closed("head_timeout");
                }
                return;
            }
            () = permit.pushed_out() => return,
            () = permit.stalled(limits.write_timeout) => return closed("write_timeout"),
            () = shutdown.cancelled(), if !is_stopping => {
                is_stopping = true;
                serving.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The request with its body, which is read before anything is done for it, and after it is known
/// that no foreign page sent it.
async fn whole(request: Request<Incoming>, limit: Duration) -> Result<Request, Response> {
    let (parts, body) = request.into_parts();
    let refused = |refused: Refused| {
        let mut answer = refused.into_response();
        answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        answer
    };
    host::judge(&parts.method, &parts.uri, &parts.headers).map_err(refused)?;
    let too_long = || {
        let why = format!("the body cannot be read, or is longer than {BODY_BYTES_MAX} bytes");
        refused(Refused { status: StatusCode::PAYLOAD_TOO_LARGE, why })
    };
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(too_long());
    }
    match timeout(limit, to_bytes(Body::new(body), BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => Ok(Request::from_parts(parts, Body::from(body))),
        Ok(Err(_)) => Err(too_long()),
        Err(_) => {
            closed("body_timeout");
            let why = format!("the body did not come within {limit:?}");
            Err(refused(Refused { status: StatusCode::REQUEST_TIMEOUT, why }))
        }
    }
}

fn closed(reason: &'static str) {
    metrics::counter!(telemetry::HTTP_CLOSED_CONNECTIONS, "reason" => reason).increment(1);
}
