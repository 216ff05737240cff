/*
 * queue.sql
 *	  The queue (Amazon SQS) in which Amazon leaves notifications: which one an account reads, with which keys, and the
 *	  reading itself.
 *
 * Reading is a request like any other (request.sql), to another host and signed instead of carrying a token (src/sqs.c):
 * one ReceiveMessage is always on its way and returns when there is a message, after 20 s at the latest; its handler
 * stores the messages, asks for their deletion and queues the next. So a message is stored before it is deleted, and a
 * crash in between brings it once more. What messages mean is in notification.sql. An account without a queue has no row
 * here and no request.
 */
insert into amzmp.operation (name, api, version, method, path, rate, burst, reads, after_lost_answer, secret,
    wrapped, note)
values
    ('receiveMessage', 'sqs', '2012-11-05', 'POST', '/ReceiveMessage', 20, 20, false, 'repeat', true, false,
        'Amazon SQS, where the action stands in a header. amzmp reads queues by itself, see set_queue.'),
    ('deleteMessageBatch', 'sqs', '2012-11-05', 'POST', '/DeleteMessageBatch', 20, 20, false, 'repeat', true,
        false, 'Amazon SQS. At most ten messages a call.');

create table amzmp.queue (
    account_id bigint primary key,
    arn text not null,
    credentials bytea,
    state text not null default 'new',
    state_reason text,
    failures smallint not null default 0,
    polled_at timestamptz,
    message_at timestamptz,
    messages bigint not null default 0,
    duplicates bigint not null default 0,
    set_by name not null,
    set_at timestamptz not null default now(),
    constraint queue_state_check check (state in ('new', 'reading', 'failing'))
);

create index queue_arn on amzmp.queue (arn);

comment on table amzmp.queue is 'Queues (Amazon SQS) from which notifications are read. Written by set_queue.';
comment on column amzmp.queue.account_id is 'The account that reads it; its messages may be for others too.';
comment on column amzmp.queue.arn is 'Its name at AWS.';
comment on column amzmp.queue.credentials is 'The AWS key pair, sealed.';
comment on column amzmp.queue.state is 'new; reading; failing (see state_reason).';
comment on column amzmp.queue.state_reason is 'Why the last attempt to read failed.';
comment on column amzmp.queue.failures is 'How often in a row reading failed.';
comment on column amzmp.queue.polled_at is 'When it was last read, with or without a message.';
comment on column amzmp.queue.message_at is 'When the last message came.';
comment on column amzmp.queue.messages is 'Messages that came, the repeated ones included.';
comment on column amzmp.queue.duplicates is 'How many of them had come before.';
comment on column amzmp.queue.set_by is 'Who named the queue.';
comment on column amzmp.queue.set_at is 'When.';

create function amzmp._set_queue(account text, arn text, file text default null, access_key_id text default null,
    secret_access_key text default null) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    a amzmp.account := amzmp._account(account);
    content text;
    session_token text;
    other text;
