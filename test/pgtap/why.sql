-- why.sql
-- Why a SKU is not updating: each thing that can be in the way is found, with what to do.

begin;
\ir listing_setup.psql

create function found(sku text, what text) returns text language sql as $$
    select string_agg(concat_ws(' | ', f.state, f.finding, f.remedy), '; ' order by f.finding) from amzmp.why('DE', $1) as f where f.looked_at like $2
$$;

update amzmp.source set rescan_due = now() + interval '1 day';
select live('MUG', 10, 5) \g /dev/null
select is(found('MUG', 'offer'), 'ok | live', 'a live offer is in order');
select is(found('MUG', 'price') || found('MUG', 'stock'), 'ok | Amazon has it: 10ok | Amazon has it: 5', 'as are its price and stock');
select matches(found('MUG', 'source %'), '^ok \| price 10, stock 5, as read at ', 'and the shop''s row');
select is(found('NONE', 'offer'), 'blocked | it was never published here | select amzmp.publish(''DE'', array[''NONE'']);', 'what was never published');
select matches(found('NONE', 'source %'), '^blocked \| it has no such row', 'what the shop does not have');

select shop('MUG', 12, 4) \g /dev/null
select is(found('MUG', 'price'), 'waits | 12.00 is to be sent, Amazon has 10', 'a price that differs');
select matches(found('MUG', 'request'), '^waits \| patchListingsItem is due', 'and the request that will carry it');
select amzmp.hold('DE', 'looking') \g /dev/null
select matches(found('MUG', 'hold'), '^blocked \| held by .*: looking \| select amzmp.resume\(''DE''\);', 'a hold');
select amzmp.resume('DE') \g /dev/null
select count(*) from claim('patchListingsItem') \g /dev/null
select is(found('MUG', 'price'), 'waits | 12.00 is on its way', 'what is on its way');
select answer('patchListingsItem', 400, null, 'InvalidInput', 'No such thing') \g /dev/null
select matches(found('MUG', 'penalty'), 'waits \| price failed 1 times, last because: No such thing \(CALL_REFUSED\); again at .*release_penalty\(''DE'', array\[''MUG''\]\)', 'a penalty, in words');
update amzmp.penalty set gave_up = true;
select matches(found('MUG', 'penalty'), '^blocked .*given up', 'that is given up');
insert into amzmp.request (account_id, operation, state, hold_reason, subject_kind, subject, channel_id, handler)
values (:account_id, 'deleteListingsItem', 'held', 'look at Amazon', 'listing', 'MUG', :de, '_handle_patch');
select matches(found('MUG', 'request'), 'blocked \| deleteListingsItem is held, look at Amazon \| select amzmp.retry\(''seller'', [0-9]+\)', 'a request that waits for a person');
insert into amzmp.listing_issue (account_id, channel_id, sku, position, code, message, severity, seen_at) values (:account_id,
    :de, 'MUG', 1, '5665', 'Brand?', 'ERROR', now());
select matches(found('MUG', 'issue'), '^blocked \| Brand\? \(5665\) \| Apply for the brand', 'an issue, with what to do');
update amzmp.source set state = 'failing', last_error = 'no such column';
select matches(found('MUG', 'source %'), '^blocked \| it cannot be read: no such column \| Mend it', 'a source that fails');
update amzmp.source set state = 'ok';
update amzmp.listing set wanted = false, stopped_by = 'person' where sku = 'MUG';
select matches(found('MUG', 'offer'), '^blocked \| live: not wanted, stopped by person', 'a stop');
update amzmp.listing set wanted = true, sends_price = false where sku = 'MUG';
select matches(found('MUG', 'price'), '^blocked \| 12.00 is wanted and not sent', 'a switch that is off');
insert into amzmp.brake_batch (account_id, batch_id, channel_id, facet, reason) values (:account_id, 5, :de, 'price', 'many');
insert into amzmp.brake_item (account_id, batch_id, sku, old_value, new_value) values (:account_id, 5, 'MUG', 12, 1);
select is(found('MUG', 'brake'), 'blocked | price stays at 12, the shop asks for 1: many | Look at amzmp.brake_item; select amzmp.release_brake(''seller'', 5);', 'the brake');
update amzmp.channel set active = false where channel_id = :de;
select is(found('MUG', 'channel'), 'blocked | it is not active | select amzmp.activate(''DE'');', 'a channel that is off');
update amzmp.account set state = 'invalid', state_reason = 'refused' where account_id = :account_id;
select matches(found('MUG', 'account'), '^blocked \| refused \| select amzmp.set_credentials\(''seller''', 'an account that Amazon refuses');

select * from finish();
rollback;
