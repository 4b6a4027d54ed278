//! `/v1/backup` and `/v1/store`.

use std::{
    collections::BTreeMap,
    pin::Pin,
    task::{Context as Poller, Poll},
    time::Duration,
};

use axum::{
    Json,
    body::{Body, Bytes, HttpBody},
    extract::State,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use super::{
    App,
    answers::{ApiErrors, Conflict, NotFound},
    caller::{ApiCall, JsonBody, OptionalJson},
    error::ApiError,
};
use crate::{
    model::family::Standing,
    service::{Backup, Error},
    store::{Report, embedded::Summary, redis::NodeReport},
};

/// How long whoever fetches a backup may take over one piece of it: the store keeps what it shows for as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A body that is made as it is read. It ends with an error if what makes it does, so that nobody takes it for whole.
struct Pieces(mpsc::Receiver<Result<Bytes, Error>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Hands out piece after piece until the end, the reader's patience, or the node's stop. Two pieces are in memory.
async fn send(mut backup: Backup, pieces: mpsc::Sender<Result<Bytes, Error>>, mut stopped: watch::Receiver<bool>) {
    loop {
        let place = tokio::select! {
            place = tokio::time::timeout(PATIENCE, pieces.reserve()) => place,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        let Ok(Ok(place)) = place else { break };
        match backup.next_piece().await {
            Ok((Some(piece), rest)) => {
                place.send(Ok(piece.into()));
                backup = rest;
            }
            // There was room for one more, so the last piece has been taken.
            Ok((None, rest)) => return rest.sent().await,
            Err(error) => return place.send(Err(error)),
        }
    }
    tracing::warn!("a backup broke off: its reader went away or was too slow, or the node stops");
    let cut = Error::Unavailable { code: "cut", why: "the backup broke off".into(), retry_after: PATIENCE };
    let _ = pieces.try_send(Err(cut));
}

/// The whole store as of now, while it goes on serving (docs/how-to/back-up.md says what is in it).
///
/// Its last 32 bytes are the SHA-256 of all before them: without them it is cut. Keys are not in it.
#[utoipa::path(
    get, path = "/v1/backup", tag = "store", security(("client" = [])),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), ApiErrors, Conflict)
)]
pub(super) async fn backup(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Response, ApiError> {
    let backup = app.service.backup(&ctx).await?;
    // One piece waits while the next is read; and none is lost to a capacity of nought.
    let (sender, pieces) = mpsc::channel(1);
    tokio::spawn(send(backup, sender, app.stopped.clone()));
    let kind = HeaderValue::from_static("application/octet-stream");
    let name = HeaderValue::from_static("attachment; filename=\"store.backup\"");
    let headers = [(header::CONTENT_TYPE, kind), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::new(Pieces(pieces))).into_response())
}

/// The store.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct StoreBody {
    /// `whole`; `not_whole`: it came back older than what it had acknowledged; `wiped`: it came back empty. Until
    /// somebody declares it restored, anything but `whole` answers 503.
    standing: &'static str,
    /// The version of its layout.
    schema: u32,
    /// How often it has come back as another.
    incarnation: u32,
    /// Bytes of its file, or of the memory of its server; null: it does not tell.
    bytes: Option<u64>,
    /// Rows of each of its tables.
    rows: BTreeMap<String, u64>,
    /// Requests that wait for its writer.
    queue: usize,
    /// The last backup that was sent to its end.
    last_backup: Option<BackupBody>,
    /// Why a shared store does not serve here, and what mends it.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    /// Who takes part in a shared store.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<NodeBody>,
}

/// A node that takes part in a shared store.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct NodeBody {
    /// By this an operator waives it: 32 hexadecimal digits.
    id: String,
    name: String,
    version: String,
    /// When it last said something (RFC 3339).
    seen_at: String,
    /// Whether it has pushed what it knows into the store as it is; if not, it is waited for.
    pushed: bool,
    /// Whether it is the one that answers.
    this: bool,
}

impl From<NodeReport> for NodeBody {
    fn from(node: NodeReport) -> Self {
        let NodeReport { id, name, version, seen, pushed, this } = node;
        Self { id, name, version, seen_at: seen.to_rfc3339(), pushed, this }
    }
}

/// A backup that was sent to its end.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct BackupBody {
    /// The instant that it shows (RFC 3339).
    taken_at: String,
    rows: u64,
    bytes: u64,
    /// Its last 32 bytes, in hexadecimal.
    sha256: String,
}

impl From<Summary> for BackupBody {
    fn from(s: Summary) -> Self {
        Self { taken_at: s.taken_at.to_rfc3339(), rows: s.rows, bytes: s.bytes, sha256: s.sha256 }
    }
}

impl From<Report> for StoreBody {
    fn from(report: Report) -> Self {
        let Report { schema, incarnation, bytes, rows, queue, .. } = report;
        let standing = match report.standing {
            Standing::Whole => "whole",
            Standing::NotWhole => "not_whole",
            Standing::Wiped => "wiped",
        };
        let last_backup = report.last_backup.map(Into::into);
        let nodes = report.nodes.into_iter().map(Into::into).collect();
        Self { standing, schema, incarnation, bytes, rows, queue, last_backup, why: report.why, nodes }
    }
}

/// Whether the store is whole, how large it is, and when it was last backed up.
#[utoipa::path(
    get, path = "/v1/store", tag = "store", security(("client" = [])),
    responses((status = 200, body = StoreBody), ApiErrors)
)]
pub(super) async fn store(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Json<StoreBody>, ApiError> {
    Ok(Json(app.service.store_report(&ctx).await?.into()))
}

/// What is said about a store that was restored.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RestoredBody {
    /// Let sessions go on. What was revoked or spent after the copy was made works again.
    dangerous_keep_sessions: Option<bool>,
    /// Declare it although nothing contradicts the store.
    although_whole: Option<bool>,
}

/// Declares that the store was restored, so that it serves again. By default everyone logs in anew: what was revoked
/// after the copy was made would come alive otherwise.
#[utoipa::path(
    post, path = "/v1/store/restored", tag = "store", request_body = Option<RestoredBody>, security(("client" = [])),
    responses((status = 200, body = StoreBody), ApiErrors, Conflict)
)]
pub(super) async fn restored(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    OptionalJson(body): OptionalJson<RestoredBody>,
) -> Result<Json<StoreBody>, ApiError> {
    let (keep, although_whole) = (body.dangerous_keep_sessions == Some(true), body.although_whole == Some(true));
    Ok(Json(app.service.declare_restored(&ctx, keep, although_whole).await?.into()))
}

/// Which node is gone.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct WaiveBody {
    /// Its id, as the store's report shows it: 32 hexadecimal digits.
    node: String,
}

/// Declares that a node of a shared store is gone for ever: what it alone knew of acknowledged changes is lost, and nobody
/// waits for it any more.
#[utoipa::path(
    post, path = "/v1/store/waive", tag = "store", request_body = WaiveBody, security(("client" = [])),
    responses((status = 200, body = StoreBody), ApiErrors, NotFound, Conflict)
)]
pub(super) async fn waive(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    JsonBody(body): JsonBody<WaiveBody>,
) -> Result<Json<StoreBody>, ApiError> {
    Ok(Json(app.service.waive_node(&ctx, &body.node).await?.into()))
}
