// Everybody comes in the first second: from nothing to PEAK requests a second, and back.
import exec from 'k6/execution';
import { always, makeSale, number, reserve, settle } from './lib/floodgate.js';

const peak = number('PEAK', 1500);

export const options = {
  scenarios: {
    spike: {
      executor: 'ramping-arrival-rate',
      startRate: 10, timeUnit: '1s', preAllocatedVUs: number('VUS', 300), maxVUs: number('VUS', 300),
      stages: [
        { target: 10, duration: '2s' }, { target: peak, duration: '1s' }, { target: peak, duration: '5s' },
        { target: 10, duration: '1s' }, { target: 10, duration: '2s' },
      ],
    },
  },
  thresholds: {
    ...always,
    'http_req_duration{name:reserve}': [`p(99)<${number('P99_MS', 250)}`],
    floodgate_reserved: [`count==${number('STOCK', 2000)}`],
  },
};

export const setup = () => makeSale('spike', number('STOCK', 2000));

export default function spike(sale) {
  reserve(sale, `spike-${exec.scenario.iterationInTest}`, 'k');
}

export const teardown = (sale) => settle(sale);
