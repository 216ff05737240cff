/*
 * request_user.sql
 *	  What people do with queued requests.
 */

create function amzmp._cancel_request(account text, request_id bigint) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
    r amzmp.request;
begin
    delete from amzmp.request x
     where x.account_id = a.account_id and x.request_id = _cancel_request.request_id and x.state in ('due', 'held')
    returning x.* into r;
    if r.request_id is null then
        return false;
    end if;
    insert into amzmp.request_log (account_id, request_id, operation, outcome, attempt, priority, subject_kind, subject,
                                   channel_id, params, cause, created_at, finished_at)
    values (r.account_id, r.request_id, r.operation, 'cancelled', r.attempt, r.priority, r.subject_kind, r.subject,
            r.channel_id, r.params, r.cause, r.created_at, clock_timestamp());
    perform amzmp._release_subject(r);
    perform amzmp._end_flow_runs(r.account_id, array[r.flow_run_id]);
    perform amzmp._log(r.account_id, r.channel_id, 'notice', r.subject_kind, r.subject,
        format('%s cancelled by %s', r.operation, amzmp._caller()), jsonb_build_object('request_id', r.request_id));
    return true;
end
$$;
select amzmp._expose('amzmp._cancel_request(text, bigint)', 'amzmp_operator',
    'Cancel a request that is due or held. False when it is unknown, in flight or done.');

create function amzmp._retry(account text, request_id bigint, priority integer default null) returns boolean
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    a amzmp.account := amzmp._account(account);
begin
    update amzmp.request r
       set state = 'due', not_before = t.at, hold_reason = null, priority = coalesce(_retry.priority, r.priority)
      from (select now() as at) t
     where r.account_id = a.account_id and r.request_id = _retry.request_id and r.state in ('due', 'held');
    if not found then
        return false;
    end if;
    perform amzmp._wake();
    return true;
end
$$;
select amzmp._expose('amzmp._retry(text, bigint, integer)', 'amzmp_operator',
    'Send a held or waiting request now, optionally with another priority (smaller is sooner).');
