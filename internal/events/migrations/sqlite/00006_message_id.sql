-- +goose Up
DROP INDEX events_message_id;
CREATE INDEX events_message_id ON events (part, message_id, sender_domain, ts);

-- +goose Down
DROP INDEX events_message_id;
CREATE INDEX events_message_id ON events (message_id, sender_domain);
