// Routes: what they save, why not more, and who is asked.

import { atLeast, card, count, el, millis, ratio, share, soft, table, tag, usd, words } from './dom.js';
import { sources, sourcesLegend } from './overview.js';

export const name = 'Routes';

export const paths = () => ({ routes: '/api/v1/routes' });

const open = new Set();

function standing(route) {
  const off = route.switches.filter((one) => one.standing !== 'on').map((one) => tag(`${one.strategy} off`, 'warn'));
  const experiment = route.experiment ? tag(route.experiment, 'soft') : null;
  return [route.bypass ? tag('bypass', 'bad') : null, off, experiment];
}

function staleness(route) {
  const { totals, audit } = route;
  const audited = audit?.share ?? null, part = audited ?? ratio(totals.stale, totals.checked);
  if (part === null) return soft('not checked');
  const least = audited === null ? atLeast(totals.stale, totals.checked) : audit.low ?? 0;
  return [el('span', { class: least > route.stale_budget ? 'bad' : '' }, share(part, 2)), soft(` of ${count(audited === null ? totals.checked : audit.checked)}, may be ${share(route.stale_budget, 2)}`)];
}

const plan = (route) => (route.plan ? `${route.plan.mix || 'nothing'} (${route.plan.by})` : 'not decided yet');

function reasons(title, list) {
  return [el('h3', {}, title), table([
    ['Reason', (one) => one.reason],
    ['Requests', (one) => count(one.count), 'number'],
    ['Cost', (one) => usd(one.usd), 'number'],
    ['What would change it', (one) => [one.key ? el('code', {}, one.key) : null, one.key ? ' ' : '', one.advice]],
  ], list, 'None.')];
}

function providers(route) {
  if (route.providers.length === 0) return [];
  const asked = (one) => Object.values(one.chosen).reduce((sum, n) => sum + n, 0);
  const all = route.providers.reduce((sum, one) => sum + asked(one), 0);
  return [el('h3', {}, 'Providers'), table([
    ['Provider', (one) => one.provider],
    ['Share of attempts', (one) => share(ratio(asked(one), all)), 'number'],
    ['Failed', (one) => count(one.failed), 'number'],
    ['Price of the last call', (one) => usd(one.price_usd), 'number'],
    ['Latency', (one) => millis(one.latency_ms), 'number'],
    ['Quality', (one) => [one.quality.toFixed(2), one.meets_floor ? '' : ' (below the floor)'], 'number'],
    ['Breaker', (one) => tag(one.breaker, one.breaker === 'closed' ? 'good' : 'bad')],
  ], route.providers, '')];
}

function ahead(route) {
  const { prefetch } = route;
  if (prefetch.started === 0) return [];
  return [el('h3', {}, 'Fetched ahead'), el('p', {},
    `${prefetch.state}: ${count(prefetch.started)} calls for ${usd(prefetch.spent_usd)}, ${count(prefetch.used)} used (worth ${usd(prefetch.saved_usd)}), ${count(prefetch.wasted)} not`)];
}

function detail(route) {
  const toggled = (event) => (event.target.open ? open.add(route.name) : open.delete(route.name));
  const tallies = (of) => words(Object.entries(of).map(([what, tally]) => `${what} ${count(tally.count)} (${usd(tally.usd)})`));
  return el('details', { open: open.has(route.name), ontoggle: toggled, class: 'card' },
    el('summary', {}, el('b', {}, route.name), soft(` ${route.path_prefix} to ${words([route.provider, ...route.providers.slice(1).map((one) => one.provider)])}, mode ${route.mode}`)),
    el('h3', {}, 'Where answers came from'), sources(route.totals),
    el('p', { class: 'wrap' }, `Strategies: ${plan(route)}. Calls: ${tallies(route.totals.calls)}. Saved by: ${tallies(route.totals.saved)}.`),
    reasons('Not saved because', route.not_saved), reasons('Not kept because', route.not_kept), providers(route), ahead(route));
}

export function draw({ routes }) {
  const figure = (heading, of) => [heading, (route) => of(route.totals), 'number'];
  const list = table([
    ['Route', (route) => route.name],
    ['', standing],
    figure('Requests', (t) => count(t.requests)),
    ['Answers from', (route) => sources(route.totals)],
    figure('Hits', (t) => share(t.hit_ratio)),
    figure('Paid', (t) => usd(t.bill_usd)),
    figure('Saving', (t) => share(t.saving_share)),
    ['Stale', staleness, 'number'],
    figure('p50', (t) => millis(t.latency_ms.p50)),
    figure('p95', (t) => millis(t.latency_ms.p95)),
    figure('SLA', (t) => (t.sla_share === null ? 'none' : share(t.sla_share, 2))),
  ], routes, 'There are no routes.');
  return [card('Routes since the start', list, sourcesLegend()), routes.map(detail)];
}
