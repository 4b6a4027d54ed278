// node-oidc-provider as its users run it for this job: refresh tokens rotate, access tokens are JWTs signed with EdDSA,
// everything is kept in Redis.  node server.mjs redis://127.0.0.1:6379
// Says where it serves in the words of `rescind dev --json`, and opens sessions at /v1/sessions, so that the same load
// can be put on both.
import { createServer } from 'node:http';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import Provider from 'oidc-provider';
import { adapterOn } from './adapter.mjs';

const API = 'https://api.example';
const [, , redis] = process.argv;
const secret = randomBytes(32).toString('base64url');
const key = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });

const server = createServer();
// Clients keep their connections while the others have their turn.
server.keepAliveTimeout = 0;
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  adapter: adapterOn(redis),
  clients: [{
    client_id: 'bench',
    client_secret: secret,
    grant_types: ['authorization_code', 'refresh_token'],
    redirect_uris: ['https://app.example/callback'],
    id_token_signed_response_alg: 'EdDSA',
    token_endpoint_auth_method: 'client_secret_basic',
  }],
  cookies: { keys: [randomBytes(16).toString('hex')] },
  features: {
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => API,
      useGrantedResource: () => true,
      getResourceServerInfo: () => ({
        scope: 'read', audience: API, accessTokenFormat: 'jwt', accessTokenTTL: 300, jwt: { sign: { alg: 'EdDSA' } },
      }),
    },
  },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  jwks: { keys: [{ ...key, use: 'sig', alg: 'EdDSA', kid: 'bench' }] },
  rotateRefreshToken: true,
  routes: { token: '/oauth2/token' },
  scopes: ['openid', 'offline_access', 'read'],
  ttl: { AccessToken: 300, RefreshToken: 86_400, Grant: 86_400 },
});
provider.proxy = false;

async function openSession(request, response) {
  let body = '';
  for await (const part of request) body += part;
  const { subject } = JSON.parse(body);
  const client = await provider.Client.find('bench');
  const grant = new provider.Grant({ accountId: subject, clientId: 'bench' });
  grant.addResourceScope(API, 'read');
  const grantId = await grant.save();
  const token = new provider.RefreshToken({
    client, accountId: subject, grantId, scope: 'read', resource: API, gty: 'authorization_code',
    authTime: Math.floor(Date.now() / 1000),
  });
  const answer = JSON.stringify({ access_token: '', refresh_token: await token.save() });
  response.writeHead(201, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) });
  response.end(answer);
}

const oidc = provider.callback();
server.on('request', (request, response) => {
  if (request.url === '/v1/sessions') openSession(request, response).catch((problem) => response.destroy(problem));
  else oidc(request, response);
});
console.log(JSON.stringify({ issuer, client_id: 'bench', client_secret: secret }));
