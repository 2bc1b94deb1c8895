// Spend, saving, answers, time, alerts.

import { metric } from './api.js';
import { bar, legend, parts, spend } from './charts.js';
import { card, count, el, instant, lasted, millis, moment, ratio, share, soft, table, tag, tile, total, usd, words } from './dom.js';

export const name = 'Overview';

export const paths = ({ window, step }) => ({
  status: '/api/v1/status',
  costs: `/api/v1/costs?window=${window}&step=${step}`,
  alerts: '/api/v1/alerts',
  forecast: '/api/v1/costs/forecast',
  freeze: '/api/v1/freeze',
  bypass: '/api/v1/bypass',
  metrics: '/metrics',
});

const SOURCES = [
  ['good', 'memory', (totals) => hits(totals) - (totals.saved.l2?.count ?? 0)],
  ['main', 'second tier', (totals) => totals.saved.l2?.count ?? 0],
  ['warn', "another request's call", (totals) => totals.outcomes.follow?.count ?? 0],
  ['second', 'provider or refused', (totals) => totals.requests - hits(totals) - (totals.outcomes.follow?.count ?? 0)],
];

const hits = (totals) => ['hit', 'stale', 'revalidated'].reduce((sum, outcome) => sum + (totals.outcomes[outcome]?.count ?? 0), 0);

// Where the answers of a route, or of all, came from.
export const sources = (totals) => parts(SOURCES.map(([kind, source, of]) => [kind, source, Math.max(0, of(totals))]));
export const sourcesLegend = () => legend(SOURCES);

const share95 = (interval) => `${share(interval.low)} to ${share(interval.high)} (95 %)`;

function proved(saving) {
  if (!saving?.saving) return tile('Saving proved by the hold-out', 'not measured', saving?.note ?? 'no hold-out, or too early');
  const kind = saving.saving.low > 0 ? 'good' : saving.saving.high < 0 ? 'bad' : '';
  return tile('Saving proved by the hold-out', share(saving.saving.point), share95(saving.saving), kind);
}

function month(forecast) {
  if (!forecast) return null;
  const over = forecast.over === null ? '' : `; over budget with ${share(forecast.over, 0)}`;
  return tile(`Forecast of ${forecast.month}`, usd(forecast.p50_usd), `${usd(forecast.p10_usd)} to ${usd(forecast.p90_usd)}${over}`, forecast.over > 0.5 ? 'bad' : '');
}

function money({ costs, forecast }) {
  const { total, net } = costs;
  const unpriced = (total.unpriced_requests ?? 0) + (total.unpriced_calls ?? 0);
  return el('div', { class: 'tiles' },
    tile('Paid to providers', usd(total.bill_usd), `${usd(total.base_usd)} without Farthing`),
    tile('Saving by the ledger', share(total.saving_share), `${usd(total.saved_usd)} credited`),
    proved(costs.proved),
    net ? tile("After Farthing's own cost", usd(net.net_usd), `own cost ${usd(net.self_cost_usd)}`, Number(net.net_usd) < 0 ? 'bad' : '') : null,
    month(forecast),
    tile('Requests', count(total.requests), `${count(total.calls)} calls, ${count(total.failed)} failed`),
    tile('Without a price', count(unpriced), unpriced ? 'the sums lack them' : 'all is priced', unpriced ? 'bad' : ''));
}

function answers({ status, metrics }) {
  const batches = metric(metrics, 'farthing_batches_total'), members = metric(metrics, 'farthing_batch_members_total');
  const { total } = status, { latency_ms: whole, overhead_ms: own } = total;
  const missed = total.sla_share !== null && total.sla_share < 0.999;
  return el('div', { class: 'tiles' },
    tile('Hit ratio', share(total.hit_ratio), 'cache, or a shared call'),
    tile('Latency p50', millis(whole.p50), `p95 ${millis(whole.p95)}, p99 ${millis(whole.p99)}`),
    tile("Farthing's own time p50", millis(own.p50), `p95 ${millis(own.p95)}, p99 ${millis(own.p99)}`),
    tile('Within their SLA', total.sla_share === null ? 'no SLA' : share(total.sla_share, 2), words(Object.entries(total.sla).map(([who, n]) => `${who} ${count(n)}`), ''), missed ? 'bad' : ''),
    tile('Stale answers found', share(ratio(total.stale, total.checked), 2), `of ${count(total.checked)} checked at the origin`),
    tile('Batches', count(batches), batches ? `${(members / batches).toFixed(1)} requests each` : 'no calls were made together'),
    tile('TTLs by a predictor', share(total.by_model_share), status.predictor ?? 'rules decide'));
}

