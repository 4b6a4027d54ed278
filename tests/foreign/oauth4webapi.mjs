// oauth4webapi, a client that checks every answer against the RFCs: discovery, refresh, introspection, revocation.
import { setTimeout as pause } from 'node:timers/promises';
import * as oauth from 'oauth4webapi';
import { check, rejection } from './checks.mjs';
import { clientId, clientSecret, issuer, openSession, retryWindow } from './server.mjs';

const insecure = { [oauth.allowInsecureRequests]: true }; // loopback, without TLS
const client = { client_id: clientId };
const at = new URL(issuer);
const discovery = await oauth.discoveryRequest(at, { algorithm: 'oauth2', ...insecure });
const server = await oauth.processDiscoveryResponse(at, discovery);
check(server.issuer === issuer, 'discovery: the metadata names its own issuer (RFC 8414 section 3.3)');
const methods = { client_secret_basic: oauth.ClientSecretBasic(clientSecret), client_secret_post: oauth.ClientSecretPost(clientSecret) };
for (const method of Object.keys(methods)) {
  for (const endpoint of ['token', 'revocation', 'introspection']) {
    const offered = server[`${endpoint}_endpoint_auth_methods_supported`] ?? ['client_secret_basic'];
    check(offered.includes(method), `discovery: ${method} is offered at the ${endpoint} endpoint`);
  }
}
for (const grant of ['refresh_token', 'client_credentials']) {
  check(server.grant_types_supported?.includes(grant), `discovery: the grant ${grant} is offered`);
}

const refresh = async (auth, token) =>
  oauth.processRefreshTokenResponse(server, client, await oauth.refreshTokenGrantRequest(server, client, auth, token, insecure));
const introspect = async (auth, token) =>
  oauth.processIntrospectionResponse(server, client, await oauth.introspectionRequest(server, client, auth, token, insecure));
const revoke = async (auth, token) =>
  oauth.processRevocationResponse(await oauth.revocationRequest(server, client, auth, token, insecure));
const refused = async (attempt, code, what) => {
  const error = await rejection(attempt, what);
  check(error instanceof oauth.ResponseBodyError && error.error === code, `${what}: ${error.error ?? error.code ?? error.name}`);
  return error;
};

for (const [method, auth] of Object.entries(methods)) {
  const opened = await openSession('dave', 'read write');
  const renewed = await refresh(auth, opened.refresh_token);
  check(renewed.refresh_token !== opened.refresh_token, `${method}: refreshed, with a new refresh token`);
  check(renewed.token_type === 'bearer', `${method}: a bearer token`); // the library writes it in lower case
  check((await refresh(auth, opened.refresh_token)).refresh_token === renewed.refresh_token, `${method}: a retry gets the same`);

  const told = await introspect(auth, renewed.access_token);
  check(told.active === true && told.sub === 'dave' && told.scope === 'read write', `${method}: introspection tells of it`);
  await revoke(auth, renewed.access_token);
  check((await introspect(auth, renewed.access_token)).active === false, `${method}: an access token is revoked alone`);
  const last = await refresh(auth, renewed.refresh_token);
  await revoke(auth, last.refresh_token);
  check((await introspect(auth, last.access_token)).active === false, `${method}: a refresh token takes its session along`);
  await refused(refresh(auth, last.refresh_token), 'invalid_grant', `${method}: and is refused`);
}

const basic = methods.client_secret_basic;
const wrong = oauth.ClientSecretBasic('not-the-secret');
const opened = await openSession('dave', 'read');
const challenge = await rejection(refresh(wrong, opened.refresh_token), 'a wrong secret is refused');
check(challenge instanceof oauth.WWWAuthenticateChallengeError && challenge.status === 401, 'a wrong secret by Basic: 401 and a challenge');
check(challenge.cause[0]?.scheme === 'basic', 'whose scheme is Basic (RFC 6749 section 5.2)');
const refusal = await rejection(refresh(oauth.ClientSecretPost('not-the-secret'), opened.refresh_token), 'a wrong secret is refused');
check(refusal.error === 'invalid_client' || refusal.status === 401, 'a wrong secret in the body: invalid_client');

const granted = await oauth.processClientCredentialsResponse(
  server, client, await oauth.clientCredentialsGrantRequest(server, client, basic, { scope: 'read' }, insecure),
);
check(granted.refresh_token === undefined, 'client_credentials: a token, and no refresh token');

// Reuse: while the successor's window is open the answer is 503 and nothing changes, so the wait ends by itself.
await refresh(basic, (await refresh(basic, opened.refresh_token)).refresh_token);
const deadline = Date.now() + retryWindow + 10_000;
let reuse;
do {
  await pause(100);
  reuse = await rejection(refresh(basic, opened.refresh_token), 'reuse is refused');
} while (reuse.error !== 'invalid_grant' && Date.now() < deadline);
check(reuse instanceof oauth.ResponseBodyError && reuse.error === 'invalid_grant', `reuse is invalid_grant: ${reuse.error ?? reuse.code}`);
