/*
 * feed_user.sql
 *	  What people do with feeds: look at document and response, poll, resend, purge.
 */

create function amzmp._feed(account text, feed_id bigint)
    returns amzmp.feed
    language plpgsql
    stable
    parallel restricted
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    a constant amzmp.account := amzmp._account(account);
    f amzmp.feed;
begin
    select x.* into f
    from amzmp.feed as x
    where (x.account_id, x.feed_id) = (a.account_id, _feed.feed_id);
    if f.feed_id is null then
        perform amzmp._fail('AZ201', format('account "%s" has no feed %s', a.name, feed_id), null,
            'select * from amzmp.feed; lists them.');
    end if;
    return f;
end
$$;

-- A document of a feed. One that holds buyers' data is for those who may see them, and that leaves its trace.
create function amzmp._feed_content(feed amzmp.feed, document_id bigint)
    returns bytea
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
begin
    if document_id is null then
        return null;
    elsif exists (
        select
        from amzmp.document as d
        where (d.account_id, d.document_id) = (feed.account_id, _feed_content.document_id)
            and d.sealed
    ) then
        perform amzmp._check_buyer_access((select a.name from amzmp.account as a where a.account_id = feed.account_id),
            array(
                select m.subject
                from amzmp.feed_message as m
                where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
            ), 'opens a document with');
    end if;
    return amzmp._read_document(feed.account_id, document_id);
end
$$;

create function amzmp._feed_text(feed amzmp.feed, document_id bigint)
    returns text
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    type constant text := (
        select d.content_type
        from amzmp.document as d
        where (d.account_id, d.document_id) = (feed.account_id, _feed_text.document_id)
    );
begin
    if type !~ 'UTF-8' then
        perform amzmp._fail('AZ203', format('documents of feed %s are no text', feed.feed_id), format('They are %s.', type),
            'select amzmp.feed_file(account, feed_id) gives the bytes.');
    end if;
    return convert_from(amzmp._feed_content(feed, document_id), 'UTF8');
end
$$;

create function amzmp._feed_document(account text, feed_id bigint)
    returns text
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._feed_text(f, f.document_id) from amzmp._feed(account, feed_id) as f;
end;

select amzmp._expose('amzmp._feed_document(text, bigint)', 'amzmp_reader',
    'The document that a feed sent; null while it is not built.');

create function amzmp._feed_response(account text, feed_id bigint)
    returns text
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._feed_text(f, f.result_document_id) from amzmp._feed(account, feed_id) as f;
end;

select amzmp._expose('amzmp._feed_response(text, bigint)', 'amzmp_reader',
    'Amazon''s processing report of a feed; null while there is none.');

create function amzmp._feed_file(account text, feed_id bigint)
    returns bytea
    language sql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
begin atomic
    select amzmp._feed_content(f, f.document_id) from amzmp._feed(account, feed_id) as f;
end;

select amzmp._expose('amzmp._feed_file(text, bigint)', 'amzmp_reader',
    'The same as bytes, for documents that are no text, such as an invoice. One that holds buyers'' data needs the role amzmp_buyer_data.');

create function amzmp._poll_feed(account text, feed_id bigint)
    returns boolean
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f constant amzmp.feed := amzmp._feed(account, feed_id);
begin
    update amzmp.request as r
    set not_before = now()
    where (r.account_id, r.subject_kind, r.subject) = (f.account_id, 'feed', f.feed_id::text)
        and r.operation = 'getFeed'
        and r.state = 'due';
    perform amzmp._wake();
    return found;
end
$$;

select amzmp._expose('amzmp._poll_feed(text, bigint)', 'amzmp_operator',
    'Ask for the state of a feed now. False when it is not waiting for Amazon.');

create function amzmp._resend_feed(account text, feed_id bigint)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    f constant amzmp.feed := amzmp._feed(account, feed_id);
    skus constant text[] := array(
        select m.sku
        from amzmp.feed_message as m
        where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
    );
begin
    if f.open then
        perform amzmp._fail('AZ203', format('feed %s is under way', f.feed_id), format('It is %s.', f.state),
            'Wait until it has ended; amzmp.poll_feed() asks for its state now.');
    end if;
    perform amzmp._lock_skus(f.account_id, skus);
    update amzmp.listing as l
    set remote_price = null
    where (l.account_id, l.channel_id) = (f.account_id, f.channel_id)
        and l.sku = any (skus)
        and l.listed
        and l.in_flight_request is null;
    update amzmp.inventory as i
    set remote_quantity = null
    where i.account_id = f.account_id
        and i.sku in (
            select m.sku
            from amzmp.feed_message as m
            where (m.account_id, m.feed_id) = (f.account_id, f.feed_id)
                and m.quantity is not null
        )
        and i.in_flight_request is null;
    perform amzmp._log(f.account_id, f.channel_id, 'notice', 'feed', f.feed_id::text,
        format('%s SKUs are sent again, asked for by %s', cardinality(skus), amzmp._caller()));
    perform amzmp._plan_sends(f.account_id, skus);
    return cardinality(skus);
end
$$;

select amzmp._expose('amzmp._resend_feed(text, bigint)', 'amzmp_operator',
    'Send all SKUs of an ended feed again, with the values that the shop wants now. Returns how many.');

create function amzmp._purge_feeds(account text, older_than interval)
    returns bigint
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
declare
    a constant amzmp.account := amzmp._account(account);
begin
    return amzmp._purge_feeds(a.account_id, older_than);
end
$$;

select amzmp._expose('amzmp._purge_feeds(text, interval)', 'amzmp_operator',
    'Remove ended feeds that are older than an interval, with their messages and documents. Returns how many.');
