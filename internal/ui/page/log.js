// The delivery log: the newest first, filtered, and followed while it is looked
// at.

import * as data from './data.js';
import { $, badge, count, list, make, object, outcome, show, text, time, what } from './dom.js';

const REASONS = ['tls-not-offered', 'tls-rejected', 'tls-handshake', 'certificate-expired', 'certificate-not-yet-valid',
  'certificate-name-mismatch', 'certificate-untrusted', 'certificate-invalid', 'dane-mismatch', 'dane-lookup', 'mta-sts-mx-mismatch',
  'mx-unauthenticated', 'requiretls-unsupported', 'policy', 'mx-lookup', 'null-mx', 'connect', 'timeout', 'connection-lost',
  'mail-rejected', 'rcpt-rejected', 'data-rejected', 'message-too-large', 'limits', 'internal'];
const PAGE = 50; // rows at a time
const ROWS = 2000; // at most; older ones make room
const EVERY = 2000; // milliseconds between questions
const OVERLAP = 10; // seconds that are asked for again: stores are written in batches, not in order
const BEHIND = 3; // pages that one question may follow

let shown = new Set(); // ids
let newest = 0; // seconds
let older = ''; // token
let paused = false;
let timer = 0;
let asked = {}; // the filters of what is shown
let visit = 0; // answers to earlier questions do not count

for (const reason of REASONS) $('f-reason').append(make('option', null, reason));

// parameters are the filters, as the API has them. Quotation marks keep words
// together.
function parameters() {
  const found = {};
  for (const [name, value] of new FormData($('filters'))) {
    const v = value.trim();
    if (v === '') continue;
    found[name] = name === 'mx-host' || name === 'recipient' ? `"${v.replaceAll('"', '')}"` : v;
  }
  return found;
}

// choose sets the filters to those of an address, as far as there are such.
function choose(wanted) {
  for (const field of $('filters').elements) {
    if (!field.name || field.name === 'domain' && data.confined()) continue;
    field.value = wanted.get(field.name) ?? '';
    if (field.selectedIndex === -1) field.selectedIndex = 0;
  }
}

// remember puts the filters into the address, to be kept as a bookmark.
function remember() {
  const filters = new URLSearchParams([...new FormData($('filters'))].filter(([, value]) => value.trim() !== ''));
  history.replaceState(null, '', String(filters) ? `#log?${filters}` : '#log');
}

const domainOnly = ({ domain }) => ({ domain });

// enter shows the log. Without filters in the address, those that were set before
// stay.
export async function enter(filters) {
  if (filters) choose(new URLSearchParams(filters));
  remember();
  const mine = ++visit;
  try {
    await load(mine);
  } finally {
    if (mine === visit) schedule(mine); // it is followed also if it could not be loaded
  }
}

export function leave() {
  visit++;
  clearTimeout(timer);
}

export function clear() {
  $('rows').replaceChildren();
  choose(new URLSearchParams());
  shown = new Set();
  setPaused(false);
}

async function load(mine) {
  asked = parameters();
  const page = await data.events({ ...asked, limit: PAGE });
  if (mine !== visit) return;
  shown = new Set();
  newest = 0;
  const items = fresh(list(page.items));
  $('rows').replaceChildren(...items.map(row));
  older = page.paging.next;
  show($('older'), page.more === true);
  show($('empty'), items.length === 0);
  $('news').textContent = items.length === 0 ? 'Nothing to show' : `${count(items.length)} events`;
}

// fresh leaves out what is shown already.
function fresh(items) {
  return items.map(object).filter((doc) => {
    if (typeof doc.id !== 'string' || shown.has(doc.id)) return false;
    shown.add(doc.id);
    newest = Math.max(newest, Number(doc.timestamp) || 0);
    return true;
  });
}

