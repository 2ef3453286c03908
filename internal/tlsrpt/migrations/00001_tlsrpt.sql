-- +goose Up

-- What several relays have counted for TLS reports (RFC 8460) that they send
-- together. The submitter is the domain that reports come from: relays with
-- different ones may share a database, and not a report.
CREATE TABLE tlsrpt_submitters (
    submitter text COLLATE "C" PRIMARY KEY,
    salt      text NOT NULL -- makes Report-IDs unlike those of other databases
);

-- What every relay has told is here up to a day, for which reports can be made.
CREATE TABLE tlsrpt_relays (
    submitter text COLLATE "C" NOT NULL,
    relay     text COLLATE "C" NOT NULL, -- drawn at random by each installation
    name      text NOT NULL,             -- for people
    process   text NOT NULL,             -- drawn at each start: a relay that finds another one has a copy
    seen      timestamptz NOT NULL,
    through   date NOT NULL,             -- all of this day, and of those before, is here
    PRIMARY KEY (submitter, relay)
);

-- Files that have been added to the counts, so that none is added twice.
CREATE TABLE tlsrpt_parts (
    submitter text COLLATE "C" NOT NULL,
    part      text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    PRIMARY KEY (submitter, part)
);

CREATE TABLE tlsrpt_counts (
    submitter text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    id        bytea NOT NULL, -- hash of domain, policy and failure, which are too long for an index
    domain    text COLLATE "C" NOT NULL,
    policy    text NOT NULL,  -- JSON, as in the report
    failure   text NOT NULL,  -- JSON, as in the report; '' for sessions that were secured
    sessions  bigint NOT NULL,
    PRIMARY KEY (submitter, day, id)
);
CREATE INDEX tlsrpt_counts_domain ON tlsrpt_counts (submitter, day, domain);

-- How far the reports about a day have come.
CREATE TABLE tlsrpt_reports (
    submitter text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    domain    text COLLATE "C" NOT NULL,
    try       integer NOT NULL DEFAULT 0, -- attempts that have begun
    first     timestamptz,                -- the first one
    next      timestamptz NOT NULL,       -- when the next one may begin
    done      text NOT NULL DEFAULT '',   -- why there is nothing more to do
    PRIMARY KEY (submitter, day, domain)
);
CREATE INDEX tlsrpt_reports_next ON tlsrpt_reports (submitter, next) WHERE done = '';

-- Endpoints that took a report or refused it.
CREATE TABLE tlsrpt_told (
    submitter text COLLATE "C" NOT NULL,
    day       date NOT NULL,
    domain    text COLLATE "C" NOT NULL,
    endpoint  text COLLATE "C" NOT NULL,
    result    text NOT NULL,
    PRIMARY KEY (submitter, day, domain, endpoint)
);

-- +goose Down
DROP TABLE tlsrpt_told, tlsrpt_reports, tlsrpt_counts, tlsrpt_parts, tlsrpt_relays, tlsrpt_submitters;
