-- Allowances: what each key, user, team, member of a team, end user, and the whole proxy may still take. Kept by dheera,
-- and open to be read by anybody who may read these tables.
--
-- Budgets are in nano-dollars, times in microseconds since 1970-01-01T00:00:00Z by the clock of this server. How budgets
-- stand, as people read it:
--
--     select subject, span, model, used / 1e9 as used, held / 1e9 as held, cap / 1e9 as cap from allowances
--     where kind = 'usd' order by subject, span, model, starts_us;
--
-- All that dheera does with them it does with the functions below: each is one round trip, and takes its locks in one
-- order, so that any number of dheeras may do it at once. They find each other and the tables by the search path.


-- What was taken: one row for each window of a budget, and for each five seconds of a rate. Requests at the same time,
-- and what is locked for a rate, are in a row that starts at 0. Rows change with each call: with room for that on each page.
create table allowances (
    subject   text    collate "C" not null,                   -- key/ID, user/ID, team/ID, member/TEAM/USER, customer/ID, proxy
    kind      text    collate "C" not null,                   -- usd, requests, tokens, parallel
    span      text    collate "C" not null,                   -- of a budget: after which it begins anew; '': never
    model     text    collate "C" not null,                   -- name or pattern; '': all
    starts_us bigint  not null,                               -- 0: always
    ends_us   bigint  not null,                               -- when it counts no longer; 0: never
    used      bigint  not null,                               -- spent for good
    held      bigint  not null,                               -- by calls that are not over, or not yet in the ledger
    cap       bigint  not null,                               -- when it was last claimed
    soft      bigint,                                         -- somebody is told when so much is spent
    told      boolean not null,                               -- somebody was, that calls are refused since it is spent
    primary key (subject, kind, span, model, starts_us)
) with (fillfactor = 50);

-- What counts no longer, to forget it; and rows that may stand for nothing.
create index allowances_over on allowances (kind, ends_us) where ends_us > 0;
create index allowances_idle on allowances (kind) where starts_us = 0 and kind <> 'usd';


-- What each call holds of budgets, and of requests at the same time.
create table holds (
    call_id     text    collate "C" not null,                 -- as in the ledger
    subject     text    collate "C" not null,                 -- these five name a row of allowances
    kind        text    collate "C" not null,
    span        text    collate "C" not null,
    model       text    collate "C" not null,
    starts_us   bigint  not null,
    amount      bigint  not null,                             -- the most that it may cost; once it is over, what it cost
    owner       text    collate "C" not null,                 -- the process that serves it, from its start to its end
    deadline_us bigint  not null,                             -- counts as used from then on, unless the owner lives
    released    boolean not null,                             -- the call is over
    expired     boolean not null,                             -- its deadline is past, and its amount counts as used
    primary key (call_id, subject, kind, span, model)
) with (fillfactor = 70);

-- What an owner that lives holds on to.
create index holds_owner on holds (owner) where not released and not expired;
-- What nobody holds on to any more; and what has been so for long enough to be forgotten.
create index holds_deadline on holds (expired, deadline_us);
-- The same of requests at the same time, which count at once.
create index holds_parallel on holds (subject, deadline_us) where kind = 'parallel';


-- The clock of all who share this database.
create function dheera_clock() returns bigint language sql volatile as
$$ select cast(round(extract(epoch from clock_timestamp()) * 1000000) as bigint) $$;


-- What had been spent in a window before anybody counted.
create function dheera_spent_before(whose text, span_ text, model_ text, starts_us_ bigint, ends_us_ bigint)
returns bigint language plpgsql stable
    set enable_seqscan to off
as $$
declare
    day_us   constant bigint := 86400000000;
    sort     constant text   := split_part(whose, '/', 1);
    named    constant text   := substr(whose, length(sort) + 2);
    team     constant text   := replace(replace(split_part(named, '/', 1), '%2F', '/'), '%25', '%');
    member   constant text   := substr(named, strpos(named, '/') + 1);
    exact    constant text   := regexp_replace(model_, '^mistral/', '');
    endless  constant boolean := span_ = '' and model_ = '';
    since    constant date   := date '1970-01-01' + cast(starts_us_ / day_us as integer);
    result   bigint;
