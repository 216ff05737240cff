/*
 * request_claim.sql
 *	  What the sender takes: lanes with due work, claims, bodies rendered at the last moment.
 */

-- Inner, sender: accounts and operations with due requests, when the next of each is due, and all that sending needs
-- but the secrets. A loose index scan: its cost follows the lanes with work, not accounts or requests.
create function amzmp._lanes()
    returns table (account_id bigint, operation text, next_at timestamptz, method text, path text, endpoint text,
        after_lost_answer text, apply_in text, grantless_scope text, application_id bigint, generation bigint,
        rate float8, burst float8, app_class text, app_rate float8, app_burst float8, sandbox boolean, plan text,
        time_scale float8, feed_type text, feed_rate float8, feed_burst float8, feed_replaces boolean)
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_column
begin
    return query
    with recursive lane as (
        (select r.account_id, r.operation from amzmp.request r where r.state = 'due'
          order by r.account_id, r.operation limit 1)
        union all
        select n.account_id, n.operation
          from lane l,
               lateral (select r.account_id, r.operation from amzmp.request r
                         where r.state = 'due' and (r.account_id, r.operation) > (l.account_id, l.operation)
                         order by r.account_id, r.operation limit 1) n
    )
    select l.account_id, l.operation, n.next_at,
           o.method, o.path, case when l.operation = 'exchangeAuthorizationCode' then a.token_endpoint
                               when o.api = 'sqs' then amzmp._queue_url(l.account_id)
                               when o.api = 'alarm' then '' else a.endpoint end,
           o.after_lost_answer, o.apply_in, o.grantless_scope, a.application_id,
           a.generation + p.generation,
           (coalesce(o.rate, 1) * a.rate_scale * a.time_scale)::float8, coalesce(o.burst, 1)::float8,
           o.app_class, (o.app_rate * a.rate_scale * a.time_scale)::float8, o.app_burst::float8, a.mode = 'sandbox',
           o.plan, a.time_scale::float8, t.name, (t.rate * a.rate_scale * a.time_scale)::float8, t.burst::float8,
           t.replaces_operation_plan
      from lane l
      join amzmp.account a using (account_id)
      join amzmp.application p using (application_id)
      join amzmp.operation o on o.name = l.operation
      -- an operation for one type of feeds (feed.sql)
      left join amzmp.feed_type t on t.name = nullif(split_part(l.operation, ':', 2), '')
      cross join (select (select amzmp._is_fenced()) as fenced, exists (select from amzmp.identity) as known) here
      cross join lateral (
        -- asked once for the account, so that what a hold keeps back is not walked through
        select r.not_before as next_at from amzmp.request r
         where r.account_id = l.account_id and r.operation = l.operation and r.state = 'due'
           and (o.api = 'alarm' or not exists (select from amzmp.hold h where h.account_id = l.account_id and h.channel_id = 0))
           and (o.api = 'alarm' or not exists (select from amzmp.hold h where h.account_id = r.account_id and h.channel_id = r.channel_id))
         order by r.account_id, r.operation, r.not_before limit 1) n
     -- consent is what makes an account active and valid in the first place, a new client secret comes by the queue, and people
     -- are told that it is not
     where case when o.api = 'sqs' then a.active and a.state <> 'dropped' and not here.fenced
                when o.api = 'alarm' then a.state <> 'dropped' and not here.fenced
                when l.operation = 'exchangeAuthorizationCode' then a.state <> 'dropped' and not (here.fenced and here.known)
                else a.active and a.state <> 'invalid' and not here.fenced end;
end
$$;

-- Inner, sender: has a lane requests that wait, be it for their time or for the end of a hold?
create function amzmp._lane_waits(account_id bigint, operation text) returns boolean
    language plpgsql stable parallel restricted set search_path = pg_catalog, pg_temp
    as $$
begin
    return exists (select from amzmp.request r
                    where r.account_id = _lane_waits.account_id and r.operation = _lane_waits.operation and r.state = 'due');
end
$$;

