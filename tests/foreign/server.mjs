// The server under test, as its environment tells of it. Nothing here prints a token.
import { check } from './checks.mjs';

export const issuer = process.env.RESCIND_ISSUER;
export const jwksUri = process.env.RESCIND_JWKS_URI;
export const clientId = process.env.RESCIND_CLIENT_ID;
export const clientSecret = process.env.RESCIND_CLIENT_SECRET;
export const retryWindow = Number(process.env.RESCIND_RETRY_WINDOW_SECONDS) * 1000;

// Opens a session as a login application would.
export const openSession = async (subject, scope) => {
  const answer = await fetch(`${issuer}/v1/sessions`, {
    method: 'POST',
    headers: {
      authorization: `Basic ${Buffer.from(`${clientId}:${clientSecret}`).toString('base64')}`,
      'content-type': 'application/json',
    },
    body: JSON.stringify({ subject, audience: ['api'], scope }),
  });
  if (answer.status !== 201) check(false, `a session is opened: ${answer.status}`);
  return answer.json();
};
