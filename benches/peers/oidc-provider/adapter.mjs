// A Redis adapter for node-oidc-provider, of the shape that its documentation describes: one key a model, what can be
// consumed as a hash, and a list of what belongs to a grant.
import Redis from 'ioredis';

const CONSUMABLE = new Set([
  'AuthorizationCode', 'RefreshToken', 'DeviceCode', 'BackchannelAuthenticationRequest',
]);
const OF_A_GRANT = new Set(['AccessToken', ...CONSUMABLE]);

export function adapterOn(url) {
  const redis = new Redis(url);
  const members = (grant) => `oidc:grant:${grant}`;
  return class Adapter {
    constructor(model) {
      this.model = model;
    }

    key(id) {
      return `oidc:${this.model}:${id}`;
    }

    async upsert(id, payload, expiresIn) {
      const key = this.key(id);
      const step = redis.multi();
      const text = JSON.stringify(payload);
      if (CONSUMABLE.has(this.model)) step.hset(key, { payload: text });
      else step.set(key, text);
      if (expiresIn) step.expire(key, expiresIn);
      if (OF_A_GRANT.has(this.model) && payload.grantId) {
        const list = members(payload.grantId);
        step.rpush(list, key);
        if (expiresIn) step.expire(list, expiresIn);
      }
      await step.exec();
    }

    async find(id) {
      const key = this.key(id);
      if (!CONSUMABLE.has(this.model)) {
        const text = await redis.get(key);
        return text ? JSON.parse(text) : undefined;
      }
      const { payload, consumed } = await redis.hgetall(key);
      if (!payload) return undefined;
      return { ...JSON.parse(payload), ...(consumed ? { consumed: Number(consumed) } : {}) };
    }

    async consume(id) {
      await redis.hset(this.key(id), 'consumed', Math.floor(Date.now() / 1000));
    }

    async destroy(id) {
      await redis.del(this.key(id));
    }

    async revokeByGrantId(grant) {
      const list = members(grant);
      const step = redis.multi();
      for (const key of await redis.lrange(list, 0, -1)) step.del(key);
      step.del(list);
      await step.exec();
    }
  };
}
