// More and more until it is too much: the run ends by itself at the first second in which answers come too late
// or k6 cannot keep up (exit code 99: that is the finding, not a failure). k6 itself needs several times the CPU
// of the gateway, so on one machine it is k6 that breaks; `floodgate-loadtest` goes further.
import exec from 'k6/execution';
import { always, makeSale, number, reserve, settle } from './lib/floodgate.js';

const stop = (threshold) => [{ threshold, abortOnFail: true, delayAbortEval: '2s' }];

export const options = {
  scenarios: {
    more: {
      executor: 'ramping-arrival-rate',
      startRate: number('FROM', 200), timeUnit: '1s',
      preAllocatedVUs: number('VUS', 500), maxVUs: number('VUS', 500),
      stages: [{ target: number('TO', 20000), duration: __ENV.DURATION || '60s' }],
    },
  },
  thresholds: {
    ...always,
    dropped_iterations: stop('count==0'),
    'http_req_duration{name:reserve}': stop(`p(99)<${number('P99_MS', 250)}`),
  },
};

export const setup = () => makeSale('breakpoint', 100000000);

export default function more(sale) {
  reserve(sale, `more-${exec.scenario.iterationInTest}`, 'k');
}

export const teardown = (sale) => settle(sale);
