/*
 * order_decision.sql
 *	  What becomes of an order in each situation: one table, read by the import and printed in doc/orders.md.
 *
 * A situation is who ships, Amazon's status, what the shop knows of the products, and whether the stock suffices. The
 * first row that fits decides. The rows are reference data: the shop's own choices are settings, which say whether an order of
 * that status is handed over, and whether one that a person should look at is held or let through.
 */
create table amzmp.order_decision (
    position smallint primary key,
    fulfilled_by text,
    statuses text[],
    item text,
    stock text,
    reserves text not null,
    moves text not null,
    import_state text not null,
    unless_setting text,
    reject_setting text,
    constraint order_decision_fulfilled_by_check check (fulfilled_by in ('AMAZON', 'MERCHANT')),
    constraint order_decision_item_check check (item in ('known', 'disabled', 'unknown')),
    constraint order_decision_stock_check check (stock in ('enough', 'short')),
    constraint order_decision_reserves_check check (reserves in ('nothing', 'ordered', 'until taken')),
    constraint order_decision_moves_check check (moves in ('nothing', 'sold', 'shipped'))
);

comment on table amzmp.order_decision is 'What becomes of an order: the first row that fits decides. An empty field fits everything.';
comment on column amzmp.order_decision.position is 'The order in which rows are tried.';
comment on column amzmp.order_decision.fulfilled_by is 'AMAZON or MERCHANT. An order of which Amazon does not say it counts as the merchant''s.';
comment on column amzmp.order_decision.statuses is 'Amazon''s status.';
comment on column amzmp.order_decision.item is 'The worst of its lines: known; disabled, the shop has it but does not sell it at present; unknown.';
comment on column amzmp.order_decision.stock is 'short when the shop has less of a product than this order and those before it take.';
comment on column amzmp.order_decision.reserves is 'What is held back from sale: nothing; what was ordered; what was sold, until the shop''s own stock shows it.';
comment on column amzmp.order_decision.moves is 'What leaves the stock: nothing; what was sold; only what had been shipped, the rest comes back.';
comment on column amzmp.order_decision.import_state is 'The state of the order, see amzmp.orders. An order that is imported is handed over when its status is among order_statuses.';
comment on column amzmp.order_decision.unless_setting is 'The setting that may let the order go on instead of holding it.';
comment on column amzmp.order_decision.reject_setting is 'The switch with which the order is cancelled at Amazon instead of waiting for a person.';

insert into amzmp.order_decision (position, fulfilled_by, statuses, item, stock, reserves, moves, import_state, unless_setting,
    reject_setting)
values
    (1, null, '{CANCELLED,UNFULFILLABLE}', null, null, 'nothing', 'shipped', 'imported', null, null),
    (2, 'AMAZON', null, 'unknown', null, 'nothing', 'nothing', 'held_unknown_item', null, null),
    (3, 'AMAZON', null, null, null, 'nothing', 'nothing', 'imported', null, null),
    (4, null, '{UNSHIPPED}', 'unknown', null, 'until taken', 'sold', 'held_unknown_item', null, 'reject_unknown_item'),
    (5, null, '{UNSHIPPED}', 'disabled', null, 'until taken', 'sold', 'held_disabled_item', 'on_disabled_item', 'reject_disabled_item'),
    (6, null, '{UNSHIPPED}', null, 'short', 'until taken', 'sold', 'held_short_stock', 'on_short_stock', 'reject_short_stock'),
    (7, null, '{UNSHIPPED}', null, null, 'until taken', 'sold', 'imported', null, null),
    (8, null, '{PARTIALLY_SHIPPED}', 'unknown', null, 'until taken', 'sold', 'held_unknown_item', null, null),
    (9, null, '{PARTIALLY_SHIPPED}', null, null, 'until taken', 'sold', 'imported', null, null),
    (10, null, '{SHIPPED}', 'unknown', null, 'nothing', 'sold', 'held_unknown_item', null, null),
    (11, null, '{SHIPPED}', null, null, 'nothing', 'sold', 'imported', null, null),
    (12, null, null, 'unknown', null, 'ordered', 'nothing', 'held_unknown_item', null, null),
    (13, null, null, null, null, 'ordered', 'nothing', 'imported', null, null);

-- The row that fits a situation.
create function amzmp._order_decision(fulfilled_by text, status text, item text, stock text) returns amzmp.order_decision
    language sql stable parallel safe set search_path = pg_catalog, pg_temp
    begin atomic
    select d
      from amzmp.order_decision d
     where (d.fulfilled_by is null or d.fulfilled_by = _order_decision.fulfilled_by)
       and (d.statuses is null or _order_decision.status = any (d.statuses))
       and (d.item is null or d.item = _order_decision.item)
       and (d.stock is null or d.stock = _order_decision.stock)
     order by d.position
     limit 1;
    end;

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, choices, description)
values
    (true, 'on_short_stock', 'both', 'text', 'Orders beyond the stock', '"hold"', '["hold", "backorder"]',
        'An order for more than the shop has: hold keeps it for a person (or until stock comes), backorder hands it over all the same.'),
    (true, 'on_disabled_item', 'both', 'text', 'Orders of products not for sale', '"hold"', '["hold", "import"]',
        'An order for a product that the shop does not sell at present: hold keeps it for a person, import hands it over all the same.');

insert into amzmp.setting_definition (built_in, name, scope, type, label, default_value, description)
values
    (true, 'reject_unknown_item', 'both', 'boolean', 'Cancel orders of unknown items', 'false',
        'Cancel an order at Amazon that names a product which the shop does not know, instead of holding it for a person.'),
    (true, 'reject_disabled_item', 'both', 'boolean', 'Cancel orders of products not for sale', 'false',
        'Cancel an order at Amazon for a product that the shop does not sell at present, instead of holding it for a person.'),
    (true, 'reject_short_stock', 'both', 'boolean', 'Cancel orders beyond the stock', 'false',
        'Cancel an order at Amazon that takes more than the shop has, instead of holding it for a person.');
