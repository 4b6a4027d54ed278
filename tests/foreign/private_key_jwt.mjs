// private_key_jwt (RFC 7523) as oauth4webapi makes it, with all of its own defaults.
import { readFileSync } from 'node:fs';
import { createPrivateKey } from 'node:crypto';
import * as oauth from 'oauth4webapi';
import { check } from './checks.mjs';

const issuer = process.env.RESCIND_ISSUER;
const insecure = { [oauth.allowInsecureRequests]: true }; // loopback, without TLS
const client = { client_id: 'worker' };
const at = new URL(issuer);
const server = await oauth.processDiscoveryResponse(at, await oauth.discoveryRequest(at, { algorithm: 'oauth2', ...insecure }));
check(server.token_endpoint_auth_methods_supported.includes('private_key_jwt'), 'discovery: private_key_jwt is offered');

const pkcs8 = createPrivateKey(readFileSync(`${process.env.RESCIND_PLACE}/worker.pem`)).export({ type: 'pkcs8', format: 'der' });
const key = await crypto.subtle.importKey('pkcs8', pkcs8, 'Ed25519', false, ['sign']);
const auth = oauth.PrivateKeyJwt({ key, kid: 'worker-1' });
const answer = await oauth.clientCredentialsGrantRequest(server, client, auth, new URLSearchParams(), insecure);
const token = await oauth.processClientCredentialsResponse(server, client, answer);
check(token.token_type === 'bearer', 'a token for an assertion');
const told = await oauth.processIntrospectionResponse(
  server, client, await oauth.introspectionRequest(server, client, auth, token.access_token, insecure));
check(told.active === true, 'introspection by an assertion');
