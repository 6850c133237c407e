-- The ledger: what each call was, and what was spent, by whom, on which day. Kept by dheera, and open to be read by anybody
-- who may read this file. What clients wrote and what they were answered is not here.
--
-- Amounts are whole nano-dollars, as in the directory. Times are whole microseconds since 1970-01-01T00:00:00Z: there are
-- many of them, and in five indexes. Days are texts, 2026-01-31, in UTC. To read lines as people do:
--
--     select datetime(started_us / 1000000, 'unixepoch'), key_alias, model, outcome, cost / 1e9 from ledger
--     order by started_us desc limit 20;
--
-- Texts that come from outside are cut at 256 bytes: what is longer ends with ~ and the beginning of its SHA-256.


-- One line for each call. Old ones are deleted (ledger.keep_days); the sums below stay.
create table ledger (
    call_id       text    not null primary key,    -- what the client saw as x-dheera-call-id
    started_us    integer not null,
    duration_us   integer not null,
    first_byte_us integer,                         -- until upstream began to answer; null: it never did
    key_id        text,                            -- null: the master key, or nobody's
    key_alias     text    not null,                -- what the key was called then
    user_id       text,
    team_id       text,
    end_user      text,                            -- whom the caller said it was for
    model         text,                            -- that answered, or else that was asked for
    endpoint      text    not null,                -- chat/completions, files, other
    outcome       text    not null,                -- complete, client_left, upstream_cut, refused, interrupted
    status        integer,                         -- that the client was answered; null: none
    error         text,                            -- what upstream or dheera called it; null: nobody did
    failed        integer not null,                -- 1: refused, or broken off, or answered with an error
    estimated     integer not null,                -- 1: upstream did not say what was used
    cost          integer,                         -- nano-dollars; null: there is no price
    price_list    text,                            -- which made the cost; billed-before: what was billed with another line
    usage         text,                            -- JSON; what is 0 is left out; null: nothing
    tags          text,                            -- each between line breaks, also before the first and after the last
    client        text    not null,                -- the address that the call came from
    node          text    not null,                -- the dheera that served it
    upstream_id   text
);

-- Each index is paid for with each call. The latest lines; lines of some time; the oldest, to delete them. What else lines
-- are chosen by (outcome, status, tags) is looked for within a time. Models are few, and most lines are of some two or
-- three of them, so that theirs are found by time as well; and they are counted in this index alone.
create index ledger_started on ledger (started_us, model);
-- The lines of one key, user, team or end user, who are many, and of whom most have few lines. Where a call has none of
-- them, it has no place in that index.
create index ledger_key on ledger (key_id, started_us) where key_id is not null;
create index ledger_user on ledger (user_id, started_us) where user_id is not null;
create index ledger_team on ledger (team_id, started_us) where team_id is not null;
create index ledger_end_user on ledger (end_user, started_us) where end_user is not null;
-- What went wrong: few lines, far apart.
create index ledger_failed on ledger (started_us) where failed;


-- What is billed once only, however often it is fetched: outputs of batches. It outlives the line that it was billed with.
create table billed (
    once    text not null primary key,
    call_id text not null
) without rowid;


-- Sums of the lines of each day (UTC). Never deleted. '' where there is none.
create table daily (
    day               text    not null,
    key_id            text    not null,
    user_id           text    not null,
    team_id           text    not null,
    end_user          text    not null,
    model             text    not null,
    endpoint          text    not null,
    requests          integer not null,            -- of which:
    failed            integer not null,            -- refused, or broken off, or answered with an error
    unpriced          integer not null,            -- reached upstream, and have no price
    estimated         integer not null,
    prompt_tokens     integer not null,
    cached_tokens     integer not null,
    completion_tokens integer not null,
    total_tokens      integer not null,
    pages             integer not null,            -- with those that were annotated
    audio_ms          integer not null,
    characters        integer not null,
    cost              integer not null,            -- nano-dollars
    primary key (day, key_id, user_id, team_id, end_user, model, endpoint)
);

-- The days of one key, user, team or end user.
create index daily_key on daily (key_id, day);
create index daily_user on daily (user_id, day);
create index daily_team on daily (team_id, day);
create index daily_end_user on daily (end_user, day);


-- The same by tags. A call with two tags is in two rows, and one without is in none.
create table daily_tags (
    day               text    not null,
    tag               text    not null,
    key_id            text    not null,
    model             text    not null,
    requests          integer not null,
    failed            integer not null,
    unpriced          integer not null,
    estimated         integer not null,
    prompt_tokens     integer not null,
    cached_tokens     integer not null,
    completion_tokens integer not null,
    total_tokens      integer not null,
    pages             integer not null,
    audio_ms          integer not null,
    characters        integer not null,
    cost              integer not null,
    primary key (day, tag, key_id, model)
) without rowid;

-- The days of one tag.
create index daily_tags_tag on daily_tags (tag, day);