begin
    if not endless
        and (span_ = '' or starts_us_ % day_us <> 0 or ends_us_ % day_us <> 0 or strpos(model_, '*') > 0)
    then
        return 0;
    end if;
    case
        when sort = 'key' and endless then select spend into result from keys where id = named;
        when sort = 'user' and endless then select spend into result from users where id = named;
        when sort = 'team' and endless then select spend into result from teams where id = named;
        when sort = 'customer' and endless then select spend into result from customers where id = named;
        when sort = 'key' then
            select sum(cost) into result from daily
            where key_id = named and day >= since and (model_ = '' or model = exact);
        when sort = 'user' then
            select sum(cost) into result from daily
            where user_id = named and team_id = '' and day >= since and (model_ = '' or model = exact);
        when sort = 'team' then
            select sum(cost) into result from daily
            where team_id = named and day >= since and (model_ = '' or model = exact);
        when sort = 'member' then
            select sum(cost) into result from daily
            where team_id = team and user_id = member and day >= since
                and (model_ = '' or model = exact);
        when sort = 'customer' then
            select sum(cost) into result from daily
            where end_user = named and day >= since and (model_ = '' or model = exact);
        else
            select sum(cost) into result from daily where day >= since and (model_ = '' or model = exact);
    end case;
    -- No more than they have spent ever: the rest was spent by somebody who had the same id before.
    return least(
        coalesce(result, 0),
        case sort when 'key' then (select spend from keys where id = named) end,
        case sort when 'user' then (select spend from users where id = named)
            when 'member' then (select spend from users where id = member) end,
        case sort when 'team' then (select spend from teams where id = named)
            when 'member' then (select spend from teams where id = team) end,
        case sort when 'customer' then (select spend from customers where id = named) end
    );
end
$$;


-- The ledger writes what is spent, and then adds it to the budgets that there are; a budget that is new begins with what
-- the ledger has. Neither may happen in the midst of the other, or what is being written would be counted by neither.
create function dheera_settling() returns void language sql volatile as
$$ select pg_advisory_xact_lock_shared(110386840822369) $$;
create function dheera_beginning() returns void language sql volatile as
$$ select pg_advisory_xact_lock(110386840822369) $$;


-- Rows of allowances that are not there yet: in the order in which they will be locked.
create function dheera_begin(
    subjects text[], kinds text[], spans text[], models text[], starts bigint[], ends bigint[], caps bigint[],
    softs bigint[], missing boolean[]
) returns void language plpgsql
as $$
begin
    if 'usd' = any(kinds) then
        perform dheera_beginning();
    end if;
    insert into allowances (subject, kind, span, model, starts_us, ends_us, used, held, cap, soft, told)
    select s, k, p, m, t, e, case k when 'usd' then dheera_spent_before(s, p, m, t, e) else 0 end, 0, c, f, false
    from unnest(subjects, kinds, spans, models, starts, ends, caps, softs, missing) as w (s, k, p, m, t, e, c, f, o)
    where o
    order by s collate "C", k collate "C", p collate "C", m collate "C", t
    on conflict do nothing;
end
$$;


-- Extend, release, and claim: AllowanceStore.turn. What is known of the rows is in arrays, so that it is read once and
-- written once however many calls there are.
create function dheera_turn(turn jsonb) returns jsonb language plpgsql
    set enable_seqscan to off
    set plan_cache_mode to force_generic_plan
as $$
declare
    day_us    constant bigint := 86400000000;
    slice_us  constant bigint := 5000000;
    counts_us constant bigint := 65000000;   -- so long a slice counts: a minute and its own length
    now_us    bigint          := dheera_clock();
    slice_now bigint;
    lasts     constant bigint := turn ->> 'lasts_us';
    self      constant text   := turn ->> 'owner';
    -- Calls that claim, those that have got something, and those that are over, with what they cost.
    calls     text[]          := array(select jsonb_array_elements(turn -> 'claims') ->> 'call_id');
    holding   text[]          := '{}';
    over_     text[];
    costs     bigint[];
    -- Of these, those that hold nothing any more, and those of which the cost stays held.
    ended     text[]          := '{}';
    paid      text[]          := '{}';
    nanos     bigint[]        := '{}';
    -- Rows of allowances: that of a rate stands for its slices.
    names     text[]          := '{}';
    subjects  text[]          := '{}';
    kinds     text[]          := '{}';
    spans     text[]          := '{}';
    models    text[]          := '{}';
    starts    bigint[]        := '{}';
    ends      bigint[]        := '{}';
    caps      bigint[]        := '{}';
    softs     bigint[]        := '{}';
    missing   boolean[]       := '{}';
    wanted    integer[];
    useds     bigint[];                      -- null: there is no such row
    helds     bigint[];
    tolds     boolean[];
    changed   boolean[];
    latest    bigint[];                      -- of a rate: where the last slice begins in which something was taken
    added     bigint[];                      -- of a rate: to the current slice
    -- Shares, in the order of the claims.
    claims    integer[]       := '{}';
    rows_     integer[]       := '{}';
    limits    bigint[]        := '{}';
    amounts   bigint[]        := '{}';
    alerts    bigint[]        := '{}';
    begins    bigint[]        := '{}';
    until     bigint[]        := '{}';
    -- Holds that are new.
    new_calls text[]          := '{}';
    new_rows  integer[]       := '{}';
    new_nanos bigint[]        := '{}';
    -- Slices that are corrected: by how much, and what at least is left since nothing goes below 0.
    slices    text[]          := '{}';
    slice_of  integer[]       := '{}';
    slice_at  bigint[]        := '{}';
    changes   bigint[]        := '{}';
    leasts    bigint[]        := '{}';
    verdicts  jsonb[]         := '{}';
    standings jsonb[];
    before_   integer         := 0;
    last_     integer         := 0;
    spot      integer;
    refused   integer;
    had       boolean;
    turned    boolean;
    news      boolean;
    resets    bigint;
    more      bigint;
    this      record;
