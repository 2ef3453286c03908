-- +goose Up

-- What a key of one domain asks is found by indexes that begin or go on with its
-- domain: an answer that came later, the more others had sent to a recipient,
-- would tell how much that is.
CREATE INDEX events_sender_domain_recipient ON events (sender_domain, recipient, ts);
DROP INDEX events_message_id;
CREATE INDEX events_message_id ON events (message_id, sender_domain);
DROP INDEX events_queue_id;
CREATE INDEX events_queue_id ON events (queue_id, sender_domain);

-- +goose Down
DROP INDEX events_queue_id;
CREATE INDEX events_queue_id ON events (queue_id);
DROP INDEX events_message_id;
CREATE INDEX events_message_id ON events (message_id);
DROP INDEX events_sender_domain_recipient;
