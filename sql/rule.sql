/*
 * rule.sql
 *	  Rules for prices, stock and terms: what they are called, what they can say, and for which offers they hold.
 *
 * A rule belongs to an account or a channel and holds for one product, for a group of products or for all. It names
 * parameters (amzmp.rule_parameter); each parameter is taken from the most specific rule that names it: product, then
 * group, then everything; in each of these the channel's rule before the account's. Stock is shared by the channels of
 * an account, so stock parameters are the account's.
 *
 * Amounts may be arithmetic (rule_amount.sql). How rules are set is in rule_set.sql; what follows from them is computed by
 * rule_apply.sql.
 */
create table amzmp.rule_parameter (
    name text primary key,
    facet text not null,
    type text not null,
    minimum numeric,
    maximum numeric,
    choices text[],
    description text not null,
    constraint rule_parameter_facet_check check (facet in ('price', 'stock', 'details', 'send')),
    constraint rule_parameter_type_check check (type in ('amount', 'number', 'integer', 'time', 'text', 'map', 'list'))
);

comment on table amzmp.rule_parameter is 'What a rule can say.';
comment on column amzmp.rule_parameter.name is 'Name of the parameter, a key of the parameters of set_rule.';
comment on column amzmp.rule_parameter.facet is 'What it decides: price, stock, details of the offer, or what is sent. Stock parameters are set for accounts only.';
comment on column amzmp.rule_parameter.type is 'amount (number or arithmetic over the product''s values), number, integer, time (or the name of a value that holds one), text, map or list.';
comment on column amzmp.rule_parameter.minimum is 'Smallest number allowed.';
comment on column amzmp.rule_parameter.maximum is 'Greatest number allowed.';
comment on column amzmp.rule_parameter.choices is 'The values allowed.';
comment on column amzmp.rule_parameter.description is 'What it does.';

insert into amzmp.rule_parameter (name, facet, type, minimum, maximum, choices, description)
values
    ('price', 'price', 'amount', null, null, null, 'The price to start from. Without it the source''s price.'),
    ('currency', 'price', 'text', null, null, null, 'Currency of the source''s amounts, where it is not the marketplace''s: they are converted by the newest rate of set_rate.'),
    ('percent', 'price', 'number', -100, 100000, null, 'Per cent added to the price; negative ones are taken off.'),
    ('amount', 'price', 'number', null, null, null, 'Amount added to the price after the per cent, in the marketplace''s currency; negative ones are taken off.'),
    ('fee_percent', 'price', 'number', 0, 99, null, 'Fee in per cent of the price: the price is raised so that what is left after the fees is the price so far.'),
    ('fee_amount', 'price', 'number', 0, null, null, 'Fixed fee, part of the same calculation.'),
    ('round_to', 'price', 'number', 0.0001, null, null, 'The price is rounded to a multiple of this.'),
    ('round_ending', 'price', 'number', 0, null, null, 'What a rounded price ends in: 0.99 with round_to 1 gives 4.99, 5.99 …'),
    ('round_mode', 'price', 'text', null, null, '{nearest,up,down}', 'Which way is rounded; nearest without it.'),
    ('minimum', 'price', 'amount', null, null, null, 'The price never falls below it; Amazon gets it together with the price.'),
    ('maximum', 'price', 'amount', null, null, null, 'The price never rises above it; Amazon gets it together with the price.'),
    ('sale_price', 'price', 'amount', null, null, null, 'Price of a sale. offer_price stands for the price as computed.'),
    ('sale_from', 'price', 'time', null, null, null, 'Start of the sale.'),
    ('sale_to', 'price', 'time', null, null, null, 'End of the sale.'),
    ('business_price', 'price', 'amount', null, null, null, 'Price for businesses. offer_price stands for the price as computed.'),
    ('business_discount', 'price', 'text', null, null, '{percent,fixed}', 'What the tiers'' numbers are: per cent off (without it), or fixed prices.'),
    ('business_tiers', 'price', 'map', null, null, null, 'Quantity tiers for businesses, up to five: {"5": 3, "20": 7} takes 3 per cent off from 5 units on.'),
    ('list_price', 'details', 'amount', null, null, null, 'Recommended retail price.'),
    ('condition', 'details', 'text', null, null, null, 'Condition of the offer, before the source''s.'),
    ('condition_map', 'details', 'map', null, null, null, 'The shop''s names of conditions and Amazon''s: {"B": "used_good"}.'),
    ('condition_note', 'details', 'text', null, null, null, 'Note on the condition, before the source''s.'),
    ('shipping_template', 'details', 'text', null, null, null, 'Shipping template: its id, or a name that shipping_map knows, or the name of a value of the source.'),
    ('shipping_map', 'details', 'map', null, null, null, 'The shop''s names of shipping templates and their ids at Amazon.'),
    ('send', 'send', 'list', null, null, '{price,stock,details,content,images}', 'What is sent of an offer that Amazon has; without a rule price, stock and details. Without price an external repricer keeps it, without stock Amazon''s stays. content and images are sent only where they are named, and the settings send_content and send_images of the channel are on. stock is a matter of rules for accounts.'),
    ('quantity', 'stock', 'amount', null, null, null, 'The quantity to start from. Without it the source''s quantity.'),
    ('fixed_quantity', 'stock', 'integer', 0, 1000000, null, 'This quantity whatever the stock is, for what is made or bought on demand.'),
    ('buffer', 'stock', 'integer', 0, 1000000, null, 'Units kept back; without it the setting buffer_stock.'),
    ('stock_percent', 'stock', 'number', 0, 100, null, 'Share of the stock that is offered, in per cent, rounded down.'),
    ('threshold', 'stock', 'integer', 0, 1000000, null, 'The quantity on which low_quantity and high_quantity turn.'),
    ('low_quantity', 'stock', 'integer', 0, 1000000, null, 'Offered when the quantity is the threshold or less, never more than there is.'),
    ('high_quantity', 'stock', 'integer', 0, 1000000, null, 'Offered when the quantity is above the threshold, never more than there is.'),
    ('minimum_quantity', 'stock', 'integer', 0, 1000000, null, 'Fewer units than this are offered as 0.'),
    ('maximum_quantity', 'stock', 'integer', 0, 1000000, null, 'More units than this are never offered.'),
    ('damping', 'stock', 'integer', 0, 1000000, null, 'While both the shop''s and Amazon''s quantity are above it, changes are not sent.'),
    ('lead_time', 'stock', 'amount', 0, 30, null, 'Days until it is shipped, 0 to 30, before the source''s lead time and the setting handling_days.'),
    ('restock_date', 'stock', 'time', null, null, null, 'Day on which stock is expected, while it lies ahead.');

