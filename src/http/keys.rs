//! `/v1/keys` for operators.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{
    App,
    answers::{ApiErrors, Conflict, NotFound},
    caller::{ApiCall, JsonBody, KidPath, OptionalJson},
    error::ApiError,
    operate::{EntryBody, entry_body, reason},
};
use crate::{
    keyring::{Change, KeyInfo, KeyState, Moved, Order, Passphrase, Planned, Step},
    model::{Algorithm, Kid, Timestamp},
    service::{Compromise, Effect, Error, NO_SUCH_KEY},
};

/// The longest passphrase of a key that comes or goes.
const MAX_PASSPHRASE: usize = 1024;

/// A signing key.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct KeyBody {
    #[schema(value_type = String)]
    kid: Kid,
    /// `pending`, `active`, `retiring`, `retired`, `destroyed` or `compromised`.
    state: &'static str,
    alg: &'static str,
    /// Its public half, as in its JWK.
    x: String,
    /// RFC 3339, as all below.
    created_at: String,
    published_at: String,
    /// When it may sign without being unknown to anyone; null unless it is pending.
    signs_from: Option<String>,
    activated_at: Option<String>,
    /// When it began to sign again.
    rolled_back_at: Option<String>,
    retiring_since: Option<String>,
    /// null also where that was cut short: by a compromise, or by retiring it without waiting.
    verifies_until: Option<String>,
    retired_at: Option<String>,
    /// From when on its private half can be destroyed and nobody notices.
    destroyable_from: Option<String>,
    destroyed_at: Option<String>,
    compromised_at: Option<String>,
}

impl KeyBody {
    fn of(app: &App, key: KeyInfo) -> Self {
        let text = |t: Option<Timestamp>| t.map(Timestamp::to_rfc3339);
        let timing = &app.service.keyring.settings().timing;
        let signs_from = (key.state == KeyState::Pending).then(|| key.known_from(timing).to_rfc3339());
        Self {
            state: key.state.name(),
            alg: key.algorithm.name(),
            x: key.key.x(),
            created_at: key.created.to_rfc3339(),
            published_at: key.published.to_rfc3339(),
            signs_from,
            activated_at: text(key.activated),
            rolled_back_at: text(key.rolled_back),
            retiring_since: text(key.retiring_since),
            verifies_until: text(key.verifies_until.filter(|until| key.served_until(*until))),
            retired_at: text(key.retired),
            destroyable_from: text(key.destroyable_from()),
            destroyed_at: text(key.destroyed),
            compromised_at: text(key.compromised),
            kid: key.kid,
        }
    }
}

/// All signing keys.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct KeysBody {
    keys: Vec<KeyBody>,
    /// The first instant at which a rotation is safe (RFC 3339).
    rotation_possible_from: String,
}

/// The signing keys with their states, oldest first.
#[utoipa::path(
    get, path = "/v1/keys", tag = "keys", security(("client" = [])),
    responses((status = 200, body = KeysBody), ApiErrors)
)]
pub(super) async fn list(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Json<KeysBody>, ApiError> {
    let keys = app.service.keys(&ctx)?.into_iter().map(|key| KeyBody::of(&app, key)).collect();
    let rotation_possible_from = app.service.keyring.earliest_rotation().to_rfc3339();
    Ok(Json(KeysBody { keys, rotation_possible_from }))
}

/// One signing key.
#[utoipa::path(
    get, path = "/v1/keys/{kid}", tag = "keys", security(("client" = [])), params(("kid" = String, Path)),
    responses((status = 200, body = KeyBody), ApiErrors, NotFound)
)]
pub(super) async fn show(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    KidPath(kid): KidPath,
) -> Result<Json<KeyBody>, ApiError> {
    let key = app.service.keys(&ctx)?.into_iter().find(|key| key.kid == kid);
    Ok(Json(KeyBody::of(&app, key.ok_or(Error::NotFound(NO_SUCH_KEY))?)))
}

/// A step of the schedule.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct PlannedBody {
    /// RFC 3339; in the past: overdue.
    at: String,
    /// `activate`, `retire` or `destroy`.
    step: &'static str,
    #[schema(value_type = String)]
    kid: Kid,
}

impl From<Planned> for PlannedBody {
    fn from(planned: Planned) -> Self {
        Self { at: planned.at.to_rfc3339(), step: planned.step.name(), kid: planned.kid }
    }
}

