// How anything gets into the page. Text is always text: it goes through
// createTextNode and setAttribute, never through a parser of HTML.

const SVG = 'http://www.w3.org/2000/svg';

export const $ = (id) => document.getElementById(id);

// make returns an element. Attributes that are null, undefined or false are left
// out; a function is a listener ("onclick"); children are nodes or texts.
export function make(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

// draw is make for SVG.
export function draw(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== false)
    .map((c) => (c instanceof Node ? c : document.createTextNode(String(c)))));
  return element;
}

// table makes a table of rows of cells; numbers are set to the right.
export function table(caption, heads, rows, attributes) {
  const cell = (c, i) => (i === 0 ? make('th', { scope: 'row' }, c) : make('td', typeof c === 'number' ? { class: 'number' } : {}, typeof c === 'number' ? count(c) : c));
  return make('table', attributes,
    caption && make('caption', null, caption),
    make('thead', null, make('tr', null, heads.map((h, i) => make('th', { scope: 'col', class: rows.length && typeof rows[0][i] === 'number' && 'number' }, h)))),
    make('tbody', null, rows.map((r) => make('tr', null, r.map(cell)))));
}

// show makes exactly one of the elements visible.
export function show(element, visible = true) {
  element.hidden = !visible;
}

// say puts a text into a notice, "" hides it.
export function say(element, text, bad = false) {
  element.textContent = text;
  element.classList.toggle('bad', bad);
  show(element, text !== '');
}

const numbers = new Intl.NumberFormat();
const moments = new Intl.DateTimeFormat(undefined, { year: 'numeric', month: 'short', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', second: '2-digit', hourCycle: 'h23' });
const days = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric' });

export const count = (n) => numbers.format(n);
export const moment = (date) => moments.format(date);

// brief is the time alone for today, with its day otherwise.
export function brief(date) {
  return date.toDateString() === new Date().toDateString() ? clock.format(date) : `${days.format(date)} ${clock.format(date)}`;
}

export const day = (date) => days.format(date);
export const minute = (date) => clock.format(date).slice(0, 5);

// time makes a <time>, brief or whole.
export function time(seconds, whole = false) {
  const date = new Date(seconds * 1000);
  if (!Number.isFinite(seconds) || Number.isNaN(date.getTime())) return make('span', null, '?');
  return make('time', { datetime: date.toISOString(), title: moment(date) }, whole ? moment(date) : brief(date));
}

// badge is a word with a colour; the word says it all.
export const badge = (kind, text) => make('span', { class: `badge ${kind}` }, text);

// outcome says what became of TLS: [kind, word]. A host may be handed the text, and
// another one, or none, take the message.
export function outcome(doc) {
  const s = object(doc['delivery-status']);
  if (s.tls === false && doc.event === 'delivered') return ['bad', 'plaintext'];
  if (s['content-sent'] === 'clear') return ['bad', 'text left in clear'];
  if (typeof s.tls !== 'boolean') return null;
  if (!s.tls) return ['none', 'no TLS'];
  return s['certificate-verified'] === true ? ['good', 'verified'] : ['warn', 'unverified'];
}

// what is the event in a word or two: [kind, word].
export function what(doc) {
  if (doc.event === 'failed') return doc.severity === 'permanent' ? ['bad', 'failed'] : ['warn', 'deferred'];
  return [doc.event === 'delivered' ? 'good' : 'none', text(doc.event)];
}

// object and text take what a document has for what it should be.
export const object = (value) => (value !== null && typeof value === 'object' && !Array.isArray(value) ? value : {});
export const list = (value) => (Array.isArray(value) ? value : []);
export function text(value) {
  if (value === null || value === undefined) return '';
  const s = typeof value === 'object' ? JSON.stringify(value) : String(value);
  return s.toWellFormed ? s.toWellFormed() : s; // half a surrogate pair has no place in an address
}

// decoded is the text of a header field with its encoded words (RFC 2047) as people
// read them. What is not one stays as it is.
export function decoded(value) {
  return value.replace(/(=\?[^?\s]+\?[bq]\?[^?\s]*\?=)\s+(?==\?[^?\s]+\?[bq]\?[^?\s]*\?=)/gi, '$1')
    .replace(/=\?([^?*\s]+)(?:\*[^?\s]*)?\?([bq])\?([^?\s]*)\?=/gi, (word, charset, kind, body) => {
      try {
        const octets = kind.toLowerCase() === 'b' ? atob(body)
          : body.replace(/_/g, ' ').replace(/=([0-9a-f]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
        return new TextDecoder(charset).decode(Uint8Array.from(octets, (c) => c.charCodeAt(0)));
      } catch {
        return word;
      }
    });
}
