/*
 * request_answer.sql
 *	  Answers handed to their handlers and requests ended; what is postponed, parked and recovered.
 */

-- Inner: answers with the requests that they belong to; those of requests that are gone are left out.
create function amzmp._answers(account_id bigint, request_ids bigint[], statuses integer[], outcomes text[],
    bodies text[], error_codes text[], error_messages text[], amazon_request_ids text[]) returns amzmp.answer_row[]
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answers amzmp.answer_row[];
begin
    select array_agg(row(r, x.status, x.outcome, x.body::jsonb, x.error_code, x.error_message, x.amazon_request_id,
                         clock_timestamp())::amzmp.answer_row order by x.position)
      into answers
      from unnest(request_ids, statuses, outcomes, bodies, error_codes, error_messages, amazon_request_ids)
           with ordinality as x (request_id, status, outcome, body, error_code, error_message, amazon_request_id, position)
      join amzmp.request r on r.account_id = _answers.account_id and r.request_id = x.request_id;
    return answers;
end
$$;

-- Inner, sender: answers of one account arrived. Handlers and the requests' end are one transaction.
create function amzmp._complete(account_id bigint, request_ids bigint[], statuses integer[], outcomes text[],
    bodies text[], error_codes text[], error_messages text[], amazon_request_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answers constant amzmp.answer_row[] := amzmp._answers(account_id, request_ids, statuses, outcomes, bodies, error_codes,
        error_messages, amazon_request_ids);
begin
    if answers is not null then
        perform amzmp._apply(account_id, answers);
    end if;
end
$$;

-- Inner: an account is connected when Amazon has done something for it. Written once.
create function amzmp._note_success(account_id bigint, answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    if (select a.state from amzmp.account a where a.account_id = _note_success.account_id) = 'added'
       and exists (select from unnest(answers) x join amzmp.operation o on o.name = (x.request).operation
                    where x.outcome = 'success' and o.api not in ('sqs', 'lwa', 'alarm')) then
        update amzmp.account a set state = 'valid' where a.account_id = _note_success.account_id and a.state = 'added';
    end if;
end
$$;

-- Inner: call the handlers of a set of answers, then move their requests to the log.
create function amzmp._apply(account_id bigint, answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    handler_function text;
begin
    -- all at once and in order: handler after handler would take these locks in an order that meets recompute's
    perform amzmp._lock_skus(account_id, array(
        select (a.request).subject from unnest(answers) a where (a.request).subject_kind = 'listing'
        union
        select i.sku from unnest(answers) a, jsonb_array_elements_text((a.request).params -> 'identifiers') as i (sku)
         where (a.request).subject_kind = 'listings'));
    -- one handler as a rule: each takes its whole share as a set
    for handler_function in
        select distinct (a.request).handler from unnest(answers) a where (a.request).handler is not null
    loop
        execute format('select amzmp.%I(array_agg(a)) from unnest($1) a where (a.request).handler = %L',
                       handler_function, handler_function) using answers;
    end loop;
    insert into amzmp.task (account_id, kind, subject, run_as, argument, sealed)
    select _apply.account_id, 'handler', (a.request).request_id::text, (a.request).user_role,
           jsonb_build_object('function', (a.request).user_handler, 'status', a.status, 'operation', o.name, 'personal', o.personal),
           amzmp._seal(a.body::text, 'handler_answer', _apply.account_id || '/' || (a.request).request_id)
      from unnest(answers) a
      join amzmp.operation o on o.name = (a.request).operation
     where (a.request).user_handler is not null;
    if found then
        perform amzmp._wake();
    end if;
    perform amzmp._note_success(account_id, answers);
    perform amzmp._end_requests(account_id, answers);
end
$$;

-- Inner: move answered requests to the log and close flow runs whose last request this was.
create function amzmp._end_requests(account_id bigint, answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    ended_runs bigint[];
    -- materialized, or the setting is read once an answer instead of once an operation
    kept constant text[] := array(
        with d as materialized (select distinct (a.request).operation as operation from unnest(answers) a)
        select d.operation from d where amzmp._keeps_bodies(_end_requests.account_id, d.operation));
begin
    delete from amzmp.request r
     where r.account_id = _end_requests.account_id
       and r.request_id in (select (a.request).request_id from unnest(answers) a);
    insert into amzmp.request_log (account_id, request_id, operation, outcome, status, attempt, priority, subject_kind,
                                   subject, channel_id, params, cause, error_code, error_message, amazon_request_id,
                                   sent_body, answer_body, created_at, finished_at)
    select (a.request).account_id, (a.request).request_id, (a.request).operation, a.outcome, a.status,
           (a.request).attempt, (a.request).priority, (a.request).subject_kind, (a.request).subject,
           (a.request).channel_id, (a.request).params, (a.request).cause, a.error_code, a.error_message,
           a.amazon_request_id, (a.request).sent_body,
           case when (a.request).operation = any (kept)
                then amzmp._seal_body(amzmp._kept_text(a), 'answer_body', (a.request).account_id, (a.request).request_id) end,
           (a.request).created_at, a.answered_at
      from unnest(answers) a
     -- a queue is read all day long; what came of it is in its row
     where not ((a.request).operation = 'receiveMessage' and a.outcome = 'success');
    ended_runs := array(select distinct (a.request).flow_run_id from unnest(answers) a where (a.request).flow_run_id is not null);
    if ended_runs <> '{}' then
        perform amzmp._end_flow_runs(account_id, ended_runs);
    end if;
end
$$;

-- Inner, sender: a handler failed for this one answer even alone.
create function amzmp._complete_failed(account_id bigint, request_id bigint, status integer, error_state text,
    error_text text, body text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    r amzmp.request;
begin
    select x.* into r from amzmp.request x
     where x.account_id = _complete_failed.account_id and x.request_id = _complete_failed.request_id;
    if r.request_id is not null then
        perform amzmp._end_failed(row(r, status, null, body::jsonb, null, null, null, null)::amzmp.answer_row, error_state, error_text);
    end if;
end
$$;

-- Inner: the same for an answer that is at hand. The error may quote what the answer holds, a buyer's data perhaps.
create function amzmp._end_failed(answer amzmp.answer_row, error_state text, error_text text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    r constant amzmp.request := answer.request;
    account_id constant bigint := r.account_id;
    personal constant boolean := coalesce((select o.personal from amzmp.operation o where o.name = r.operation), true);
    message constant text := case when personal then amzmp._safe_error(error_state, error_text) else error_text end;
begin
    perform amzmp._release_subject(r);
    perform amzmp._end_requests(account_id, array[row(r, answer.status, 'handler_failed', answer.body, error_state, message, null,
        clock_timestamp())::amzmp.answer_row]);
    perform amzmp._log(account_id, r.channel_id, 'error', r.subject_kind, r.subject,
        format('the answer to %s could not be applied: %s', r.operation, message),
        jsonb_build_object('sqlstate', error_state, 'request_id', r.request_id));
    -- planners hold a listing back by facet
    perform amzmp._penalise(account_id, facet.channel_id, facet.kind, r.subject, error_state, message)
       from (values ('listing', 'price', r.channel_id), ('listing', 'stock', 0), ('inventory', 'stock', 0),
                    (r.subject_kind, r.subject_kind, r.channel_id)) as facet (subject_kind, kind, channel_id)
      where facet.subject_kind = r.subject_kind and r.subject is not null;
end
$$;

-- Inner: a request ends without its handler: its subject is no longer in flight, and if it was sent nobody knows what
-- Amazon has now, so that it differs until it is sent again. A search for orders goes on without this page, or ends.
create function amzmp._release_subject(request amzmp.request) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    sent constant boolean := request.attempt > 0;
begin
    update amzmp.listing l
       set in_flight_request = null, in_flight_price = null,
           remote_price = case when sent and l.in_flight_price is not null then null else l.remote_price end
     where l.account_id = request.account_id and l.sku = request.subject and l.in_flight_request = request.request_id;
    update amzmp.inventory i
       set in_flight_request = null, in_flight_quantity = null,
           remote_quantity = case when sent and i.in_flight_quantity is not null then null else i.remote_quantity end
     where i.account_id = request.account_id and i.sku = request.subject and i.in_flight_request = request.request_id;
    if request.handler = '_handle_search_orders' then
        perform amzmp._page_is_lost(request);
    end if;
end
$$;

-- Inner: does the answer bring orders to import? Then it is a task of its own, in the queue that two runners work off
-- (task.sql): importing takes time, and locks what it imports. All other parked answers of an account are one task.
create function amzmp._brings_orders(asked amzmp.request) returns boolean
    language sql immutable parallel safe
    begin atomic
    select coalesce(asked.handler in ('_handle_search_orders', '_handle_get_order'), false);
    end;

-- Inner, sender: large or personal answers are sealed and left to an own runner.
create function amzmp._park_answers(account_id bigint, request_ids bigint[], statuses integer[], outcomes text[],
    bodies text[], error_codes text[], error_messages text[], amazon_request_ids text[], next_tokens text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    -- bodies are large: by their subscript they are not copied once more
    insert into amzmp.answer (account_id, request_id, status, outcome, body, error_code, error_message,
                              amazon_request_id, answered_at)
    select _park_answers.account_id, x.request_id, x.status, x.outcome,
           amzmp._seal(bodies[x.position], 'answer', _park_answers.account_id || '/' || x.request_id),
           x.error_code, x.error_message, x.amazon_request_id, clock_timestamp()
      from unnest(request_ids, statuses, outcomes, error_codes, error_messages, amazon_request_ids)
           with ordinality as x (request_id, status, outcome, error_code, error_message, amazon_request_id, position);
    update amzmp.request r set state = 'answered'
     where r.account_id = _park_answers.account_id and r.request_id = any (request_ids);
    perform amzmp._add_task(_park_answers.account_id, 'apply', t.subject, t.run_as, now())
       from (select distinct case when o.brought then r.request_id::text else '' end as subject,
                    case when o.brought then 'pg_amzmp_orders' end as run_as
               from amzmp.request r
              cross join lateral (select amzmp._brings_orders(r) as brought) as o
              where r.account_id = _park_answers.account_id and r.request_id = any (request_ids)) as t;
    perform amzmp._page_is_here(r, x.token)
       from unnest(request_ids, outcomes, next_tokens) as x (request_id, outcome, token)
       join amzmp.request r on r.account_id = _park_answers.account_id and r.request_id = x.request_id
      where x.token is not null and x.outcome = 'success' and r.handler = '_handle_search_orders';
end
$$;

-- Inner: the body of a page of orders, as it came. It is large, and so left where it is parked until its handler asks for it:
-- every function that an answer is handed through would copy it.
create function amzmp._page_text(answer amzmp.answer_row) returns text
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    return coalesce(answer.body::text, (
        select amzmp._open(x.body, 'answer', x.account_id || '/' || x.request_id)
          from amzmp.answer x
         where x.account_id = (answer.request).account_id and x.request_id = (answer.request).request_id));
end
$$;

-- Inner: the body of an answer, to be kept; null where it does not open, which must not keep the answer from ending.
create function amzmp._kept_text(answer amzmp.answer_row) returns text
    language plpgsql stable parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    return amzmp._page_text(answer);
exception
    when others then
        return null;
end
$$;

-- Inner: a parked answer, opened, unless it is a page of orders.
create function amzmp._parked_answer(account_id bigint, request_id bigint) returns amzmp.answer_row
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    one amzmp.answer_row;
begin
    select r, x.status, x.outcome,
           case when r.handler is distinct from '_handle_search_orders'
                then amzmp._open(x.body, 'answer', x.account_id || '/' || x.request_id)::jsonb end,
           x.error_code, x.error_message, x.amazon_request_id, x.answered_at
      into one
      from amzmp.answer x
      join amzmp.request r on r.account_id = x.account_id and r.request_id = x.request_id
     where x.account_id = _parked_answer.account_id and x.request_id = _parked_answer.request_id;
    return one;
end
$$;

-- Inner, own runner: apply one parked answer, the subject's, or up to 20 of the account's others, oldest first, each in a
-- subtransaction of its own.
create function amzmp._task_apply(account_id bigint, subject text, argument jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    id bigint;
    one amzmp.answer_row;
    failed_state text;
    failed_text text;
begin
    perform amzmp._commit_soon('apply');
    -- a loop because one answer that cannot be applied must not undo its neighbours
    for id in
        select x.request_id
          from amzmp.answer x
          join amzmp.request r using (account_id, request_id)
         where x.account_id = _task_apply.account_id
           and case _task_apply.subject when '' then not amzmp._brings_orders(r) else x.request_id = _task_apply.subject::bigint end
         order by x.answered_at
         limit 20
    loop
        -- a runner whose lease has ended may be at it still
        perform from amzmp.answer x where x.account_id = _task_apply.account_id and x.request_id = id for update nowait;
        continue when not found;
        one := amzmp._parked_answer(account_id, id);
        begin
            perform amzmp._apply(account_id, array[one]);
        exception
            when serialization_failure or deadlock_detected or lock_not_available then
                raise; -- it is not the answer's fault: the runner tries again
            when others then
                get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
                perform amzmp._complete_failed(account_id, id, one.status, failed_state, failed_text, one.body::text);
        end;
        delete from amzmp.answer x where x.account_id = _task_apply.account_id and x.request_id = id;
    end loop;
    if _task_apply.subject = '' and exists (
        select from amzmp.answer x join amzmp.request r using (account_id, request_id)
         where x.account_id = _task_apply.account_id and not amzmp._brings_orders(r))
    then
        perform amzmp._add_task(account_id, 'apply', '', null, now(), '{}');
    end if;
end
$$;

-- Inner, sender: try again later.
create function amzmp._postpone(account_id bigint, request_ids bigint[], delays_ms bigint[], hold_reasons text[],
    in_doubt boolean[]) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    begin atomic
    update amzmp.request r
       set state = case when x.hold_reason is null then 'due' else 'held' end,
           hold_reason = x.hold_reason,
           in_doubt = r.in_doubt or x.in_doubt,
           not_before = x.at
      from (select u.request_id, u.hold_reason, u.in_doubt, now() + u.delay_ms * interval '1 millisecond' as at
              from unnest(request_ids, delays_ms, hold_reasons, _postpone.in_doubt)
                   as u (request_id, delay_ms, hold_reason, in_doubt)) x
     where r.account_id = _postpone.account_id and r.request_id = x.request_id and r.state = 'sending';
    end;

-- Inner, sender at its start: what an earlier sender had in flight. Only one sender lives in a database. As after any lost
-- answer (exchange.c): repeat, ask a person, or tell the handler that the answer is lost.
create function amzmp._recover() returns bigint
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    one amzmp.request;
    recovered bigint;
    failed_state text;
    failed_text text;
begin
    perform amzmp._recover_tasks();
    perform amzmp._succeed();
    update amzmp.request r
       set state = case o.after_lost_answer when 'ask' then 'held' else 'due' end,
           in_doubt = true,
           hold_reason = case o.after_lost_answer when 'ask'
               then 'the server stopped while the answer was awaited and repeating is not safe: look at Amazon, then retry or cancel' end
      from amzmp.operation o
     where r.state = 'sending' and o.name = r.operation
       and (o.after_lost_answer = 'ask' or o.after_lost_answer = 'repeat' and r.attempt < r.max_attempts);
    get diagnostics recovered = row_count;
    -- a loop because a handler that fails must not undo its neighbours; there are few
    for one in select r.* from amzmp.request r where r.state = 'sending'
    loop
        begin
            perform amzmp._complete(one.account_id, array[one.request_id], array[0], array['lost'], array[null::text],
                array['AnswerLost'], array['the server stopped while the answer was awaited'], array[null::text]);
        exception when others then
            get stacked diagnostics failed_state = returned_sqlstate, failed_text = message_text;
            perform amzmp._complete_failed(one.account_id, one.request_id, 0, failed_state, failed_text);
        end;
        recovered := recovered + 1;
    end loop;
    return recovered;
end
$$;