/// What happens to the keys by itself.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ScheduleBody {
    /// The next steps, in the order of their time.
    steps: Vec<PlannedBody>,
    /// How often keys rotate, in seconds; null: by an operator's word alone.
    rotate_every: Option<u64>,
    /// How long a key is published before it signs, in seconds, as all below.
    publish_ahead: u64,
    /// How long a key of today's settings verifies after it has signed last.
    retire_after: u64,
    /// For how long a key set may be cached that is fetched now.
    jwks_max_age: u64,
}

/// The next steps of the schedule.
#[utoipa::path(
    get, path = "/v1/keys/schedule", tag = "keys", security(("client" = [])),
    responses((status = 200, body = ScheduleBody), ApiErrors)
)]
pub(super) async fn schedule(State(app): State<App>, ApiCall(ctx): ApiCall) -> Result<Json<ScheduleBody>, ApiError> {
    let steps = app.service.key_plan(&ctx)?.into_iter().map(Into::into).collect();
    let timing = app.service.keyring.settings().timing;
    Ok(Json(ScheduleBody {
        steps,
        rotate_every: timing.rotate_every.map(|every| every.as_secs()),
        publish_ahead: timing.publish_ahead.as_secs(),
        retire_after: timing.retiring_for(timing.token_life).as_secs(),
        jwks_max_age: app.service.keyring.jwks_max_age().as_secs(),
    }))
}

/// A key that has moved on.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct MovedBody {
    /// null in a dry run for a key that would be made.
    #[schema(value_type = Option<String>)]
    kid: Option<Kid>,
    /// null: it is new.
    from: Option<&'static str>,
    to: &'static str,
}

/// What was done to the keys, or with `dry_run` what would be.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ChangeBody {
    dry_run: bool,
    /// Signs from now on.
    #[schema(value_type = String)]
    active: Kid,
    /// Signed until now and still verifies, if another signs than before.
    #[schema(value_type = Option<String>)]
    retiring: Option<Kid>,
    /// Is published from now on and stands by, if one is new.
    #[schema(value_type = Option<String>)]
    pending: Option<Kid>,
    /// All keys whose state is another.
    changes: Vec<MovedBody>,
}

impl ChangeBody {
    fn of(change: Change, dry_run: bool) -> Self {
        let named = |state| change.moved.iter().rfind(move |m| m.to == state);
        // What a dry run makes is not kept: no key will have that name.
        let name = |moved: &Moved| (!dry_run || moved.from.is_some()).then(|| moved.kid.clone());
        let (retiring, pending) = (named(KeyState::Retiring).and_then(name), named(KeyState::Pending).and_then(name));
        let body = |m: &Moved| MovedBody { kid: name(m), from: m.from.map(KeyState::name), to: m.to.name() };
        let changes = change.moved.iter().map(body).collect();
        Self { dry_run, retiring, pending, changes, active: change.active }
    }
}

/// How to go about it.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OrderBody {
    /// Say what it would do, and do nothing.
    dry_run: Option<bool>,
    /// Do not wait for what the rule waits for. What breaks then: see `docs/keys.md`.
    dangerous_without_waiting: Option<bool>,
}

async fn carry_out(app: &App, ctx: ApiCall, order: Order, body: &OrderBody) -> Result<Json<ChangeBody>, ApiError> {
    let (ApiCall(ctx), force) = (ctx, body.dangerous_without_waiting.unwrap_or(false));
    let dry_run = body.dry_run.unwrap_or(false);
    let change = if dry_run {
        app.service.preview_keys(&ctx, order, force).await?
    } else {
        app.service.change_keys(&ctx, order, force).await?
    };
    Ok(Json(ChangeBody::of(change, dry_run)))
}

/// Which key to make.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GenerateBody {
    /// `EdDSA` or `Ed25519`; the configured one by default.
    alg: Option<String>,
    /// Say what it would do, and do nothing.
    dry_run: Option<bool>,
}

fn algorithm(alg: Option<&str>) -> Result<Option<Algorithm>, Error> {
    alg.map(str::parse).transpose().map_err(|_| Error::request("alg", "EdDSA or Ed25519"))
}

macro_rules! steps {
    ($($(#[doc = $doc:literal])* $name:ident $path:literal $step:ident;)*) => {$(
        $(#[doc = $doc])*
        #[utoipa::path(
            post, path = $path, tag = "keys", request_body = Option<OrderBody>, security(("client" = [])),
            params(("kid" = String, Path)),
            responses((status = 200, body = ChangeBody), ApiErrors, NotFound, Conflict)
        )]
        pub(super) async fn $name(
            State(app): State<App>,
            ctx: ApiCall,
            KidPath(kid): KidPath,
            OptionalJson(body): OptionalJson<OrderBody>,
        ) -> Result<Json<ChangeBody>, ApiError> {
            carry_out(&app, ctx, Order::Step(Step::$step, kid), &body).await
        }
    )*};
}

