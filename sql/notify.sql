/*
 * notify.sql
 *	  NOTIFY for whoever listens: that something happened, never what a buyer's name is.
 *
 * A payload is a JSON object with "account" and what the channel says:
 *
 *	 amzmp_order	{"account", "orders": [Amazon order ids]}						imported or changed
 *	 amzmp_listing	{"account", "channel", "state", "skus": [SKUs]}					rejected, live_with_issues, off_sale or gone since now
 *	 amzmp_penalty	{"account", "channel", "kind", "subject", "code"}				given up
 *	 amzmp_alarm	{"account", "id", "alarm", "level", "message", "count", "subjects": [the first ones]}
 *
 * It is a hint: whoever was not listening finds the same in the tables. Only our own transactions send it, so the lock that
 * NOTIFY holds while it commits is nothing the shop waits for.
 */
insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, minimum, maximum, description)
values
    (true, 'notify', 'account', 'boolean', 'NOTIFY', 'true', null, null,
        'Orders, listings with trouble, penalties given up and alarms are told by NOTIFY on the channels amzmp_order, amzmp_listing, amzmp_penalty and amzmp_alarm.');

-- Inner: tell one thing. What does not fit into a payload loses its list.
create function amzmp._notify(account_id bigint, notify_channel text, payload jsonb) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
declare
    whole jsonb;
begin
    if amzmp._setting_bool(account_id, 0, 'notify') is false then
        return;
    end if;
    select jsonb_build_object('account', a.name) || jsonb_strip_nulls(payload) into whole
      from amzmp.account a where a.account_id = _notify.account_id;
    perform pg_notify(notify_channel, case when octet_length(whole::text) < 7900 then whole else whole - 'subjects' end::text);
end
$$;

create function amzmp._notify_orders(account_id bigint, order_ids text[]) returns void
    language plpgsql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
begin
    perform amzmp._notify(account_id, 'amzmp_order', jsonb_build_object('orders', jsonb_agg(u.id order by u.n)))
       from unnest(order_ids) with ordinality as u (id, n)
      group by (u.n - 1) / 100;
end
$$;

-- Inner: listings that have just come into a state that somebody should see.
create function amzmp._notify_listings(account_id bigint, channel_ids bigint[], skus text[], states text[]) returns void
    language sql volatile parallel unsafe set search_path = pg_catalog, pg_temp
    as $$
    select amzmp._notify(account_id, 'amzmp_listing',
        jsonb_build_object('channel', g.channel, 'state', g.state, 'skus', jsonb_agg(g.sku order by g.sku)))
    from (select c.name as channel, u.state, u.sku, row_number() over (partition by c.channel_id, u.state order by u.sku) - 1 as n
            from unnest(channel_ids, skus, states) as u (channel_id, sku, state)
            join amzmp.channel c on c.account_id = _notify_listings.account_id and c.channel_id = u.channel_id
           where u.state in ('rejected', 'live_with_issues', 'off_sale', 'gone')) as g
    group by g.channel, g.state, g.n / 30;
$$;
