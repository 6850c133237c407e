-- The directory: who may call what. Kept by dheera, and open to be read by anybody who may read this file.
--
-- Times are texts in UTC, always as wide as 2026-01-31T23:59:59.000000Z, so that they sort as they follow each other.
-- Amounts are whole nano-dollars: 1 US dollar is 1000000000. Booleans are 0 and 1.
--
-- `document` is the whole entity as JSON, with amounts as texts in dollars. Where there is a column for a field, the
-- column is the truth, and what the document says of that field is not read. So one may change a column by hand:
--
--     update keys set blocked = 1, version = version + 1 where alias = 'ci';
--     insert into changes (kind, id) values ('', '');
--
-- The second line tells the running dheeras to look again; without it they go on with what they remember, for a while.


-- Virtual keys. A deleted one stays, since the ledger names it.
create table keys (
    id              text    not null primary key,  -- stays the same when the key is regenerated
    version         integer not null,              -- how often it was changed
    created_at      text    not null,
    updated_at      text    not null,
    digest          text    not null,              -- SHA-256, in hexadecimal, of the key in force; the key itself is nowhere
    name            text    not null,              -- as it may be shown: sk-... and four characters
    alias           text,                          -- what people call it
    user_id         text,                          -- a user, who need not be in our table
    team_id         text,                          -- a team, likewise
    organization_id text,
    budget_id       text,
    key_type        text    not null,
    blocked         integer not null,
    expires_at      text,                          -- null: never
    deleted_at      text,                          -- null: it lives
    deleted_by      text,                          -- who deleted it, as the audit names them
    spend           integer not null,              -- nano-dollars
    document        text    not null
);

-- No two keys that live have the same alias.
create unique index keys_alias on keys (alias) where deleted_at is null;
-- List of keys, and their number.
create index keys_living on keys (created_at desc, id) where deleted_at is null;
-- List of deleted keys.
create index keys_deleted on keys (created_at desc, id) where deleted_at is not null;
-- The key with a digest, as clients of the API may name keys.
create index keys_digest on keys (digest);
-- Keys of one user, team, organization or budget; to list them, and to retire them.
create index keys_user on keys (user_id, created_at desc, id) where deleted_at is null and user_id is not null;
create index keys_team on keys (team_id, created_at desc, id) where deleted_at is null and team_id is not null;
create index keys_organization on keys (organization_id, created_at desc, id)
    where deleted_at is null and organization_id is not null;
create index keys_budget on keys (budget_id, created_at desc, id) where deleted_at is null and budget_id is not null;


-- What opens a key: the digest in force, and those that live on after a rotation.
create table digests (
    digest text not null primary key,              -- SHA-256 in hexadecimal
    key_id text not null references keys,
    until  text                                    -- opens nothing from then on; null: it is the one in force
) without rowid;

-- The digests of a key, to end them.
create index digests_key on digests (key_id);


-- People who own keys.
create table users (
    id         text    not null primary key,
    version    integer not null,                   -- as in keys, here and below
    created_at text    not null,
    updated_at text    not null,
    alias      text,
    email      text,
    role       text,
    spend      integer not null,                   -- nano-dollars, here and below
    document   text    not null
);

-- List of users.
create index users_created on users (created_at desc, id);


-- People who share keys and limits.
create table teams (
    id              text    not null primary key,
    version         integer not null,
    created_at      text    not null,
    updated_at      text    not null,
    alias           text,
    organization_id text,
    blocked         integer not null,              -- the keys of a blocked team open nothing
    spend           integer not null,
    document        text    not null
);

-- List of teams.
create index teams_created on teams (created_at desc, id);


-- End users, whom the programs of developers name in their calls.
create table customers (
    id         text    not null primary key,
    version    integer not null,
    created_at text    not null,
    updated_at text    not null,
    alias      text,
    blocked    integer not null,
    budget_id  text,
    spend      integer not null,
    document   text    not null
);

-- List of customers.
create index customers_created on customers (created_at desc, id);


-- Limits with a name.
create table budgets (
    id         text    not null primary key,
    version    integer not null,
    created_at text    not null,
    updated_at text    not null,
    spend      integer not null,
    document   text    not null
);

-- List of budgets.
create index budgets_created on budgets (created_at desc, id);


-- Who did what. Lines are added, and never changed.
create table audit (
    id       text not null primary key,            -- UUIDv7: ordered by time
    at       text not null,
    actor    text not null,                        -- the master key, or the alias of a key
    action   text not null,                        -- key.generate, team.block
    kind     text not null,                        -- of what it was done to: key, team
    subject  text not null,                        -- the id of what it was done to
    document text not null                         -- the line as JSON: also where from, and what was there before and after
);

-- The latest lines.
create index audit_at on audit (at desc, id);
-- What happened to one entity.
create index audit_subject on audit (kind, subject, at desc, id);
-- What one caller did.
create index audit_actor on audit (actor, at desc, id);


-- News for the other processes on this file: they look for rows that they have not seen, four times a second. Old rows
-- are deleted; who was away for so long that some are missing forgets all that it remembers.
create table changes (
    serial integer not null primary key autoincrement,  -- never given twice
    kind   text not null,                          -- key, user, team, customer, budget; empty: anything may have changed
    id     text not null
);
