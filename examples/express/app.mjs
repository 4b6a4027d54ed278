// An Express service that takes our access tokens: jose checks them, the sidecar says whether they were taken back.
//
//     npm install express jose
//     ISSUER=https://issuer.example SIDECAR=http://127.0.0.1:8081 node app.mjs
import express from 'express';
import { createRemoteJWKSet, errors, jwtVerify } from 'jose';

const { ISSUER, SIDECAR, AUDIENCE = 'api', PORT = '8000' } = process.env;
const keys = createRemoteJWKSet(new URL(`${ISSUER}/.well-known/jwks.json`));

// Express answers with the status and headers of what is thrown.
const refusal = (status, error, headers) => Object.assign(new Error(error), { status, headers, expose: true });
const unauthorized = () =>
  refusal(401, 'invalid_token', { 'WWW-Authenticate': 'Bearer error="invalid_token"' });
const unavailable = (retryAfter) =>
  refusal(503, 'temporarily_unavailable', { 'Retry-After': retryAfter ?? '1' });

// jose's words for "these keys could not be had"; its other errors are about the token.
const aboutKeys = ['ERR_JOSE_GENERIC', 'ERR_JWKS_TIMEOUT', 'ERR_JWKS_INVALID'];

// The claims of a token that the issuer signed for us.
const verified = async (token) => {
  try {
    const wanted = { issuer: ISSUER, audience: AUDIENCE, algorithms: ['EdDSA'], typ: 'at+jwt' };
    return (await jwtVerify(token, keys, wanted)).payload;
  } catch (error) {
    if (error instanceof errors.JOSEError && !aboutKeys.includes(error.code)) throw unauthorized();
    throw unavailable(); // nothing is known against the token
  }
};

const sidecarSays = async (token) => {
  try {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch(SIDECAR, { headers, redirect: 'manual', signal: AbortSignal.timeout(1000) });
    await answer.arrayBuffer(); // read to its end, the connection is used again
    return answer;
  } catch {
    throw unavailable();
  }
};

const refuseIfRevoked = async (token, subject) => {
  const answer = await sidecarSays(token);
  if (answer.status === 401) throw unauthorized();
  // The subject shows that it was the sidecar, and not whatever else listens there, that said 200.
  const named = decodeURIComponent(answer.headers.get('x-auth-subject') ?? '');
  if (answer.status !== 200 || named !== subject) throw unavailable(answer.headers.get('retry-after'));
};

const requireToken = (scope) => async (request, _response, next) => {
  const token = /^Bearer +([^ ]+)$/i.exec(request.get('authorization') ?? '')?.[1];
  if (!token) throw refusal(401, 'unauthorized', { 'WWW-Authenticate': 'Bearer' });
  const claims = await verified(token);
  await refuseIfRevoked(token, claims.sub);
  if (!(claims.scope ?? '').split(' ').includes(scope)) {
    const challenge = `Bearer error="insufficient_scope", scope="${scope}"`;
    throw refusal(403, 'insufficient_scope', { 'WWW-Authenticate': challenge });
  }
  request.token = claims;
  next();
};

const app = express();
app.get('/orders', requireToken('orders:read'), (request, response) => {
  response.json({ subject: request.token.sub });
});
app.listen(PORT, '127.0.0.1');
