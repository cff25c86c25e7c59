// A hundred units and a flood: exactly a hundred are sold, and the others are told so at once.
import exec from 'k6/execution';
import { check } from 'k6';
import { always, makeSale, number, reserve, settle } from './lib/floodgate.js';

const stock = number('STOCK', 100);

export const options = {
  scenarios: {
    flood: {
      executor: 'constant-arrival-rate',
      rate: number('RATE', 1500), timeUnit: '1s', duration: __ENV.DURATION || '10s',
      preAllocatedVUs: number('VUS', 300), maxVUs: number('VUS', 300),
    },
  },
  thresholds: {
    ...always,
    floodgate_reserved: [`count==${stock}`],
    floodgate_sold_out: ['count>0'],
    'http_req_duration{name:reserve}': [`p(99)<${number('P99_MS', 100)}`],
  },
};

export const setup = () => makeSale('sold-out', stock);

export default function flood(sale) {
  reserve(sale, `flood-${exec.scenario.iterationInTest}`);
}

export function teardown(sale) {
  check(settle(sale), { 'the last unit is sold': (item) => item.available === 0 });
}
