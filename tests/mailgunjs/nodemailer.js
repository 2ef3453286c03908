// Does with Nodemailer and its transport for Mailgun what their users do, against
// the base URL, and prints what it got as JSON. TestNodemailer runs it.
//
//     node nodemailer.js URL SENDING_KEY

import nodemailer from 'nodemailer';
import mailgun from 'nodemailer-mailgun-transport';

const [url, key] = process.argv.slice(2);
const transport = nodemailer.createTransport(mailgun({ url, auth: { api_key: key, domain: 'example.com' } }));
const message = { from: { name: 'Ann', address: 'a@example.com' }, to: 'b@example.net', subject: 'a secret', text: 'a secret body' };
const result = {};

result.sent = await transport.sendMail({
  ...message,
  to: [{ name: 'Bob', address: 'b@example.net' }, 'c@example.net'],
  replyTo: 'r@example.com',
  messageId: '<own@example.com>',
  html: '<p>a secret body <img src="cid:logo.png"></p>',
  attachments: [
    { filename: 'bücher.txt', content: 'a list', contentType: 'text/plain' },
    { cid: 'logo.png', content: 'iVBORw0KGgo=', encoding: 'base64', contentType: 'image/png' },
  ],
  'o:tag': ['bills', 'two words'],
  'o:tracking': 'no',
  'o:require-tls': 'no',
  'v:order': '42',
  'h:X-Note': 'note',
});
result.refused = await transport.sendMail({ ...message, template: 'welcome' }).then(() => 'it worked', (e) => `${e.status} ${e.details || e.message}`);

console.log(JSON.stringify(result));
