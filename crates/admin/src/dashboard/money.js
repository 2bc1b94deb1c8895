// Who spends: by tenant, team, service, route, provider or any other name of the log.

import { bar } from './charts.js';
import { card, count, el, ratio, share, soft, table, usd } from './dom.js';

export const name = 'Money';

const BY = ['tenant', 'team', 'service', 'route', 'provider', 'target', 'upstream', 'purpose', 'outcome', 'saved_by', 'experiment', 'variant', 'status'];
const MOST = 50;
let by = 'tenant';

export const paths = ({ window }) => ({ costs: `/api/v1/costs?window=${window}&aggregate=${by}&top=${MOST}` });

function chooser(again) {
  const change = (event) => {
    by = event.target.value;
    again();
  };
  return el('label', {}, 'By ', el('select', { onchange: change }, BY.map((name) => el('option', { value: name, selected: name === by }, name))));
}

export function draw({ costs, lacking }, { again }) {
  if (!costs) return [card('Who spends', soft(lacking.costs))];
  const most = Math.max(...costs.groups.map((row) => Number(row.figures.bill_usd ?? 0)), 0);
  const named = (row) => (row.others ? soft(`${costs.groups_in_all - costs.groups.length + 1} others`) : row.names[by] ?? soft('none'));
  const figure = (heading, of) => [heading, (row) => of(row.figures), 'number'];
  const rows = table([
    [by, named],
    ['', (row) => bar(ratio(Number(row.figures.bill_usd ?? 0), most))],
    figure('Paid', (f) => usd(f.bill_usd)),
    figure('Without Farthing', (f) => usd(f.base_usd)),
    figure('Saving', (f) => share(f.saving_share)),
    figure('Requests', (f) => count(f.requests)),
    figure('Hits', (f) => share(f.hit_ratio)),
    figure('Failed', (f) => count(f.failed)),
    figure('Calls', (f) => count(f.calls)),
    figure('Without a price', (f) => count(f.unpriced_calls ?? f.unpriced_requests)),
  ], costs.groups, 'Nothing was asked for in this time.');
  const unobserved = costs.unobserved ?? [];
  const past = table([
    ['Host', (row) => row.host],
    ['Tunnels', (row) => count(row.tunnels), 'number'],
    ['Passed', (row) => count(row.passed), 'number'],
    ['Bytes up', (row) => count(row.bytes_up), 'number'],
    ['Bytes down', (row) => count(row.bytes_down), 'number'],
  ], unobserved, '');
  return [
    card('Who spends', el('p', {}, chooser(again)), rows),
    ...(unobserved.length ? [card('Unobserved since the start', el('p', {}, soft('Past all routes: what it costs is unknown, and in no sum.')), past)] : []),
    el('p', {}, soft('The same, with filters and tags: '), el('code', {}, `farthing costs --by ${by} --filter route:...`)),
  ];
}