begin
    if arn is null then
        delete from amzmp.queue q where q.account_id = a.account_id;
        delete from amzmp.request r
         where r.account_id = a.account_id and r.operation in ('receiveMessage', 'deleteMessageBatch') and r.state = 'due';
        return;
    end if;
    if arn !~ '^arn:aws(-[a-z-]+)?:sqs:[a-z0-9-]{2,30}:\d{12}:[A-Za-z0-9_-]{1,80}$' then
        perform amzmp._fail('AZ202', format('%L is not the ARN of a standard queue', arn),
            'Amazon sends to standard queues only, not to those whose name ends in .fifo.',
            'The console of Amazon SQS shows it: arn:aws:sqs:eu-west-1:123456789012:name.');
    end if;
    select n.name into other from amzmp.queue q join amzmp.name n on n.account_id = q.account_id and n.channel_id = 0
     where q.arn = _set_queue.arn and q.account_id <> a.account_id;
    if found then
        perform amzmp._fail('AZ203', format('account %L reads that queue already', other),
            'One account reads it for all: each message goes to the account that it is about.',
            format('select amzmp.subscribe(%L, …, arn => %L);', account, arn));
    end if;
    if (file is null) = (access_key_id is null or secret_access_key is null) then
        perform amzmp._fail('AZ202', 'name a file with the AWS keys, or give both keys as literals', null,
            format('select amzmp.set_queue(%L, %L, file => ''queue.txt'');', account, arn));
    elsif file is null and a.mode = 'production' then
        perform amzmp._fail('AZ004', 'a production account takes its AWS keys from a file',
            'A literal would stand in the server log when the statement fails.',
            'Write "access_key_id: …" and "secret_access_key: …" into a file in amzmp.credentials_dir and pass file => its name.');
    end if;
    if file is not null then
        content := amzmp._read_credentials_file(file);
        access_key_id := substring(content from '(?n)^\s*(?:aws_)?access_key_id\s*[:=]\s*(\S+)\s*$');
        secret_access_key := substring(content from '(?n)^\s*(?:aws_)?secret_access_key\s*[:=]\s*(\S+)\s*$');
        session_token := substring(content from '(?n)^\s*(?:aws_)?session_token\s*[:=]\s*(\S+)\s*$');
        if access_key_id is null or secret_access_key is null then
            perform amzmp._fail('AZ202', format('file "%s" holds no AWS keys', file), null,
                'Expected are lines "access_key_id: …" and "secret_access_key: …", and for temporary keys "session_token: …".');
        end if;
    end if;
    insert into amzmp.queue (account_id, arn, credentials, set_by)
    values (a.account_id, arn,
            amzmp._seal(jsonb_strip_nulls(jsonb_build_object('access_key_id', access_key_id, 'secret_access_key', secret_access_key,
                                                             'session_token', session_token))::text,
                        'queue', 'queue:' || a.account_id),
            amzmp._caller())
    on conflict on constraint queue_pkey do update
        set arn = excluded.arn, credentials = excluded.credentials, state = 'new', state_reason = null, failures = 0,
            set_by = excluded.set_by, set_at = now();
    update amzmp.account_flow f set enabled = true
     where f.account_id = a.account_id and f.channel_id = 0 and f.flow = 'watch_notifications';
    perform amzmp._read_queue(a.account_id, now());
end
$$;

select amzmp._expose('amzmp._set_queue(text, text, text, text, text)', 'amzmp_admin',
    'Names the queue (Amazon SQS) from which an account reads notifications, and stores the AWS key pair that may read it, sealed: from a file in amzmp.credentials_dir, or (mock and sandbox accounts only) as literals. A null ARN ends it.');

-- Where a queue is spoken to.
create function amzmp._queue_url(account_id bigint) returns text
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    as $$
    select case when a.mode = 'mock' then a.endpoint || '/'
                else format('https://sqs.%s.amazonaws.com%s/', split_part(q.arn, ':', 4),
                            case when q.arn like 'arn:aws-cn:%' then '.cn' else '' end) end
    from amzmp.queue q
    join amzmp.account a on a.account_id = q.account_id
    where q.account_id = _queue_url.account_id;
$$;

-- Read the queue, if there still is one, from a time on; a request that waits is brought forward, so that there is one.
create function amzmp._read_queue(account_id bigint, not_before timestamptz) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
begin
    update amzmp.request r set not_before = least(r.not_before, _read_queue.not_before)
     where r.account_id = _read_queue.account_id and r.operation = 'receiveMessage' and r.state = 'due';
    if found then
        perform amzmp._wake();
    elsif exists (select from amzmp.queue q where q.account_id = _read_queue.account_id) then
        perform amzmp._enqueue(account_id, 'receiveMessage', '{}', null, '_handle_receive_message', '_render_queue', 10,
            not_before, 0, 'queue', null, null);
    end if;
end
$$;

/*
 * What src/sqs.c needs to make a call of it; only here is the key pair opened. Reading twice at once would bring nothing:
 * of several such requests one is sent.
 */