begin
    -- Of the releases of one call the first one counts.
    select array_agg(call_id), array_agg(usd) into over_, costs
    from (
        select distinct on (call_id) call_id, usd
        from rows from (jsonb_to_recordset(turn -> 'releases') as (call_id text, usd bigint))
            with ordinality as r (call_id, usd, number)
        order by call_id, number
    ) as r;

    for this in
        select *, concat_ws(chr(31), kind, starts_us, span, model, subject) as name,
            number > 0 and (
                select true from allowances a
                where (a.subject, a.kind, a.span, a.model, a.starts_us)
                    = (concerned.subject, concerned.kind, concerned.span, concerned.model, concerned.starts_us)
            ) is null as is_missing
        from (
            select number, place, allowance ->> 0 as subject, allowance ->> 1 as kind, allowance ->> 2 as span,
                allowance ->> 3 as model, case allowance ->> 1 when 'usd' then starts_us else 0 end as starts_us,
                ends_us, cap, amount, soft
            from rows from (jsonb_to_recordset(turn -> 'claims') as (shares jsonb))
                    with ordinality as c (shares, number),
                rows from (
                    jsonb_to_recordset(c.shares)
                    as (allowance jsonb, cap bigint, amount bigint, soft bigint, starts_us bigint, ends_us bigint)
                ) with ordinality as s (allowance, cap, amount, soft, starts_us, ends_us, place)
            union all
            select 0, 0, subject, kind, span, model, starts_us, 0, 0, 0, null from holds where call_id = any(over_)
            union all
            select 0, 0, allowance ->> 0, allowance ->> 1, allowance ->> 2, allowance ->> 3, 0, 0, 0, 0, null
            from jsonb_to_recordset(turn -> 'releases') as r (rates jsonb),
                jsonb_to_recordset(r.rates) as c (allowance jsonb)
        ) as concerned
        order by number, place
    loop
        spot := array_position(names, this.name);
        if spot is null then
            names := array_append(names, this.name);
            subjects := array_append(subjects, this.subject);
            kinds := array_append(kinds, this.kind);
            spans := array_append(spans, this.span);
            models := array_append(models, this.model);
            starts := array_append(starts, this.starts_us);
            ends := array_append(ends, this.ends_us);
            caps := array_append(caps, this.cap);
            softs := array_append(softs, this.soft);
            missing := array_append(missing, this.is_missing);
            spot := cardinality(names);
        elsif this.is_missing and not missing[spot] then
            missing[spot] := true;
            ends[spot] := this.ends_us;
            caps[spot] := this.cap;
            softs[spot] := this.soft;
        end if;
        if this.number > 0 then
            claims := array_append(claims, cast(this.number as integer));
            rows_ := array_append(rows_, spot);
            limits := array_append(limits, this.cap);
            amounts := array_append(amounts, this.amount);
            alerts := array_append(alerts, this.soft);
            begins := array_append(begins, this.starts_us);
            until := array_append(until, this.ends_us);
        end if;
    end loop;
    if true = any(missing) then
        -- Not for claims that are mistaken about a window.
        wanted := array(
            select n from unnest(rows_, claims) as s (n, number)
            where not exists (
                select from unnest(rows_, claims, begins, until) as o (n, number, b, e)
                where o.number = s.number and kinds[o.n] = 'usd' and (now_us < b or (e > 0 and now_us >= e))
            )
        );
        for number in 1 .. cardinality(missing) loop
            missing[number] := missing[number] and number = any(wanted);
        end loop;
    end if;
    if true = any(missing) then
        perform dheera_begin(subjects, kinds, spans, models, starts, ends, caps, softs, missing);
    end if;

    useds := array_fill(cast(null as bigint), array[cardinality(names)]);
    helds := useds;
    latest := array_fill(cast(0 as bigint), array[cardinality(names)]);
    added := latest;
    tolds := array_fill(false, array[cardinality(names)]);
    changed := tolds;
    for this in
        select n, a.*
        from (
            select * from unnest(subjects, kinds, spans, models, starts) with ordinality as w (s, k, p, m, t, n)
            order by s collate "C", k collate "C", p collate "C", m collate "C", t
        ) as w,
            lateral (
                select used, held, cap, soft, ends_us, told from allowances
                where (subject, kind, span, model, starts_us) = (s, k, p, m, t)
                for update
            ) as a
    loop
        spot := this.n;
        useds[spot] := this.used;
        helds[spot] := this.held;
        ends[spot] := this.ends_us;
        caps[spot] := this.cap;
        softs[spot] := this.soft;
        tolds[spot] := this.told;
    end loop;
    -- Only now: who waited for others must not be behind them.
    now_us := dheera_clock();
    slice_now := now_us - now_us % slice_us;

    if cast(turn ->> 'extends' as boolean) then
        -- What others have locked they are just ending.
        update holds set deadline_us = now_us + lasts
        where ctid = any(array(
            select ctid from holds
            where owner = self and not released and not expired
            for update skip locked
        ));
    end if;

    if exists (select from holds where not expired and deadline_us <= now_us) then
        for this in
            update holds set expired = true
            where not expired and deadline_us <= now_us
                and concat_ws(chr(31), kind, starts_us, span, model, subject) = any(names)
            returning concat_ws(chr(31), kind, starts_us, span, model, subject) as name, kind, amount
        loop
            spot := array_position(names, this.name);
            helds[spot] := helds[spot] - this.amount;
            useds[spot] := useds[spot] + case this.kind when 'usd' then this.amount else 0 end;
            changed[spot] := true;
        end loop;
        delete from holds where expired and kind <> 'usd' and deadline_us <= now_us;
    end if;

    if cardinality(over_) > 0 then
        for this in
            select h.call_id, kind, amount, released, expired, usd,
                concat_ws(chr(31), kind, starts_us, span, model, subject) as name
            from unnest(over_, costs) as o (call_id, usd),
                lateral (select * from holds where call_id = o.call_id and not released offset 0) as h
        loop
            spot := array_position(names, this.name);
            if spot is null then
                -- It was claimed while we looked.
                raise exception using errcode = 'serialization_failure';
            end if;
            had := this.kind = 'usd' and this.usd <> 0;
            more := case when had then this.usd else 0 end - this.amount;
            if this.expired then
                useds[spot] := useds[spot] + more;
            else
                helds[spot] := helds[spot] + more;
            end if;
            changed[spot] := true;
            if not had then
                ended := array_append(ended, this.call_id);
            elsif this.call_id <> all(paid) then
                paid := array_append(paid, this.call_id);
                nanos := array_append(nanos, this.usd);
            end if;
        end loop;
        if cardinality(ended) > 0 then
            delete from holds
            where call_id = any(ended) and not released and (kind <> 'usd' or call_id <> all(paid));
        end if;
        if cardinality(paid) > 0 then
            update holds
            set amount = nanos[array_position(paid, call_id)], released = true, deadline_us = now_us + day_us
            where call_id = any(paid) and not released and kind = 'usd';
        end if;
    end if;

    if turn @? '$.releases[*].rates[*]' then
        for this in
            select concat_ws(chr(31), allowance ->> 1, 0, allowance ->> 2, allowance ->> 3, allowance ->> 0) as name,
                at_us - at_us % slice_us as at_us, change
            from rows from (jsonb_to_recordset(turn -> 'releases') as (rates jsonb))
                    with ordinality as r (rates, number),
                rows from (jsonb_to_recordset(r.rates) as (allowance jsonb, at_us bigint, change bigint))
                    with ordinality as c (allowance, at_us, change, place)
            order by number, place
        loop
            spot := array_position(slices, this.at_us || this.name);
            if spot is null then
                slices := array_append(slices, this.at_us || this.name);
                slice_of := array_append(slice_of, array_position(names, this.name));
                slice_at := array_append(slice_at, this.at_us);
                changes := array_append(changes, this.change);
                leasts := array_append(leasts, cast(0 as bigint));
            else
                changes[spot] := changes[spot] + this.change;
                leasts[spot] := greatest(0, leasts[spot] + this.change);
            end if;
        end loop;
        for number in 1 .. cardinality(slices) loop
            spot := slice_of[number];
            update allowances set used = greatest(used + changes[number], leasts[number])
            where (subject, kind, span, model) = (subjects[spot], kinds[spot], spans[spot], models[spot])
                and starts_us = slice_at[number];
        end loop;
    end if;

    if kinds && array['requests', 'tokens'] then
        for this in
            select n, a.*
            from unnest(subjects, kinds, spans, models) with ordinality as w (s, k, p, m, n),
                lateral (
                    select cast(sum(used) as bigint) as used, max(starts_us) as latest from allowances
                    where (subject, kind, span, model) = (s, k, p, m) and used > 0
                        and starts_us > now_us - counts_us and starts_us between 1 and now_us
                ) as a
            where k in ('requests', 'tokens') and a.used > 0
        loop
            spot := this.n;
            useds[spot] := this.used;
            latest[spot] := this.latest;
        end loop;
    end if;

    if cardinality(calls) > 0 then
        holding := array(select distinct call_id from holds where call_id = any(calls));
    end if;
    for number in 1 .. cardinality(calls) loop
        before_ := last_;
        while claims[last_ + 1] = number loop
            last_ := last_ + 1;
        end loop;
        had := calls[number] = any(holding);
        refused := null;
        turned := false;
        news := false;
        if not had then
            for place in before_ + 1 .. last_ loop
                spot := rows_[place];
                turned := turned or useds[spot] is null or (
                    kinds[spot] = 'usd'
                    and (now_us < begins[place] or (until[place] > 0 and now_us >= until[place]))
                );
            end loop;
            if turned then
                verdicts := array_append(verdicts, jsonb_build_object('turned', true));
                continue;
            end if;
            for place in before_ + 1 .. last_ loop
                spot := rows_[place];
                if refused is null and useds[spot] + helds[spot] + amounts[place] > limits[place] then
                    refused := place;
                end if;
            end loop;
            if refused is null then
                for place in before_ + 1 .. last_ loop
                    spot := rows_[place];
                    if kinds[spot] <> 'usd' then
                        caps[spot] := limits[place];
                    end if;
                    if kinds[spot] in ('requests', 'tokens') then
                        useds[spot] := useds[spot] + amounts[place];
                        added[spot] := added[spot] + amounts[place];
                        latest[spot] := case when amounts[place] > 0 then slice_now else latest[spot] end;
                    elsif array_position(rows_, spot, before_ + 1) = place then
                        helds[spot] := helds[spot] + amounts[place];
                        changed[spot] := true;
                        new_calls := array_append(new_calls, calls[number]);
                        new_rows := array_append(new_rows, spot);
                        new_nanos := array_append(new_nanos, amounts[place]);
                        holding := array_append(holding, calls[number]);
                    end if;
                end loop;
            elsif kinds[rows_[refused]] = 'usd' then
                -- Not where calls under way hold what is left, nor where the budget is too small for the call at any time.
                spot := rows_[refused];
                news := not tolds[spot] and amounts[refused] <= limits[refused]
                    and useds[spot] + amounts[refused] > limits[refused];
                tolds[spot] := tolds[spot] or news;
                changed[spot] := changed[spot] or news;
            end if;
        end if;
        standings := '{}';
        for place in before_ + 1 .. last_ loop
            spot := rows_[place];
            -- What is taken of other kinds is soon forgotten: that a cap is another can wait until something is.
            if kinds[spot] = 'usd' and useds[spot] is not null and (
                caps[spot] <> limits[place] or ends[spot] <> until[place] or softs[spot] is distinct from alerts[place]
            ) then
                caps[spot] := limits[place];
                ends[spot] := until[place];
                softs[spot] := alerts[place];
                changed[spot] := true;
            end if;
            if place = refused and amounts[place] > limits[place] then
                resets := 0;
            elsif kinds[spot] not in ('requests', 'tokens') then
                resets := until[place];
            elsif place = refused then
                select min(t) + counts_us into resets
                from (
                    select t, useds[spot] - sum(n) over (order by t) as remains
                    from (
                        select starts_us, used from allowances
                        where (subject, kind, span, model) = (subjects[spot], kinds[spot], spans[spot], models[spot])
                            and starts_us > now_us - counts_us and starts_us between 1 and now_us
                        union all
                        select slice_now, added[spot]
                    ) as each (t, n)
                ) as freed
                where remains + amounts[place] <= limits[place];
            else
                resets := case latest[spot] when 0 then 0 else latest[spot] + counts_us end;
            end if;
            standings := array_append(standings, jsonb_build_object(
                'taken', coalesce(useds[spot] + helds[spot], 0), 'held', coalesce(helds[spot], 0), 'resets_us', resets
            ));
        end loop;
        verdicts := array_append(verdicts, jsonb_build_object(
            'refused', refused - before_ - 1, 'standings', to_jsonb(standings), 'turned', false, 'first', news
        ));
    end loop;

    if cardinality(new_calls) > 0 then
        insert into holds (
            call_id, subject, kind, span, model, starts_us, amount, owner, deadline_us, released, expired
        )
        select c, subjects[n], kinds[n], spans[n], models[n], starts[n], a, self, now_us + lasts, false, false
        from unnest(new_calls, new_rows, new_nanos) as h (c, n, a);
    end if;
    for number in 1 .. cardinality(names) loop
        if changed[number] then
            update allowances
            set used = case kind when 'usd' then greatest(useds[number], 0) else 0 end,
                held = greatest(helds[number], 0), cap = caps[number], soft = softs[number], ends_us = ends[number],
                told = tolds[number]
            where (subject, kind, span, model, starts_us)
                = (subjects[number], kinds[number], spans[number], models[number], starts[number]);
        end if;
    end loop;
    if 0 < any(added) then
        insert into allowances (subject, kind, span, model, starts_us, ends_us, used, held, cap, told)
        select s, k, p, m, slice_now, slice_now + counts_us, u, 0, c, false
        from unnest(subjects, kinds, spans, models, caps, added) as w (s, k, p, m, c, u)
        where u > 0
        on conflict (subject, kind, span, model, starts_us)
            do update set used = allowances.used + excluded.used, cap = excluded.cap;
    end if;
    return jsonb_build_object('at_us', now_us, 'verdicts', to_jsonb(verdicts));
