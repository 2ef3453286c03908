-- +goose Up

-- What forms said is looked up for all messages of a page, wherever they are.
CREATE INDEX events_accepted ON events (message_id, sender_domain) WHERE event = 'accepted';

-- +goose Down
DROP INDEX events_accepted;