steps! {
    /// Makes this pending key sign; the one that signs retires.
    activate "/v1/keys/{kid}/activate" Activate;
    /// Takes a retiring key out of the key set.
    retire "/v1/keys/{kid}/retire" Retire;
    /// Destroys the private half of a retired or pending key.
    destroy "/v1/keys/{kid}/destroy" Destroy;
}

macro_rules! orders {
    ($($(#[doc = $doc:literal])* $name:ident $path:literal $order:ident;)*) => {$(
        $(#[doc = $doc])*
        #[utoipa::path(
            post, path = $path, tag = "keys", request_body = Option<OrderBody>, security(("client" = [])),
            responses((status = 200, body = ChangeBody), ApiErrors, Conflict)
        )]
        pub(super) async fn $name(
            State(app): State<App>,
            ctx: ApiCall,
            OptionalJson(body): OptionalJson<OrderBody>,
        ) -> Result<Json<ChangeBody>, ApiError> {
            carry_out(&app, ctx, Order::$order, &body).await
        }
    )*};
}

orders! {
    /// Makes the standby sign.
    rotate "/v1/keys/rotate" Rotate;
    /// Makes the key sign again that signed before.
    roll_back "/v1/keys/rollback" RollBack;
}

/// Makes one more key, which stands by.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = Option<GenerateBody>, security(("client" = [])),
    responses((status = 200, body = ChangeBody), ApiErrors, Conflict)
)]
pub(super) async fn generate(
    State(app): State<App>,
    ctx: ApiCall,
    OptionalJson(body): OptionalJson<GenerateBody>,
) -> Result<Json<ChangeBody>, ApiError> {
    let order = Order::Generate(algorithm(body.alg.as_deref())?);
    carry_out(&app, ctx, order, &OrderBody { dry_run: body.dry_run, ..OrderBody::default() }).await
}

/// A private key that comes from elsewhere.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportBody {
    /// PKCS#8 as PEM, plain or encrypted, or a private JWK (RFC 8037 §2).
    #[schema(value_type = String)]
    key: Secret,
    /// Of an encrypted PEM.
    #[schema(value_type = Option<String>)]
    passphrase: Option<Secret>,
    /// `EdDSA` or `Ed25519`, for PEM, which names none; the configured one by default.
    alg: Option<String>,
}

/// Text that is wiped, and shown nowhere.
#[derive(Deserialize)]
#[serde(from = "String")]
pub(super) struct Secret(Zeroizing<String>);

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

fn passphrase(secret: &Secret) -> Result<Passphrase, Error> {
    let hint = "1 to 1024 bytes";
    if secret.0.len() > MAX_PASSPHRASE {
        return Err(Error::request("passphrase", hint));
    }
    Passphrase::new((*secret.0).clone()).map_err(|_| Error::request("passphrase", hint))
}

/// Takes a private key in, as one more that stands by.
#[utoipa::path(
    post, path = "/v1/keys/import", tag = "keys", request_body = ImportBody, security(("client" = [])),
    responses((status = 200, body = ChangeBody), ApiErrors, Conflict)
)]
pub(super) async fn import(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    JsonBody(body): JsonBody<ImportBody>,
) -> Result<Json<ChangeBody>, ApiError> {
    let (alg, pass) = (algorithm(body.alg.as_deref())?, body.passphrase.as_ref().map(passphrase).transpose()?);
    let change = app.service.import_key(&ctx, body.key.0, pass, alg).await?;
    Ok(Json(ChangeBody::of(change, false)))
}

/// Under what a private key leaves.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportBody {
    /// What the PEM is encrypted under: 1 to 1024 bytes.
    #[schema(value_type = String)]
    passphrase: Secret,
}

/// A private key, encrypted.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct ExportedBody {
    #[schema(value_type = String)]
    kid: Kid,
    alg: &'static str,
    /// PKCS#8 version 1 under PBES2 (scrypt, AES-256-CBC), as OpenSSL reads it.
    pem: String,
}

