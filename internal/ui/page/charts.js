// Charts over time, each with a table that says the same.

import * as data from './data.js';
import { $, count, day, list, make, minute, moment, object, table, text } from './dom.js';
import { bars, narrow, stack } from './chart.js';

const DELIVERED = [['verified', 'TLS, verified'], ['unverified', 'TLS, not verified'], ['plaintext', 'Plaintext']];
const FAILED = [['temporary', 'Deferred'], ['permanent', 'Failed for good']];

let visit = 0;
let last = null; // what is shown

export async function enter() {
  const mine = ++visit;
  const form = new FormData($('span'));
  $('charts').setAttribute('aria-busy', 'true');
  try {
    const domain = form.get('domain').trim();
    const stats = await data.stats({ span: form.get('span'), domain });
    if (mine !== visit) return;
    last = { ...stats, domain };
    $('charts').replaceChildren(...build(last));
  } finally {
    $('charts').removeAttribute('aria-busy');
  }
}

export function leave() { visit++; }
export function clear() {
  last = null;
  $('charts').replaceChildren();
  $('span').reset();
}

function build(stats) {
  const buckets = list(stats.buckets).map((b) => ({ ...object(b), start: new Date(b.start) }));
  const label = stats['part-seconds'] >= 6 * 3600 ? day : minute;
  const failures = list(stats.failures).map(object);
  const hosts = list(stats.hosts).map(object);
  const deliveries = (filters) => `#log?${new URLSearchParams(stats.domain ? { ...filters, domain: stats.domain } : filters)}`;
  return [
    totals(buckets),
    figure('Share of deliveries', 'How deliveries were protected, in parts of all of them.',
      stack(buckets, DELIVERED, label, true), overTime(buckets, DELIVERED), DELIVERED, sum(buckets, DELIVERED) === 0),
    figure('Deliveries', 'How many there were.',
      stack(buckets, DELIVERED, label, false), overTime(buckets, DELIVERED), DELIVERED, sum(buckets, DELIVERED) === 0),
    figure('Failures by reason', 'Attempts that failed. One message can have several.',
      bars(failures.map((f) => ({ ...f, name: text(f.reason) || 'unknown', href: text(f.reason) && deliveries({ event: 'failed', reason: text(f.reason) }) })), FAILED),
      table('Failures by reason', ['Reason', ...FAILED.map(([, l]) => l)], failures.map((f) => [text(f.reason) || 'unknown', num(f.temporary), num(f.permanent)])),
      FAILED, failures.length === 0),
    figure('MX hosts without good TLS', 'Those that most was delivered to in clear or unverified.',
      bars(hosts.map((h) => ({ ...h, name: text(h['mx-host']), href: deliveries({ event: 'delivered', 'certificate-verified': 'no', 'mx-host': text(h['mx-host']) }) })), DELIVERED.slice(1)),
      table('MX hosts without good TLS', ['MX host', 'All deliveries', 'Not verified', 'Plaintext'], hosts.map((h) => [text(h['mx-host']), num(h.delivered), num(h.unverified), num(h.plaintext)])),
      DELIVERED.slice(1), hosts.length === 0),
  ];
}

const num = (value) => Number(value) || 0;
const sum = (buckets, series) => buckets.reduce((n, b) => n + series.reduce((m, [key]) => m + num(b[key]), 0), 0);

// totals are the figures of the whole time.
function totals(buckets) {
  const all = sum(buckets, DELIVERED);
  const failed = sum(buckets, FAILED);
  const share = (n) => (all === 0 ? '' : `${(100 * n / all).toFixed(n === all || n === 0 ? 0 : 1)} %`);
  const one = (kind, label, n, more) => make('div', { class: `total ${kind}` },
    make('dt', null, label), make('dd', null, make('strong', null, count(n)), more && make('span', { class: 'quiet' }, ` ${more}`)));
  return make('dl', { class: 'totals' },
    one('', 'Delivered', all),
    DELIVERED.map(([key, label]) => { const n = sum(buckets, [[key]]); return one(key, label, n, share(n)); }),
    one('', 'Failed attempts', failed));
}

function overTime(buckets, series) {
  const rows = buckets.filter((b) => series.some(([key]) => num(b[key]) > 0));
  return table('In parts of the time', ['From', ...series.map(([, l]) => l)], rows.map((b) => [moment(b.start), ...series.map(([key]) => num(b[key]))]));
}

function figure(title, help, svg, numbers, series, empty) {
  return make('figure', { class: 'chart' },
    make('figcaption', null, make('h2', null, title), make('p', { class: 'quiet' }, help)),
    empty ? make('p', { class: 'empty' }, 'Nothing happened in this time.') : [
      make('ul', { class: 'legend' }, series.map(([key, label]) => make('li', null, make('span', { class: `swatch ${key}` }), label))),
      svg,
      make('details', null, make('summary', null, 'As a table'), make('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': title }, numbers)),
    ]);
}

$('span').addEventListener('submit', (event) => {
  event.preventDefault();
  show();
});
$('s-span').addEventListener('change', show);
narrow.addEventListener('change', () => last && $('charts').replaceChildren(...build(last)));

function show() {
  enter().catch((err) => document.dispatchEvent(new CustomEvent('problem', { detail: err })));
}
