// Does with mailgun.js what its users do, against the base URL, and prints what
// it got as JSON. TestMailgunJS runs it and looks at the result.
//
//     node client.js URL FULL_KEY SENDING_KEY form-data|built-in

import Mailgun from 'mailgun.js';
import FormDataPackage from 'form-data';

const [url, fullKey, sendingKey, kind] = process.argv.slice(2);
const domain = 'example.com';
const mailgun = new Mailgun(kind === 'form-data' ? FormDataPackage : FormData);
const full = mailgun.client({ username: 'api', key: fullKey, url });
const sender = mailgun.client({ username: 'api', key: sendingKey, url });
const result = {};

// refused returns status and text of the error that a call must end with.
async function refused(call) {
  try {
    await call();
    return 'it worked';
  } catch (e) {
    return `${e.status} ${e.details || e.message}`;
  }
}

const message = { from: 'Ann <a@example.com>', to: ['b@example.net'], subject: 'a secret', text: 'a secret body' };

// told waits until there are so many events: what is decided about a message is
// decided before settings change.
const deadline = Date.now() + 50000;
async function told(n) {
  for (;;) {
    const { items } = await full.events.get(domain, { limit: 300 });
    if (items.length >= n || Date.now() > deadline) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

result.before = await full.domains.getConnection(domain);
result.plain = await sender.messages.create(domain, {
  ...message,
  to: ['b@example.net', 'C <c@example.net>'],
  html: '<p>a secret body</p>',
  attachment: [{ data: Buffer.from('%PDF'), filename: 'bill.pdf', contentType: 'application/pdf' }],
  'o:tag': ['bills', 'ünï'],
  'o:tracking': false,
  'h:X-Note': 'ünï',
  'v:order': '42',
});
result.strict = await sender.messages.create(domain, { ...message, 'o:require-tls': true, 'o:skip-verification': 'yes' });
await told(6); // of three recipients
result.updated = await full.domains.updateConnection(domain, { require_tls: true });
result.after = await full.domains.getConnection(domain);
result.mime = await sender.messages.create(domain, {
  to: ['b@example.net'],
  message: 'From: a@example.com\r\nSubject: a secret\r\n\r\na secret body\r\n',
});
await told(8);
result.putDomain = await full.domains.update(domain, { require_tls: false, skip_verification: true });
const got = await full.domains.get(domain);
result.domain = { name: got.name, state: got.state, require_tls: got.require_tls, skip_verification: got.skip_verification };
result.domains = (await full.domains.list()).map((d) => d.name);

result.refused = {
  deliverytime: await refused(() => full.messages.create(domain, { ...message, 'o:deliverytime': 'Sat, 13 Oct 2211 18:02:00 +0000' })),
  forbidden: await refused(() => sender.messages.create('example.org', message)),
  key: await refused(() => sender.domains.getConnection(domain)),
  block: await refused(() => full.domains.updateConnection('block.example', { require_tls: false })),
};

result.pages = [];
let page = await full.events.get(domain, { limit: 3, ascending: 'yes' });
for (;;) {
  result.pages.push(page.items.map((e) => e.id));
  if (page.items.length === 0) {
    break;
  }
  page = await full.events.get(domain, { page: page.pages.next.page });
}
page = await full.events.get(domain, { page: page.pages.previous.page });
result.previous = page.items.map((e) => e.id);
page = await full.events.get(domain, { event: 'delivered', recipient: 'c@example.net' });
result.delivered = page.items.map((e) => e['delivery-status']);

console.log(JSON.stringify(result));