/// The private half of a published key, encrypted under a passphrase of the caller's. Whoever has both signs tokens of any
/// content.
#[utoipa::path(
    post, path = "/v1/keys/{kid}/dangerous-export", tag = "keys", request_body = ExportBody,
    security(("client" = [])), params(("kid" = String, Path)),
    responses((status = 200, body = ExportedBody), ApiErrors, NotFound, Conflict)
)]
pub(super) async fn dangerous_export(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    KidPath(kid): KidPath,
    JsonBody(body): JsonBody<ExportBody>,
) -> Result<Json<ExportedBody>, ApiError> {
    let pem = app.service.dangerous_export_key(&ctx, kid.clone(), passphrase(&body.passphrase)?).await?;
    let known = app.service.keyring.list().into_iter().find(|key| key.kid == kid);
    let alg = known.map_or(Algorithm::default(), |key| key.algorithm).name();
    Ok(Json(ExportedBody { kid, alg, pem: pem.to_string() }))
}

/// A key that is in other hands.
#[derive(Deserialize, Default, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CompromiseBody {
    /// End all sessions as well.
    end_sessions: Option<bool>,
    /// Why, up to 256 bytes, for the audit log.
    reason: Option<String>,
    /// Say what it would do, and do nothing.
    dry_run: Option<bool>,
}

/// From when on a compromised key deceives whom no more. Whoever verifies without the feed does until it fetches the key
/// set again: what a thief signs has the `exp` that he likes.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct RefusedBody {
    /// Introspection refuses from here on (RFC 3339, as below); connected verifiers follow within moments.
    here_from: String,
    /// Verifiers that hear nothing refuse from here on at the latest, each by its own `max_staleness`.
    disconnected_from: String,
}

/// What was done about a compromised key.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct CompromisedBody {
    #[serde(flatten)]
    change: ChangeBody,
    /// Whether the key that signs now has been published for long enough; else verifiers that have not fetched the key set
    /// since refuse its tokens until they do.
    active_is_known: bool,
    /// The entry of the feed that refuses the key's tokens; null in a dry run.
    entry: Option<EntryBody>,
    /// The cut-off that ends the sessions, if that was asked for.
    sessions: Option<EntryBody>,
    /// null in a dry run.
    effect: Option<RefusedBody>,
}

/// Gives a key up that is in other hands, whatever its state: the standby signs if it did, it leaves the key set, its
/// private half is destroyed, and the feed denies it for ever. Asking again completes what a 503 has left.
#[utoipa::path(
    post, path = "/v1/keys/{kid}/compromise", tag = "keys", request_body = Option<CompromiseBody>,
    security(("client" = [])), params(("kid" = String, Path)),
    responses((status = 200, body = CompromisedBody), ApiErrors, NotFound)
)]
pub(super) async fn compromise(
    State(app): State<App>,
    ApiCall(ctx): ApiCall,
    KidPath(kid): KidPath,
    OptionalJson(body): OptionalJson<CompromiseBody>,
) -> Result<Json<CompromisedBody>, ApiError> {
    let reason = body.reason.map(reason).transpose()?;
    let order = Compromise { kid, end_sessions: body.end_sessions.unwrap_or(false), reason };
    if body.dry_run.unwrap_or(false) {
        let change = app.service.preview_compromise(&ctx, &order).await?;
        let active_is_known = is_known(&app, &change.active);
        let change = ChangeBody::of(change, true);
        return Ok(Json(CompromisedBody { change, active_is_known, entry: None, sessions: None, effect: None }));
    }
    let done = app.service.compromise_key(&ctx, order).await?;
    let active_is_known = is_known(&app, &done.change.active);
    let epoch = app.service.epoch();
    let last = done.sessions.as_ref().map_or(done.entry.at, |sessions| sessions.at.max(done.entry.at));
    let effect = Effect::of(last, None);
    let effect =
        RefusedBody { here_from: effect.here.to_rfc3339(), disconnected_from: effect.disconnected.to_rfc3339() };
    Ok(Json(CompromisedBody {
        change: ChangeBody::of(done.change, false),
        active_is_known,
        entry: Some(entry_body(epoch, done.entry)),
        sessions: done.sessions.map(|entry| entry_body(epoch, entry)),
        effect: Some(effect),
    }))
}

/// Whether a key that signs has been published for as long as it should be.
fn is_known(app: &App, kid: &Kid) -> bool {
    let timing = &app.service.keyring.settings().timing;
    let known = app.service.keyring.list().into_iter().find(|key| key.kid == *kid);
    known.is_some_and(|key| app.service.clock.now() >= key.known_from(timing))
}
