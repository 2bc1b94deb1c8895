// Budgets, limits, the fleet, and where the log goes.

import { legend, parts } from './charts.js';
import { card, count, el, lasted, millis, moment, soft, table, tag, usd, words } from './dom.js';

export const name = 'Budgets and limits';

export const paths = () => ({
  budgets: '/api/v1/budgets',
  limits: '/api/v1/limits',
  status: '/api/v1/status',
  sinks: '/api/v1/sinks',
  events: '/api/v1/events',
});

const SPENT = [['main', 'spent'], ['warn', 'set aside or uncertain'], ['bar', 'left']];

function used(counter) {
  const held = Number(counter.reserved_usd) + Number(counter.uncertain_usd) + Number(counter.lost_usd);
  const values = [Number(counter.spent_usd), held, Math.max(0, Number(counter.left_usd))];
  return parts(SPENT.map(([kind, name], index) => [kind, name, values[index]]));
}

function budgets({ budgets }) {
  const rows = budgets.budgets.flatMap((budget) => budget.counters.map((counter) => ({ budget, counter })));
  const trouble = budgets.fault ?? budgets.fleet?.trouble;
  return card('Budgets',
    trouble ? el('p', { class: 'bad' }, trouble) : null,
    table([
      ['Budget', ({ budget }) => `${budget.name} (${budget.window}, ${budget.enforce})`],
      ['Of', ({ counter }) => counter.unit],
      ['', ({ counter }) => used(counter)],
      ['Spent', ({ counter }) => usd(counter.spent_usd), 'number'],
      ['Left', ({ counter }) => el('span', { class: Number(counter.left_usd) <= 0 ? 'bad' : '' }, usd(counter.left_usd)), 'number'],
      ['Limit', ({ counter }) => usd(counter.limit_usd), 'number'],
      ['Held back', ({ counter }) => count(counter.held_back), 'number'],
      ['Ends', ({ counter }) => (counter.until ? moment(counter.until) : 'never')],
    ], rows, budgets.budgets.length ? 'Nothing was counted yet.' : 'There are no budgets.'),
    rows.length ? legend(SPENT) : null);
}

function limits({ limits }) {
  const refused = (limit) => words(limit.refused.map((one) => `${one.why} ${count(one.calls)}`));
  return card('Limits',
    limits.fleet?.problem ? el('p', { class: 'bad' }, limits.fleet.problem) : null,
    table([
      ['Limit', (limit) => `${limit.name} (${limit.scope})`],
      ['Allows', (limit) => words([limit.requests && `${limit.requests} requests`, limit.tokens && `${limit.tokens} tokens`, limit.concurrency && `${limit.concurrency} at a time`].filter(Boolean))],
      ['Let through', (limit) => count(limit.admitted), 'number'],
      ['Waited', (limit) => `${count(limit.waited)}, ${millis(limit.wait_ms_mean ?? 0)} each`, 'number'],
      ['Waiting', (limit) => count(limit.waiting), 'number'],
      ['Refused', (limit) => refused(limit)],
    ], limits.limits, 'There are no limits.'),
    el('h3', {}, 'Under way'),
    table([
      ['Tier', (tier) => tier.tier],
      ['Requests', (tier) => count(tier.requests), 'number'],
      ['Bytes', (tier) => count(tier.bytes), 'number'],
      ['Turned away: high, medium, low', (tier) => tier.shed.map(count).join(', '), 'number'],
    ], limits.load, ''));
}

function fleet({ status }) {
  if (!status.fleet) return card('Fleet', soft('This instance is alone.'));
  const { name, instance, connected, silent, members } = status.fleet;
  const state = connected && !silent ? tag('hears the others', 'good') : tag(connected ? 'has heard nothing for a second' : 'its Redis does not answer', 'bad');
  return card(`Fleet ${name}`, el('p', {}, state, ` this is ${instance}; heard of: ${words(members)}`));
}

function sinks({ sinks, events }) {
  const state = (problem) => (problem ? el('span', { class: 'bad wrap' }, problem) : tag('works', 'good'));
  const problem = (sink) => sink.problem ?? (sink.breaker_open ? sink.last_fault ?? 'it does not answer' : null);
  const rows = [
    ...(sinks ?? []).map((sink) => [`sink ${sink.name} (${sink.kind})`, `${count(sink.rows)} rows, ${lasted(sink.lag_s)} behind`, state(problem(sink))]),
    ...(events ?? []).map((source) => [`source ${source.name} (${source.kind})`, `${count(source.events)} events, ${count(source.gaps)} gaps`, state(source.down ? 'it is down' : null)]),
  ];
  return card('Sinks and sources', table([['Name', (row) => row[0]], ['', (row) => row[1]], ['', (row) => row[2]]], rows, 'There are none.'));
}

export const draw = (data) => [budgets(data), limits(data), el('div', { class: 'two' }, fleet(data), sinks(data))];
