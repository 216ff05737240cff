-- movement_queue.sql
-- Movements that a shop takes from a queue: what it has taken is held no more, and is counted once, whatever is computed meanwhile.

begin;
\ir listing_setup.psql
select amzmp.create_key() as key where amzmp._key_usable() is not null \g /dev/null

-- The import tasks that wait, done as the runner does them.
create function import() returns bigint language plpgsql as $$
declare
    t amzmp.task;
    done bigint := 0;
begin
    for t in delete from amzmp.task as x where x.kind = 'import' and x.account_id = (select account_id from this) returning x.*
    loop
        perform amzmp._task_import(t.account_id, t.subject, t.argument);
        done := done + 1;
    end loop;
    return done;
end
$$;

create function wanted() returns integer language sql as $$
    select i.desired_quantity from amzmp.inventory as i where (i.account_id, i.sku) = ((select account_id from this), 'MUG')
$$;

select live('MUG', 10, 20) \g /dev/null
select amzmp.queue_movements('seller') \g /dev/null
select amzmp._take_orders(account_id, array(select o from amzmp._read_orders('[{"orderId": "305-0000001-0000001", "createdTime": "2026-03-01T10:00:00Z",
    "lastUpdatedTime": "2026-03-01T10:01:00Z", "salesChannel": {"marketplaceId": "A1PA6795UKMFR9"},
    "fulfillment": {"fulfillmentStatus": "UNSHIPPED", "fulfilledBy": "MERCHANT"},
    "orderItems": [{"orderItemId": "1", "quantityOrdered": 3, "product": {"sellerSku": "MUG", "asin": "B000000001"}}]}]', '', true) as o), true)
from this \g /dev/null
select is(import(), 1::bigint, 'an order comes in');
select is(wanted(), 17, 'its units are offered no more');

select amzmp.queue_movements('seller', false) \g /dev/null
select amzmp._queue_imports(account_id) from this \g /dev/null
select is(import(), 0::bigint, 'where the queue has ended, nothing is tried in vain');
select is(sum(r.quantity) filter (where r.released_at is null), 3::bigint, 'and what nobody took stays held')
from amzmp.reservation as r, this where r.account_id = this.account_id;
select amzmp.queue_movements('seller') \g /dev/null

select is(sum(m.quantity), -3::bigint, 'the shop takes its movement') from amzmp.take_movements('seller') as m;
select amzmp._recompute(account_id, '{MUG}', '{"role": "shop"}') from this \g /dev/null
select is(import(), 1::bigint, 'what was held for it is released a moment later');
select is(sum(r.quantity) filter (where r.released_at is null), null, 'nothing is held')
from amzmp.reservation as r, this where r.account_id = this.account_id;
select is(wanted(), 17, 'and what was computed in between does not stay: the units count once');

select * from finish();
rollback;
