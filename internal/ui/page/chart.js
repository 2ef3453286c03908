// How charts are drawn: SVG of one's own, with DOM calls. Colours are classes of
// the style sheet; titles tell a mouse what the table tells everybody.

import { count, draw, make, moment } from './dom.js';

const HEIGHT = 210;
const LEFT = 46; // for the scale
const BOTTOM = 26; // for times
const TOP = 14;

// Plots are drawn about as wide as they are shown, so that letters keep their size.
export const narrow = matchMedia('(max-width: 46rem)');

const num = (value) => Number(value) || 0;

// stack draws columns over time; as shares each is as high as the others.
export function stack(buckets, series, label, shares) {
  const total = (b) => series.reduce((n, [key]) => n + num(b[key]), 0);
  const most = shares ? 1 : nice(Math.max(1, ...buckets.map(total)));
  const width = narrow.matches ? 340 : 560;
  const height = HEIGHT - TOP - BOTTOM;
  const step = (width - LEFT) / buckets.length;
  const svg = draw('svg', {
    viewBox: `0 0 ${width} ${HEIGHT}`, class: 'plot', role: 'img',
    'aria-label': `Chart of ${series.map(([, l]) => l).join(', ')} over time. The table below says the same.`,
  });
  for (const part of [0, 0.5, 1]) {
    const y = TOP + height * (1 - part);
    const value = shares ? `${100 * part}%` : most === 1 && part === 0.5 ? '' : count(most * part);
    svg.append(draw('line', { x1: LEFT, x2: width, y1: y, y2: y, class: 'grid' }),
      draw('text', { x: LEFT - 6, y: y + 4, 'text-anchor': 'end' }, value));
  }
  const every = Math.ceil(buckets.length / (narrow.matches ? 3 : 6));
  buckets.forEach((b, i) => {
    const x = LEFT + i * step;
    if (i % every === 0) svg.append(draw('text', { x, y: HEIGHT - 6 }, label(b.start)));
    const all = total(b);
    if (all === 0) return;
    const column = draw('g', null, draw('title', null, `${moment(b.start)}: ${series.map(([key, l]) => `${l} ${count(num(b[key]))}`).join(', ')}`));
    let y = TOP + height;
    for (const [key] of series) {
      const h = height * num(b[key]) / (shares ? all : most);
      y -= h;
      if (h > 0) column.append(draw('rect', { x: x + step * 0.1, y, width: step * 0.8, height: h, class: key }));
    }
    svg.append(column);
  });
  return svg;
}

// nice is the next number that looks good on a scale.
function nice(n) {
  const power = 10 ** Math.floor(Math.log10(n));
  return [1, 2, 4, 5, 10].map((f) => f * power).find((v) => v >= n);
}

// bars draws a bar for each row, in HTML, so that names of any length fit; a name
// may lead somewhere.
export function bars(rows, series) {
  const total = (r) => series.reduce((n, [key]) => n + num(r[key]), 0);
  const most = Math.max(1, ...rows.map(total));
  return make('ul', { class: 'bars' }, rows.map((r) => {
    const svg = draw('svg', { viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true', class: 'bar' },
      draw('title', null, series.map(([key, l]) => `${l} ${count(num(r[key]))}`).join(', ')));
    let x = 0;
    for (const [key] of series) {
      const width = 100 * num(r[key]) / most;
      if (width > 0) svg.append(draw('rect', { x, y: 0, width, height: 8, class: key }));
      x += width;
    }
    return make('li', null, make('span', { class: 'bar-name', title: r.name }, r.href ? make('a', { href: r.href }, r.name) : r.name), svg, make('span', { class: 'bar-count' }, count(total(r))));
  }));
}
