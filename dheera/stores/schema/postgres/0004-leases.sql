-- Leases: one hold for many calls, which are paid out of it one by one as the ledger writes them. Its call_id is no call's.
-- The functions are those of 0003-allowances.sql, with what leases ask for.

alter table holds add column paid bigint not null default 0;  -- of a lease: what calls have cost that are in the ledger


-- Extend, release, and claim: AllowanceStore.turn. What is known of the rows is in arrays, so that it is read once and
-- written once however many calls there are. A lease is claimed and released as a call is.
create or replace function dheera_turn(turn jsonb) returns jsonb language plpgsql
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
    -- Calls that claim, those that have got something, and those that are over, with what they cost. A lease of which
    -- calls are not over lasts.
    calls     text[]          := array(select jsonb_array_elements(turn -> 'claims') ->> 'call_id');
    aheads    boolean[]       := array(
        select coalesce(cast(c ->> 'ahead' as boolean), false) from jsonb_array_elements(turn -> 'claims') as c
    );
    holding   text[]          := '{}';
    over_     text[];
    costs     bigint[];
    lasting   boolean[];
    -- Of these, those that hold nothing any more, and those of which the cost stays held.
    ended     text[]          := '{}';
    due       text[]          := '{}';
    nanos     bigint[]        := '{}';
    goes_on   boolean[]       := '{}';
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
    -- Of the releases of one call the first one counts; or, of a lease that lasts, the last one.
    select array_agg(call_id), array_agg(usd), array_agg(lasts_) into over_, costs, lasting
    from (
        select distinct on (call_id) call_id, usd, coalesce(r.lasts, false) as lasts_
        from rows from (jsonb_to_recordset(turn -> 'releases') as (call_id text, usd bigint, lasts boolean))
            with ordinality as r (call_id, usd, lasts, number)
        order by call_id, coalesce(r.lasts, false), case when r.lasts then -number else number end
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
            select h.call_id, kind, amount, released, expired, o.lasts, o.usd - h.paid as usd,
                concat_ws(chr(31), kind, starts_us, span, model, subject) as name
            from unnest(over_, costs, lasting) as o (call_id, usd, lasts),
                lateral (select * from holds where call_id = o.call_id and not released offset 0) as h
        loop
            spot := array_position(names, this.name);
            if spot is null then
                -- It was claimed while we looked.
                raise exception using errcode = 'serialization_failure';
            end if;
            had := this.kind = 'usd' and (this.usd > 0 or this.lasts);
            more := case when had then greatest(this.usd, 0) else 0 end - this.amount;
            if this.expired then
                useds[spot] := useds[spot] + more;
            else
                helds[spot] := helds[spot] + more;
            end if;
            changed[spot] := true;
            if not had then
                ended := array_append(ended, this.call_id);
            elsif this.call_id <> all(due) then
                due := array_append(due, this.call_id);
                nanos := array_append(nanos, greatest(this.usd, 0));
                goes_on := array_append(goes_on, this.lasts);
            end if;
        end loop;
        if cardinality(ended) > 0 then
            delete from holds
            where call_id = any(ended) and not released and (kind <> 'usd' or call_id <> all(due));
        end if;
        if cardinality(due) > 0 then
            update holds
            set amount = nanos[array_position(due, call_id)], released = not goes_on[array_position(due, call_id)],
                deadline_us = case
                    when goes_on[array_position(due, call_id)] then deadline_us else now_us + day_us
                end
            where call_id = any(due) and not released and kind = 'usd';
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
                news := not aheads[number] and not tolds[spot] and amounts[refused] <= limits[refused]
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
-- have a cost and hold nothing of them. Of what a lease holds each of its calls takes what it cost.
create or replace function dheera_concerned(paid jsonb)
returns table (subject text, kind text, span text, model text, starts_us bigint, used bigint, held bigint)
language sql stable as
$$
    select h.subject, h.kind, h.span, h.model, h.starts_us,
        case when h.kind <> 'usd' then 0 when h.expired then p.usd - ended else p.usd end,
        case when h.expired then 0 else -ended end
    from (
            select coalesce(lease, call_id) as id, lease is not null as is_lease, cast(sum(usd) as bigint) as usd
            from jsonb_to_recordset(paid) as each (call_id text, usd bigint, lease text)
            group by 1, 2
        ) as p,
        lateral (
            select *, case when is_lease then least(p.usd, amount) else amount end as ended from holds
            where call_id = p.id
            offset 0
        ) as h
    union all
    select a.subject, a.kind, a.span, a.model, a.starts_us, usd, 0
    -- No call began later than now, whatever the clock of its node says.
    from dheera_clock() as now_us,
        jsonb_to_recordset(paid)
            as p (call_id text, usd bigint, subjects jsonb, models jsonb, started_us bigint, lease text),
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
        where (h.call_id, h.subject, h.kind, h.span, h.model)
            = (coalesce(p.lease, p.call_id), a.subject, a.kind, a.span, a.model)
    ) is null
$$;


-- What the ledger has written becomes what is used: AllowanceStore says how. It comes last in the ledger's transaction.
create or replace function dheera_settle(paid jsonb) returns jsonb language plpgsql
    set enable_seqscan to off
    set plan_cache_mode to force_generic_plan
as $$
declare
    calls  constant text[] := array(select jsonb_array_elements(paid) ->> 'call_id');
    leases text[];
    costs  bigint[];
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
    select array_agg(lease), array_agg(usd) into leases, costs
    from (
        select lease, cast(sum(usd) as bigint) as usd from jsonb_to_recordset(paid) as each (lease text, usd bigint)
        where lease is not null
        group by lease
    ) as p;
    if cardinality(leases) > 0 then
        update holds h
        set paid = h.paid + costs[array_position(leases, call_id)],
            amount = greatest(amount - costs[array_position(leases, call_id)], 0)
        where call_id = any(leases);
        delete from holds where call_id = any(leases) and released and amount = 0;
    end if;
    return to_jsonb(grown);
end
$$;