function schedule(mine) {
  state();
  timer = setTimeout(async () => {
    if (mine !== visit) return;
    let trouble = '';
    if (!paused && !document.hidden) {
      try {
        await follow(mine);
      } catch (err) {
        trouble = err.status === 401 ? '' : err.message;
      }
    }
    if (mine !== visit) return;
    schedule(mine);
    if (trouble) state(trouble);
  }, EVERY);
}

// follow asks for what has come since. A page that is full has a next one; where
// more comes than anybody could read, the newest are shown and others left out.
// A clock that is ahead, of another relay with the same store, hides nothing.
async function follow(mine) {
  if (newest === 0) return load(mine);
  let page = await data.events({ ...asked, begin: Math.max(0, Math.min(newest, data.now()) - OVERLAP).toFixed(6), ascending: 'yes', limit: 300 });
  let added = 0;
  for (let i = 0; mine === visit; i++) {
    const items = fresh(list(page.items));
    added += items.length;
    add(items);
    if (page.more !== true) break;
    if (i === BEHIND) return load(mine);
    page = await data.eventsPage(page.paging.next, domainOnly(asked));
  }
  if (added > 0 && mine === visit) $('news').textContent = added === 1 ? '1 new event' : `${count(added)} new events`;
}

// add puts new events, oldest first, on top.
function add(items) {
  for (const doc of items) {
    const tr = row(doc);
    tr.classList.add('new');
    // One that came late has its place among the others.
    let at = $('rows').firstElementChild;
    while (at && Number(at.dataset.at) > Number(doc.timestamp)) at = at.nextElementSibling;
    $('rows').insertBefore(tr, at);
  }
  while ($('rows').childElementCount > ROWS) {
    $('rows').lastElementChild.remove();
    show($('older'), false); // there would be a gap
  }
  if (items.length > 0) show($('empty'), false);
}

function row(doc) {
  const s = object(doc['delivery-status']);
  const tls = outcome(doc);
  const id = text(doc['queue-id']) || text(object(object(doc.message).headers)['message-id']);
  const said = [s.code, s['enhanced-code'], s.message].map(text).filter((x) => x !== '').join(' ');
  return make('tr', { 'data-at': Number(doc.timestamp) || 0 },
    make('td', { class: 'when' }, id ? make('a', { href: `#message/${encodeURIComponent(id)}` }, time(doc.timestamp)) : time(doc.timestamp)),
    make('td', { class: 'event' }, badge(...what(doc))),
    make('td', { class: 'tls' }, tls && badge(...tls)),
    make('td', { class: 'to', title: text(doc.recipient) }, text(doc.recipient)),
    make('td', { class: 'mx', title: text(s['mx-host']) }, text(s['mx-host'])),
    make('td', { class: 'said', title: said }, doc.reason && make('span', { class: 'reason' }, text(doc.reason)), said));
}

function state(trouble) {
  $('tail-state').textContent = trouble || (paused ? 'Paused' : 'Live');
  $('tail-state').className = trouble ? 'trouble' : paused ? 'quiet' : 'live';
}

function setPaused(now) {
  paused = now;
  $('tail').textContent = paused ? 'Resume' : 'Pause';
  state();
}

function report(err) {
  document.dispatchEvent(new CustomEvent('problem', { detail: err }));
}

function again(event) {
  event?.preventDefault();
  leave();
  enter().catch(report);
}

$('tail').addEventListener('click', () => setPaused(!paused));
$('filters').addEventListener('submit', again);
$('filters').addEventListener('reset', () => setTimeout(again));
for (const select of $('filters').querySelectorAll('select')) select.addEventListener('change', () => again());
$('older').addEventListener('click', async () => {
  const mine = visit;
  try {
    const page = await data.eventsPage(older, domainOnly(asked));
    if (mine !== visit) return;
    $('rows').append(...fresh(list(page.items)).map(row));
    older = page.paging.next;
    show($('older'), page.more === true && $('rows').childElementCount < ROWS);
  } catch (err) {
    report(err);
  }
});
