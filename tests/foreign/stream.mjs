// Verifies each token on its standard input as it comes, with jose and jose's own client of the key set.
// One line back for each: `ok`, or why not. The cache of the key set is as long as the environment says; all else about
// it is as jose has it.
import { createInterface } from 'node:readline';
import { createRemoteJWKSet } from 'jose';
import { issuer, jwksUri } from './server.mjs';
import { jose } from './verifiers.mjs';

const cacheMaxAge = Number(process.env.RESCIND_CACHE_SECONDS) * 1000;
const verify = jose(createRemoteJWKSet(new URL(jwksUri), { cacheMaxAge }), issuer, 'api');
for await (const token of createInterface({ input: process.stdin })) {
  const said = await verify(token).then(
    () => 'ok',
    (error) => `${error.code}: ${error.message}`,
  );
  console.log(said);
}
