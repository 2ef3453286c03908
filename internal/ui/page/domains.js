// Domains with their two switches, and where a value comes from.

import * as data from './data.js';
import { $, count, list, make, object, say, show, text } from './dom.js';

const PAGE = 100;
const SWITCHES = [
  ['require_tls', 'Require TLS', 'Mail that cannot be sent over TLS waits.'],
  ['skip_verification', 'Skip verification', 'Any certificate will do.'],
];
const SOURCES = { domain: 'from its block in the configuration', table: 'from the domains table', default: 'the default' };

let visit = 0;
let loaded = 0;

export async function enter() {
  await load();
}

export function leave() {
  visit++;
  say($('said'), '');
}

export function clear() {
  $('domains').replaceChildren();
  $('find').reset();
}

// load shows the first domains; one that was named in full is shown in any case,
// with what would count for it.
async function load() {
  const mine = ++visit;
  const search = $('d-search').value.trim().toLowerCase();
  const answer = await data.domains({ search, limit: PAGE });
  const found = list(answer.items).map(object);
  if (search.includes('.') && !found.some((d) => d.name === search)) {
    const one = await data.domain(search).catch((err) => {
      if (found.length === 0) throw err;
      return {};
    });
    if (one.domain) found.unshift(object(one.domain));
  }
  if (mine !== visit) return;
  loaded = list(answer.items).length;
  $('domains').replaceChildren(...found.map(card));
  if (found.length === 0) $('domains').append(make('p', { class: 'empty' }, none(search)));
  more(answer);
}

function none(search) {
  if (data.confined()) return 'This relay does not send for this domain.';
  return search ? 'No domain has this in its name.' : 'No domain has settings of its own. Find one by its name to give it some.';
}

function more(answer) {
  show($('more-domains'), loaded < answer.total_count);
  $('more-domains').textContent = `More (${count(answer.total_count - loaded)})`;
}

let cards = 0;

function card(domain) {
  const name = text(domain.name);
  const id = `domain-${++cards}`;
  const it = make('article', { class: 'domain', 'aria-labelledby': id }, make('h2', { id }, name));
  if (domain.error) { // nobody knows how the switches are
    it.append(make('p', { class: 'trouble' }, text(domain.error)), make('p', { class: 'quiet' }, 'Its mail waits until the row is mended.'));
    return it;
  }
  for (const [field, label, help] of SWITCHES) it.append(toggle(it, domain, name, field, label, help));
  if (domain.read_only && !data.confined()) it.append(make('p', { class: 'quiet fixed' }, 'The configuration has a block for this domain. It can only be changed there.'));
  return it;
}

function setting(label, help, source, state) {
  return make('div', { class: 'setting' },
    make('div', null, make('span', { class: 'label' }, label), make('span', { class: 'quiet' }, help)),
    make('span', { class: 'source' }, SOURCES[source] ?? source),
    state);
}

function toggle(it, domain, name, field, label, help) {
  const on = domain[field] === true;
  const source = text(domain[`${field}_source`]);
  if (data.confined() || domain.read_only) return setting(label, help, source, make('strong', { class: 'state', 'data-field': field }, on ? 'On' : 'Off'));
  const button = make('button', {
    type: 'button', role: 'switch', 'aria-checked': String(on), 'data-field': field, class: 'switch',
    'aria-label': `${label}, ${name}`,
    onclick: async () => {
      button.disabled = true;
      try {
        const answer = await data.setDomain(name, { [field]: on ? 'no' : 'yes' });
        const changed = card(object(answer.domain));
        it.replaceWith(changed);
        changed.querySelector(`[data-field=${field}]`).focus();
        say($('said'), `${name}: ${label.toLowerCase()} is ${on ? 'off' : 'on'}.`);
      } catch (err) {
        button.disabled = false;
        button.focus();
        say($('said'), err.message, true);
      }
    },
  }, make('span', { class: 'knob' }));
  return setting(label, help, source, button);
}

$('find').addEventListener('submit', (event) => {
  event.preventDefault();
  say($('said'), '');
  load().catch((err) => say($('said'), err.message, true));
});
$('more-domains').addEventListener('click', async () => {
  const mine = visit;
  try {
    const answer = await data.domains({ search: $('d-search').value.trim().toLowerCase(), limit: PAGE, skip: loaded });
    if (mine !== visit) return;
    loaded += list(answer.items).length;
    $('domains').append(...list(answer.items).map(object).map(card));
    more(answer);
  } catch (err) {
    say($('said'), err.message, true);
  }
});
