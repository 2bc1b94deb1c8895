// Predictors: what is live, what waits, whether it still foretells.

import { card, count, el, instant, moment, share, soft, table, tag } from './dom.js';

export const name = 'Predictors';

export const paths = () => ({
  models: '/api/v1/models',
  candidates: '/api/v1/models/candidates',
  drift: '/api/v1/models/drift',
  instances: '/api/v1/models/instances',
  history: '/api/v1/models/history',
});

const at = (version) => (version === null ? soft('none') : count(version));
const MOST = 30;

function aliases({ models }) {
  return table([
    ['Kind', (one) => one.kind],
    ['Alias', (one) => one.alias],
    ['Version', (one) => at(one.version), 'number'],
    ['Live', (one) => at(one.live), 'number'],
    ['By', (one) => one.engine ?? soft('rules')],
    ['', (one) => (one.problem ? el('span', { class: 'bad wrap' }, one.problem) : tag('fine', 'good'))],
  ], models.aliases, 'No version has an alias: rules decide.');
}

function versions({ models }) {
  return table([
    ['Kind', (one) => one.kind],
    ['Version', (one) => count(one.version), 'number'],
    ['Made', (one) => (one.created_ns === null ? '' : instant(one.created_ns))],
    ['Rows', (one) => count(one.rows), 'number'],
    ['Against the rule', (one) => share(one.metrics.saving_against_rule), 'number'],
    ['Digest', (one) => el('code', {}, (one.digest ?? '').slice(0, 12))],
    ['', (one) => [one.live ? tag('live', 'good') : null, one.aliases.map((alias) => [' ', tag(alias, 'soft')]),
      one.rejected ? [' ', tag(`rejected: ${one.rejected}`, 'warn')] : null, one.problem ? [' ', el('span', { class: 'bad wrap' }, one.problem)] : null]],
  ], models.versions, 'There is no version in the store.');
}

function candidates({ candidates }) {
  return table([
    ['Candidate', (one) => `${one.alias} ${one.version}`],
    ['Stage', (one) => one.stage],
    ['Keys', (one) => share(one.share), 'number'],
    ['Fills', (one) => count(one.fills), 'number'],
    ['Disagrees', (one) => share(one.disagreement), 'number'],
    ['Money against the champion', (one) => share(one.money_against_champion), 'number'],
    ['Guards', (one) => one.guards.map((guard) => `${guard.guard} ${guard.evidence.toPrecision(2)}`).join(', ')],
  ], candidates, 'No candidate waits.');
}

function drift({ drift }) {
  const foretold = (one) => (one.ratio === null ? soft('too few') : `${one.ratio.toFixed(2)} (${count(one.labels)})`);
  const shifted = drift.features.filter((feature) => feature.shifted);
  return [
    table([
      ['Route', (one) => one.route],
      ['Trust', (one) => tag(one.trust, one.trust === 'full' ? 'good' : 'warn')],
      ['Changes seen / foretold by the predictor', (one) => foretold(one.predictor), 'number'],
      ['By statistics alone', (one) => foretold(one.statistics), 'number'],
      ['', (one) => (one.warns ? tag('drifts', 'bad') : null)],
    ], drift.routes, 'No forecast has matured yet.'),
    el('p', { class: 'soft' }, shifted.length
      ? `Features that have moved since the training: ${shifted.map((feature) => `${feature.feature} (${feature.shift.toFixed(2)})`).join(', ')}.`
      : 'No feature has moved beyond chance since the training.'),
  ];
}

function history({ history }) {
  return table([
    ['When', (one) => moment(one.at)],
    ['What', (one) => `${one.action} ${one.kind}/${one.alias}`],
    ['From', (one) => at(one.from), 'number'],
    ['To', (one) => at(one.to), 'number'],
    ['By', (one) => one.by],
    ['Why', (one) => el('span', { class: 'wrap' }, one.reason)],
  ], history.slice(-MOST).reverse(), 'Nothing has happened yet.');
}

function instances({ instances }) {
  if (!instances?.length) return null;
  const differs = (one) => one.differs.map((what) => `${what.alias}: ${what.live ?? 'none'} for ${what.wanted ?? 'none'}`).join(', ');
  return card('Instances', table([
    ['Instance', (one) => one.name],
    ['Said', (one) => moment(one.said)],
    ['Runs something else', (one) => (one.differs.length ? el('span', { class: 'bad' }, differs(one)) : tag('no', 'good'))],
  ], instances, ''));
}

export function draw(data) {
  const engine = data.models.library ? `called through ${data.models.library}` : 'the ONNX Runtime library is not there: rules and statistics decide';
  return [
    card('Live', aliases(data), el('p', { class: 'soft wrap' }, engine)),
    card('Candidates', candidates(data)),
    card('Do they still foretell?', drift(data)),
    card('Versions', versions(data)),
    instances(data),
    card('What was done', history(data)),
  ];
}
