// Charts, drawn as SVG.

import { el, svg, usd } from './dom.js';

const WIDTH = 1300, HEIGHT = 210, LEFT = 64, BOTTOM = 22, TOP = 8;

function ticks(most) {
  if (!(most > 0)) return [0];
  const rough = most / 4, base = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * base).find((step) => step >= rough);
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, index) => index * step);
}

export const legend = (entries) =>
  el('div', { class: 'legend' }, entries.map(([kind, name]) => el('span', {}, el('i', { class: `back-${kind}` }), name)));

// What was paid within what it would have cost, step by step; points are `{at, paid, without}`.
export function spend(points) {
  const most = Math.max(...points.map((point) => Math.max(point.paid, point.without)), 0);
  if (points.length === 0 || most === 0) return el('p', { class: 'soft' }, 'Nothing was spent in this time.');
  const room = WIDTH - LEFT, wide = room / points.length;
  const up = (value) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const bar = (value, x, kind, width) =>
    svg('rect', { x, y: up(value), width, height: Math.max(0, HEIGHT - BOTTOM - up(value)), class: `fill-${kind}` });
  const bars = points.map((point, index) => {
    const x = LEFT + wide * index, width = Math.max(1, wide * 0.8);
    const title = `${point.at}: paid ${usd(point.paid)}, without Farthing ${usd(point.without)}`;
    return svg('g', {}, svg('title', {}, title), bar(point.without, x, 'second', width), bar(point.paid, x + width * 0.18, 'main', width * 0.64));
  });
  const grid = ticks(most).map((value) => [
    svg('line', { x1: LEFT, x2: WIDTH, y1: up(value), y2: up(value), class: 'stroke-line' }),
    svg('text', { x: LEFT - 6, y: up(value) + 4, 'text-anchor': 'end', class: 'text' }, usd(value)),
  ]);
  const every = Math.max(1, Math.ceil(points.length / 12));
  const dates = points.flatMap((point, index) =>
    index % every ? [] : svg('text', { x: LEFT + wide * index, y: HEIGHT - 6, class: 'text' }, point.at));
  const told = `Paid in each step of time, beside what it would have cost; at most ${usd(most)}`;
  return el('div', {},
    svg('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: 'chart', role: 'img', 'aria-label': told }, grid, bars, dates),
    legend([['main', 'paid'], ['second', 'without Farthing']]));
}

// Parts of a whole, one beside the other; entries are `[kind, name, part]`.
export function parts(entries) {
  const sum = entries.reduce((sum, entry) => sum + entry[2], 0);
  if (!(sum > 0)) return svg('svg', { class: 'meter' });
  let x = 0;
  const pieces = entries.map(([kind, name, part]) => {
    const width = (100 * part) / sum;
    x += width;
    return svg('rect', { x: x - width, y: 0, width, height: 8, class: `fill-${kind}` }, svg('title', {}, `${name}: ${((100 * part) / sum).toFixed(1)} %`));
  });
  const told = entries.map(([, name, part]) => `${name} ${((100 * part) / sum).toFixed(0)} %`).join(', ');
  return svg('svg', { viewBox: '0 0 100 8', preserveAspectRatio: 'none', class: 'meter', role: 'img', 'aria-label': told }, pieces);
}

export const bar = (part, kind = 'main') => {
  const width = 100 * Math.min(1, Math.max(0, part ?? 0));
  return svg('svg', { viewBox: '0 0 100 8', preserveAspectRatio: 'none', class: 'meter', 'aria-hidden': 'true' },
    svg('rect', { width: 100, height: 8, class: 'fill-bar' }), svg('rect', { width, height: 8, class: `fill-${kind}` }));
};

// Estimates with their intervals over one scale; rows are `{name, point, low, high}`, `show` writes a value.
export function intervals(rows, show) {
  const drawn = rows.filter((row) => Number.isFinite(row.point));
  if (drawn.length === 0) return el('p', { class: 'soft' }, 'No estimate yet.');
  const least = Math.min(0, ...drawn.map((row) => row.low)), most = Math.max(0, ...drawn.map((row) => row.high));
  const left = 220, right = WIDTH - 60, tall = 28;
  const across = (value) => left + ((right - left) * (value - least)) / (most - least || 1);
  const lines = drawn.map((row, index) => {
    const y = tall * index + 16, kind = row.high < 0 ? 'good' : row.low > 0 ? 'bad' : 'main';
    return svg('g', {},
      svg('title', {}, `${row.name}: ${show(row.point)}, between ${show(row.low)} and ${show(row.high)}`),
      svg('text', { x: 0, y: y + 4, class: 'text' }, row.name),
      svg('rect', { x: across(row.low), y: y - 1, width: Math.max(1, across(row.high) - across(row.low)), height: 3, class: `fill-${kind}` }),
      svg('circle', { cx: across(row.point), cy: y, r: 5, class: `fill-${kind}` }));
  });
  const height = tall * drawn.length + 24;
  const zero = svg('line', { x1: across(0), x2: across(0), y1: 0, y2: height - 18, class: 'stroke-soft', 'stroke-dasharray': '3 3' });
  const ends = [[least, 'start'], [most, 'end'], [0, 'middle']].filter(([value], index) => index < 2 ? value !== 0 : true);
  const labels = ends.map(([value, anchor]) => svg('text', { x: across(value), y: height - 4, 'text-anchor': anchor, class: 'text' }, show(value)));
  return svg('svg', { viewBox: `0 0 ${WIDTH} ${height}`, class: 'chart', role: 'img', 'aria-label': 'Estimates with their intervals' }, zero, lines, labels);
}
