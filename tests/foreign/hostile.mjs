// Shows the hostile tokens on stdin to the verifiers of Node; prints what each says of each, as JSON.
import { readFileSync } from 'node:fs';
import { createLocalJWKSet } from 'jose';
import { jose, oauth4webapi, ownError } from './verifiers.mjs';

const { issuer, audience, now, jwks, vectors } = JSON.parse(readFileSync(0, 'utf8'));
// The tokens lie on the edges of their times: every verifier is asked as of the moment they were made for.
globalThis.Date = class extends Date {
  constructor(...at) {
    super(...(at.length ? at : [now * 1000]));
  }
  static now() {
    return now * 1000;
  }
};
const verifiers = {
  jose: jose(createLocalJWKSet(jwks), issuer, audience),
  oauth4webapi: oauth4webapi({ issuer, jwks_uri: 'http://localhost/unused' }, audience, jwks),
};

const answers = {};
for (const [library, verify] of Object.entries(verifiers)) {
  answers[library] = {};
  for (const { name, token } of vectors) {
    answers[library][name] = await verify(token).then(
      () => 'accepts',
      (error) => (ownError(error) ? 'refuses' : error.name),
    );
  }
}
console.log(JSON.stringify(answers));
