/*
 * feed_xml.sql
 *	  What feeds in XML have in common: Amazon's envelope around their messages, and its report about them.
 *
 * A type's build function notes its messages in amzmp.feed_message (message_id from 1 and the subject) and calls
 * _write_xml_feed; its result function calls _judge_xml_report and finds the verdicts there.
 */

/*
 * Write a feed's document. query: one text a message, `<Message>…</Message>`, for $1 = account_id and $2 = feed_id, in
 * the order of message_id. Messages that found no room are taken out of the feed. Returns how many it carries.
 */
create function amzmp._write_xml_feed(feed amzmp.feed, message_type text, query text)
    returns integer
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    head constant text := (
        select E'<?xml version="1.0" encoding="UTF-8"?>\n'
            || '<AmazonEnvelope xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:noNamespaceSchemaLocation="amzn-envelope.xsd">'
            || xmlelement(name "Header", xmlforest('1.01' as "DocumentVersion", a.seller_id as "MerchantIdentifier"))
            || xmlelement(name "MessageType", message_type) || E'\n'
        from amzmp.account as a
        where a.account_id = feed.account_id
    );
    written bigint;
begin
    written := amzmp._write_document(feed.account_id, feed.document_id, feed.feed_id, head, query, E'\n</AmazonEnvelope>\n',
        amzmp._feed_most_bytes(), E'\n');
    delete from amzmp.feed_message as m
    where (m.account_id, m.feed_id) = (feed.account_id, feed.feed_id)
        and m.message_id > written;
    return written;
end
$$;

/*
 * Note what the report says about each message: a message without an error was accepted. An error of message 0 is about
 * all of them, if none was successful.
 */
create function amzmp._judge_xml_report(feed amzmp.feed)
    returns void
    language plpgsql
    volatile
    parallel unsafe
    set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
    report constant xml := xmlparse(document convert_from(amzmp._read_document(feed.account_id, feed.result_document_id), 'UTF8'));
begin
    with error as materialized (
        select e.message_id, e.code, e.message, e.position
        from xmltable('//ProcessingReport/Result[ResultCode="Error"]' passing report columns
            message_id integer path 'MessageID', code text path 'ResultMessageCode', message text path 'ResultDescription',
            position for ordinality) as e
    ), whole as (
        select 0 as message_id, e.code, e.message
        from error as e
        where coalesce(e.message_id, 0) = 0
            and (xpath('number(//ProcessingReport/ProcessingSummary/MessagesSuccessful) = 0', report))[1]::text = 'true'
        order by e.position
        limit 1
    ), verdict as (
        select distinct on (e.message_id) e.message_id, e.code, e.message
        from error as e
        order by e.message_id, e.position
    )
    update amzmp.feed_message as m
    set result = case when num_nonnulls(v.message_id, w.message_id) = 0 then 'accepted' else 'refused' end,
        code = coalesce(v.code, w.code, case when coalesce(v.message, w.message) is not null then 'ERROR' end),
        message = coalesce(v.message, w.message),
        ended_at = now()
    from amzmp.feed_message as n
    left join verdict as v using (message_id)
    left join whole as w on true
    where (n.account_id, n.feed_id) = (feed.account_id, feed.feed_id)
        and (m.account_id, m.feed_id, m.message_id) = (n.account_id, n.feed_id, n.message_id);
end
$$;
