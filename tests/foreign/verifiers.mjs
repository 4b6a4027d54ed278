// How a Node service checks our access tokens: one function per library; each rejects when the token is no good.
import { errors, jwtVerify } from 'jose';
import * as oauth from 'oauth4webapi';

const leeway = 60; // seconds: the most that ours allows
const eddsa = ['EdDSA'];
const required = ['iss', 'sub', 'aud', 'exp', 'iat', 'jti', 'client_id'];

// `keys` is what createRemoteJWKSet or createLocalJWKSet gave.
export const jose = (keys, issuer, audience, algorithms = eddsa) => async (token) => {
  const options = { issuer, audience, algorithms, typ: 'at+jwt', requiredClaims: required, clockTolerance: leeway };
  return (await jwtVerify(token, keys, options)).payload;
};

// The resource server's half of RFC 9068, as oauth4webapi has it; `jwks` saves it the request for the keys.
export const oauth4webapi = (server, audience, jwks, algorithms = eddsa) => async (token) => {
  const request = new Request('http://localhost/', { headers: { authorization: `Bearer ${token}` } });
  const cache = jwks && { [oauth.jwksCache]: { jwks, uat: Math.floor(Date.now() / 1000) } };
  const options = { signingAlgorithms: algorithms, [oauth.clockTolerance]: leeway, [oauth.allowInsecureRequests]: true, ...cache };
  return oauth.validateJwtAccessToken(server, request, audience, options);
};

// What the libraries throw for a bad token; anything else is a surprise to the service that calls them.
export const ownError = (error) =>
  error instanceof errors.JOSEError ||
  error instanceof oauth.OperationProcessingError ||
  error instanceof oauth.UnsupportedOperationError;
