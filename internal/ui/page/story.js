// A delivery's whole story: all events of a message, by recipient, oldest first,
// with everything that their documents say.

import * as data from './data.js';
import { $, badge, decoded, list, make, moment, object, outcome, table, text, time, what } from './dom.js';

const SOURCES = {
  message: 'the message itself', destination: 'the destination’s block', domain: 'the domain’s block',
  table: 'the domains table', default: 'default',
};

// Under what protection the text of a message left.
const LEFT = { clear: 'in clear', unverified: 'encrypted, to an unverified host', verified: 'encrypted, to a verified host' };
const left = (word) => word && (LEFT[text(word)] ?? text(word));

let visit = 0;

export async function enter(id) {
  const mine = ++visit;
  $('story').replaceChildren(make('p', { class: 'quiet' }, 'Loading…'));
  try {
    const answer = await data.message(id);
    if (mine === visit) $('story').replaceChildren(...tell(id, list(answer.items).map(object)));
  } catch (err) {
    if (mine === visit) $('story').replaceChildren();
    throw err;
  }
}

export function leave() { visit++; }
export function clear() { $('story').replaceChildren(); }

function tell(id, docs) {
  const recipients = Map.groupBy ? Map.groupBy(docs, (d) => text(d.recipient)) : group(docs);
  const first = docs[0];
  const headers = Object.assign({}, ...docs.map((d) => object(object(d.message).headers)));
  return [
    facts([
      ['Sender', text(object(first.envelope).sender) || '<> (a bounce)'],
      ['Subject', decoded(text(headers.subject))],
      ['Message ID', headers['message-id']],
      ['Queue ID', docs.map((d) => d['queue-id']).find(Boolean) ?? id],
      ['Sent with key', docs.map((d) => text(d['api-key-id'])).find(Boolean)],
      ['Relay', [...new Set(docs.map((d) => text(d.hostname)).filter(Boolean))].join(', ')],
      ['Size', docs.map((d) => object(d.message).size).find(Boolean), 'octets'],
      ['Tags', docs.map((d) => list(d.tags).map(text).join(', ')).find(Boolean)],
      ['Variables', docs.map((d) => Object.entries(object(d['user-variables'])).map(([k, v]) => `${k} = ${typeof v === 'string' ? v : JSON.stringify(v)}`).join(', ')).find(Boolean)],
      ['Files', docs.map((d) => list(object(d.message).attachments).map((f) => text(object(f).filename)).join(', ')).find(Boolean)],
    ], 'summary'),
    ...[...recipients].map(([recipient, events]) => make('section', { class: 'recipient' },
      make('h2', null, make('span', null, recipient || 'no recipient'), ' ', badge(...what(events.at(-1)))),
      make('ol', { class: 'events' }, events.map(event)))),
  ];
}

function group(docs) {
  const groups = new Map();
  for (const d of docs) groups.set(text(d.recipient), [...(groups.get(text(d.recipient)) ?? []), d]);
  return groups;
}

// facts is a list of names and values; what is not known is left out.
function facts(pairs, kind) {
  return make('dl', { class: `facts ${kind ?? ''}` }, pairs
    .filter(([, value]) => value !== undefined && value !== null && value !== '')
    .map(([name, value, unit]) => make('div', null, make('dt', null, name),
      make('dd', null, value instanceof Node ? value : text(value), unit && ` ${unit}`))));
}

const yes = (value) => (typeof value === 'boolean' ? (value ? 'yes' : 'no') : undefined);

function event(doc) {
  const s = object(doc['delivery-status']);
  const tls = outcome(doc);
  const reply = [s.code, s['enhanced-code'], s.message].map(text).filter((x) => x !== '').join(' ');
  return make('li', { class: `event ${what(doc)[0]}` },
    make('p', { class: 'line' }, time(doc.timestamp, true), badge(...what(doc)), tls && badge(...tls),
      s['attempt-no'] && make('span', { class: 'quiet' }, `attempt ${text(s['attempt-no'])}`),
      doc.reason && make('span', { class: 'reason' }, text(doc.reason))),
    reply && make('p', { class: 'reply' }, reply),
    s.description && make('p', { class: 'quiet' }, text(s.description)),
    doc['delivery-status'] && make('div', { class: 'columns' }, connection(doc, s), policy(doc)),
    certificate(s), downgrade(s), hosts(s),
    make('details', null, make('summary', null, 'Document'), make('pre', { tabindex: 0 }, JSON.stringify(doc, null, 2))));
}

function connection(doc, s) {
  const address = [s['mx-ip'], s['mx-port']].map(text).filter(Boolean).join(' port ');
  return part('Connection', facts([
    ['MX host', s['mx-host']],
    ['Address', address],
    ['From our address', object(doc.envelope)['sending-ip']],
    ['TLS', s.tls === true ? [s['tls-version'], s['tls-cipher'], s['tls-key-exchange']].map(text).filter(Boolean).join(', ') || 'yes' : yes(s.tls)],
    ['Certificate verified', yes(s['certificate-verified'])],
    ['The text left', left(s['content-sent'])],
    ['Verified by', s.verification],
    ['Not verified because', s['verification-error']],
    ['Got less than wanted', s['tls-fallback']],
    ['Connection used before', yes(s['connection-reused'])],
    ['SMTPUTF8', s.utf8 === true ? 'yes' : undefined],
    ['Took', s['session-seconds'], 's'],
  ]));
}

function policy(doc) {
  const p = object(doc['tls-policy']);
  const setting = (name) => {
    const value = yes(p[name]);
    const source = text(p[`${name}-source`]);
    const place = text(p[`${name}-place`]);
    return value && (source ? `${value} – ${SOURCES[source] ?? source}${place && ` (${place})`}` : value);
  };
  const found = facts([
    ['Require TLS', setting('require-tls')],
    ['Skip verification', setting('skip-verification')],
    ['The recipient’s policies', list(p.floors).map(text).join(', ')],
    ['TLS-Required', p['tls-required'] && `${text(p['tls-required'])}: the message lifts what the recipient publishes`],
    ['MTA-STS not found out', p['mta-sts-error']],
    ['Demanded in the end', p.demanded],
  ]);
  return found.childElementCount > 0 && part('Policy', found);
}

function certificate(s) {
  const c = object(s.certificate);
  if (Object.keys(c).length === 0) return null;
  const until = new Date(text(c['not-after']));
  return part('Certificate', facts([
    ['Subject', c.subject], ['Issuer', c.issuer],
    ['Valid until', Number.isNaN(until.getTime()) ? c['not-after'] : moment(until)],
    ['SHA-256', c.sha256 && make('code', null, text(c.sha256))],
  ]));
}

function downgrade(s) {
  const d = object(s['tls-downgrade']);
  if (Object.keys(d).length === 0) return null;
  return part('Less TLS than before', facts([
    ['MX host', d['mx-host']], ['Expected', d.expected], ['Verified by', d.verification], ['Last seen', d['last-seen']], ['Action', d.action],
  ]));
}

function hosts(s) {
  const tried = list(s.hosts).map(object);
  if (tried.length === 0) return null;
  return part('Hosts that were given up', make('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': 'Hosts that were given up' }, table(null, ['MX host', 'Address', 'Reason', 'What was said', 'The text left'],
    tried.map((h) => [text(h['mx-host']), text(h['mx-ip']), text(h.reason), text(h.message), left(h['content-sent'])]))));
}

function part(title, ...content) {
  return make('div', { class: 'part' }, make('h3', null, title), ...content);
}
