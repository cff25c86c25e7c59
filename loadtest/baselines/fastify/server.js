// The usual stack, well made: fastify with a schema, ioredis with auto-pipelining (commands of one turn of the
// event loop go out together), and one Lua call a reservation. The sale comes from the environment.
import { createHash, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import Fastify from 'fastify';
import { Redis } from 'ioredis';

const {
  PORT = '8081', REDIS_URL = 'redis://127.0.0.1:6379', SALE = 'bench', ITEM = 'sku-1', STOCK = '10000000',
  LIMIT = '1', HOLD_SECONDS = '600', PRICE = '1999', DURABILITY = 'memory',
} = process.env;

const redis = new Redis(REDIS_URL, { enableAutoPipelining: true, noDelay: true });
const script = readFileSync(new URL('../reserve.lua', import.meta.url), 'utf8');
redis.defineCommand('reserve', { numberOfKeys: 6, lua: script });

const keysOf = (sale) => ['sale', 'stock', 'users', 'records', 'due', 'outbox'].map((key) => `{b:${sale}}:${key}`);
const keysOfSale = new Map();
function keys(sale) {
  let known = keysOfSale.get(sale);
  if (!known) {
    known = keysOf(sale);
    if (keysOfSale.size < 1000) keysOfSale.set(sale, known);
  }
  return known;
}

const refusals = {
  'unknown-sale': [404, 'not-found', 'No such sale'],
  'sale-not-open': [403, 'sale-not-open', 'The sale is not open yet'],
  'sale-closed': [410, 'sale-closed', 'The sale is over'],
  'sale-paused': [409, 'sale-paused', 'The sale is paused'],
  'unknown-item': [422, 'unknown-item', 'No such item in this sale'],
  'invalid-quantity': [422, 'invalid-quantity', 'That many cannot be had'],
  'idempotency-key-reused': [422, 'idempotency-key-reused', 'The key was used for something else'],
  'limit-reached': [409, 'limit-reached', 'No more for this user'],
  'sold-out': [409, 'sold-out', 'Everything is taken'],
};

// The same key of the same user is the same reservation, in the form of a UUID.
function idOf(user, sale, key) {
  if (!key) return randomUUID();
  const hex = createHash('sha256').update(`${user}\0${sale}\0${key}`).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20, 32)}`;
}

const time = (ms) => new Date(ms).toISOString();
const json = 'application/json';
const problem = 'application/problem+json';

const app = Fastify({ logger: false, keepAliveTimeout: 75_000 });

app.post('/v1/sales/:sale/reservations', {
  schema: {
    params: { type: 'object', properties: { sale: { type: 'string', maxLength: 64 } } },
    headers: {
      type: 'object',
      properties: {
        'x-user-id': { type: 'string', minLength: 1, maxLength: 128 },
        'idempotency-key': { type: 'string', maxLength: 255 },
      },
      required: ['x-user-id'],
    },
    body: {
      type: 'object',
      properties: { item_id: { type: 'string', maxLength: 64 }, quantity: { type: 'integer', minimum: 1 } },
      required: ['item_id', 'quantity'],
    },
    response: {
      201: {
        type: 'object',
        properties: {
          reservation_id: { type: 'string' }, sale_id: { type: 'string' }, status: { type: 'string' },
          lines: {
            type: 'array',
            items: {
              type: 'object',
              properties: {
                item_id: { type: 'string' }, quantity: { type: 'integer' }, unit_price: { type: 'integer' },
                currency: { type: 'string' },
              },
            },
          },
          total: { type: 'integer' }, currency: { type: 'string' }, held_at: { type: 'string' },
          expires_at: { type: 'string' }, durability: { type: 'string' },
        },
      },
    },
  },
}, async (request, reply) => {
  const user = request.headers['x-user-id'];
  const { sale } = request.params;
  const { item_id: item, quantity } = request.body;
  const id = idOf(user, sale, request.headers['idempotency-key']);
  const [outcome, text] = await redis.reserve(...keys(sale), id, user, item, quantity, sale);
  reply.header('cache-control', 'no-store').header('x-content-type-options', 'nosniff')
    .header('x-request-id', request.headers['x-request-id'] ?? randomUUID());
  if (!text) {
    const [status, code, title] = refusals[outcome] ?? [500, 'internal', 'Something went wrong'];
    return reply.code(status).type(problem).serializer(JSON.stringify)
      .send({ type: `https://floodgate.dev/problems/${code}`, title, status, code });
  }
  const { held_at_ms, expires_at_ms, user_id, ...record } = JSON.parse(text);
  if (outcome === 'replayed') reply.header('idempotent-replayed', 'true');
  return reply.code(201).type(json).header('location', `/v1/reservations/${id}`).send({
    ...record, held_at: time(held_at_ms), expires_at: time(expires_at_ms), durability: DURABILITY,
  });
});

const [sale, stock] = keysOf(SALE);
await redis.hset(sale, {
  opens_at: 0, closes_at: Number.MAX_SAFE_INTEGER, paused: 0, limit: LIMIT, hold_ms: HOLD_SECONDS * 1000, price: PRICE,
});
await redis.hset(stock, ITEM, STOCK);
await app.listen({ host: '127.0.0.1', port: Number(PORT), backlog: 4096 });

process.once('SIGTERM', async () => {
  await app.close();
  redis.disconnect();
});
