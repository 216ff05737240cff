-- hold.sql
-- Held accounts and channels: nothing goes out, everything else goes on.

\ir connection_setup.psql

select amzmp.create_account('eu', 'EU', 'app', 'A1DEMOSELLER', mode => 'mock', endpoint => simulator(), rate_scale => 0) \g /dev/null
select amzmp.set_credentials('eu', client_secret => 'amzn1.oa2-cs.v1.demo', refresh_token => 'Atzr|demo') \g /dev/null
select amzmp.create_channel('de', 'eu', 'DE'), amzmp.create_channel('fr', 'eu', 'FR') \g /dev/null
select amzmp.activate('eu'), amzmp.activate('de'), amzmp.activate('fr') \g /dev/null

-- One reading request of a channel; its answer is of no interest.
create function ask(channel text) returns bigint language sql volatile as $$
    select amzmp._enqueue(c.account_id, 'getListingsItem', jsonb_build_object('sku', 'no-such', 'marketplaceIds', jsonb_build_array(c.marketplace_id)),
        null, null, null, 100, null, c.channel_id, null, null, null)
      from amzmp.channel c where c.name = $1
$$;
create function waits(request_id bigint) returns boolean language sql as $$
    select exists (select from amzmp.request r where r.request_id = $1 and r.attempt = 0)
$$;

select throws_ok($$select amzmp.hold('de', ' ')$$, 'AZ202', 'a hold needs a reason', 'a hold needs a reason');
select throws_ok($$select amzmp.hold('nobody', 'why')$$, 'AZ201', null, 'and something to hold');
select amzmp.hold('de', 'look first') \g /dev/null
select ask('de') as de, ask('fr') as fr \gset
select becomes(format('exists (select from amzmp.request_log where request_id = %s)', :fr), 'a held channel holds no other');
select ok(waits(:de), 'its own request waits');
call amzmp.wait('10 s');
select pass('what is held is nothing to wait for');
select results_eq($$select state, detail from amzmp.health() where check_name = 'hold de'$$,
    $$values ('warning', 'held by postgres: look first')$$, 'health tells of it');
select ok(amzmp.resume('de'), 'it is resumed');
select becomes(format('exists (select from amzmp.request_log where request_id = %s)', :de), 'and what waited goes out');
select ok(not amzmp.resume('de'), 'once');

select amzmp.hold('eu', 'all of it') \g /dev/null
select ask('fr') as fr \gset
select amzmp.enqueue('eu', 'getFeeds', '{"feedTypes": ["JSON_LISTINGS_FEED"]}') as feeds \gset
call amzmp.wait('10 s', 'settled');
select ok(waits(:fr) and waits(:feeds), 'a held account holds its channels and what belongs to none');
select amzmp.resume('eu') \g /dev/null
select becomes('not exists (select from amzmp.request)', 'until it is resumed');
select is((select count(*)::integer from amzmp.activity where message ~ '^(held|resumed) by postgres'), 4, 'all of it is in the log');
select * from finish();
