// What all scripts share: a sale of their own, a reservation, and what counts as an answer.
// Configured by -e NAME=value: BASE_URL, OPS_URL, ADMIN_TOKEN, and what each script says.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { Counter } from 'k6/metrics';

export const BASE = __ENV.BASE_URL || 'http://127.0.0.1:8080';
export const OPS = __ENV.OPS_URL || 'http://127.0.0.1:9090';
export const ITEM = 'sku-1';

// Refusals are what a sale is made of: they are no failures of HTTP.
http.setResponseCallback(http.expectedStatuses(200, 201, 403, 409, 410, 429, 503));

export const reserved = new Counter('floodgate_reserved');
export const replayed = new Counter('floodgate_replayed');
export const refused = {
  'sold-out': new Counter('floodgate_sold_out'),
  'limit-reached': new Counter('floodgate_limit_reached'),
  'sale-not-open': new Counter('floodgate_not_open'),
  'sale-closed': new Counter('floodgate_closed'),
  'rate-limited': new Counter('floodgate_rate_limited'),
  overloaded: new Counter('floodgate_shed'),
};
export const strange = new Counter('floodgate_strange');

// A number of an environment variable.
export const number = (name, otherwise) => (__ENV[name] === undefined ? otherwise : Number(__ENV[name]));

// Thresholds that hold for every script: nobody got an answer that the contract does not know, the generator
// kept up, and ledger and stock agree at the end.
export const always = {
  floodgate_strange: ['count==0'],
  dropped_iterations: ['count==0'],
  checks: ['rate==1'],
  http_req_failed: ['rate==0'],
};

const operator = () => ({
  headers: { Authorization: `Bearer ${__ENV.ADMIN_TOKEN}`, 'Content-Type': 'application/json' },
  tags: { name: 'ops' },
});

// Makes a sale and opens it, unless it has a window. `more` may have opens_at, closes_at, per_user_limit.
export function makeSale(name, stock, more = {}) {
  const id = `k6-${name}-${Date.now()}`;
  const sale = {
    id, title: name, hold_seconds: 600, per_user_limit: 1, ...more,
    items: [{ id: ITEM, title: 'Unit', price: 1999, currency: 'EUR', stock }],
  };
  const made = http.post(`${OPS}/admin/v1/sales`, JSON.stringify(sale), operator());
  if (made.status !== 201) {
    throw new Error(`the sale was not made: ${made.status} ${made.body} (is ADMIN_TOKEN set?)`);
  }
  if (!more.opens_at) {
    http.post(`${OPS}/admin/v1/sales/${id}/open`, null, operator());
  }
  return { id, stock };
}

// Asks for one unit. `key` may be left out.
export function reserve(sale, user, key, quantity = 1) {
  return count(http.post(...request(sale, user, key, quantity)));
}

// The same request as many times at once.
export function reserveTogether(sale, user, key, times) {
  const [url, body, params] = request(sale, user, key, 1);
  const all = Array.from({ length: times }, () => ({ method: 'POST', url, body, params }));
  return http.batch(all).map(count);
}

function request(sale, user, key, quantity) {
  const headers = { 'X-User-Id': user, 'Content-Type': 'application/json' };
  if (key) headers['Idempotency-Key'] = key;
  const url = `${BASE}/v1/sales/${sale.id}/reservations`;
  return [url, JSON.stringify({ item_id: ITEM, quantity }), { headers, tags: { name: 'reserve' } }];
}

function count(answer) {
  if (answer.status === 201) {
    (answer.headers['Idempotent-Replayed'] ? replayed : reserved).add(1);
    return answer;
  }
  const counter = refused[codeOf(answer)];
  (counter || strange).add(1);
  if (!counter) console.warn(`strange: ${answer.status} ${answer.error} ${answer.body}`);
  return answer;
}

export function codeOf(answer) {
  try {
    return answer.json('code');
  } catch (_) {
    return undefined;
  }
}

// At the end: waits for the writer, and checks that no unit was made or lost.
export function settle(sale) {
  let view;
  for (let look = 0; look < 120; look += 1) {
    view = http.get(`${OPS}/admin/v1/sales/${sale.id}`, operator()).json();
    if (view.outbox_length === 0) break;
    sleep(0.5);
  }
  const item = view.items[0];
  check(view, {
    'the writer is done': (v) => v.outbox_length === 0,
    'no oversell': () => item.held + item.confirmed <= sale.stock && item.available >= 0,
    'no unit made or lost': () => item.available + item.held + item.confirmed === item.stock,
  });
  return item;
}
