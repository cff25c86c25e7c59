// Every buyer sends the same request five times at once, with one key: one reservation, one answer.
import exec from 'k6/execution';
import { check } from 'k6';
import { always, makeSale, number, reserveTogether, settle } from './lib/floodgate.js';

export const options = {
  scenarios: {
    storm: {
      executor: 'constant-arrival-rate',
      rate: number('RATE', 150), timeUnit: '1s', duration: __ENV.DURATION || '10s',
      preAllocatedVUs: number('VUS', 100), maxVUs: number('VUS', 100),
    },
  },
  thresholds: { ...always, floodgate_replayed: ['count>0'] },
};

export const setup = () => makeSale('duplicates', 1000000);

export default function storm(sale) {
  const answers = reserveTogether(sale, `double-${exec.scenario.iterationInTest}`, 'k', 5);
  const won = answers.filter((answer) => answer.status === 201);
  check(won, {
    'somebody is answered 201': (all) => all.length > 0,
    'all of them have the same answer': (all) => all.every((answer) => answer.body === all[0].body),
    'one of them is the first': (all) => all.filter((a) => !a.headers['Idempotent-Replayed']).length <= 1,
  });
}

export const teardown = (sale) => settle(sale);
