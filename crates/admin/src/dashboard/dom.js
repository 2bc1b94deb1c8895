// Elements and figures. Whatever comes from the API becomes text, never markup.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

export const card = (title, ...children) => el('section', { class: 'card' }, el('h2', {}, title), ...children);
export const tag = (text, kind) => el('span', { class: `tag ${kind}` }, text);
export const soft = (text) => el('span', { class: 'soft' }, text);
export const tile = (label, value, note, kind) =>
  el('div', { class: 'tile' }, el('span', {}, label), el('b', { class: kind ?? '' }, value), el('span', {}, note ?? ''));

// Columns are `[heading, cell of a row, 'number' or nothing]`.
export function table(columns, rows, empty) {
  if (rows.length === 0) return el('p', { class: 'soft' }, empty);
  const place = (column) => (column[2] === 'number' ? 'number' : null);
  const head = el('tr', {}, columns.map((column) => el('th', { scope: 'col', class: place(column) }, column[0])));
  const line = (row) => el('tr', {}, columns.map((column) => el('td', { class: place(column) }, column[1](row))));
  return el('table', {}, el('thead', {}, head), el('tbody', {}, rows.map(line)));
}

// Money comes as a decimal text, and is exact there; a number is only made of it to be shown.
export function usd(money) {
  if (money === null || money === undefined) return 'unknown';
  const value = Number(money);
  const size = Math.abs(value);
  const digits = size === 0 || size >= 1000 ? 0 : size >= 1 ? 2 : Math.min(9, 2 - Math.floor(Math.log10(size)));
  const text = size.toLocaleString('en', { minimumFractionDigits: size >= 1 ? digits : 0, maximumFractionDigits: digits });
  return `${value < 0 ? '-' : ''}$${text}`;
}

export const count = (n) => (n === null || n === undefined ? 'unknown' : n.toLocaleString('en', { maximumFractionDigits: 0 }));
export const share = (part, digits = 1) => (part === null || part === undefined ? 'unknown' : `${(part * 100).toFixed(digits)} %`);
export const ratio = (part, of) => (of > 0 ? part / of : null);

// Lower end of Wilson's 95 % interval of a share.
export function atLeast(part, of) {
  const z = 1.96, p = part / of;
  return (p + (z * z) / (2 * of) - z * Math.sqrt((p * (1 - p) + (z * z) / (4 * of)) / of)) / (1 + (z * z) / of);
}

export function millis(ms) {
  if (ms === null || ms === undefined) return 'unknown';
  return ms >= 1000 ? `${(ms / 1000).toFixed(2)} s` : ms >= 10 ? `${ms.toFixed(0)} ms` : `${ms.toPrecision(2)} ms`;
}

export function lasted(seconds) {
  if (seconds >= 172800) return `${(seconds / 86400).toFixed(1)} days`;
  if (seconds >= 7200) return `${(seconds / 3600).toFixed(1)} h`;
  return seconds >= 120 ? `${(seconds / 60).toFixed(0)} min` : `${seconds.toFixed(0)} s`;
}

export const instant = (ns) => (ns === null ? 'never' : moment(new Date(ns / 1e6).toISOString()));
export const moment = (text) => text.replace('T', ' ').replace(/:\d\d(\.\d+)?Z$/, ' UTC');
export const words = (names, none = 'none') => (names.length ? names.join(', ') : none);
export const total = (tallies) => Object.values(tallies).reduce((sum, tally) => sum + tally.count, 0);