end
$$;


-- What calls that are in the ledger have to do with: what they hold, and the windows of budgets in which they count if they
-- have a cost and hold nothing of them.
create function dheera_concerned(paid jsonb)
returns table (subject text, kind text, span text, model text, starts_us bigint, used bigint, held bigint)
language sql stable as
$$
    select h.subject, h.kind, h.span, h.model, h.starts_us,
        case when h.kind <> 'usd' then 0 when h.expired then usd - h.amount else usd end,
        case when h.expired then 0 else -h.amount end
    from jsonb_to_recordset(paid) as p (call_id text, usd bigint),
        lateral (select * from holds where call_id = p.call_id offset 0) as h
    union all
    select a.subject, a.kind, a.span, a.model, a.starts_us, usd, 0
    -- No call began later than now, whatever the clock of its node says.
    from dheera_clock() as now_us,
        jsonb_to_recordset(paid) as p (call_id text, usd bigint, subjects jsonb, models jsonb, started_us bigint),
        jsonb_array_elements_text(subjects) as s (name),
        lateral (
            select * from allowances
            where subject = s.name and kind = 'usd' and allowances.starts_us <= least(started_us, now_us)
                and (ends_us = 0 or least(started_us, now_us) < ends_us)
            offset 0
        ) as a
    where usd <> 0 and (
        a.model = '' or exists (
            select from jsonb_array_elements_text(models) as m (name)
            where m.name like replace(
                regexp_replace(regexp_replace(a.model, '^mistral/', ''), '([%_\\])', '\\\1', 'g'), '*', '%'
            )
        )
    ) and (
        select true from holds h
        where (h.call_id, h.subject, h.kind, h.span, h.model) = (p.call_id, a.subject, a.kind, a.span, a.model)
    ) is null
