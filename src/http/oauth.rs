//! The OAuth endpoints: token (RFC 6749), revocation (RFC 7009), introspection (RFC 7662).

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    App,
    answers::OAuthErrors,
    caller::OAuthCall,
    error::{OAuthError, OAuthErrorBody},
};
use crate::{
    model::Scope,
    service::{Error, Introspection, Tokens},
};

/// RFC 6749 §5.1.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct TokenResponse {
    access_token: String,
    /// Always `Bearer`.
    token_type: &'static str,
    /// Seconds.
    expires_in: u64,
    /// Absent for `client_credentials`.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// Seconds until the session ends without use.
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_expires_in: Option<u64>,
    scope: String,
}

impl From<Tokens> for TokenResponse {
    fn from(tokens: Tokens) -> Self {
        let (refresh_token, refresh_expires_in) = match &tokens.refresh {
            Some((token, life)) => (Some(token.expose().to_owned()), Some(life.as_secs())),
            None => (None, None),
        };
        Self {
            access_token: tokens.access.expose().to_owned(),
            token_type: "Bearer",
            expires_in: tokens.expires_in.as_secs(),
            refresh_token,
            refresh_expires_in,
            scope: tokens.scope.to_string(),
        }
    }
}

/// The form of a token request.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes the form in /openapi.json; it is read by hand")]
pub(super) struct TokenForm {
    /// `refresh_token` or `client_credentials`.
    grant_type: String,
    /// For `refresh_token`.
    refresh_token: Option<String>,
    /// Narrows the access token.
    scope: Option<String>,
    /// A public client, or `client_secret_post`.
    client_id: Option<String>,
    /// `client_secret_post`.
    client_secret: Option<String>,
    /// `private_key_jwt`: `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// `private_key_jwt`: the signed assertion.
    client_assertion: Option<String>,
}

/// The form of a revocation or introspection request.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes the form in /openapi.json; it is read by hand")]
pub(super) struct OneTokenForm {
    /// Access or refresh token.
    token: String,
    /// Read and ignored: the token says what it is.
    token_type_hint: Option<String>,
    /// A public client, or `client_secret_post`.
    client_id: Option<String>,
    /// `client_secret_post`.
    client_secret: Option<String>,
    /// `private_key_jwt`: `urn:ietf:params:oauth:client-assertion-type:jwt-bearer`.
    client_assertion_type: Option<String>,
    /// `private_key_jwt`: the signed assertion.
    client_assertion: Option<String>,
}

/// Exchanges a grant for tokens (RFC 6749 §5, §6).
#[utoipa::path(
    post, path = "/oauth2/token", tag = "oauth2",
    request_body(content = TokenForm, content_type = "application/x-www-form-urlencoded"),
    security((), ("client" = [])),
    responses((status = 200, body = TokenResponse), OAuthErrors)
)]
pub(super) async fn token(State(app): State<App>, call: OAuthCall) -> Result<Json<TokenResponse>, OAuthError> {
    let OAuthCall { form, ctx, visit } = call;
    let scope = form.get("scope").map(str::parse::<Scope>).transpose();
    let scope = scope.map_err(|_| Error::Scope("scope: words of visible ASCII, one space between them"))?;
    let tokens = match form.required("grant_type")? {
        "refresh_token" => {
            let outcome = app.service.refresh(&ctx, form.required("refresh_token")?, scope.as_ref()).await;
            // Whoever proves nothing and has nothing that is good is guessing.
            if matches!(outcome, Err(Error::Grant(_))) && !ctx.caller.is_proven() {
                app.edge.failed(visit, &*app.service.clock);
            }
            outcome?
        }
        "client_credentials" => app.service.client_credentials(&ctx, scope).await?,
        _ => return Err(Error::UnsupportedGrantType.into()),
    };
    Ok(Json(tokens.into()))
}

/// Takes a token back (RFC 7009). A refresh token ends its session, an access token ends that token.
#[utoipa::path(
    post, path = "/oauth2/revoke", tag = "oauth2",
    request_body(content = OneTokenForm, content_type = "application/x-www-form-urlencoded"),
    security((), ("client" = [])),
    responses((status = 200, description = "It is no longer good, or never was"), OAuthErrors)
)]
pub(super) async fn revoke(State(app): State<App>, call: OAuthCall) -> Result<(), OAuthError> {
    Ok(app.service.revoke_own(&call.ctx, call.form.required("token")?).await?)
}

/// What a token is worth now (RFC 7662).
#[utoipa::path(
    post, path = "/oauth2/introspect", tag = "oauth2",
    request_body(content = OneTokenForm, content_type = "application/x-www-form-urlencoded"),
    security(("client" = [])),
    responses(
        (status = 200, description = "`{\"active\":false}`, or the token's claims with `active` true", body = Object),
        (status = 403, body = OAuthErrorBody, description = "The client may not introspect."),
        OAuthErrors,
    )
)]
pub(super) async fn introspect(State(app): State<App>, call: OAuthCall) -> Result<Response, OAuthError> {
    // A client that has only a name is nobody here (RFC 7662 §2.1).
    if !call.ctx.caller.is_proven() {
        return Err(Error::Client.into());
    }
    let found = app.service.introspect(&call.ctx, call.form.required("token")?).await?;
    Ok(Json(found.map_or_else(|| json!({"active": false}), |found| active(&app, &found))).into_response())
}

fn active(app: &App, found: &Introspection) -> Value {
    let mut members = match found {
        Introspection::Access(claims) => {
            let mut members = serde_json::to_value(&**claims).expect("claims serialise");
            members["token_type"] = "Bearer".into();
            members
        }
        Introspection::Refresh(session) => {
            let expires = session.lineage.idle_until.min(session.lineage.absolute_until);
            json!({
                "iss": app.service.settings().issuer,
                "sub": session.identity.subject,
                "aud": session.identity.audience,
                "client_id": session.identity.client,
                "scope": session.identity.scope,
                "sid": session.id,
                "iat": session.id.stamp().seconds(),
                "exp": expires.seconds(),
            })
        }
    };
    members["active"] = true.into();
    members
}