-- Inner, sender: the secrets of an account's token request, opened.
create function amzmp._token_context(account_id bigint)
    returns table (token_endpoint text, client_id text, client_secret text, refresh_token text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    return query
    select a.token_endpoint, p.client_id,
           amzmp._open(p.client_secret, 'client_secret', 'application:' || p.application_id),
           amzmp._open(a.refresh_token, 'refresh_token', 'account:' || a.account_id)
      from amzmp.account a
      join amzmp.application p using (application_id)
     where a.account_id = _token_context.account_id;
end
$$;

-- Inner: the bodies of a set of claimed requests, by their render function.
create function amzmp._render(render_function text, claimed amzmp.request[]) returns amzmp.rendered[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    done amzmp.rendered[];
begin
    execute format('select array_agg(row(x.request_id, x.params, x.body)::amzmp.rendered) from amzmp.%I($1) x', render_function)
       into done using claimed;
    return done;
end
$$;

-- Inner: the same one by one, because one of them fails: that one ends with the error, its neighbours are sent.
create function amzmp._render_alone(account_id bigint, render_function text, claimed amzmp.request[])
    returns amzmp.rendered[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    one amzmp.request;
    done amzmp.rendered[];
    failed_state text;
    failed_text text;
begin
    foreach one in array claimed
    loop
        begin
            done := done || amzmp._render(render_function, array[one]);
        exception when others then
            get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
            perform amzmp._complete_failed(account_id, one.request_id, null, failed_state, failed_text);
        end;
    end loop;
    return done;
end
$$;

-- Inner: the claim proper: up to `most` due requests of a lane, most urgent first, marked as being sent.
create function amzmp._take(account_id bigint, operation text, most integer) returns amzmp.request[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    claimed amzmp.request[];
begin
    with picked as (
        select r.request_id from amzmp.request r
         where r.account_id = _take.account_id and r.operation = _take.operation
           and r.state = 'due' and r.not_before <= now()
           and (r.operation = 'postWebhook'
                or not exists (select from amzmp.hold h where h.account_id = r.account_id and h.channel_id in (0, r.channel_id)))
         order by r.priority, r.not_before
         limit most
           for update skip locked
    ), taken as (
        update amzmp.request r
           set state = 'sending', attempt = r.attempt + 1, claimed_at = t.at
          from picked p, (select clock_timestamp() as at) t
         where r.account_id = _take.account_id and r.request_id = p.request_id
        returning r as row
    )
    select array_agg(taken.row order by (taken.row).priority, (taken.row).not_before) into claimed from taken;
    return claimed;
end
$$;

-- Inner, sender: take up to `most` due requests of a lane. Committed before anything is sent; on the disk before anything is sent
-- that writes. What only reads is asked once more if a crash of the server takes its claim back.
create function amzmp._claim(account_id bigint, operation text, most integer)
    returns table (request_id bigint, attempt integer, max_attempts integer, params jsonb, body text)
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    claimed amzmp.request[] := amzmp._take(account_id, operation, most);
    mine amzmp.request[];
    done amzmp.rendered[];
    render_function text;
    keep boolean := amzmp._keeps_bodies(account_id, operation);
begin
    if exists (select from amzmp.operation x where x.name = _claim.operation and x.reads) then
        perform set_config('synchronous_commit', 'off', true);
    end if;
    if keep then
        perform amzmp._keep_sent(_claim.account_id, array_agg(row(c.request_id, c.params, c.body)::amzmp.rendered))
           from unnest(claimed) c where c.render is null;
    end if;

    return query
        select c.request_id, c.attempt::integer, c.max_attempts::integer, o.seller || c.params || o.fixed, c.body::text
          from unnest(claimed) c,
               (select case when x.path like '%{sellerId}%' then jsonb_build_object('sellerId', a.seller_id) else '{}' end as seller,
                       coalesce(x.fixed_params, '{}') as fixed
                  from amzmp.operation x, amzmp.account a
                 where x.name = _claim.operation and a.account_id = _claim.account_id) o
         where c.render is null;
    -- one function as a rule, two at the most: each renders its whole share as a set
    for render_function in select distinct c.render from unnest(claimed) c where c.render is not null
    loop
        select array_agg(c) into mine from unnest(claimed) c where c.render = render_function;
        begin
            done := amzmp._render(render_function, mine);
        exception when others then
            done := amzmp._render_alone(account_id, render_function, mine);
        end;
        return query
            select c.request_id, c.attempt::integer, c.max_attempts::integer, x.params, x.body::text
              from unnest(mine) c
              join unnest(done) x on x.request_id = c.request_id;
        if keep then
            perform amzmp._keep_sent(account_id, done);
        end if;
        perform amzmp._finish_obsolete(account_id, (
            select array_agg(c.request_id) from unnest(mine) c
             where c.request_id not in (select x.request_id from unnest(done) x)));
    end loop;
end
$$;

-- Inner: requests that need no call any more leave the hot table. One that was sent before, and whose answer was lost, may
-- have changed what Amazon has: its subject is asserted once more.
create function amzmp._finish_obsolete(account_id bigint, request_ids bigint[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    sent_before text[];
begin
    if request_ids is null then
        return;
    end if;
    with gone as (
        delete from amzmp.request r
         where r.account_id = _finish_obsolete.account_id and r.request_id = any (request_ids)
        returning r.*
    ), logged as (
        insert into amzmp.request_log (account_id, request_id, operation, outcome, attempt, priority, subject_kind, subject,
                                       channel_id, params, cause, created_at, finished_at)
        select g.account_id, g.request_id, g.operation, 'obsolete', g.attempt, g.priority, g.subject_kind, g.subject,
               g.channel_id, g.params, g.cause, g.created_at, clock_timestamp()
          from gone g
    )
    select array_agg(g.subject) into sent_before from gone g where g.in_doubt and g.subject_kind = 'listing';
    perform amzmp._reassert_later(account_id, sent_before);
end
$$;
