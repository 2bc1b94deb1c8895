// Which view is shown, and when its figures are asked for again.

import { Refused, askAll, keep } from './api.js';
import { el } from './dom.js';
import * as overview from './overview.js';
import * as money from './money.js';
import * as routes from './routes.js';
import * as experiments from './experiments.js';
import * as models from './models.js';
import * as bounds from './bounds.js';

const VIEWS = { overview, money, routes, experiments, models, bounds };
const WINDOWS = { '1h': ['last hour', '5m'], '24h': ['last 24 hours', '1h'], '7d': ['last 7 days', '6h'], '30d': ['last 30 days', '1d'], month: ['this month', '1d'] };
const EVERY_MS = 10000;

const place = (id) => document.getElementById(id);
let timer = 0;
let turn = 0;

const shown = () => (location.hash.slice(1) in VIEWS ? location.hash.slice(1) : 'overview');

function say(problem) {
  place('banner').hidden = !problem;
  place('banner').textContent = problem ?? '';
}

function menu() {
  const link = (key) => el('a', { href: `#${key}`, 'aria-current': key === shown() ? 'page' : null }, VIEWS[key].name);
  place('views').replaceChildren(...Object.keys(VIEWS).map(link));
}

// The admin token is asked for once, and kept for this tab.
function askForToken(detail) {
  const entered = (event) => {
    event.preventDefault();
    keep(new FormData(event.target).get('token').trim());
    refresh();
  };
  const field = el('input', { type: 'password', name: 'token', autocomplete: 'off', required: true, 'aria-label': 'Admin token' });
  place('main').replaceChildren(el('form', { class: 'card', onsubmit: entered }, el('h2', {}, 'Admin token'), el('p', {}, detail), field, ' ', el('button', {}, 'Show')));
  field.focus();
}

async function refresh() {
  clearTimeout(timer);
  const mine = ++turn;
  const view = VIEWS[shown()];
  const window = place('window').value;
  const chosen = { window, step: WINDOWS[window][1], again: refresh };
  menu();
  try {
    let data = await askAll(view.paths(chosen));
    if (view.more) data = await view.more(data);
    // Another view may have been asked for meanwhile.
    if (mine !== turn) return;
    const busy = place('main').contains(document.activeElement) && document.activeElement.matches('select, input');
    if (!busy || place('main').dataset.view !== shown()) {
      place('main').replaceChildren(...view.draw(data, chosen).flat(Infinity).filter(Boolean));
      place('main').dataset.view = shown();
    }
    place('footer').textContent = `As of ${new Date().toLocaleTimeString()}; asked again every ${EVERY_MS / 1000} s.`;
    say(null);
  } catch (error) {
    if (mine !== turn) return;
    if (error instanceof Refused && error.status === 401) return askForToken(error.message);
    say(`These figures are not fresh: ${error.message}`);
  }
  // Hidden meanwhile: it goes on when it is looked at again.
  if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

place('window').replaceChildren(...Object.entries(WINDOWS).map(([value, [text]]) => el('option', { value, selected: value === '24h' }, text)));
place('window').addEventListener('change', refresh);
addEventListener('hashchange', refresh);
document.addEventListener('visibilitychange', () => (document.hidden ? clearTimeout(timer) : refresh()));
refresh();
