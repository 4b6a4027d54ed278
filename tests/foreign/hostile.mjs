// Shows the hostile tokens on stdin to the verifiers of Node; prints which names each of them accepts, as JSON.
import { readFileSync } from 'node:fs';
import { createLocalJWKSet } from 'jose';
import { jose, oauth4webapi, ownError } from './verifiers.mjs';

const { issuer, audience, jwks, vectors } = JSON.parse(readFileSync(0, 'utf8'));
const verifiers = {
  jose: jose(createLocalJWKSet(jwks), issuer, audience),
  oauth4webapi: oauth4webapi({ issuer, jwks_uri: 'http://localhost/unused' }, audience, jwks),
};

const accepts = {};
for (const [library, verify] of Object.entries(verifiers)) {
  accepts[library] = [];
  for (const { name, token } of vectors) {
    try {
      await verify(token);
      accepts[library].push(name);
    } catch (error) {
      if (!ownError(error)) console.error(`note: ${library} meets ${name} with ${error.name}, not with an error of its own`);
    }
  }
}
console.log(JSON.stringify(accepts));
