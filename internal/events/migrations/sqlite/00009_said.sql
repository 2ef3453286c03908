-- +goose Up

-- What forms said is looked up for all messages of a batch or a page, and events
-- are asked for by it. Who does not use tags pays nothing.
CREATE INDEX events_said ON events (message_id, sender_domain, ts) WHERE event = 'accepted' AND tags <> '';
CREATE INDEX events_tagged ON events (sender_domain, ts, tags) WHERE tags <> '';

-- +goose Down
DROP INDEX events_tagged;
DROP INDEX events_said;