create sequence amzmp.rule_id_seq as bigint;

create table amzmp.rule (
    account_id bigint not null,
    rule_id bigint not null default nextval('amzmp.rule_id_seq'),
    channel_id bigint not null default 0,
    sku text,
    product_group text,
    parameters jsonb not null,
    compiled jsonb not null,
    rank integer not null default 0,
    set_at timestamptz not null default now(),
    set_by name not null,
    primary key (account_id, rule_id),
    constraint rule_target_check check (num_nonnulls(sku, product_group) <= 1)
);

create unique index rule_target on amzmp.rule (account_id, channel_id, coalesce(sku, ''), coalesce(product_group, ''));
create index rule_sku on amzmp.rule (account_id, sku) where sku is not null;

comment on table amzmp.rule is 'Rules for prices, stock and terms. Written by set_rule and drop_rule, or in bulk through amzmp.rule_input.';
comment on column amzmp.rule.account_id is 'The account.';
comment on column amzmp.rule.rule_id is 'Number of the rule, as explain_offer names it.';
comment on column amzmp.rule.channel_id is 'The channel; 0: all channels of the account.';
comment on column amzmp.rule.sku is 'The product, where it holds for one.';
comment on column amzmp.rule.product_group is 'The group, where it holds for one: a category of the source, or a list of set_group.';
comment on column amzmp.rule.parameters is 'What it says, as it was given.';
comment on column amzmp.rule.compiled is 'Inner: the same, with arithmetic parsed.';
comment on column amzmp.rule.rank is 'Of several groups of a product that with the greater rank goes first.';
comment on column amzmp.rule.set_at is 'When it was last changed.';
comment on column amzmp.rule.set_by is 'Who changed it.';

create table amzmp.group_member (
    account_id bigint not null,
    product_group text not null,
    sku text not null,
    primary key (account_id, sku, product_group)
);

create index group_member_group on amzmp.group_member (account_id, product_group);

comment on table amzmp.group_member is 'Products in groups that are lists. Written by set_group.';
comment on column amzmp.group_member.account_id is 'The account.';
comment on column amzmp.group_member.product_group is 'Name of the group.';
comment on column amzmp.group_member.sku is 'The product.';