$$;


-- What the ledger has written becomes what is used: AllowanceStore says how. It comes last in the ledger's transaction.
create function dheera_settle(paid jsonb) returns jsonb language plpgsql
    set enable_seqscan to off
    set plan_cache_mode to force_generic_plan
as $$
declare
    calls  constant text[] := array(select jsonb_array_elements(paid) ->> 'call_id');
    grown  jsonb[] := '{}';
    this   record;
    before bigint;
    after_ bigint;
    limit_ bigint;
    alert  bigint;
begin
    perform dheera_settling();
    perform from (
        select distinct subject as s, kind as k, span as p, model as m, starts_us as t from dheera_concerned(paid)
        order by s, k, p, m, t
    ) as w,
        lateral (
            select from allowances where (subject, kind, span, model, starts_us) = (s, k, p, m, t) for update
        ) as a;
    for this in
        select subject as s, kind as k, span as p, model as m, starts_us as t, cast(sum(used) as bigint) as used,
            cast(sum(held) as bigint) as held
        from dheera_concerned(paid)
        group by s, k, p, m, t
        order by s, k, p, m, t
    loop
        select used, cap, soft into before, limit_, alert from allowances
        where (subject, kind, span, model, starts_us) = (this.s, this.k, this.p, this.m, this.t);
        update allowances set used = greatest(used + this.used, 0), held = greatest(held + this.held, 0)
        where (subject, kind, span, model, starts_us) = (this.s, this.k, this.p, this.m, this.t)
        returning used into after_;
        if after_ <> before then
            grown := array_append(grown, jsonb_build_object(
                'allowance', jsonb_build_array(this.s, this.k, this.p, this.m), 'before', before, 'after', after_,
                'cap', limit_, 'soft', alert
            ));
        end if;
    end loop;
    delete from holds where call_id = any(calls);
    return to_jsonb(grown);
