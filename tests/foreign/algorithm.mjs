// What the verifiers of Node say of one token, told these algorithms: prints `accepts` or `refuses` by library, as JSON.
import { readFileSync } from 'node:fs';
import { createLocalJWKSet } from 'jose';
import { jose, oauth4webapi, ownError } from './verifiers.mjs';

const { issuer, audience, jwks, token, algorithms } = JSON.parse(readFileSync(0, 'utf8'));
const server = { issuer, jwks_uri: 'http://localhost/unused' };
const answers = {};
for (const [library, verify] of Object.entries({
  jose: jose(createLocalJWKSet(jwks), issuer, audience, algorithms),
  oauth4webapi: oauth4webapi(server, audience, jwks, algorithms),
})) {
  answers[library] = await verify(token).then(
    () => 'accepts',
    (error) => (ownError(error) ? 'refuses' : error.name),
  );
}
console.log(JSON.stringify(answers));
