// Does it work at all? One buyer's whole way: look, reserve, ask again, read, cancel.
import http from 'k6/http';
import { check, sleep } from 'k6';
import { BASE, always, codeOf, makeSale, reserve, settle } from './lib/floodgate.js';

export const options = {
  scenarios: { smoke: { executor: 'per-vu-iterations', vus: 1, iterations: 5, maxDuration: '30s' } },
  thresholds: { ...always, http_req_duration: ['p(99)<500'] },
};

export const setup = () => makeSale('smoke', 100);

export default function smoke(sale) {
  const user = `smoke-${__ITER}`;
  const asUser = { headers: { 'X-User-Id': user } };
  check(http.get(`${BASE}/v1/sales/${sale.id}`), { 'the sale is open': (r) => r.json('state') === 'open' });

  const first = reserve(sale, user, 'k1');
  check(first, {
    '201': (r) => r.status === 201,
    'says where': (r) => r.headers.Location === `/v1/reservations/${r.json('reservation_id')}`,
  });
  check(reserve(sale, user, 'k1'), {
    'the same again is the same': (r) => r.status === 201 && r.body === first.body
      && r.headers['Idempotent-Replayed'] === 'true',
  });
  check(reserve(sale, user, 'k2'), { 'no second one': (r) => r.status === 409 && codeOf(r) === 'limit-reached' });

  const place = BASE + first.headers.Location;
  check(http.get(place, asUser), { 'it can be read at once': (r) => r.json('status') === 'held' });
  let order;
  for (let look = 0; look < 50; look += 1) {
    order = http.get(`${BASE}/v1/orders/${first.json('reservation_id')}`, {
      ...asUser, responseCallback: http.expectedStatuses(200, 404),
    });
    if (order.status === 200) break;
    sleep(0.1);
  }
  check(order, { 'it becomes an order': (r) => r.status === 200 && r.json('status') === 'pending_payment' });
  check(http.del(place, null, asUser), { 'it can be cancelled': (r) => r.json('status') === 'cancelled' });
}

export function teardown(sale) {
  const item = settle(sale);
  check(item, { 'everything is back': (i) => i.available === i.stock });
}