end
$$;


-- End the holds whose deadline is past, and forget what nobody needs any more: AllowanceStore.sweep.
create function dheera_sweep(_ jsonb) returns jsonb language plpgsql
    set enable_seqscan to off
    set plan_cache_mode to force_generic_plan
as $$
declare
    now_us    constant bigint := dheera_clock();
    day_us    constant bigint := 86400000000;
    minute_us constant bigint := 60000000;
    result    bigint          := 0;
    this      record;
begin
    perform from (
        select distinct subject as s, kind as k, span as p, model as m, starts_us as t from holds
        where not expired and deadline_us <= now_us
        order by s, k, p, m, t
    ) as w,
        lateral (
            select from allowances where (subject, kind, span, model, starts_us) = (s, k, p, m, t) for update
        ) as a;
    for this in
        with due as (
            update holds set expired = true where not expired and deadline_us <= now_us
            returning subject, kind, span, model, starts_us, amount
        )
        select subject as s, kind as k, span as p, model as m, starts_us as t, cast(sum(amount) as bigint) as amount,
            count(*) as number
        from due
        group by s, k, p, m, t
    loop
        update allowances
        set held = greatest(held - this.amount, 0), used = used + case kind when 'usd' then this.amount else 0 end
        where (subject, kind, span, model, starts_us) = (this.s, this.k, this.p, this.m, this.t);
        result := result + this.number;
    end loop;
    delete from holds where expired and kind <> 'usd' and deadline_us <= now_us;

    -- From here on it waits for nobody.
    delete from holds where ctid = any(array(
        select ctid from holds
        where expired and deadline_us <= now_us - 35 * day_us
        for update skip locked
    ));
    delete from allowances where ctid = any(array(
        select ctid from allowances
        where ends_us > 0 and (
            kind = 'usd' and ends_us <= now_us - 2 * day_us
            or kind in ('requests', 'tokens') and ends_us <= now_us - minute_us
        )
        for update skip locked
    ));
    -- Who waits for one of these meanwhile makes another one.
    delete from allowances where ctid = any(array(
        select ctid from allowances a
        where starts_us = 0 and kind <> 'usd' and held = 0 and not exists (
            select from allowances s
            where (s.subject, s.kind, s.span, s.model) = (a.subject, a.kind, a.span, a.model) and s.starts_us > 0
        )
        for update skip locked
    ));
    -- Of end users whom anybody may invent, those of whom nothing was ever paid. It goes through many rows.
    if now_us % 3600000000 < 2 * minute_us then
        delete from allowances where ctid = any(array(
            select ctid from allowances
            where subject >= 'customer/' and subject < 'customer0' and kind = 'usd' and ends_us = 0
                and used = 0 and held = 0
            for update skip locked
        ));
    end if;
    return to_jsonb(result);