create function amzmp._render_queue(claimed amzmp.request[]) returns table (request_id bigint, params jsonb, body jsonb)
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select r.request_id, '{}'::jsonb,
           amzmp._open(q.credentials, 'queue', 'queue:' || q.account_id)::jsonb
           || jsonb_build_object('region', split_part(q.arn, ':', 4), 'action', substr(o.path, 2),
                'payload', (jsonb_build_object('QueueUrl', format('https://sqs.%s.amazonaws.com/%s/%s', split_part(q.arn, ':', 4),
                                                                  split_part(q.arn, ':', 5), split_part(q.arn, ':', 6)))
                    || case r.operation when 'deleteMessageBatch' then jsonb_build_object('Entries', r.params -> 'entries')
                       else '{"MaxNumberOfMessages": 10, "WaitTimeSeconds": 20, "VisibilityTimeout": 120,
                              "MessageSystemAttributeNames": ["SentTimestamp", "ApproximateReceiveCount"]}' end)::text)
    from unnest(claimed) as r
    join amzmp.queue q on q.account_id = r.account_id
    join amzmp.operation o on o.name = r.operation
    where r.operation = 'deleteMessageBatch'
       or r.request_id = (select max(x.request_id) from amzmp.request x
                           where x.account_id = r.account_id and x.operation = r.operation and x.state = 'sending');
$$;

create function amzmp._handle_receive_message(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
    acc bigint;
begin
    foreach answer in array answers loop
        acc := (answer.request).account_id;
        if answer.outcome = 'success' then
            perform amzmp._messages_received(acc, amzmp._array(answer.body -> 'Messages'));
            perform amzmp._read_queue(acc, now());
        else
            perform amzmp._queue_failed(acc, coalesce(answer.error_code, answer.outcome), answer.error_message);
        end if;
    end loop;
end
$$;

-- Store what came, then ask for its deletion. One message that cannot be understood keeps none of the others.
create function amzmp._messages_received(account_id bigint, messages jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    message jsonb;
    entries jsonb := '[]';
    known integer := 0;
    new boolean;
begin
    for message in select m from jsonb_array_elements(messages) as m loop
        new := amzmp._store_message(account_id, message);
        continue when new is null;
        known := known + (not new)::integer;
        entries := entries || jsonb_build_object('Id', 'm' || jsonb_array_length(entries), 'ReceiptHandle', message -> 'ReceiptHandle');
    end loop;
    update amzmp.queue q
       set state = 'reading', state_reason = null, failures = 0, polled_at = now(),
           message_at = case when entries = '[]' then q.message_at else now() end,
           messages = q.messages + jsonb_array_length(entries), duplicates = q.duplicates + known
     where q.account_id = _messages_received.account_id;
    if entries <> '[]' then
        perform amzmp._enqueue(account_id, 'deleteMessageBatch', jsonb_build_object('entries', entries), null,
            '_handle_delete_messages', '_render_queue', 60, now(), 0, 'queue', null, null);
    end if;
end
$$;

-- Reading failed: again after a while, up to a quarter of an hour; the first failure in a row is told.
create function amzmp._queue_failed(account_id bigint, code text, message text) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
#variable_conflict use_variable
declare
    times smallint;
begin
    update amzmp.queue q
       set state = 'failing', state_reason = concat_ws(': ', code, message), failures = least(q.failures + 1, 1000)
     where q.account_id = _queue_failed.account_id
    returning q.failures into times;
    if not found then
        return;
    end if;
    perform amzmp._distrust(account_id);
    if times = 1 then
        perform amzmp._log(account_id, 0, 'error', 'queue', null,
            'the queue cannot be read, orders still come by polling: ' || concat_ws(': ', code, message));
    end if;
    perform amzmp._read_queue(account_id, now() + least(interval '5 s' * power(2, least(times, 10)), interval '15 minutes'));
end
$$;

-- What was not deleted comes again and is known then.
create function amzmp._handle_delete_messages(answers amzmp.answer_row[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    answer amzmp.answer_row;
begin
    foreach answer in array answers loop
        if answer.outcome <> 'success' or jsonb_array_length(amzmp._array(answer.body -> 'Failed')) > 0 then
            perform amzmp._log((answer.request).account_id, 0, 'warning', 'queue', null, 'messages could not be deleted from the queue',
                jsonb_build_object('code', coalesce(answer.error_code, answer.body #>> '{Failed,0,Code}')));
        end if;
    end loop;
end
$$;