function strategies({ costs }) {
  const most = Math.max(...costs.strategies.map((one) => Number(one.saved_usd)), 0);
  return table([
    ['Strategy', (one) => one.name],
    ['', (one) => bar(ratio(Number(one.saved_usd), most))],
    ['Saved', (one) => usd(one.saved_usd), 'number'],
    ['Of the base', (one) => share(one.share_of_base), 'number'],
    ['Own calls', (one) => `${count(one.calls)} for ${usd(one.bill_usd)}`, 'number'],
    ['Net', (one) => el('span', { class: Number(one.net_usd) < 0 ? 'bad' : '' }, usd(one.net_usd)), 'number'],
  ], costs.strategies, 'Nothing was saved in this time.');
}

function waiting({ status, freeze, bypass, alerts }) {
  const broken = status.readiness.parts.filter((part) => !part.ok);
  const lines = [
    ...broken.map((part) => [tag(part.name, 'bad'), part.detail]),
    ...(freeze?.frozen ? [[tag('frozen', 'warn'), `automation stands still: ${freeze.reason ?? ''}`]] : []),
    ...(bypass ?? []).map((one) => [tag('bypass', 'warn'), `${one.route ?? 'all routes'}: ${one.reason ?? ''}`]),
    ...(alerts ?? []).slice(0, 20).map((alert) => [tag(alert.kind, 'bad'), `${moment(alert.at)} ${alert.subject}: ${alert.summary}`]),
  ];
  return table([['', (line) => line[0]], ['What needs a look', (line) => el('span', { class: 'wrap' }, line[1])]], lines, 'Nothing needs a look.');
}

// Every step of the time, also those in which nothing was asked for.
function steps(costs, step) {
  const wide = parseInt(step, 10) * { m: 60, h: 3600, d: 86400 }[step.at(-1)] * 1000;
  const known = new Map(costs.series.map((point) => [Date.parse(point.at), point.figures]));
  const first = Math.floor(Date.parse(costs.from) / wide) * wide, points = [];
  for (let at = first; at < Date.parse(costs.to); at += wide) {
    const text = new Date(at).toISOString(), figures = known.get(at);
    points.push({ at: wide < 43200000 ? text.slice(11, 16) : text.slice(5, 10), paid: Number(figures?.bill_usd ?? 0), without: Number(figures?.base_usd ?? 0) });
  }
  return points;
}

function spent(data, step) {
  const { costs } = data;
  const unread = costs.unreadable.length ? el('p', { class: 'bad' }, `These files could not be read, so the sums lack them: ${words(costs.unreadable)}`) : null;
  return [money(data), card(`Money, ${moment(costs.from)} to ${moment(costs.to)}`, unread, spend(steps(costs, step)))];
}

export function draw(data, { step }) {
  const { status, costs } = data;
  return [
    costs ? spent(data, step) : card('Money', soft(data.lacking.costs)),
    answers(data),
    el('div', { class: 'two' },
      costs ? card('What each strategy saved', strategies(data)) : null,
      card('Alerts', waiting(data))),
    card('Where answers came from', sources(status.total), sourcesLegend(),
      el('p', { class: 'soft' }, `${count(total(status.total.outcomes))} requests since ${instant(status.started_ns)}, ${lasted(status.uptime_s)} ago. Figures of answers and times are since then; money is of the time chosen above.`)),
    el('p', {}, soft('Changes are made on the command line: '), el('code', {}, 'farthing --help')),
  ];
}