end
$$;


-- Give back what dead owners hold, or held at its deadline: AllowanceStore.forget. It is rarely asked for, so that no index
-- serves it.
create function dheera_forget(owners jsonb) returns jsonb language plpgsql
as $$
declare
    dead   constant text[] := array(select jsonb_array_elements_text(owners));
    result bigint          := 0;
    this   record;
begin
    perform from (
        select distinct subject as s, kind as k, span as p, model as m, starts_us as t from holds
        where owner = any(dead)
        order by s, k, p, m, t
    ) as w,
        lateral (
            select from allowances where (subject, kind, span, model, starts_us) = (s, k, p, m, t) for update
        ) as a;
    for this in
        with gone as (
            delete from holds where owner = any(dead)
            returning subject, kind, span, model, starts_us, amount, expired
        )
        select subject as s, kind as k, span as p, model as m, starts_us as t, count(*) as number,
            cast(coalesce(sum(amount) filter (where expired), 0) as bigint) as used,
            cast(coalesce(sum(amount) filter (where not expired), 0) as bigint) as held
        from gone
        group by s, k, p, m, t
        order by s, k, p, m, t
    loop
        update allowances set used = greatest(used - this.used, 0), held = greatest(held - this.held, 0)
        where (subject, kind, span, model, starts_us) = (this.s, this.k, this.p, this.m, this.t);
        result := result + this.number;
    end loop;
    return to_jsonb(result);
