-- +goose Up
DROP INDEX events_recipient_domain;
CREATE INDEX events_recipient_domain ON events (part, recipient_domain, ts);

-- +goose Down
DROP INDEX events_recipient_domain;
CREATE INDEX events_recipient_domain ON events (recipient_domain, ts);
