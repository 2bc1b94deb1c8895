// Experiments: the verdict first, then dollars with their intervals.

import { intervals, parts, legend } from './charts.js';
import { ask } from './api.js';
import { card, count, el, instant, lasted, share, soft, table, tag, usd, words } from './dom.js';

export const name = 'Experiments';

export const paths = () => ({ list: '/api/v1/experiments' });

const KINDS = ['second', 'main', 'good', 'warn'];
const MOST = 20;

export async function more({ list }) {
  const details = await Promise.all(list.slice(0, MOST).map((one) => ask(`/api/v1/experiments/${encodeURIComponent(one.name)}`)));
  return { list, details: details.filter((one) => one !== null) };
}

const kindOf = (verdict) => (verdict === 'better' ? 'good' : verdict === 'worse' || verdict.startsWith('not valid') ? 'bad' : 'soft');

function variants({ summary, report }) {
  const figures = new Map(report.variants.map((one) => [one.name, one]));
  const of = (heading, read) => [heading, (one) => read(figures.get(one.name) ?? {}), 'number'];
  return table([
    ['Variant', (one) => [one.name, one.off ? [' ', tag(`off: ${one.off}`, 'bad')] : null]],
    ['Changes', (one) => el('code', { class: 'wrap' }, JSON.stringify(one.overrides))],
    ['Probability', (one) => share(one.probability), 'number'],
    of('Units', (f) => count(f.units)),
    of('Requests', (f) => count(f.requests)),
    of('Bill', (f) => usd(f.bill_usd)),
    of('Stale', (f) => share(f.stale_share, 2)),
    of('Errors', (f) => share(f.error_share, 2)),
    of('Late', (f) => share(f.late_share, 2)),
  ], summary.variants, '');
}

function answer(one) {
  const guards = one.guarded.map((guard) => tag(`${guard.guard}: ${guard.stands}`, guard.stands === 'within' ? 'good' : 'warn'));
  return el('p', {}, tag(one.line, kindOf(one.line)), ` ${one.variant} against ${one.control}. `, guards.flatMap((guard) => [guard, ' ']), el('br', {}), soft(one.estimand));
}

function detail(experiment) {
  const { summary, answers, report } = experiment;
  const months = answers.map((one) => ({ name: one.variant, ...one.usd_per_month }));
  const chances = summary.variants.map((one, index) => [KINDS[index % KINDS.length], one.name, one.probability]);
  return card(`${summary.name}: ${summary.verdict}`,
    el('p', {}, summary.hypothesis),
    el('p', { class: 'soft' }, `${summary.stage}, ${words(summary.routes, 'all routes')}, unit ${summary.unit}, ${share(summary.traffic, 0)} of the slice, ${count(summary.windows)} windows of ${lasted(summary.window_s)}; begun ${instant(summary.started_ns)}; leader ${summary.leader}`),
    answers.map(answer),
    el('h3', {}, 'Dollars a month against the control, with the interval that holds at every look'), intervals(months, usd),
    el('h3', {}, 'Who gets what'), parts(chances), legend(chances), variants({ summary, report }),
    report.ratio_alarm ? el('p', { class: 'bad' }, 'The variants do not come in the shares that were drawn: do not believe the figures.') : null);
}

export function draw({ list, details }) {
  if (list.length === 0) return [card('Experiments', el('p', { class: 'soft' }, 'There are none. docs/experiments.md tells how one is described.'))];
  const rows = table([
    ['Experiment', (one) => one.name],
    ['Verdict', (one) => tag(one.verdict, kindOf(one.verdict))],
    ['Stage', (one) => one.stage],
    ['Routes', (one) => words(one.routes, 'all')],
    ['Variants', (one) => words(one.variants.map((variant) => variant.name))],
    ['Windows', (one) => count(one.windows), 'number'],
  ], list, '');
  return [card('Experiments', rows), details.map(detail)];
}
