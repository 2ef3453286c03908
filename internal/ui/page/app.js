// Login, and which view is shown: the part after # in the address says it, so
// that the back button and bookmarks work.

import * as data from './data.js';
import { $, say, show, text } from './dom.js';
import * as charts from './charts.js';
import * as domains from './domains.js';
import * as log from './log.js';
import * as story from './story.js';

const views = { log, charts, domains, message: story };
const titles = { log: 'Deliveries', charts: 'Charts', domains: 'Domains', message: 'Message', login: 'Log in' };

let current = null; // the view that is shown
let session = null;
let last = ''; // the key that was logged in before, if the address is still its

const failed = (err) => {
  if (err.status !== 401) say($('alert'), err.message || String(err), true);
};

// place takes the address apart: the view, and what it is about, a name behind a
// slash or filters behind a question mark.
function place() {
  const [, name, mark, rest] = /^#?([a-z]*)([/?]?)(.*)$/s.exec(location.hash);
  let about = mark === '?' ? rest : '';
  try {
    if (mark === '/') about = decodeURIComponent(rest);
  } catch { /* not one of ours */ }
  return Object.hasOwn(views, name) ? [name, about] : [session?.events ? 'log' : 'domains', ''];
}

function reveal(name) {
  for (const section of document.querySelectorAll('main > section')) show(section, section.id === `view-${name}`);
  for (const link of document.querySelectorAll('#nav a')) {
    if (link.hash === `#${name}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${titles[name]} – TLS connection control`;
}

async function go(moved) {
  if (!session) return;
  const [name, about] = place();
  current?.leave?.();
  current = views[name];
  say($('alert'), '');
  reveal(name);
  if (moved) {
    $('main').focus({ preventScroll: true });
    scrollTo(0, 0);
  }
  try {
    await current.enter(about);
  } catch (err) {
    failed(err);
  }
}

function begin(opened) {
  session = opened;
  if (last && last !== session.key) forget();
  last = session.key;
  $('key-id').textContent = session.key;
  confine(text(session.domain));
  show($('nav'));
  for (const link of document.querySelectorAll('#nav a')) show(link, session.events || link.hash === '#domains');
  show($('who'));
  go(false);
}

// confine leaves out what a key of one domain has no use for: there are no others.
function confine(domain) {
  for (const e of document.querySelectorAll('.all')) show(e, domain === '');
  for (const e of document.querySelectorAll('.own')) show(e, domain !== '');
  for (const e of document.querySelectorAll('h1 > .own')) e.textContent = ` of ${domain}`;
}

// forget takes out of the address what it is about: it may name a recipient.
function forget() {
  history.replaceState(null, '', location.pathname);
}

function end() {
  current?.leave?.();
  for (const view of Object.values(views)) view.clear(); // nothing stays for whoever comes next
  confine('');
  current = session = null;
  show($('nav'), false);
  show($('who'), false);
  reveal('login');
  $('key').value = '';
  $('key').focus();
}

$('login').addEventListener('submit', async (event) => {
  event.preventDefault();
  const button = event.target.querySelector('button');
  button.disabled = true;
  say($('alert'), '');
  try {
    const opened = await data.login($('key').value.trim());
    $('key').value = '';
    begin(opened);
  } catch (err) {
    say($('alert'), err.message, true);
    $('key').select();
  }
  button.disabled = false;
});

$('logout').addEventListener('click', async () => {
  try {
    await data.logout();
  } catch (err) {
    if (err.status !== 401) return failed(err);
  }
  forget();
  end();
});

document.addEventListener('loggedout', () => {
  if (session) {
    end();
    say($('alert'), 'The session has ended.');
  }
});
document.addEventListener('problem', (event) => failed(event.detail));
addEventListener('hashchange', () => go(true));

data.session().then(begin, (err) => {
  end();
  failed(err);
});
