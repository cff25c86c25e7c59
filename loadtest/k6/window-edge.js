// Requests before, while and after a sale is open: nothing is held outside its window, by the ledger's clock.
import exec from 'k6/execution';
import { check } from 'k6';
import { always, makeSale, number, reserve, settle } from './lib/floodgate.js';

export const options = {
  scenarios: {
    edges: {
      executor: 'constant-arrival-rate',
      rate: number('RATE', 500), timeUnit: '1s', duration: '9s',
      preAllocatedVUs: number('VUS', 100), maxVUs: number('VUS', 100),
    },
  },
  thresholds: {
    ...always,
    floodgate_reserved: ['count>0'],
    floodgate_not_open: ['count>0'],
    floodgate_closed: ['count>0'],
  },
};

export function setup() {
  const opens = Date.now() + 3000;
  const window = { opens_at: new Date(opens).toISOString(), closes_at: new Date(opens + 3000).toISOString() };
  return { ...makeSale('window', 1000000, window), opens, closes: opens + 3000 };
}

export default function edges(sale) {
  const answer = reserve(sale, `edge-${exec.scenario.iterationInTest}`);
  if (answer.status !== 201) return;
  const held = Date.parse(answer.json('held_at'));
  check(held, { 'held within the window': (at) => at >= sale.opens && at < sale.closes });
}

export const teardown = (sale) => settle(sale);
