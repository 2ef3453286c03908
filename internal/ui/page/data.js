// Requests to the server. The session is in a cookie that scripts cannot read;
// changes bring its token along.

let token = '';
let own = ''; // domain, if the key is for one alone
let clock = 0; // seconds, the server's

// Failure is an answer that is not a success.
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(method, path, form) {
  const options = { method, headers: {}, credentials: 'same-origin', cache: 'no-store', redirect: 'error', signal: AbortSignal.timeout(60000) };
  if (method !== 'GET') options.headers['X-CSRF-Token'] = token || 'login';
  if (form) options.body = new URLSearchParams(form);
  let answer;
  try {
    answer = await fetch(`data/${path}`, options);
  } catch {
    throw new Failure(0, 'The server does not answer.');
  }
  clock = Date.parse(answer.headers.get('Date')) / 1000 || Date.now() / 1000;
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  if (answer.status === 401 && path !== 'login') document.dispatchEvent(new CustomEvent('loggedout'));
  throw new Failure(answer.status, typeof body.message === 'string' ? body.message : `The server answered ${answer.status}.`);
}

const get = (path, parameters) => {
  const query = new URLSearchParams(Object.entries(parameters ?? {}).filter(([, v]) => v !== '' && v !== undefined)).toString();
  return ask('GET', query ? `${path}?${query}` : path);
};

async function begin(answer) {
  const session = await answer;
  token = session.token;
  own = typeof session.domain === 'string' ? session.domain : '';
  return session;
}

export const now = () => clock;

// confined reports whether the key is one of a domain, which changes nothing.
export const confined = () => own !== '';

export const session = () => begin(get('session'));
export const login = (key) => begin(ask('POST', 'login', { key }));
export const logout = () => ask('POST', 'logout').finally(() => { token = ''; });

export const events = (parameters) => get('events', parameters);
export const eventsPage = (page, parameters) => get(`events/${encodeURIComponent(page)}`, parameters);
export const message = (id) => get(`messages/${encodeURIComponent(id)}`);
export const stats = (parameters) => get('stats', parameters);

export const domains = (parameters) => get('domains', parameters);
export const domain = (name) => get(`domains/${encodeURIComponent(name)}`);
export const setDomain = (name, change) => ask('PUT', `domains/${encodeURIComponent(name)}`, change);