end
$$;


-- How all allowances of some subjects stand in their latest windows: AllowanceStore.look.
create function dheera_look(wanted jsonb) returns jsonb language plpgsql stable
    set enable_seqscan to off
as $$
declare
    now_us constant bigint := dheera_clock();
    named  constant text[] := array(select jsonb_array_elements_text(wanted));
    result jsonb;
begin
    select jsonb_agg(
        jsonb_build_object(
            'allowance', jsonb_build_array(subject, kind, span, model), 'used', used, 'held', held, 'cap', cap,
            'starts_us', starts_us, 'ends_us', ends_us
        )
        order by subject, kind, span, model
    )
    into result
    from (
        (
            select distinct on (subject, kind, span, model)
                subject, kind, span, model, used, held, cap, starts_us, ends_us
            from allowances
            where subject = any(named) and kind = 'usd'
            order by subject, kind, span, model, starts_us desc
        )
        union all
        select subject, kind, span, model, cast(sum(used) as bigint) as used, sum(held) as held,
            (array_agg(cap order by starts_us desc))[1] as cap, min(starts_us) as starts_us, max(ends_us) as ends_us
        from allowances
        where subject = any(named) and (
            kind = 'parallel' and held > 0
            or kind in ('requests', 'tokens') and used > 0 and starts_us <= now_us and now_us < ends_us
        )
        group by subject, kind, span, model
    ) as counts;
    return coalesce(result, '[]');
end
$$;


-- What somebody has spent is set anew: what they have used of their budgets for all models, in their latest windows, is as
-- much. It comes last in the directory's transaction, and a budget that begins meanwhile waits for that.
create function dheera_reset(said jsonb) returns jsonb language plpgsql
as $$
declare
    whose constant text   := said ->> 0;
    nano  constant bigint := said ->> 1;
begin
    perform dheera_settling();
    perform from allowances where subject = whose and kind = 'usd' and model = '' order by span, starts_us for update;
    update allowances a set used = nano, told = false
    where subject = whose and kind = 'usd' and model = '' and starts_us = (
        select max(starts_us) from allowances
        where (subject, kind, span, model) = (a.subject, a.kind, a.span, a.model)
    );
    -- What was given up is in what was used until now, and forgotten with it: a record that comes late must not lower
    -- that.
    delete from holds h
    where expired and subject = whose and kind = 'usd' and model = '' and starts_us = (
        select max(starts_us) from allowances
        where (subject, kind, span, model) = (h.subject, h.kind, h.span, h.model)
    );
    return 'null';
end
$$;


-- A team, user or end user is no more: nor is what was counted of them, and of members. It comes last, as above.
create function dheera_remove(said jsonb) returns jsonb language plpgsql
as $$
declare
    gone   constant text := said #>> '{}';
    sort   constant text := split_part(gone, '/', 1);
    named  constant text := substr(gone, length(sort) + 2);
    team   constant text := 'member/' || replace(replace(named, '%', '%25'), '/', '%2F');
    -- Between these are those of members; "0" comes after "/".
    first_ constant text := case sort when 'team' then team || '/' when 'user' then 'member/' else '' end;
    last_  constant text := case sort when 'team' then team || '0' when 'user' then 'member0' else '' end;
    doomed text[];
begin
    perform dheera_settling();
    doomed := array(
        select distinct subject from (select subject from allowances union all select subject from holds) as each
        where subject >= first_ and subject < last_
            and (sort = 'team' or substr(subject, 8 + strpos(substr(subject, 8), '/')) = named)
    ) || gone;
    perform from allowances where subject = any(doomed)
    order by subject, kind, span, model, starts_us
    for update;
    delete from holds where subject = any(doomed);
    delete from allowances where subject = any(doomed);
    return 'null';
end
$$;
