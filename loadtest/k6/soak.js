// A steady load for a long time: does anything grow that should not? Watch RSS and the backlog beside it.
import exec from 'k6/execution';
import { always, makeSale, number, reserve, settle } from './lib/floodgate.js';

export const options = {
  scenarios: {
    soak: {
      executor: 'constant-arrival-rate',
      rate: number('RATE', 500), timeUnit: '1s', duration: __ENV.DURATION || '30m',
      preAllocatedVUs: number('VUS', 100), maxVUs: number('VUS', 100),
    },
  },
  thresholds: { ...always, 'http_req_duration{name:reserve}': [`p(99)<${number('P99_MS', 100)}`] },
};

export const setup = () => makeSale('soak', 100000000);

export default function soak(sale) {
  reserve(sale, `soak-${exec.scenario.iterationInTest}`, 'k');
}

export const teardown = (sale) => settle(sale);
