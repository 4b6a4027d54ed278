// jose (createRemoteJWKSet, typ at+jwt) and oauth4webapi (RFC 9068) verify tokens of the running server.
import { createRemoteJWKSet } from 'jose';
import { check, rejection } from './checks.mjs';
import { clientId, issuer, jwksUri, openSession } from './server.mjs';
import { jose, oauth4webapi, ownError } from './verifiers.mjs';

const opened = await openSession('carol', 'read');
const keys = createRemoteJWKSet(new URL(jwksUri));
const server = { issuer, jwks_uri: jwksUri };
const [header, claims, signature] = opened.access_token.split('.');
const flipped = [header, claims, (signature[0] === 'A' ? 'B' : 'A') + signature.slice(1)].join('.');

const refuses = async (verify, token, what) => check(ownError(await rejection(verify(token), what)), what);

for (const [name, by] of Object.entries({
  jose: (issuer, audience) => jose(keys, issuer, audience),
  oauth4webapi: (issuer, audience) => oauth4webapi({ ...server, issuer }, audience),
})) {
  const told = await by(issuer, 'api')(opened.access_token);
  check(told.sub === 'carol' && told.client_id === clientId, `${name}: verifies our token from our JWKS URL`);
  check(told.sid === opened.session_id, `${name}: reads its session`);
  check(told.exp - told.iat === opened.expires_in, `${name}: lives as long as was said`);
  await refuses(by(issuer, 'api'), flipped, `${name}: refuses it with a bit flipped`);
  await refuses(by(issuer, 'another'), opened.access_token, `${name}: refuses it for another audience`);
  await refuses(by('https://another.example', 'api'), opened.access_token, `${name}: refuses it from another issuer`);
}
